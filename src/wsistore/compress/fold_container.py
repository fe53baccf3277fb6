"""The bytes of a chunk of `wsistore.fold` with ``jpegxl`` inside: which tile is in which part, and the parts.

See docs/store-format.md, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from itertools import groupby

from wsistore.compress.coding import CodingError

VERSION = 1
MISSING, REPEATED, FIRST_PART = 0, 1, 2
"""Codes of tiles; the n-th part has the code FIRST_PART + n."""

_MOST_NUMBER = 2**32


class Kind(IntFlag):
    """How a part keeps its tiles; none of these: as the only tile's payload."""

    VERBATIM = 0
    JPEG_XL = 1
    PADDED = 2
    """The tiles have zero bytes behind them, which are counted."""
    OWN_DQT = 4
    """The tiles have quantisation tables of their own; the shared ones are not in the JPEG."""
    OWN_DHT = 8
    """The tiles have Huffman tables of their own; the shared ones are not in the JPEG."""


@dataclass(frozen=True, slots=True)
class Part:
    """One or more tiles of a chunk that are kept together."""

    data: bytes
    jpeg_bytes: int | None = None
    """Length of the JPEG that `data` is kept of as JPEG XL; None if `data` is the only tile's payload."""
    zeros: tuple[int, ...] = ()
    """Zero bytes behind each tile, from top to bottom; empty where no tile has any."""
    own: Kind = Kind.VERBATIM
    """`OWN_DQT` and `OWN_DHT`, where they hold."""

    @property
    def kind(self) -> Kind:
        """How it is written."""
        if self.jpeg_bytes is None:
            return Kind.VERBATIM
        return Kind.JPEG_XL | self.own | (Kind.PADDED if self.zeros else Kind.VERBATIM)


_JPEG_XL_KINDS = range(Kind.JPEG_XL, 16, 2)


def pack(codes: Sequence[int], parts: Sequence[Part]) -> bytes:
    """Return the chunk.

    Parameters
    ----------
    codes
        For each tile from top to bottom: `MISSING`, `REPEATED` (the same as the last one that is not missing), or
        `FIRST_PART` + the number of its part. Parts appear first in their order.
    parts
        The parts.

    """
    runs = [(code, len(list(tiles))) for code, tiles in groupby(codes)]
    out = bytearray((VERSION,))
    _put(out, len(runs))
    for code, count in runs:
        _put(out, code)
        _put(out, count)
    for part in parts:
        out.append(part.kind)
        _put(out, len(part.data))
        if part.jpeg_bytes is not None:
            _put(out, part.jpeg_bytes)
        for zeros in part.zeros:
            _put(out, zeros)
    return b"".join((out, *(part.data for part in parts)))


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


class _Reader:
    """Walks through a chunk."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        if self.at >= len(self.data):
            msg = "ends early"
            raise CodingError(msg)
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 28:
                msg = "has a number that is too large"
                raise CodingError(msg)
        if value >= _MOST_NUMBER or (not byte and shift > 7):
            msg = "has a number that no writer makes"
            raise CodingError(msg)
        return value

    def take(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            msg = "ends early"
            raise CodingError(msg)
        self.at += count
        return self.data[self.at - count : self.at]


def unpack(data: bytes, most_tiles: int) -> tuple[list[int], list[Part]]:
    """Undo `pack`.

    Raises
    ------
    CodingError
        If `data` is not such a chunk of at most `most_tiles` tiles.

    """
    reader = _Reader(data)
    if reader.byte() != VERSION:
        msg = f"has version {data[0]}, which this version of wsistore does not know"
        raise CodingError(msg)
    codes = _codes(reader, most_tiles)
    heads = [_head(reader, codes.count(code)) for code in range(FIRST_PART, max(codes) + 1)]
    parts = [replace(head, data=reader.take(length)) for head, length in heads]
    if reader.at != len(data):
        msg = "has bytes behind its end"
        raise CodingError(msg)
    return codes, parts


def _codes(reader: _Reader, most_tiles: int) -> list[int]:
    codes: list[int] = []
    parts = 0
    for _ in range(reader.number()):
        code, count = reader.number(), reader.number()
        new = code == FIRST_PART + parts
        parts += new
        if code >= FIRST_PART + parts or (code == REPEATED and not parts):
            msg = "has its parts in disorder"
            raise CodingError(msg)
        if not 0 < count <= most_tiles - len(codes) or (codes and codes[-1] == code):
            msg = f"does not have 1 to {most_tiles} tiles in sound runs"
            raise CodingError(msg)
        codes += [code] * count
    if not parts:
        msg = "has no tiles"
        raise CodingError(msg)
    return codes


def _head(reader: _Reader, tiles: int) -> tuple[Part, int]:
    """Return a part without its data, and their length."""
    kind, length = reader.byte(), reader.number()
    if kind == Kind.VERBATIM and tiles == 1:
        return Part(b""), length
    if kind not in _JPEG_XL_KINDS:
        msg = f"has a part of kind {kind} with {tiles} tiles, which this version of wsistore does not know"
        raise CodingError(msg)
    jpeg_bytes = reader.number()
    zeros = tuple(reader.number() for _ in range(tiles)) if kind & Kind.PADDED else ()
    return Part(b"", jpeg_bytes, zeros, Kind(kind) & (Kind.OWN_DQT | Kind.OWN_DHT)), length
