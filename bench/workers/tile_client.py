"""A client of a tile server: patches at random places, by one request for each or of the tiles that they touch."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import imagecodecs
import numpy as np

from bench.support.serving import Answer, serve
from bench.workers.patches import Position, answer, measured

_EDGE = 256
_CONNECTIONS = 8
_thread = threading.local()


def patches(port: int, level: int, positions: list[Position], manner: str, check: bool) -> Answer:
    """Read patches of 256 pixels of the largest level, over eight connections that stay.

    Manners: ``regions`` asks for each patch, ``tiles`` for tiles of 256 pixels and puts patches together.
    """
    read = {"regions": _region, "tiles": _from_tiles}[manner]
    found: list[np.ndarray] = []
    times = measured(lambda: found.extend(_threads().map(lambda place: read(port, level, *place), positions)))
    return answer(times, found, check)


def _region(port: int, _: int, y: int, x: int) -> np.ndarray:
    return _get(port, f"/tiles/region?left={x}&top={y}&regionWidth={_EDGE}&regionHeight={_EDGE}")


def _from_tiles(port: int, level: int, y: int, x: int) -> np.ndarray:
    first_row, first_column = y // _EDGE, x // _EDGE
    rows = range(first_row, (y + _EDGE - 1) // _EDGE + 1)
    columns = range(first_column, (x + _EDGE - 1) // _EDGE + 1)
    whole = np.empty((len(rows) * _EDGE, len(columns) * _EDGE, 3), np.uint8)
    for row in rows:
        for column in columns:
            tile = _get(port, f"/tiles/zxy/{level}/{column}/{row}")
            top, left = (row - first_row) * _EDGE, (column - first_column) * _EDGE
            whole[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    top, left = y - first_row * _EDGE, x - first_column * _EDGE
    return whole[top : top + _EDGE, left : left + _EDGE]


def _get(port: int, path: str) -> np.ndarray:
    connection = getattr(_thread, "connection", None)
    if connection is None:
        connection = _thread.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    reply = connection.getresponse()
    data = reply.read()
    if reply.status != 200:
        msg = f"{path}: {reply.status} {data[:200]!r}"
        raise ValueError(msg)
    pixels: np.ndarray = imagecodecs.jpeg8_decode(data)
    return pixels


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_CONNECTIONS)


if __name__ == "__main__":
    serve({"patches": patches})
