"""libjpeg-turbo, through imagecodecs: decodes the tiles of a region, which are in memory, on all processors."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from bench.support.serving import Answer, serve
from bench.workers.patches import hash_of, measured

_tiles: list[bytes] = []
_how: dict[str, Any] = {}


def region(slide: str, y: int, x: int, height: int, width: int, manner: str) -> Answer:
    """Decode the tiles of level 0 that a region touches.

    Manners: ``threads`` and ``processes`` let go of each decoded tile, ``kept`` (threads) has them all in the end.
    """
    _load(slide, y, x, height, width)
    shares = [range(n, len(_tiles), _cores()) for n in range(_cores())]
    if manner == "processes":
        with multiprocessing.get_context("fork").Pool(_cores()) as processes:
            processes.map(_nothing, range(64))  # they are there
            times = measured(lambda: processes.map(_decode, shares, chunksize=1))
    else:
        with ThreadPoolExecutor(_cores()) as threads:
            list(threads.map(_nothing, range(64)))
            do = _decode_kept if manner == "kept" else _decode
            kept: list[Any] = []
            times = measured(lambda: kept.extend(threads.map(do, shares)))
    return times | {"tiles": len(_tiles), "bytes": sum(map(len, _tiles))}


def picture(slide: str, y: int, x: int, height: int, width: int) -> Answer:
    """Return a hash of the region's pixels, (height, width, c), and what its tiles take."""
    across, tall, wide = _load(slide, y, x, height, width)
    tiles = [imagecodecs.jpeg8_decode(one, **_how) for one in _tiles]
    rows = [np.concatenate(tiles[first : first + across], axis=1) for first in range(0, len(tiles), across)]
    whole = np.concatenate(rows)
    top, left = y % tall, x % wide
    return {
        "hash": hash_of(whole[top : top + height, left : left + width]),
        "tiles": len(_tiles),
        "bytes": sum(map(len, _tiles)),
    }


def _cores() -> int:
    return os.cpu_count() or 1


def _load(slide: str, y: int, x: int, height: int, width: int) -> tuple[int, int, int]:
    """Read the tiles that a region touches; return how many lie side by side, and the height and width of one."""
    with tifffile.TiffFile(slide) as tiff:
        page: Any = tiff.pages[0]
        across = -(-page.imagewidth // page.tilewidth)
        rows = range(y // page.tilelength, -(-(y + height) // page.tilelength))
        columns = range(x // page.tilewidth, -(-(x + width) // page.tilewidth))
        _tiles.clear()
        for number in (row * across + column for row in rows for column in columns):
            tiff.filehandle.seek(page.dataoffsets[number])
            _tiles.append(tiff.filehandle.read(page.databytecounts[number]))
        space = "RGB" if page.photometric == tifffile.PHOTOMETRIC.RGB else "YCBCR"
        _how.update(tables=page.jpegtables, colorspace=space, outcolorspace="RGB")
        return len(columns), page.tilelength, page.tilewidth


def _nothing(_: int) -> None:
    pass


def _decode(share: Sequence[int]) -> None:
    for number in share:
        imagecodecs.jpeg8_decode(_tiles[number], **_how)


def _decode_kept(share: Sequence[int]) -> list[Any]:
    return [imagecodecs.jpeg8_decode(_tiles[number], **_how) for number in share]


if __name__ == "__main__":
    serve({"region": region, "picture": picture})
