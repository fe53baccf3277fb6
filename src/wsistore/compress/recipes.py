"""Recipes: how a tile's samples are compressed again to the bytes that the source has.

A recipe is only ever kept if following it gave those bytes when the tile was encoded. LZW is made again by our own
code. Deflate takes zlib itself, which two copies of it must agree upon when the tile is encoded: what libdeflate and
zlib-ng write changes with their releases, so their streams are not taken up. What follows the stream in the tile, its
tail, is kept beside the recipe.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs

from wsistore.compress import tiff_lzw
from wsistore.compress.coding import CodingError
from wsistore.compress.varints import Cursor, varint
from wsistore.slides.base import Codec

NONE, LZW, ZLIB = 0, 1, 2
_ZLIB_BODY = struct.Struct("<BI")
_LEVELS = {0: (1, 0), 1: (5, 4, 3, 2), 2: (6,), 3: (9, 8, 7)}
"""Of zlib, by what the stream's second byte says of them; the likelier first."""
_ZLIB_FIRST = 0x78
"""First byte of streams with a window of 32 KiB, which all TIFF writers use."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a tile's bytes."""

    kind: int
    body: bytes
    """LZW: the resets, as pairs of varints. ZLIB: level, and CRC-32 of the stream."""
    tail: bytes
    """What follows."""

    def dump(self) -> bytes:
        """Return the bytes that `read` reads."""
        return b"".join((bytes([self.kind]), varint(len(self.body)), self.body, varint(len(self.tail)), self.tail))

    def apply(self, raw: bytes) -> bytes:
        """Return the tile whose samples are `raw`.

        Raises
        ------
        CodingError
            If the recipe does not fit them.

        """
        if self.kind == NONE:
            return raw + self.tail
        if self.kind == LZW:
            return _lzw(raw, self.body) + self.tail
        return _zlib(raw, self.body) + self.tail


UNKNOWN = Recipe(NONE, b"", b"")
"""Stands where none was looked for."""


def read(cursor: Cursor) -> Recipe:
    """Read a recipe.

    Raises
    ------
    CodingError
        If it is none, or of a newer wsistore.

    """
    kind = cursor.byte()
    if kind not in {NONE, LZW, ZLIB}:
        msg = f"has tiles compressed by method {kind}; a newer wsistore may know it"
        raise CodingError(msg)
    return Recipe(kind, cursor.take(cursor.varint()), cursor.take(cursor.varint()))


def find(codec: Codec, payload: bytes, size_bytes: int) -> tuple[bytes, Recipe] | str:
    """Return a tile's samples, `size_bytes` long, and the recipe that makes the tile of them; or why there is none.

    Parameters
    ----------
    codec
        NONE, LZW or DEFLATE.
    payload
        The tile.
    size_bytes
        What its samples take.

    """
    raw, stop = _decompressed(codec, payload, size_bytes)
    if len(raw) != size_bytes:
        return "its data are of another length"
    if codec is Codec.NONE:
        return raw, Recipe(NONE, b"", payload[size_bytes:])
    recipe = _lzw_recipe(payload) if codec is Codec.LZW else _zlib_recipe(payload[:stop], raw, payload[stop:])
    if recipe is None or _other(recipe, raw, payload):
        return f"its {codec.value} stream cannot be made again"
    return raw, recipe


def _other(recipe: Recipe, raw: bytes, payload: bytes) -> bool:
    try:
        return recipe.apply(raw) != payload
    except CodingError:
        return True


def _decompressed(codec: Codec, payload: bytes, size_bytes: int) -> tuple[bytes, int]:
    """Return the samples, or a byte more if there is more; and where deflate's stream ends."""
    try:
        if codec is Codec.LZW:
            return bytes(imagecodecs.lzw_decode(payload, out=size_bytes + 1)), 0
        if codec is Codec.DEFLATE:
            stream = zlib.decompressobj()
            raw = stream.decompress(payload, size_bytes + 1)
            return (raw if stream.eof else b""), len(payload) - len(stream.unused_data)
    except (RuntimeError, ValueError, zlib.error):
        return b"", 0
    return payload[:size_bytes], size_bytes


def _lzw_recipe(payload: bytes) -> Recipe | None:
    found = tiff_lzw.resets(payload)
    if found is None:
        return None
    runs, stop = found
    return Recipe(LZW, b"".join(varint(number) for run in runs for number in run), payload[stop:])


def _lzw(raw: bytes, body: bytes) -> bytes:
    cursor = Cursor(body)
    runs = []
    while cursor.left:
        runs.append((cursor.varint(), cursor.varint()))
    try:
        return tiff_lzw.encode(raw, tuple(runs))
    except ValueError as error:
        msg = f"has an LZW tile that cannot be made again ({error})"
        raise CodingError(msg) from error


def _zlib_recipe(stream: bytes, raw: bytes, tail: bytes) -> Recipe | None:
    """Find zlib's level; both copies of zlib at hand must agree, for one of them could be a look-alike."""
    if len(stream) < 2 or stream[0] != _ZLIB_FIRST:
        return None
    for level in _LEVELS[stream[1] >> 6]:
        if all(made == stream for made in _compressed(raw, level)):
            return Recipe(ZLIB, _ZLIB_BODY.pack(level, zlib.crc32(stream)), tail)
    return None


def _zlib(raw: bytes, body: bytes) -> bytes:
    if len(body) != _ZLIB_BODY.size or body[0] > 9:
        msg = "has a deflate tile with a recipe of another size"
        raise CodingError(msg)
    level, crc = _ZLIB_BODY.unpack(body)
    for stream in _compressed(raw, level):
        if zlib.crc32(stream) == crc:
            return stream
    msg = "has a deflate tile that needs zlib to be made again, and what is here as zlib writes otherwise"
    raise CodingError(msg)


def _compressed(raw: bytes, level: int) -> Iterator[bytes]:
    yield zlib.compress(raw, level)
    yield bytes(imagecodecs.zlib_encode(raw, level=level))
