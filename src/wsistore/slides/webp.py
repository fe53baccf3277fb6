"""WebP tiles: their size and whether they carry more than pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PIXELS = {b"VP8 ", b"VP8L"}
_CANVAS_BYTES = 10


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the RIFF chunks as (name, start of body, end of body), as far as the header says that the picture goes."""
    at, end = 12, end_of(data)
    while at + 8 <= end:
        name, length = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + length > len(data):
            msg = "ends inside a WebP chunk"
            raise ValueError(msg)
        yield name, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def end_of(data: bytes) -> int:
    """Return the offset behind the picture as its header says, no more than the length of `data`."""
    return min(len(data), int(struct.unpack_from("<I", data, 4)[0]) + 8)


def size_of(data: bytes) -> tuple[int, int]:
    """Return height and width in pixels of the first picture.

    Raises
    ------
    ValueError
        Saying what is wrong, as a phrase that follows the name of the tile.

    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        msg = "does not start as a WebP picture"
        raise ValueError(msg)
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:
        msg = "is shorter than its WebP header says"
        raise ValueError(msg)
    for name, start, stop in _chunks(data):
        if name == b"VP8 " and stop - start >= 10 and data[start + 3 : start + 6] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", data, start + 6)
            return height & 0x3FFF, width & 0x3FFF
        if name == b"VP8L" and stop - start >= 5 and data[start] == 0x2F:
            bits = struct.unpack_from("<I", data, start + 1)[0]
            return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    msg = "has no WebP picture in it"
    raise ValueError(msg)


def unfit(data: bytes) -> str:
    """Return why a WebP picture cannot be kept as a chunk (it carries text, alpha or frames), or nothing."""
    chunks = list(_chunks(data))
    more = [name.decode("latin-1").strip() for name, start, stop in chunks if not _plain(name, stop - start)]
    if more:
        return f"is a WebP picture with {', '.join(more)} in it"
    if sum(name in _PIXELS for name, _, _ in chunks) > 1:
        return "is a WebP picture with two pictures in it"
    last = max(stop + (stop & 1) for _, _, stop in chunks)
    return "has bytes behind the last part of its WebP picture" if any(data[last : end_of(data)]) else ""


def _plain(name: bytes, length_bytes: int) -> bool:
    """Say whether a chunk holds pixels or the size of the canvas, and nothing else."""
    return name in _PIXELS or (name == b"VP8X" and length_bytes == _CANVAS_BYTES)
