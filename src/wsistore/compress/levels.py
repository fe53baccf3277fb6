"""From a level of a source to the Zarr array that holds it: chunks, shards, codecs, and which tile goes where."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsistore.compress import fold
from wsistore.compress.grid import ArrayGrid, Ints
from wsistore.errors import Kind, UnsupportedError
from wsistore.slides.base import Codec, Color, Level, TileCoding
from wsistore.units import MIB

SHARD_BYTES = 32 * MIB
"""Stored bytes that a shard aims at: few objects, yet small enough to re-encode in one task's memory."""
LARGEST_SHARD_BYTES = 2 * SHARD_BYTES
"""Stored bytes of the largest shard: where all tissue lies together, a shard has fewer chunks than by their mean."""
FOLD_PIXELS = 256 * 1024
"""Pixels of a fold of strips in the hot preset: what a viewer's request of 512 × 512 needs."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class LevelPlan:
    """How a level lies in Zarr."""

    level: Level
    grid: ArrayGrid
    fold_height: int
    """Strips per chunk; 1 where a chunk is one tile."""

    def chunk_of_tile(self, tile: Ints) -> tuple[Ints, Ints]:
        """Return the chunk number (row-major over the chunk grid) and the position within the fold of tiles."""
        columns = self.level.grid[1]
        row, column = tile // columns, tile % columns
        return (row // self.fold_height) * columns + column, row % self.fold_height


def plan_level(level: Level, number: int) -> LevelPlan:
    """Choose fold height and shard shape for the preset ``keep``."""
    height = 1
    rows, across = level.grid
    if level.coding is not None and level.coding.codec is Codec.JPEG_STRIPS:
        height = max(1, min(rows, round(FOLD_PIXELS / (level.tile_height * level.tile_width))))
        height = min(height, fold.MAX_HEIGHT // level.tile_height)
    down = -(-rows // height)
    tiles, sizes = level.segments["tile"], level.segments["length"]
    per_shard = shards_of((down, across), int(sizes.sum()), SHARD_BYTES)
    per_shard = shards_within((tiles // across // height, tiles % across), sizes, per_shard, LARGEST_SHARD_BYTES)
    chunk_shape = (level.channels, level.tile_height * height, level.tile_width)
    grid = ArrayGrid(f"{number}/image", (level.channels, level.height, level.width), chunk_shape, per_shard)
    return LevelPlan(level, grid, height)


def shards_of(chunks: tuple[int, int], size_bytes: int, aim_bytes: int) -> tuple[int, int]:
    """Return chunks per shard, (down, across).

    Parameters
    ----------
    chunks
        Of the level, (down, across).
    size_bytes
        Stored bytes of the level.
    aim_bytes
        Stored bytes that a shard aims at, and does not exceed where chunks are alike. Rows of chunks come in powers of
        two: so the borders of shards of different presets meet, and a fold is not undone for two of them.

    """
    down, across = chunks
    mean = max(1.0, size_bytes / max(1, down * across))
    most = max(1, math.floor(aim_bytes / mean))
    if most < across:
        return 1, most
    if most >= down * across:
        return down, across
    return 2 ** math.floor(math.log2(most // across)), across


def shards_within(
    chunks: tuple[Ints, Ints], sizes: Ints, per_shard: tuple[int, int], most_bytes: int
) -> tuple[int, int]:
    """Return chunks per shard, (down, across): `per_shard`, or less of them where a shard had more than `most_bytes`.

    Parameters
    ----------
    chunks
        Rows and columns of chunks that have bytes, in any order; one may come several times.
    sizes
        Stored bytes of each.
    per_shard
        What the mean of all chunks asks for.
    most_bytes
        Of a shard with more than one chunk.

    """
    (row, column), (down, across) = chunks, per_shard
    while len(sizes) and (down, across) != (1, 1):
        _, shard = np.unique((row // down) * 2**31 + column // across, return_inverse=True)
        if np.bincount(shard, weights=sizes).max() <= most_bytes:
            break
        down, across = (2 ** ((down - 1).bit_length() - 1), across) if down > 1 else (1, -(-across // 2))
    return down, across


def codec_chain(plan: LevelPlan) -> list[Json]:
    """Return the codecs of one chunk as Zarr metadata.

    Raises
    ------
    UnsupportedError
        If the level has no tiles.

    """
    coding = plan.level.coding
    if coding is None:
        msg = "A slide without tiles has no chunks."
        raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS)
    transpose = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
    if coding.codec in {Codec.LZW, Codec.DEFLATE, Codec.NONE}:
        return [*([] if coding.planar else [transpose]), *_raw_chain(plan.level, coding)]
    if coding.codec is Codec.JPEG:
        return [transpose, {"name": "imagecodecs_jpeg", "configuration": _jpeg(coding)}]
    if coding.codec is Codec.JPEG_STRIPS:
        return [transpose, _fold(plan.level, coding)]
    if coding.codec is Codec.WEBP:
        return [transpose, {"name": "imagecodecs_webp", "configuration": {"hasalpha": False}}]
    convert = [{"name": "wsistore.ycbcr"}] if coding.color is Color.YCBCR else []
    return [transpose, *convert, {"name": "imagecodecs_jpeg2k"}]


def _jpeg(coding: TileCoding) -> Json:
    config: Json = {"colorspace_jpeg": _colorspace(coding)}
    config["colorspace_data"] = "GRAYSCALE" if coding.color is Color.GRAY else "RGB"
    if coding.tables:
        config["tables"] = base64.b64encode(coding.tables).decode("ascii")
    return config


def _colorspace(coding: TileCoding) -> str:
    return {Color.RGB: "RGB", Color.YCBCR: "YCBCR", Color.GRAY: "GRAYSCALE"}[coding.color]


def _fold(level: Level, coding: TileCoding) -> Json:
    header = base64.b64encode(coding.header or b"").decode("ascii")
    shape = [level.tile_height, level.tile_width]
    config = {"inner": "jpeg", "tile_shape": shape, "colorspace_jpeg": _colorspace(coding), "header": header}
    return {"name": "wsistore.fold", "configuration": config}


def _raw_chain(level: Level, coding: TileCoding) -> Iterator[Json]:
    if coding.predictor:
        yield {"name": "imagecodecs_delta", "configuration": {"axis": -1 if coding.planar else -2, "dist": 1}}
    if np.dtype(level.dtype).itemsize > 1:
        yield {"name": "bytes", "configuration": {"endian": "big" if coding.big_endian else "little"}}
    else:
        yield {"name": "bytes"}
    if coding.codec is Codec.LZW:
        yield {"name": "imagecodecs_lzw"}
    elif coding.codec is Codec.DEFLATE:
        yield {"name": "imagecodecs_zlib"}
