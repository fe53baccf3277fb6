"""What tests of the tuner share: free prices, made-up measurements, and slides made of made-up tiles."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress.coding import ChunkCoding, Encoded, Payload, Payloads
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.presets import Encoding
from wsistore.compress.tuning.measure import Measurement
from wsistore.tiers.prices import Energy, Medium, Prices, Value

Json = dict[str, Any]


def value(low: float, central: float | None = None, high: float | None = None) -> Value:
    return Value(low, low if central is None else central, low if high is None else high)


NOTHING = value(0)
FREE = Prices(
    name="free",
    title="Free",
    medium=Medium.HDD,
    energy=Energy(NOTHING, NOTHING, value(1), NOTHING, NOTHING, NOTHING),
    storage_per_tb_month=NOTHING,
)


def measurement(**told: Any) -> Measurement:
    """Return a measurement of which only what is told is not nothing."""
    nothing = {
        "bytes_stored": 0.0, "bytes_error": 0.0, "encode_seconds": 0.0, "decode_seconds": 0.0, "range_seconds": 0.0,
        "range_bytes": 0.0, "objects": 0,
    }  # fmt: skip
    return Measurement(**{**nothing, **told})


@dataclass(frozen=True)
class ZlibCoding(ChunkCoding):
    """Tiles joined and deflated: smaller the more of them, as folds are."""

    height: int
    width: int
    count: int

    @property
    def tile_shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def tiles(self) -> int:
        return self.count

    @property
    def codecs(self) -> list[Json]:
        return [{"name": "zlib", "configuration": {"tiles": self.count}}]

    def encode(self, payloads: Payloads) -> Encoded:
        parts = [b"\xff\xff\xff\xff" if p is None else len(p).to_bytes(4, "big") + p for p in payloads]
        return Encoded(zlib.compress(b"".join(parts)), {"none": sum(p is None for p in payloads)})

    def decode(self, data: bytes) -> list[Payload | None]:
        joined, found = zlib.decompress(data), list[Payload | None]()
        while joined:
            size = int.from_bytes(joined[:4], "big")
            is_none = size == 0xFFFFFFFF
            found.append(None if is_none else joined[4 : 4 + size])
            joined = joined[4 if is_none else 4 + size :]
        return found


def zlib_coding(keep: Json, grid: ArrayGrid, coding: ChunkCoding, encoding: Encoding, sample: object) -> ChunkCoding:
    """Make codings as `wsistore.compress.codings.coding_for` does."""
    return ZlibCoding(*coding.tile_shape, encoding.fold_height)


def keep_document(rows: int, columns: int, tile: int) -> Json:
    """Return the zarr.json of a level of JPEG tiles."""
    inner = [{"name": "transpose", "configuration": {"order": [1, 2, 0]}}, {"name": "imagecodecs_jpeg"}]
    sharding = {"chunk_shape": [3, tile, tile], "codecs": inner}
    return {
        "shape": [3, rows * tile, columns * tile],
        "chunk_grid": {"configuration": {"chunk_shape": [3, rows * tile, columns * tile]}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "data_type": "uint8",
        "fill_value": 255,
    }


@dataclass
class MadeTiles:
    """A slide of made-up tiles: (rows, columns) of payloads by level, None where there is none."""

    levels: Sequence[Sequence[Sequence[Payload | None]]]
    tile: int = 64
    other_bytes: int = 1000
    reads: int = field(default=0)

    @property
    def source_bytes(self) -> int:
        return self.other_bytes + sum(int(self.sizes(level).sum()) for level in range(len(self.levels)))

    @property
    def documents(self) -> Sequence[Json]:
        return [keep_document(len(level), len(level[0]), self.tile) for level in self.levels]

    def sizes(self, level: int) -> npt.NDArray[np.int64]:
        return np.array([[len(p or b"") for p in row] for row in self.levels[level]], np.int64)

    def read(self, level: int, rows: range, column: int) -> list[Payload | None]:
        self.reads += 1
        return [self.levels[level][row][column] for row in rows]


def made_tiles(seed: int, grids: Sequence[tuple[int, int]] = ((96, 40), (24, 10)), glass: float = 0.5) -> MadeTiles:
    """Return a slide: glass at the left in tiny tiles, tissue at the right in large ones that hardly compress."""
    rng = random.Random(seed)
    levels = []
    for rows, columns in grids:
        border = round(columns * glass)
        levels.append([[_tile(rng, column >= border) for column in range(columns)] for _ in range(rows)])
    return MadeTiles(levels)


def _tile(rng: random.Random, is_tissue: bool) -> Payload | None:
    if rng.random() < 0.02:
        return None
    header = bytes(range(200))
    return header + (rng.randbytes(rng.randint(600, 1400)) if is_tissue else bytes(rng.randint(20, 60)))
