"""Folds: k vertically adjacent JPEG tiles as one tall JPEG, joined and split without touching their scans.

All tiles of a fold share one header (SOI … SOS). The fold is that header with its height multiplied by the number of
tiles and with a restart interval of one tile's MCUs, followed by the tiles' entropy-coded data with restart markers
RST0 … RST7 in turn between them, and EOI. At a restart marker the decoder's state is what it is at the start of a scan,
so a tile's data is a scan of its own: splitting gives back exactly what was joined (ITU-T T.81, sections E.1.4 and
F.2.1.3).

There are two kinds. `join` leaves the tables out (JPEG's abbreviated format): the tile header in the codec's
configuration has them. `join_whole` leaves nothing out: what recompresses folds needs the tables, and `split_whole`
gives the tiles' header back too.

A fold must be split before its tiles are decoded: a decoder that upsamples chroma looks across the tiles' borders.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from wsistore.slides import jpeg

EOI = b"\xff\xd9"
MAX_RESTART_INTERVAL = 65_535
MAX_HEIGHT = 65_535

_DHT, _DQT, _DRI, _SOS = 0xC4, 0xDB, 0xDD, 0xDA
_LEFT_OUT = frozenset({_DHT, _DQT, _DRI, *range(0xE0, 0xF0), 0xFE})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_RESTARTS = tuple(bytes((0xFF, 0xD0 + number)) for number in range(8))


class FoldError(ValueError):
    """These tiles cannot be folded, or these bytes are no fold; the message says why."""


@lru_cache(maxsize=64)
def _parse_known(header: bytes) -> jpeg.Header:
    """Parse a header that most likely comes again: that of a level's tiles."""
    return parse(header)


def parse(header: bytes) -> jpeg.Header:
    """Read the header of a JPEG.

    Raises
    ------
    FoldError
        If it is none.

    """
    try:
        return jpeg.parse(header)
    except (ValueError, IndexError, struct.error) as error:
        msg = f"the header {error}"
        raise FoldError(msg) from error


def _with_height(data: bytes, segment: jpeg.Segment, height: int) -> bytearray:
    """Return a frame header with another height, without fill bytes."""
    changed = bytearray(b"\xff" + data[segment.start : segment.stop].lstrip(b"\xff"))
    struct.pack_into(">H", changed, 5, height)
    return changed


def _restart_interval(mcus: int) -> bytes:
    return struct.pack(">BBHH", 0xFF, _DRI, 4, mcus)


def _fold_header(header: bytes, parsed: jpeg.Header, height: int, restart_interval: int) -> bytes:
    out = bytearray(header[:2])
    for segment in parsed.segments:
        if segment.code in _LEFT_OUT:
            continue
        if segment.code == _SOS:
            out += _restart_interval(restart_interval)
        if segment.code == parsed.frame.code:
            out += _with_height(header, segment, height)
        else:
            out += b"\xff" + header[segment.start : segment.stop].lstrip(b"\xff")  # one fill byte is enough
    return bytes(out)


@dataclass(frozen=True, slots=True)
class Extent:
    """What one tile takes of a fold."""

    rows: int
    """Pixels, in whole MCUs."""
    mcus: int

    @property
    def most_tiles(self) -> int:
        """Tiles that fit into one JPEG; 0 if not even a restart interval can be as long as one."""
        return MAX_HEIGHT // max(1, self.rows) if self.mcus <= MAX_RESTART_INTERVAL else 0


def extent(frame: jpeg.Frame) -> Extent:
    """Return what a tile with this frame header takes of a fold."""
    mcu_height, mcu_width = frame.mcu if len(frame.components) > 1 else (8, 8)
    rows = -(-frame.height // mcu_height)
    return Extent(rows * mcu_height, rows * -(-frame.width // mcu_width))


def _body(scans: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for number, scan in enumerate(scans):
        if number:
            parts.append(_RESTARTS[(number - 1) % 8])
        parts.append(scan)
    parts.append(EOI)
    return parts


def join(header: bytes, scans: Sequence[bytes | memoryview]) -> bytes:
    """Return the fold of `scans`, top to bottom, which all belong to `header`.

    Raises
    ------
    FoldError
        If the tiles are not sequential 8-bit Huffman JPEG with one scan, if they have restart markers of their own, if
        the fold would be higher than a JPEG can be, or if a tile has more MCUs than a restart interval can have.

    """
    if not scans:
        msg = "there is nothing to fold"
        raise FoldError(msg)
    parsed = parse(header)
    frame = parsed.frame
    if frame.code not in _SEQUENTIAL or frame.precision != 8 or not parsed.single_scan:
        msg = f"only sequential 8-bit Huffman JPEG of one scan can be folded, this is SOF{frame.code - 0xC0}"
        raise FoldError(msg)
    one = extent(frame)
    height = one.rows * len(scans) if len(scans) > 1 else frame.height
    if height > MAX_HEIGHT or one.mcus > MAX_RESTART_INTERVAL:
        msg = f"{len(scans)} tiles of {frame.height} rows and {one.mcus} MCUs do not fit into one JPEG"
        raise FoldError(msg)
    if any(_RESTART.search(scan) for scan in scans):
        msg = "the tiles have restart markers of their own"
        raise FoldError(msg)
    return b"".join([_fold_header(header, parsed, height, one.mcus), *_body(scans)])


def split(data: bytes) -> list[bytes]:
    """Return the scans of a fold, top to bottom.

    Raises
    ------
    FoldError
        If `data` is not a fold.

    """
    return _split(data, parse(data).scan_start)


def _split(data: bytes, start: int) -> list[bytes]:
    if data[-2:] != EOI or len(data) - 2 < start:
        msg = "the fold does not end in EOI"
        raise FoldError(msg)
    starts, ends, number = [start], [], 0
    for mark in _RESTART.finditer(data, start, len(data) - 2):
        at = mark.start()
        if data[at + 1] != 0xD0 + number:
            msg = "the restart markers of the fold are not in order"
            raise FoldError(msg)
        number = (number + 1) % 8
        ends.append(at)
        starts.append(at + 2)
    ends.append(len(data) - 2)
    return [data[a:b] for a, b in zip(starts, ends, strict=True)]


def join_whole(header: bytes, scans: Sequence[bytes | memoryview]) -> bytes:
    """Return the fold of at least two `scans`, top to bottom, with all that `header` has.

    The header must be complete, without fill bytes before its frame header and without a restart interval, the tiles
    sequential 8-bit Huffman JPEG with one scan and no restart markers; their `extent` tells how many fit.

    Raises
    ------
    FoldError
        If the header is none.

    """
    parsed = _parse_known(header)
    one = extent(parsed.frame)
    (frame,) = (segment for segment in parsed.segments if segment.code == parsed.frame.code)
    last = parsed.segments[-1]
    parts: list[bytes | memoryview] = [
        header[: frame.start],
        bytes(_with_height(header, frame, one.rows * len(scans))),
        header[frame.stop : last.start],
        _restart_interval(one.mcus),
        header[last.start : last.stop],
    ]
    return b"".join(parts + _body(scans))


def split_whole(data: bytes, height: int) -> tuple[bytes, list[bytes]]:
    """Undo `join_whole`.

    Parameters
    ----------
    data
        The fold.
    height
        Of one tile, in pixels.

    Returns
    -------
    The header that was given, and the scans.

    Raises
    ------
    FoldError
        If `data` is not such a fold.

    """
    parsed = parse(data)
    frames = [segment for segment in parsed.segments if segment.code == parsed.frame.code]
    *_, interval, last = parsed.segments
    if interval.code != _DRI or interval.stop - interval.start != 6 or len(frames) != 1 or height > MAX_HEIGHT:
        msg = "the fold has no restart interval before its scan"
        raise FoldError(msg)
    header = b"".join(
        (
            data[: frames[0].start],
            _with_height(data, frames[0], height),
            data[frames[0].stop : interval.start],
            data[last.start : last.stop],
        )
    )
    return header, _split(data, last.stop)


def tables_of(stream: bytes | None) -> dict[int, bytes]:
    """Return the DQT and the DHT segments of a table-specification stream, joined, by the marker's code.

    Raises
    ------
    FoldError
        If it is not one.

    """
    found = {_DQT: b"", _DHT: b""}
    if not stream:
        return found
    try:
        for one in jpeg.segments(stream):
            if one.code in found:
                found[one.code] += stream[one.start : one.stop]
    except (ValueError, IndexError, struct.error) as error:
        msg = f"the shared tables: it {error}"
        raise FoldError(msg) from error
    return found


def bare_header(header: bytes) -> bytes:
    """Return a tile header with nothing but SOI, tables, frame and scan header.

    Raises
    ------
    FoldError
        If it is not one.

    """
    parsed = parse(header)
    kept = [s for s in parsed.segments if s.code in {_DQT, _DHT, _SOS, parsed.frame.code}]
    return header[:2] + b"".join(b"\xff" + header[s.start : s.stop].lstrip(b"\xff") for s in kept)


def tile(header: bytes, scan: bytes | memoryview) -> bytes:
    """Return one tile as a JPEG of its own."""
    return b"".join((header, scan, EOI))
