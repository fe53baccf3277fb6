"""The order in which a level's tiles lie in the source's files, which is that of the chunks in the preset `keep`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from wsistore.compress.grid import ArrayGrid, Ints
from wsistore.compress.reader import StoredSlide


def source_order(stored: StoredSlide, level: int, grid: ArrayGrid, height: int, shard: int, chunks: Ints) -> Ints:
    """Return the chunks of a shard in the order in which they lie in it in the preset `keep`.

    Parameters
    ----------
    stored
        Any copy of the slide.
    level
        Number of the level.
    grid, height
        Of the level in the preset `keep`: its grids, and the tiles of a chunk.
    shard, chunks
        The shard's number, and those of its chunks.

    """
    keep = stored.companion.keep
    told = keep.orders.get(grid.shard_key(shard)) if keep is not None else None
    if told is not None:
        return np.array(told, np.int64)
    return order_by_layout(stored, level, grid, height, chunks)


def order_by_layout(stored: StoredSlide, level: int, grid: ArrayGrid, height: int, chunks: Ints) -> Ints:
    """Return `chunks` by where the layout has their first byte; those that it does not have come last."""
    ordered = _ordered(stored, level, grid, height)
    mine = ordered[np.isin(ordered, chunks)]
    return np.concatenate((mine, np.setdiff1d(chunks, mine)))


@lru_cache(maxsize=16)
def _ordered(stored: StoredSlide, level: int, grid: ArrayGrid, height: int) -> Ints:
    """Return all chunks of a level that the layout has, by where it has their first byte."""
    table = _layout(stored)
    rows = table[table["level"] == level]
    found, _ = stored.array(level)
    tiles = found.tiles_of_chunks(rows["chunk"], rows["piece"].astype(np.int64), stored.coding(level).tiles)
    chunk, _ = grid.chunks_of_tiles(tiles, height)
    numbers, first = np.unique(chunk, return_index=True)  # rows are sorted by file and offset
    return numbers[np.argsort(first, kind="stable")]


@lru_cache(maxsize=2)
def _layout(stored: StoredSlide) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return stored.layout()
