"""Which tiles of a slide are measured: columns of tiles, drawn in proportion to their bytes.

The unit is a run of vertically adjacent tiles as high as the tallest candidate's fold, at the place where that fold
would be, so every candidate folds it just as it would fold the slide. All units of a slide, sorted by level and then by
the mean size of their tiles, are laid end to end by their bytes, and points at equal distances pick those that they
fall on; only the first point is random. So each level, and glass and tissue within it, has its part of the sample, and
a unit's chance is its part of the slide's bytes.

How many tiles and bytes every unit has is known without reading it, and explains most of what an encoding makes of it:
so much per tile for its headers, so much per byte. That is fitted to the sample and added up over the slide; to this
comes what the picks have beyond it, per byte (a generalised regression estimate). How much they differ in that rest
tells the error.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wsistore.compress.coding import Payload
from wsistore.units import MIB

Json = dict[str, Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SAMPLE_BYTES = 4 * MIB
"""Payload bytes of a sample: with folds of 64 tiles of compact H&E some twenty columns, seconds per candidate."""
_LEAST_PICKS = 8


class TileSource(Protocol):
    """A slide's tiles: of a vendor's file, or of a stored copy."""

    @property
    def documents(self) -> Sequence[Json]:
        """The zarr.json of every level's image in the preset `keep`."""
        ...

    @property
    def source_bytes(self) -> int:
        """Bytes of the source's files."""
        ...

    @property
    def other_bytes(self) -> int:
        """Stored bytes of what is no tile: the skeleton, which is the same in every encoding."""
        ...

    def sizes(self, level: int) -> Ints:
        """Return the payload bytes of every tile, (rows, columns) of the grid of tiles; 0 where there is none."""
        ...

    def read(self, level: int, rows: range, column: int) -> list[Payload | None]:
        """Return the payloads of adjacent tiles from top to bottom."""
        ...


@dataclass(frozen=True, slots=True)
class Unit:
    """A run of vertically adjacent tiles."""

    level: int
    column: int
    rows: range
    size_bytes: int
    """Payload bytes, more than 0."""
    tiles: int
    """Those that are there."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was drawn."""

    units: tuple[Unit, ...]
    """In the order of the draw, each once."""
    picks: tuple[int, ...]
    """Index into `units` of every point, in order; a large unit may be picked more than once."""
    total_bytes: int
    """Payload bytes of the slide's tiles."""
    total_tiles: int
    """Tiles of the slide that are there."""

    @property
    def size_bytes(self) -> int:
        """Payload bytes of the units."""
        return sum(unit.size_bytes for unit in self.units)

    @property
    def is_everything(self) -> bool:
        """Whether the sample is the whole slide, so that nothing is estimated."""
        return self.size_bytes == self.total_bytes

    def total(self, values: Sequence[float]) -> float:
        """Return the estimate of the slide's sum of a figure of which `values` has each unit's sum."""
        if self.is_everything:
            return float(sum(values))
        (per_tile, per_byte), rest = self._fitted(values)
        known = per_tile * self.total_tiles + per_byte * self.total_bytes
        return float(max(0.0, known + self.total_bytes * np.mean(rest)))

    def error(self, values: Sequence[float]) -> float:
        """Return the standard error of `total`, by how much the picks differ in what is not explained."""
        picks = len(self.picks)
        if self.is_everything or picks < 3:
            return 0.0
        rest = self._fitted(values)[1]
        left = 1 - self.size_bytes / self.total_bytes
        # two numbers were fitted to them
        return float(self.total_bytes * np.sqrt(left * np.sum(rest**2) / (picks - 2) / picks))

    def _fitted(self, values: Sequence[float]) -> tuple[Floats, Floats]:
        """Return what a tile and what a byte brings, and for every pick what it has beyond that, per byte."""
        units = [self.units[pick] for pick in self.picks]
        sizes = np.array([unit.size_bytes for unit in units], np.float64)
        rates = np.array([values[pick] for pick in self.picks]) / sizes
        known = np.stack([np.array([unit.tiles for unit in units]) / sizes, np.ones(len(units))], axis=1)
        found: Floats = np.linalg.lstsq(known, rates, rcond=None)[0].astype(np.float64)
        return found, rates - known @ found


def draw(source: TileSource, heights: Sequence[int], *, seed: int, size_bytes: int = SAMPLE_BYTES) -> Sample:
    """Draw a sample; the same seed draws the same from the same slide.

    Parameters
    ----------
    source
        The slide.
    heights
        Of each level: tiles of a unit.
    seed
        Decides where the first point lies.
    size_bytes
        Payload bytes to draw, about; smaller slides are taken whole. At least eight units are drawn.

    """
    units = sorted(
        (unit for level, height in enumerate(heights) for unit in _units(source.sizes(level), level, height)),
        key=lambda unit: (unit.level, unit.size_bytes / unit.tiles, unit.column, unit.rows.start),
    )
    sizes = np.array([unit.size_bytes for unit in units], np.float64)
    total, tiles = int(sizes.sum()), sum(unit.tiles for unit in units)
    if total <= size_bytes:
        return Sample(tuple(units), tuple(range(len(units))), total, tiles)
    # large units are drawn more often: so many points give about `size_bytes`
    points = max(_LEAST_PICKS, int(size_bytes * sizes.sum() / np.sum(sizes**2)))
    first = random.Random(seed).random()  # noqa: S311 - draws a sample, hides nothing
    places = (first + np.arange(points)) * (total / points)
    picked = np.minimum(np.searchsorted(np.cumsum(sizes), places, side="right"), len(units) - 1)
    distinct, picks = np.unique(picked, return_inverse=True)
    return Sample(tuple(units[n] for n in distinct.tolist()), tuple(picks.tolist()), total, tiles)


def _units(sizes: Ints, level: int, height: int) -> Iterator[Unit]:
    rows, columns = sizes.shape
    for top in range(0, rows, height):
        block = sizes[top : top + height]
        weights, there = block.sum(axis=0).tolist(), (block > 0).sum(axis=0).tolist()
        for column in range(columns):
            if weights[column]:
                yield Unit(level, column, range(top, top + len(block)), weights[column], there[column])


def fingerprint(source: TileSource, sample: Sample) -> str:
    """Return the SHA-256 of what is measured: levels, places and payloads of a sample, as hexadecimal."""
    digest = hashlib.sha256(repr((sample.total_bytes, sample.total_tiles, sample.picks)).encode())
    for unit in sample.units:
        digest.update(repr(unit).encode())
        for payload in source.read(unit.level, unit.rows, unit.column):
            digest.update(b"\0" if payload is None else hashlib.sha256(payload).digest())
    return digest.hexdigest()
