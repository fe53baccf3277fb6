"""JPEG 2000 codestreams: what a tile's main header says of it, and where its comments are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from wsistore.slides.comments import harmless

SOC, CAP, SIZ, COD, SOT, SOD, EOC, COM = 0xFF4F, 0xFF50, 0xFF51, 0xFF52, 0xFF90, 0xFF93, 0xFFD9, 0xFF64
SOC_BYTES, EOC_BYTES, SOT_BYTES, SOD_BYTES = b"\xff\x4f", b"\xff\xd9", b"\xff\x90", b"\xff\x93"
_BOX_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a main header says; sizes in pixels, `depths` in bits, negative where samples are signed."""

    height: int
    width: int
    depths: tuple[int, ...]
    subsampled: bool
    transformed: bool
    """The codestream holds a colour transform of its own; decoding it gives RGB."""
    header_stop: int
    """Offset of the first tile-part."""
    telling: tuple[Range, ...]
    """Byte ranges of comments that may carry an identity, in main and tile-part headers."""
    stop: int
    """Offset behind the end-of-codestream marker."""


def boxed(data: bytes) -> bool:
    """Say whether a codestream is wrapped in JP2 boxes."""
    return data[: len(_BOX_SIGNATURE)] == _BOX_SIGNATURE


def parse(data: bytes) -> Codestream:
    """Read the headers of a raw codestream.

    Raises
    ------
    ValueError
        Saying what is wrong, as a phrase that follows the name of the tile.

    """
    if data[:2] != SOC_BYTES:
        msg = "does not start as a JPEG 2000 codestream"
        raise ValueError(msg)
    telling: list[Range] = []
    size, transformed, at = None, False, 2
    for code, start, stop in _segments(data, 2):
        at = stop
        if code == SIZ:
            size = _size(data[start + 4 : stop])
        elif code == COD and stop - start >= 9:
            transformed = data[start + 8] != 0
        elif code == COM and not harmless(data[start + 6 : stop]):
            telling.append((start, stop))
    if size is None:
        msg = "has no JPEG 2000 size marker"
        raise ValueError(msg)
    height, width, depths, subsampled = size
    parts, stop = _tile_parts(data, at)
    return Codestream(height, width, depths, subsampled, transformed, at, (*telling, *parts), stop)


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the marker segments of one header as (code, start, stop), up to a tile-part or its data."""
    while True:
        if len(data) < at + 4:
            msg = "ends inside its JPEG 2000 header"
            raise ValueError(msg)
        code, length = struct.unpack_from(">HH", data, at)
        if code in {SOT, SOD}:
            return
        if len(data) < at + 2 + length:
            msg = "ends inside its JPEG 2000 header"
            raise ValueError(msg)
        if code >> 8 != 0xFF or length < 2:
            msg = f"has a broken JPEG 2000 marker at byte {at}"
            raise ValueError(msg)
        yield code, at, at + 2 + length
        at += 2 + length


def _size(body: bytes) -> tuple[int, int, tuple[int, ...], bool]:
    """Return height, width, depths and whether any component is subsampled."""
    if len(body) < 36:
        msg = "has a JPEG 2000 size marker that is too short"
        raise ValueError(msg)
    _, right, bottom, left, top, _, _, _, _, count = struct.unpack_from(">H8IH", body)
    parts = [body[36 + 3 * i : 39 + 3 * i] for i in range(count)]
    if not count or len(parts[-1]) < 3:
        msg = "has a JPEG 2000 size marker that is too short"
        raise ValueError(msg)
    depths = tuple((1 + (p[0] & 127)) * (-1 if p[0] & 128 else 1) for p in parts)
    return bottom - top, right - left, depths, any(p[1] != 1 or p[2] != 1 for p in parts)


def _tile_parts(data: bytes, at: int) -> tuple[tuple[Range, ...], int]:
    """Follow the tile-parts; return the telling comments in their headers and where the codestream ends."""
    telling: list[Range] = []
    while data[at : at + 2] == SOT_BYTES:
        if len(data) < at + 12:
            msg = "ends inside a JPEG 2000 tile-part"
            raise ValueError(msg)
        length = struct.unpack_from(">I", data, at + 6)[0]
        for code, start, stop in _segments(data, at + 12):
            if code == COM and not harmless(data[start + 6 : stop]):
                telling.append((start, stop))
        if length == 0:  # up to the end of the codestream
            at = data.rfind(EOC_BYTES)
            break
        if length < 14 or len(data) < at + length:
            msg = "ends inside a JPEG 2000 tile-part"
            raise ValueError(msg)
        at += length
    if at < 0 or data[at : at + 2] != EOC_BYTES:
        msg = "has no end-of-codestream marker"
        raise ValueError(msg)
    return tuple(telling), at + 2


def transformed(data: bytes) -> bool:
    """Say from the start of a raw codestream whether it holds a colour transform of its own.

    Raises
    ------
    ValueError
        If it is no codestream.

    """
    if data[:2] != SOC_BYTES:
        msg = "does not start as a JPEG 2000 codestream"
        raise ValueError(msg)
    marks = ((code, start, stop) for code, start, stop in _segments(data, 2))
    return any(code == COD and stop - start >= 9 and data[start + 8] != 0 for code, start, stop in marks)


def single_part(data: bytes | memoryview, header_stop: int) -> bool:
    """Say whether one tile-part without a header of its own fills the codestream from `header_stop` to its EOC."""
    if bytes(data[header_stop : header_stop + 2]) != SOT_BYTES:
        return False
    if bytes(data[header_stop + 12 : header_stop + 14]) != SOD_BYTES or bytes(data[-2:]) != EOC_BYTES:
        return False
    length = int.from_bytes(data[header_stop + 6 : header_stop + 10], "big")
    return length in {0, len(data) - 2 - header_stop}
