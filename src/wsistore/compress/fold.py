"""Folds: k vertically adjacent JPEG tiles as one tall JPEG, joined and split without touching their scans.

All tiles of a fold share one header (SOI … SOS). The fold is that header with its height multiplied by the number of
tiles, without its tables, and with a restart interval of one tile's MCUs, followed by the tiles' entropy-coded data
with restart markers RST0 … RST7 in turn between them, and EOI: JPEG's abbreviated format, whose tables the tile header
in the codec's configuration has. At a restart marker the decoder's state is what it is at the start of a scan, so a
tile's data is a scan of its own: splitting gives back exactly what was joined (ITU-T T.81, sections E.1.4 and F.2.1.3).

A fold must be split before its tiles are decoded: a decoder that upsamples chroma looks across the tiles' borders.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

import numpy as np

from wsistore.slides import jpeg

EOI = b"\xff\xd9"
MAX_RESTART_INTERVAL = 65_535
MAX_HEIGHT = 65_535

_DHT, _DQT, _DRI, _SOS = 0xC4, 0xDB, 0xDD, 0xDA
_LEFT_OUT = frozenset({_DHT, _DQT, _DRI, *range(0xE0, 0xF0), 0xFE})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class FoldError(ValueError):
    """These tiles cannot be folded, or these bytes are no fold; the message says why."""


def _parse(header: bytes) -> jpeg.Header:
    try:
        return jpeg.parse(header)
    except (ValueError, IndexError, struct.error) as error:
        msg = f"the header {error}"
        raise FoldError(msg) from error


def _fold_header(header: bytes, parsed: jpeg.Header, height: int, restart_interval: int) -> bytes:
    out = bytearray(header[:2])
    for segment in parsed.segments:
        if segment.code in _LEFT_OUT:
            continue
        data = bytearray(b"\xff" + header[segment.start : segment.stop].lstrip(b"\xff"))  # one fill byte is enough
        if segment.code == parsed.frame.code:
            struct.pack_into(">H", data, 5, height)
        if segment.code == _SOS:
            out += struct.pack(">BBHH", 0xFF, _DRI, 4, restart_interval)
        out += data
    return bytes(out)


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
    parsed = _parse(header)
    frame = parsed.frame
    if frame.code not in _SEQUENTIAL or frame.precision != 8 or not parsed.single_scan:
        msg = f"only sequential 8-bit Huffman JPEG of one scan can be folded, this is SOF{frame.code - 0xC0}"
        raise FoldError(msg)
    mcu_height, mcu_width = frame.mcu if len(frame.components) > 1 else (8, 8)
    rows = -(-frame.height // mcu_height)
    mcus = rows * -(-frame.width // mcu_width)
    height = rows * mcu_height * len(scans) if len(scans) > 1 else frame.height
    if height > MAX_HEIGHT or mcus > MAX_RESTART_INTERVAL:
        msg = f"{len(scans)} tiles of {frame.height} rows and {mcus} MCUs do not fit into one JPEG"
        raise FoldError(msg)
    if any(_RESTART.search(scan) for scan in scans):
        msg = "the tiles have restart markers of their own"
        raise FoldError(msg)
    parts: list[bytes | memoryview] = [_fold_header(header, parsed, height, mcus)]
    for number, scan in enumerate(scans):
        if number:
            parts.append(bytes((0xFF, 0xD0 + (number - 1) % 8)))
        parts.append(scan)
    parts.append(EOI)
    return b"".join(parts)


def split(data: bytes) -> list[bytes]:
    """Return the scans of a fold, top to bottom.

    Raises
    ------
    FoldError
        If `data` is not a fold.

    """
    start = _parse(data).scan_start
    if data[-2:] != EOI or len(data) - 2 < start:
        msg = "the fold does not end in EOI"
        raise FoldError(msg)
    body = np.frombuffer(data, np.uint8, len(data) - 2 - start, start)
    marks = np.flatnonzero((body[:-1] == 0xFF) & (body[1:] & 0xF8 == 0xD0)) if body.size > 1 else np.empty(0, np.int64)
    numbers = body[marks + 1] - 0xD0
    if not np.array_equal(numbers, np.arange(len(marks)) % 8):
        msg = "the restart markers of the fold are not in order"
        raise FoldError(msg)
    starts = np.concatenate(([0], marks + 2)) + start
    ends = np.concatenate((marks, [body.size])) + start
    return [data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def tile(header: bytes, scan: bytes | memoryview) -> bytes:
    """Return one tile as a JPEG of its own."""
    return b"".join((header, scan, EOI))
