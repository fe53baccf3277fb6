"""JPEG 2000 codestreams: what a tile's main header says of it, and where its comments are."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from wsistore.slides.comments import harmless

SOC, CAP, SIZ, COD, SOT, SOD, EOC, COM = 0xFF4F, 0xFF50, 0xFF51, 0xFF52, 0xFF90, 0xFF93, 0xFFD9, 0xFF64
SOC_BYTES, EOC_BYTES, SOT_BYTES, SOD_BYTES = b"\xff\x4f", b"\xff\xd9", b"\xff\x90", b"\xff\x93"
_BOX_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"

_KNOWN = {0xFF50, 0xFF51, 0xFF52, 0xFF53, 0xFF55, 0xFF57, 0xFF58, 0xFF59, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F}
_KNOWN |= {0xFF60, 0xFF61, 0xFF63, 0xFF64}
"""Marker segments of part 1 and 15."""
_NO_DATA = re.compile(rb"(?<!\xff\x91\x00\x04)(?<!\xff\x91\x00\x04.)\xff[\x93-\xff]", re.DOTALL)
"""What cannot be in packets: of all markers only SOP (FF91) and EPH (FF92) can, and any number behind SOP."""

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
    """Byte ranges of comments in the main header that may carry an identity."""
    stop: int
    """Offset behind the end-of-codestream marker."""
    odd: str
    """What no picture needs and could hide a text, as a phrase that follows the tile's name; else empty."""


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
    size, transformed, at, unknown = None, False, 2, 0
    for code, start, stop in _segments(data, 2):
        at = stop
        unknown = unknown or (0 if code in _KNOWN else code)
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
    stop, odd = _tile_parts(data, at)
    odd = f"has a JPEG 2000 marker segment ({unknown:04X}) that tiles do not need" if unknown else odd
    return Codestream(height, width, depths, subsampled, transformed, at, tuple(telling), stop, odd)


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


def _tile_parts(data: bytes, at: int) -> tuple[int, str]:
    """Follow the tile-parts; return where the codestream ends, and what in them is odd."""
    odd = ""
    while data[at : at + 2] == SOT_BYTES:
        if len(data) < at + 12:
            msg = "ends inside a JPEG 2000 tile-part"
            raise ValueError(msg)
        length = struct.unpack_from(">I", data, at + 6)[0]
        packets = at + 14
        for code, start, stop in _segments(data, at + 12):
            packets = stop + 2
            if code not in _KNOWN:
                odd = f"has a JPEG 2000 marker segment ({code:04X}) that tiles do not need"
            elif code == COM and not harmless(data[start + 6 : stop]):
                odd = "has a comment in the header of a JPEG 2000 tile-part"  # whose length counts it
        if length == 0:  # up to the end of the codestream
            end = _NO_DATA.search(data, packets)
            at = end.start() if end else -1
            break
        if length < 14 or len(data) < at + length:
            msg = "ends inside a JPEG 2000 tile-part"
            raise ValueError(msg)
        if _NO_DATA.search(data, packets, at + length):
            odd = "has a marker inside its JPEG 2000 packets"
        at += length
    if at < 0 or data[at : at + 2] != EOC_BYTES:
        msg = "has no end-of-codestream marker"
        raise ValueError(msg)
    return at + 2, odd


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
    """Say whether one tile-part without a header of its own fills the codestream from `header_stop` to its only EOC."""
    if bytes(data[header_stop : header_stop + 2]) != SOT_BYTES:
        return False
    if bytes(data[header_stop + 12 : header_stop + 14]) != SOD_BYTES or bytes(data[-2:]) != EOC_BYTES:
        return False
    length = int.from_bytes(data[header_stop + 6 : header_stop + 10], "big")
    if length not in {0, len(data) - 2 - header_stop}:
        return False
    end = _NO_DATA.search(data, header_stop + 14)
    return end is not None and end.end() == len(data)
