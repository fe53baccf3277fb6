"""JPEG markers: what a tile's header says of it, and which parts of it may carry an identity."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wsistore.slides.base import Color
from wsistore.slides.comments import harmless

SOI, EOI, SOS, DQT, DHT, DRI, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xFE
APP0, APP14, APP15 = 0xE0, 0xEE, 0xEF
EOI_BYTES = b"\xff\xd9"

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODABLE_FRAMES = {0xC0, 0xC1, 0xC2}
_JFIF_BYTES = 16
"""Length of a JFIF segment without a thumbnail, the length field included."""
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NEXT_MARKER_OR_RESTART = re.compile(rb"\xff[^\x00\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment: `start` is the offset of its 0xFF byte, `stop` the offset behind it."""

    code: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a frame: identity, sampling factors, number of its quantisation table."""

    identity: int
    horizontal: int
    vertical: int
    table: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What the start-of-frame marker says; sizes in pixels."""

    code: int
    precision: int
    height: int
    width: int
    components: tuple[Component, ...]

    @property
    def mcu(self) -> tuple[int, int]:
        """Height and width of one interleaved MCU in pixels."""
        return 8 * max(c.vertical for c in self.components), 8 * max(c.horizontal for c in self.components)


@dataclass(frozen=True, slots=True)
class Header:
    """A JPEG's header, from SOI to the end of the first SOS."""

    frame: Frame
    segments: tuple[Segment, ...]
    scan_start: int
    """Offset of the first entropy-coded byte."""
    scan_components: int
    restart_interval: int
    """In MCUs; 0 if there is none."""
    jfif: bool
    adobe_transform: int | None
    tables: frozenset[int]
    """Numbers of the quantisation tables that the header defines."""

    @property
    def single_scan(self) -> bool:
        """Whether the first scan carries all that there is: nothing but entropy-coded data follows it."""
        return self.frame.code != 0xC2 and self.scan_components == len(self.frame.components)


def ends_alone(tile: bytes | memoryview, scan_start: int, *, restarts: bool) -> bool:
    """Say whether nothing but entropy-coded data and an EOI follows the header, zeros behind it left aside.

    Parameters
    ----------
    tile
        A JPEG whose only scan starts at `scan_start`.
    restarts
        Whether the header announces restart markers.

    """
    found = (_NEXT_MARKER if restarts else _NEXT_MARKER_OR_RESTART).search(tile, scan_start)
    if found is None or tile[found.end() - 1] != EOI:
        return False
    return found.end() == len(tile) or not any(tile[found.end() :])


def odd(data: bytes, header: Header, found: tuple[Segment, ...]) -> str:
    """Return what among all segments of a JPEG no picture needs, and could hide a text; empty if there is nothing."""
    for one in found:
        body = data[one.start : one.stop].lstrip(b"\xff")[3:]
        if one.code not in _USUAL:
            return f"has a JPEG marker segment (FF{one.code:02X}) that tiles do not need"
        if one.code in _SHAPES and not _SHAPES[one.code](body):
            return f"has a JPEG marker segment (FF{one.code:02X}) of another length than its content"
    if sum(one.code in _FRAMES for one in found) > 1:
        return "has two JPEG frames"
    if not header.restart_interval and _RESTART.search(data, header.scan_start, found[-1].start):
        return "has JPEG restart markers that its header does not announce"
    return ""


def segments(data: bytes, *, whole: bool = False) -> Iterator[Segment]:
    """Yield the marker segments of a JPEG up to and with the first SOS, or all of them up to EOI if `whole`.

    Raises
    ------
    ValueError
        If the bytes are not a JPEG or end early.

    """
    if data[:2] != b"\xff\xd8":
        msg = "does not start as a JPEG"
        raise ValueError(msg)
    at = 2
    while True:
        start = at
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if len(data) < at + 2 or data[at] != 0xFF:
            msg = f"has no JPEG marker at byte {start} where one is due"
            raise ValueError(msg)
        code = data[at + 1]
        if code == EOI:
            yield Segment(code, start, at + 2)
            return
        stop = at + 2 + _length(data, at + 2)
        yield Segment(code, start, stop)
        at = stop
        if code == SOS:
            if not whole:
                return
            found = _NEXT_MARKER.search(data, stop)
            if found is None:
                msg = "has no end-of-image marker"
                raise ValueError(msg)
            at = found.start()


def _length(data: bytes, at: int) -> int:
    """Return the length that a segment declares at `at`, if it fits into the data."""
    if len(data) < at + 2:
        msg = "ends inside its JPEG header"
        raise ValueError(msg)
    length: int = struct.unpack_from(">H", data, at)[0]
    if length < 2 or len(data) < at + length:
        msg = "has a JPEG marker segment of impossible length"
        raise ValueError(msg)
    return length


def parse(data: bytes) -> Header:
    """Read the header of a JPEG (an abbreviated one too).

    Raises
    ------
    ValueError
        Saying what is wrong, as a phrase that follows the name of the tile.

    """
    found = tuple(segments(data))
    frame, interval, jfif, adobe = None, 0, False, None
    tables: set[int] = set()
    for one in found:
        body = data[one.start : one.stop].lstrip(b"\xff")[3:]
        if one.code in _FRAMES:
            if frame is not None:
                msg = "has two JPEG frames"
                raise ValueError(msg)
            frame = _frame(one.code, body)
        elif one.code == DRI and len(body) >= 2:
            interval = struct.unpack_from(">H", body)[0]
        elif one.code == APP0 and body[:5] == b"JFIF\0":
            jfif = True
        elif one.code == APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif one.code == DQT:
            tables.update(table_numbers(body))
    if frame is None or found[-1].code != SOS:
        msg = "has no JPEG frame or scan"
        raise ValueError(msg)
    last = found[-1]
    scan = data[last.start : last.stop].lstrip(b"\xff")
    if len(scan) < 4:
        msg = "has a JPEG scan header that is too short"
        raise ValueError(msg)
    return Header(frame, found, last.stop, scan[3], interval, jfif, adobe, frozenset(tables))


def _frame(code: int, body: bytes) -> Frame:
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or body[5] == 0:
        msg = "has a JPEG frame header that is too short"
        raise ValueError(msg)
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    parts = [body[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    components = tuple(Component(p[0], p[1] >> 4, p[1] & 15, p[2]) for p in parts)
    if any(not 1 <= c.horizontal <= 4 or not 1 <= c.vertical <= 4 for c in components):
        msg = "has impossible JPEG sampling factors"
        raise ValueError(msg)
    return Frame(code, precision, height, width, components)


def table_numbers(body: bytes) -> Iterator[int]:
    """Yield the numbers of the quantisation tables in the body of a DQT segment."""
    at = 0
    while at < len(body):
        yield body[at] & 15
        at += 1 + (128 if body[at] >> 4 else 64)


def _whole_tables(body: bytes) -> bool:
    at = 0
    while at < len(body):
        at += 1 + (128 if body[at] >> 4 else 64)
    return at == len(body)


def _whole_codes(body: bytes) -> bool:
    at = 0
    while at + 17 <= len(body):
        at += 17 + sum(body[at + 1 : at + 17])
    return at == len(body)


_USUAL = _FRAMES | {SOS, DQT, DHT, DRI, COM, EOI} | set(range(APP0, APP15 + 1))
_SHAPES: dict[int, Callable[[bytes], bool]] = {
    **dict.fromkeys(_FRAMES, lambda body: len(body) == 6 + 3 * body[5]),
    SOS: lambda body: len(body) > 0 and len(body) == 4 + 2 * body[0],
    DRI: lambda body: len(body) == 2,
    DQT: _whole_tables,
    DHT: _whole_codes,
}


def shared_tables(tables: bytes | None) -> frozenset[int]:
    """Return the numbers of the quantisation tables in an abbreviated table-specification stream.

    Raises
    ------
    ValueError
        If it is not one.

    """
    if tables is None:
        return frozenset()
    return frozenset(
        number
        for one in segments(tables)
        if one.code == DQT
        for number in table_numbers(tables[one.start : one.stop].lstrip(b"\xff")[3:])
    )


def bare_tables(tables: bytes) -> bytes:
    """Return a table-specification stream with its tables only: no comment, no application data.

    Raises
    ------
    ValueError
        If it is not one.

    """
    kept = [tables[s.start : s.stop] for s in segments(tables) if s.code in {DQT, DHT, DRI}]
    bare = b"\xff\xd8" + b"".join(kept) + EOI_BYTES
    return tables if len(bare) == len(tables) else bare


def color_of(header: Header, *, rgb_declared: bool) -> Color:
    """Say what the components are, as libjpeg does, but for files that declare RGB and have no JFIF marker.

    Aperio (and others) write RGB without any marker that says so; the TIFF tag PhotometricInterpretation is then right.
    """
    if len(header.frame.components) == 1:
        return Color.GRAY
    if header.jfif:
        return Color.YCBCR
    if rgb_declared:
        return Color.RGB
    if header.adobe_transform is not None:
        return Color.YCBCR if header.adobe_transform else Color.RGB
    identities = bytes(c.identity for c in header.frame.components)
    return Color.RGB if identities == b"RGB" else Color.YCBCR


def unfit(frame: Frame, height: int, width: int, channels: int) -> str:
    """Return why a frame cannot be a tile of this size (pixels) and number of channels, or nothing."""
    if frame.code not in _DECODABLE_FRAMES or frame.precision != 8:
        kind = f"SOF{frame.code - 0xC0}, {frame.precision} bit"
        return f"is a JPEG of a kind ({kind}) that is neither baseline nor progressive of 8 bits"
    if len(frame.components) != channels:
        return f"is a JPEG with {len(frame.components)} components where {channels} are declared"
    if (frame.height, frame.width) != (height, width):
        return f"is a JPEG of {frame.width}×{frame.height} pixels where {width}×{height} are declared"
    return ""


def telling(data: bytes, found: tuple[Segment, ...]) -> tuple[Range, ...]:
    """Return the byte ranges of segments that may carry an identity: comments and application data.

    JFIF without thumbnail, Adobe's colour marker and signatures of encoders stay.
    """
    return tuple((s.start, s.stop) for s in found if _tells(data, s))


def _tells(data: bytes, segment: Segment) -> bool:
    body = data[segment.start : segment.stop].lstrip(b"\xff")[3:]
    if segment.code == COM:
        return not harmless(body)
    if not APP0 <= segment.code <= APP15:
        return False
    if segment.code == APP0:
        return not (body[:5] == b"JFIF\0" and len(body) + 2 == _JFIF_BYTES)
    return not (segment.code == APP14 and body[:5] == b"Adobe" and len(body) == 12)


def strip_header(data: bytes, header: Header, height: int, width: int) -> bytes:
    """Return a header for one strip of a JPEG: its size put in, restart interval, comments and application data out.

    JFIF and Adobe markers stay: they say what the colours are.
    """
    parts = [b"\xff\xd8"]
    for one in header.segments:
        raw = data[one.start : one.stop].lstrip(b"\xff")
        if one.code in _FRAMES:
            raw = raw[:4] + struct.pack(">HH", height, width) + raw[8:]
        elif one.code == DRI or one.code == COM or (APP0 <= one.code <= APP15 and not _colour_marker(one.code, raw)):
            continue
        parts.append(b"\xff" + raw)
    return b"".join(parts)


def _colour_marker(code: int, raw: bytes) -> bool:
    body = raw[3:]
    jfif = code == APP0 and body[:5] == b"JFIF\0" and len(body) + 2 == _JFIF_BYTES
    return jfif or (code == APP14 and body[:5] == b"Adobe" and len(body) == 12)
