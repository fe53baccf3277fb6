"""Tiles of a source, to see whether a peer passes them through (tifffile: both peers' environments have it)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_TILES = 50


def sample(source: str) -> dict[int, bytes]:
    """Return some tiles of level 0 by their number in row order, as they lie in the file."""
    tifffile: Any = import_module("tifffile")
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        count = len(page.dataoffsets)
        numbers = range(0, count, max(1, count // _TILES))
        return {number: _read(tiff, page.dataoffsets[number], page.databytecounts[number]) for number in numbers}


def _read(tiff: Any, offset: int, length: int) -> bytes:
    tiff.filehandle.seek(offset)
    data: bytes = tiff.filehandle.read(length)
    return data


def grid(source: str) -> tuple[int, int]:
    """Return the rows and columns of tiles of level 0."""
    tifffile: Any = import_module("tifffile")
    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        return -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)


def scan_of(jpeg: bytes) -> bytes:
    """Return the entropy-coded bytes of a JPEG with one scan: what follows its last header.

    Headers are walked, for a table may hold the bytes of a marker.
    """
    place = 2
    while jpeg[place + 1] != 0xDA:
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
    place += 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
    return jpeg[place : jpeg.rfind(b"\xff\xd9")]
