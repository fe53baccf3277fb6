"""How many chunks make a shard, also where a slide's bytes all lie in one place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wsistore.compress.levels import LARGEST_SHARD_BYTES, SHARD_BYTES, plan_level, shards_of, shards_within
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, TileCoding
from wsistore.units import MIB


def dense(rows: int, columns: int, there: tuple[slice, slice], each: int) -> Level:
    """Return a level of which only some tiles are there, of `each` bytes."""
    tiles = np.arange(rows * columns).reshape(rows, columns)[there].ravel()
    segments = np.zeros(len(tiles), SEGMENT_DTYPE)
    segments["tile"], segments["length"] = tiles, each
    segments["offset"] = np.arange(len(tiles)) * each
    return Level(rows * 256, columns * 256, 256, 256, TileCoding(Codec.JPEG, Color.YCBCR), segments)


@pytest.mark.parametrize(
    "there", [np.s_[:8, :], np.s_[100:, :], np.s_[:, 3:5], np.s_[64:72, 64:72], np.s_[:1, :], np.s_[5:6, 7:8]]
)
def test_no_shard_is_large_where_all_tissue_lies_together(there: tuple[slice, slice]) -> None:
    level = dense(128, 128, there, 200_000)
    plan = plan_level(level, 0)
    shard, _ = plan.grid.shard_of_chunk(plan.chunk_of_tile(level.segments["tile"])[0])
    sizes = np.bincount(shard, weights=level.segments["length"])
    assert sizes.max() <= LARGEST_SHARD_BYTES


def test_where_all_chunks_are_alike_their_mean_decides() -> None:
    plan = plan_level(dense(128, 128, np.s_[:, :], 20_000), 0)
    assert plan.grid.chunks_per_shard == shards_of((128, 128), 128 * 128 * 20_000, SHARD_BYTES) == (8, 128)


def test_a_chunk_is_never_divided() -> None:
    row, column = np.divmod(np.arange(15), 3)
    assert shards_within((row, column), np.full(15, 100 * MIB), (4, 3), LARGEST_SHARD_BYTES) == (1, 1)


def test_rows_stay_powers_of_two() -> None:
    row, column = np.divmod(np.arange(40), 4)
    assert shards_within((row, column), np.full(40, 3 * MIB), (100, 4), LARGEST_SHARD_BYTES) == (4, 4)


def test_a_level_that_says_it_is_huge_takes_no_memory() -> None:
    level = dense(4, 4, np.s_[:, :], 200_000)
    huge = replace(level, height=2**30, width=2**30)
    assert plan_level(huge, 0).grid.chunk_grid == (2**22, 2**22)
