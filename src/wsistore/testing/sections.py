"""Plans a synthetic section on a coarse grid: where tissue lies, of what kind, and which cells are in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsistore.testing.stamps import (
    LYMPHOCYTE,
    PLUMP,
    SPINDLE,
    NucleusShape,
    Patch,
    Plane,
    fat_cell,
    gland,
    nuclei_library,
    smoothstep,
    vessel,
)

COARSE = 8
"""Pixels per step of the planning grid."""
GLAND_STEP = 150
"""Distance between glands in pixels."""
NUCLEUS_STEP = 17
"""Distance between the places where a free nucleus may lie, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Things at places: row, column and which entry of the library."""

    y: npt.NDArray[np.int64]
    x: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]

    def touching(self, top: int, bottom: int, reach: int) -> zip[tuple[int, int, int]]:
        """Return (row, column, kind) of what may reach into the rows from `top` to `bottom`."""
        near = np.flatnonzero((self.y > top - reach) & (self.y < bottom + reach))
        return zip(self.y[near].tolist(), self.x[near].tolist(), self.kind[near].tolist(), strict=True)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything that is decided before painting."""

    height: int
    width: int
    seed: int
    inside: Plane
    """Coarse: positive within tissue."""
    thickness: Plane
    """Coarse: 1, more in folds, 0 in clefts."""
    flow: Plane
    """Coarse: phase of the fibres."""
    loose: Plane
    """Coarse: how pale the stroma is."""
    broken: Plane
    """Coarse: where the fibres are interrupted."""
    patches: Objects
    nuclei: Objects
    patch_library: tuple[Patch, ...]
    nucleus_library: tuple[Plane, ...]
    positive_from: int
    """Entries of `nucleus_library` from here on are drawn in the positive dye too."""


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 3) -> Plane:
    """Return smooth noise of standard deviation near 1.

    Parameters
    ----------
    rng
        Source of randomness.
    shape
        Rows and columns wanted.
    cell
        Size of the largest features in the unit of `shape`.
    octaves
        How often features of half the size and 0.55 of the height are added.

    Returns
    -------
    Plane
        (y, x), float32.

    """
    total = np.zeros(shape, np.float32)
    power, amplitude = 0.0, 1.0
    for _ in range(octaves):
        rows, columns = (max(2, int(np.ceil(side / cell)) + 3) for side in shape)
        grid = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
        y, x = rng.random(2)
        box = (float(x), float(y), min(columns, float(x) + shape[1] / cell), min(rows, float(y) + shape[0] / cell))
        total += np.float32(amplitude) * np.asarray(grid.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box))
        power += 0.45 * amplitude * amplitude
        amplitude *= 0.55
        cell = max(cell / 2.0, 1.0)
    return total * np.float32(1.0 / np.sqrt(power))


def make_plan(height: int, width: int, seed: int) -> Plan:
    """Decide where what lies in a section of `height` times `width` pixels."""
    rng = np.random.default_rng((seed, 0))
    shape = (-(-height // COARSE), -(-width // COARSE))
    inside = _pieces(rng, shape)
    zone = noise(rng, shape, 900 / COARSE)
    fat = (noise(rng, shape, 700 / COARSE) > 1.45) & (zone < 0.6)
    lymph = noise(rng, shape, 520 / COARSE) - 0.6
    patches = _place_patches(rng, inside, zone, fat)
    patch_library = _patch_library()
    occupied = _occupied(shape, patches, patch_library)
    library, positive_from = _nucleus_library()
    flow = 7.0 * noise(rng, shape, 620 / COARSE, 2)
    nuclei = _place_nuclei(rng, (inside, lymph, flow), occupied, positive_from, len(library))
    return Plan(
        height, width, seed, inside, _thickness(rng, shape), flow, noise(rng, shape, 260 / COARSE),
        noise(rng, shape, 70 / COARSE, 2), patches, nuclei, patch_library, library, positive_from,
    )  # fmt: skip


def _pieces(rng: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Return a field that is positive within one to three ragged pieces, rising about 1 per tenth of the picture."""
    rows, columns = shape
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None]
    x = ((np.arange(columns, dtype=np.float32) + 0.5) / columns)[None, :]
    count = int(rng.integers(1, 4)) if min(shape) * COARSE >= 1500 else 1
    upright = rows >= columns
    field = np.full(shape, -9.0, np.float32)
    for k in range(count):
        along = (k + 0.5) / count + rng.uniform(-0.04, 0.04)
        across = rng.uniform(0.44, 0.56)
        cy, cx = (along, across) if upright else (across, along)
        half = (0.42 / count, rng.uniform(0.36, 0.43))
        ry, rx = half if upright else half[::-1]
        lean = rng.uniform(-0.5, 0.5)
        u, v = (y - cy) / ry, (x - cx) / rx
        field = np.maximum(field, 1.0 - np.hypot(u + lean * v, v).astype(np.float32))
    side = max(shape)
    field = field * np.float32(5.0) + np.float32(0.85) * noise(rng, shape, side / 4.5, 4)
    field += np.float32(0.10) * noise(rng, shape, 22.0, 3)
    border = np.minimum(np.minimum(y, 1.0 - y), np.minimum(x, 1.0 - x))
    return np.minimum(field, np.float32(30.0) * (border - np.float32(0.035)) + np.float32(0.5) * field)


def _thickness(rng: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Return 1 with dark folds (more than 1) and clefts (0) along wandering lines."""
    result = 1.0 + 0.06 * noise(rng, shape, 150.0)
    fold = np.abs(noise(rng, shape, 1500 / COARSE, 2))
    gate = smoothstep(noise(rng, shape, 900 / COARSE, 1), 0.75, 1.25)
    result += 0.95 * gate * smoothstep(fold, 0.075, 0.03)
    cleft = np.abs(noise(rng, shape, 420 / COARSE, 4))
    gate = smoothstep(noise(rng, shape, 700 / COARSE, 2), 0.5, 1.2)
    result *= 1.0 - gate * smoothstep(cleft, 0.085, 0.04)
    return result.astype(np.float32)


@cache
def _patch_library() -> tuple[Patch, ...]:
    """Return glands (0 to 15, the first half positive in IHC), fat cells (16 to 21) and vessels (22 to 27)."""
    rng = np.random.default_rng(16)
    glands = [gland(rng, positive=k < 8) for k in range(16)]
    return (*glands, *(fat_cell(rng) for _ in range(6)), *(vessel(rng) for _ in range(6)))


@cache
def _nucleus_library() -> tuple[tuple[Plane, ...], int]:
    """Return spindle nuclei in 12 directions, then lymphocytes, then plump ones, and the latter two again."""
    rng = np.random.default_rng(12)
    spindles = [entry[0] for entry in nuclei_library(rng, SPINDLE, angles=12, variants=1)]

    def several(shape: NucleusShape, angles: int) -> list[Plane]:
        return [one for entry in nuclei_library(rng, shape, angles=angles, variants=2) for one in entry]

    rest = [*several(LYMPHOCYTE, 4), *several(PLUMP, 6)]
    return (*spindles, *rest, *rest), len(spindles) + len(rest)


def _at(field: Plane | npt.NDArray[np.bool_], y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]) -> Plane:
    """Return the values of a coarse field at fine places, those outside being moved to the border."""
    rows = np.clip(y // COARSE, 0, field.shape[0] - 1)
    columns = np.clip(x // COARSE, 0, field.shape[1] - 1)
    return field[rows, columns].astype(np.float32)


def _jittered(
    rng: np.random.Generator, shape: tuple[int, int], step: int, jitter: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of a grid with every second row shifted and every point moved at random."""
    rows, columns = (side * COARSE // step + 2 for side in shape)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    x += 0.5 * (y % 2)
    y, x = (step * (axis + rng.uniform(-jitter, jitter, axis.shape)) for axis in (y, x))
    return y.ravel().astype(np.int64), x.ravel().astype(np.int64)


def _place_patches(rng: np.random.Generator, inside: Plane, zone: Plane, fat: npt.NDArray[np.bool_]) -> Objects:
    """Decide where glands, fat cells and vessels lie. Glands fill zones, fat cells crowd, vessels are rare."""
    y, x = _jittered(rng, inside.shape, GLAND_STEP, 0.16)
    chance = rng.random(y.shape)
    deep = _at(inside, y, x) > 0.25
    here, greasy = _at(zone, y, x), _at(fat, y, x) > 0.5
    is_gland = deep & ~greasy & (here > -0.35) & (chance < 0.95)
    is_vessel = deep & ~greasy & (here <= -0.35) & (chance < 0.20)
    positive = _at(noise(rng, inside.shape, 800 / COARSE), y, x) > 0.2
    kind = np.where(is_gland, rng.integers(0, 8, y.shape) + np.where(positive, 0, 8), rng.integers(22, 28, y.shape))
    fy, fx = _jittered(rng, inside.shape, 74, 0.1)
    is_fat = (_at(inside, fy, fx) > 0.3) & (_at(fat, fy, fx) > 0.5)
    keep = is_gland | is_vessel
    turn = rng.integers(0, 8, int(keep.sum()) + int(is_fat.sum()))
    kinds = np.concatenate([kind[keep], rng.integers(16, 22, int(is_fat.sum()))])
    return Objects(np.concatenate([y[keep], fy[is_fat]]), np.concatenate([x[keep], fx[is_fat]]), kinds * 8 + turn)


def _occupied(shape: tuple[int, int], patches: Objects, library: tuple[Patch, ...]) -> npt.NDArray[np.bool_]:
    """Return on the coarse grid where patches lie, so that no free nucleus falls into them."""
    result = np.zeros(shape, np.bool_)
    for y, x, kind in zip(patches.y.tolist(), patches.x.tolist(), patches.kind.tolist(), strict=True):
        reach = int(library[kind // 8].alpha.shape[0] / 2.45 / COARSE)
        row, column = y // COARSE, x // COARSE
        y0, x0 = max(row - reach, 0), max(column - reach, 0)
        rows, columns = np.ogrid[y0 : min(row + reach + 1, shape[0]), x0 : min(column + reach + 1, shape[1])]
        if rows.size and columns.size:
            disc = (rows - row) ** 2 + (columns - column) ** 2 <= reach * reach
            result[rows, columns] |= disc
    return result


def _place_nuclei(
    rng: np.random.Generator,
    fields: tuple[Plane, Plane, Plane],
    occupied: npt.NDArray[np.bool_],
    positive_from: int,
    size: int,
) -> Objects:
    """Scatter nuclei of the stroma: lymphocytes crowd in follicles, spindle nuclei follow the fibres."""
    inside, lymph, flow = fields
    y, x = _jittered(rng, inside.shape, NUCLEUS_STEP, 0.36)
    crowd = smoothstep(_at(lymph, y, x), 0.1, 0.7)
    chance = 0.26 + 0.72 * crowd
    keep = (_at(inside, y, x) > 0.0) & (_at(occupied, y, x) < 0.5) & (rng.random(y.shape) < chance)
    y, x, crowd = y[keep], x[keep], crowd[keep]
    slope_y = np.diff(flow, axis=0, append=flow[-1:])
    slope_x = np.diff(flow, axis=1, append=flow[:, -1:])
    # Fibres are sines of 5 * flow + 0.3 * row, a row being 1/8 of a coarse step: along them the phase stays.
    angle = np.arctan2(-_at(slope_x, y, x), _at(slope_y, y, x) + np.float32(0.3 * COARSE / 5.0))
    spindle = np.round((angle + rng.normal(0.0, 0.2, y.shape)) / np.pi * 12).astype(np.int64) % 12
    lymphocyte = rng.integers(12, 20, y.shape)
    plump = rng.integers(20, positive_from, y.shape)
    draw = rng.random(y.shape)
    kind = np.where(draw < 0.25 + 0.7 * crowd, lymphocyte, np.where(draw < 0.55 + 0.4 * crowd, plump, spindle))
    reacts = (kind >= 12) & (rng.random(y.shape) < 0.12 + 0.2 * crowd)
    return Objects(y, x, kind + np.where(reacts, size - positive_from, 0))
