"""Ours: patches and regions of a stored slide, through what `wsistore.open_slide` returns."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from bench.support.serving import Answer, serve
from bench.workers.patches import Position, answer, measured, run
from wsistore import Slide, open_slide
from wsistore.model import Preset
from wsistore.ops import ingest_one, init_site, open_site
from wsistore.ops.reencoding import reencode
from wsistore.ops.stored import open_copy

_BATCH = 64
"""Patches of one call of `read_patches`."""


def ingest(source: str, folder: str) -> Answer:
    """Take `source` into a new site in `folder`; tell its key, where its store lies, and the size of level 0."""
    init_site(Path(folder))
    with open_site(Path(folder)) as site:
        key = ingest_one(site, Path(source), tier="hot").slide
        assert key is not None
        _, storage, stored = open_copy(site, key)
        store = storage.local_path(stored.place.store + "zarr.json").parent  # type: ignore[attr-defined]
        level = stored.companion.levels[0]
    return {"slide": key, "store": str(store), "height": level[0], "width": level[1]}


def fold(site: str, slide: str, preset: str) -> Answer:
    """Re-encode the slide of a site where it lies."""
    with open_site(Path(site)) as opened:
        (result,) = reencode(opened, [slide], Preset(preset))
    return {"status": str(getattr(result, "status", ""))}


@cache
def _open(site: str, slide: str, _preset: str) -> Slide:
    with open_site(Path(site), read_only=True) as opened:
        return open_slide(slide, site=opened)


def _opened(site: str, slide: str, preset: str) -> Slide:
    """Return the slide; unless it is in the preset `keep`, without what was kept of it: its folds would all fit."""
    opened = _open(site, slide, preset)
    if preset != "keep":
        kept, opened.cache_bytes = opened.cache_bytes, 0
        opened.cache_bytes = kept
    return opened


def patches(site: str, slide: str, positions: list[Position], manner: str, check: bool, preset: str = "keep") -> Answer:
    """Read patches of 256 pixels of level 0: by `read_region` in a loop or in threads, or by `read_patches`."""
    opened = _opened(site, slide, preset)
    kept = opened._kept.chunks
    kept.hits = kept.misses = 0
    if manner == "batch":
        places = np.array(positions)
        batches: list[np.ndarray] = []

        def read() -> None:
            starts = range(0, len(places), _BATCH)
            batches.extend(opened.read_patches(0, places[first : first + _BATCH], 256, 256) for first in starts)

        times = measured(read)
        found = answer(times, [patch for batch in batches for patch in batch], check)
    else:
        found = run(lambda y, x: opened.read_region(0, y, x, 256, 256), positions, manner, check)
    return found | {"hits": kept.hits, "asked": kept.hits + kept.misses}


def region(site: str, slide: str, y: int, x: int, height: int, width: int, preset: str = "keep") -> Answer:
    """Read a region of level 0."""
    opened = _opened(site, slide, preset)
    return measured(lambda: opened.read_region(0, y, x, height, width))


if __name__ == "__main__":
    serve({"ingest": ingest, "fold": fold, "patches": patches, "region": region})
