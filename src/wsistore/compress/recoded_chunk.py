"""The bytes of one recoded chunk: docs/codecs.md specifies them."""

from __future__ import annotations

import zlib
from typing import Any

import imagecodecs
import numpy as np

from wsistore.compress import pixel_codecs, recipes
from wsistore.compress.coding import CodingError
from wsistore.compress.recipes import Recipe
from wsistore.compress.source_chain import Pixels, SourceChain
from wsistore.compress.varints import Cursor

VERSION = 1
SOURCE, SOURCE_ZSTD, CONSTANT = 0, 1, 2
"""Kinds: the tile as it is, in zstd, or pixels of one colour; others are those of `pixel_codecs`."""
_CRC_BYTES = 4
_ZSTD_LEVEL = 19


def _framed(kind: int, *parts: bytes) -> bytes:
    body = b"".join((bytes([VERSION, kind]), *parts))
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


def dump_source(payload: bytes) -> bytes:
    """Return the chunk that holds a tile as it is."""
    return _framed(SOURCE, payload)


def dump_source_zstd(payload: bytes) -> bytes:
    """Return the chunk that holds a tile in zstd."""
    return _framed(SOURCE_ZSTD, bytes(imagecodecs.zstd_encode(payload, level=_ZSTD_LEVEL)))


def dump_pixels(candidate: str, recipe: Recipe, pixels: Pixels) -> bytes:
    """Return the chunk that holds pixels, shape (y, x, c), and how they become the tile."""
    bits = pixels.view(unsigned(pixels.dtype))
    if (bits == bits[0, 0]).all():
        color = bits[0, 0].astype(bits.dtype.newbyteorder("<")).tobytes()
        return _framed(CONSTANT, recipe.dump(), color)
    chosen = pixel_codecs.CANDIDATES[candidate]
    return _framed(chosen.kind, recipe.dump(), chosen.encode(bits))


def most_payload_bytes(chain: SourceChain) -> int:
    """Return the most that a tile in zstd may take once decompressed: no codec makes samples much larger."""
    return 2 * chain.raw_bytes + 65_536


def unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the unsigned type of the same width, native byte order."""
    return np.dtype(f"u{dtype.itemsize}")


def load(chain: SourceChain, data: bytes) -> tuple[Pixels, Recipe] | bytes:
    """Read a chunk.

    Returns
    -------
    tuple[Pixels, Recipe] or bytes
        Pixels, shape (y, x, c), type that of `chain`, and how they become the tile; or the tile itself.

    Raises
    ------
    CodingError
        If it is no chunk of tiles of this chain.

    """
    if len(data) < 2 + _CRC_BYTES:
        msg = "is too short to be a recoded tile"
        raise CodingError(msg)
    if data[0] != VERSION:
        msg = f"is a recoded tile of version {data[0]}; a newer wsistore may know it"
        raise CodingError(msg)
    if zlib.crc32(data[:-_CRC_BYTES]) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        msg = "is damaged (its checksum is another)"
        raise CodingError(msg)
    kind, cursor = data[1], Cursor(data[2:-_CRC_BYTES])
    if kind == SOURCE:
        return cursor.rest()
    if kind == SOURCE_ZSTD:
        return _unpacked(cursor.rest(), most_payload_bytes(chain))
    recipe = recipes.read(cursor)
    return _pixels(chain, kind, cursor.rest()), recipe


def _unpacked(data: bytes, most: int) -> bytes:
    try:
        return bytes(imagecodecs.zstd_decode(data, out=most))
    except (RuntimeError, ValueError) as error:
        msg = f"is damaged ({error})"
        raise CodingError(msg) from error


def _pixels(chain: SourceChain, kind: int, body: bytes) -> Pixels:
    channels, height, width = chain.shape
    dtype = np.dtype(chain.dtype)
    if kind != CONSTANT:
        return pixel_codecs.decode(kind, body, (height, width, channels), unsigned(dtype)).view(dtype)
    if len(body) != channels * dtype.itemsize:
        msg = f"has a colour of {len(body)} bytes where {channels * dtype.itemsize} are due"
        raise CodingError(msg)
    color = np.frombuffer(body, dtype.newbyteorder("<")).astype(dtype)
    return np.broadcast_to(color, (height, width, channels)).copy()


def pixels_of(chain: SourceChain, data: bytes) -> Pixels:
    """Return a chunk's pixels, shape (y, x, c), as the source's tile alone decodes to.

    Raises
    ------
    CodingError
        If it is no chunk of tiles of this chain.

    """
    found = load(chain, data)
    return chain.decode(found) if isinstance(found, bytes) else found[0]


def payload_of(chain: SourceChain, data: bytes) -> bytes:
    """Return a chunk's tile as the source has it.

    Raises
    ------
    CodingError
        If it is no chunk of tiles of this chain, or its tile cannot be made again.

    """
    found = load(chain, data)
    return found if isinstance(found, bytes) else found[1].apply(chain.raw(found[0]))
