"""A researcher's process: patches and regions of a slide through a gateway, by what `wsistore.connect` returns."""

from __future__ import annotations

from functools import cache

import numpy as np

from bench.support.serving import Answer, serve
from bench.workers.patches import Position, answer, hash_of, measured, run
from wsistore import Slide, connect

_BATCH = 64
"""Patches of one call of `read_patches`."""


@cache
def _opened(url: str, project: str, token: str, pseudonym: str) -> Slide:
    """Return the slide; nothing of it is kept on disk, and tiles in memory as by default."""
    return connect(url, project, token=token).open(pseudonym)


def patches(
    url: str, project: str, token: str, pseudonym: str, positions: list[Position], manner: str, check: bool
) -> Answer:
    """Read patches of 256 pixels of level 0: by `read_patches`, or by `read_region` in a loop or in threads."""
    opened = _opened(url, project, token, pseudonym)
    if manner != "batch":
        return run(lambda y, x: opened.read_region(0, y, x, 256, 256), positions, manner, check)
    places = np.array(positions)
    batches: list[np.ndarray] = []

    def read() -> None:
        starts = range(0, len(places), _BATCH)
        batches.extend(opened.read_patches(0, places[first : first + _BATCH], 256, 256) for first in starts)

    times = measured(read)
    return answer(times, [patch for batch in batches for patch in batch], check)


def region(
    url: str, project: str, token: str, pseudonym: str, y: int, x: int, edge: int, check: bool = False
) -> Answer:  # fmt: skip
    """Read a square region of level 0; with `check`, the answer has a hash of its pixels."""
    opened = _opened(url, project, token, pseudonym)
    found: list[np.ndarray] = []
    times = measured(lambda: found.append(opened.read_region(0, y, x, edge, edge)))
    return times | ({"hash": hash_of(found[0])} if check else {})


if __name__ == "__main__":
    serve({"patches": patches, "region": region})
