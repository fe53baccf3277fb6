"""Small pictures that a synthetic section is put together from: nuclei, glands, fat cells and vessels.

All are concentrations of dyes (optical density, arbitrary units near 1), not colours; a scale of 0.5 µm per pixel
is assumed throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
"""One dye, (y, x)."""


_TURN = np.float32(2.0 * np.pi)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A piece of tissue that replaces what lies under it where `alpha` is 1."""

    nuclear: Plane
    """Dye bound to nuclei (haematoxylin)."""
    ground: Plane
    """Dye bound to cytoplasm and fibres (eosin)."""
    positive: Plane
    """Dye of a positive immune reaction (DAB)."""
    alpha: Plane

    def turned(self, quarter_turns: int, *, mirrored: bool) -> Patch:
        """Return the same piece turned and mirrored, sharing memory."""
        planes = (self.nuclear, self.ground, self.positive, self.alpha)
        turned = [np.rot90(plane[:, ::-1] if mirrored else plane, quarter_turns) for plane in planes]
        return Patch(*turned)


@dataclass(frozen=True, slots=True)
class NucleusShape:
    """Half axes in pixels and how dark a nucleus is."""

    long: float
    short: float
    strength: float


EPITHELIAL = NucleusShape(8.2, 5.4, 0.95)
LYMPHOCYTE = NucleusShape(6.0, 5.6, 1.25)
SPINDLE = NucleusShape(10.5, 3.0, 0.95)
PLUMP = NucleusShape(7.6, 5.8, 0.85)


def smoothstep(values: Plane, low: float, high: float) -> Plane:
    """Return 0 below `low`, 1 above `high` (which may be the smaller one), smooth between."""
    t = np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0).astype(np.float32, copy=False)
    result: Plane = t * t * (np.float32(3.0) - np.float32(2.0) * t)
    return result


def nucleus(rng: np.random.Generator, shape: NucleusShape, angle: float) -> Plane:
    """Return one nucleus: an ellipse with an uneven outline, clumped chromatin, a rim and sometimes a nucleolus.

    Parameters
    ----------
    rng
        Source of variation.
    shape
        Its kind.
    angle
        Direction of the long axis, radians from the x axis.

    Returns
    -------
    Plane
        Square, odd side, float32; 0 outside.

    """
    long, short = (axis * rng.uniform(0.86, 1.14) for axis in (shape.long, shape.short))
    reach = int(np.ceil(long)) + 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    bend = 1.0 + 0.08 * np.cos(3.0 * np.arctan2(v, u) + rng.uniform(0.0, 6.3))
    distance = np.sqrt((u / long) ** 2 + (v / short) ** 2) * bend
    body = smoothstep(distance.astype(np.float32), 1.08, 0.84)
    clumps = _soft_noise(rng, body.shape)
    rim = np.exp(-(((distance - 0.82) / 0.14) ** 2))
    texture = 0.80 + 0.22 * clumps + 0.22 * rim
    if rng.random() < 0.35:
        cy, cx = rng.uniform(-0.3, 0.3, 2) * short
        texture += 0.5 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2.5)
    strength = shape.strength * rng.uniform(0.82, 1.15)
    result: Plane = (strength * body * texture).astype(np.float32)
    return result


def _soft_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Plane:
    """Return noise about 3 px fine, mean 0, mostly within ±1."""
    noise = rng.standard_normal(shape).astype(np.float32)
    for axis in (0, 1):
        noise = (np.roll(noise, 1, axis) + np.roll(noise, -1, axis) + 2.0 * noise) * np.float32(0.35)
    return noise


def nuclei_library(rng: np.random.Generator, shape: NucleusShape, *, angles: int, variants: int) -> list[list[Plane]]:
    """Return ``library[angle][variant]``: nuclei of one kind in evenly spaced directions over half a turn."""
    return [[nucleus(rng, shape, np.pi * k / angles) for _ in range(variants)] for k in range(angles)]


def stamp(plane: Plane, picture: Plane, y: int, x: int) -> None:
    """Lay `picture` with its centre at (`y`, `x`) on `plane`, the darker winning; what lies outside is cut."""
    top, left = y - picture.shape[0] // 2, x - picture.shape[1] // 2
    y0, x0 = max(top, 0), max(left, 0)
    y1 = min(top + picture.shape[0], plane.shape[0])
    x1 = min(left + picture.shape[1], plane.shape[1])
    if y0 < y1 and x0 < x1:
        target = plane[y0:y1, x0:x1]
        np.maximum(target, picture[y0 - top : y1 - top, x0 - left : x1 - left], out=target)


def gland(rng: np.random.Generator, *, positive: bool) -> Patch:
    """Return a gland cut across: lumen, columnar cells with goblets of mucin, nuclei along the base."""
    radius = rng.uniform(50.0, 74.0)
    ratio, theta, outline, reach = _polar(rng, radius, squash=rng.uniform(0.68, 1.0))
    hole = rng.uniform(0.16, 0.42) * (1.0 + 0.16 * np.cos(5.0 * theta + rng.uniform(0.0, 6.3)))
    lumen = smoothstep(ratio - hole.astype(np.float32), 0.05, -0.03)
    ground = 0.50 + 0.16 * np.cos(9.0 * ratio) + 0.05 * _soft_noise(rng, ratio.shape)
    ground += 0.30 * np.exp(-(((ratio - 1.0) / 0.035) ** 2))
    nuclear = 0.14 + 0.10 * smoothstep(ratio, 0.5, 0.95)
    count = int(2.0 * np.pi * 0.62 * radius / 17.0)
    mucin = _around(rng, ratio, theta, count=count, at=0.62, size=(0.15, 0.105), keep=0.6)
    ground *= 1.0 - 0.82 * mucin
    nuclear = nuclear * (1.0 - 0.4 * mucin)
    ground = ground * (1.0 - lumen) + 0.035 * lumen
    nuclear = np.ascontiguousarray(nuclear * (1.0 - lumen), np.float32)
    cells = np.zeros_like(nuclear)
    _basal_nuclei(rng, cells, outline, radius, reach)
    np.maximum(nuclear, cells, out=nuclear)
    stained = smoothstep(cells, 0.15, 0.5) * cells * np.float32(1.0 if positive else 0.0)
    if positive:
        stained += np.float32(0.10) * (1.0 - lumen)
    alpha = smoothstep(ratio, 1.04, 0.99)
    return Patch(nuclear, ground.astype(np.float32), stained.astype(np.float32), alpha)


def fat_cell(rng: np.random.Generator) -> Patch:
    """Return a fat cell: empty after processing, with a thin membrane."""
    ratio, _, _, _ = _polar(rng, rng.uniform(30.0, 52.0), squash=rng.uniform(0.8, 1.0))
    wall = np.exp(-(((ratio - 0.97) / 0.04) ** 2))
    nothing = np.zeros_like(ratio)
    return Patch(0.05 * wall, (0.02 + 0.42 * wall).astype(np.float32), nothing, smoothstep(ratio, 1.05, 0.99))


def vessel(rng: np.random.Generator) -> Patch:
    """Return a small vessel: muscular wall, empty or filled with red cells."""
    radius = rng.uniform(26.0, 58.0)
    ratio, theta, _, reach = _polar(rng, radius, squash=rng.uniform(0.6, 1.0))
    inside = smoothstep(ratio, 0.66, 0.6)
    wall = 0.62 + 0.14 * np.sin(26.0 * ratio + 3.0 * np.cos(2.0 * theta))
    ground = np.ascontiguousarray(wall * (1.0 - inside) + 0.02 * inside, np.float32)
    if rng.random() < 0.75:
        _red_cells(rng, ground, 0.5 * radius, reach)
    nuclear = np.zeros_like(ground) + np.float32(0.08) * (1.0 - inside)
    for _ in range(int(radius / 4.0)):
        direction = rng.uniform(0.0, 2.0 * np.pi)
        r = radius * rng.uniform(0.66, 0.95)
        y, x = reach + r * np.sin(direction) * 0.8, reach + r * np.cos(direction)
        stamp(nuclear, nucleus(rng, SPINDLE, direction + np.pi / 2.0), int(y), int(x))
    return Patch(nuclear, ground, np.zeros_like(ground), smoothstep(ratio, 1.06, 0.98))


def _polar(
    rng: np.random.Generator, radius: float, *, squash: float
) -> tuple[Plane, Plane, tuple[float, float, float, float], int]:
    """Return distance relative to an uneven outline, angle, the outline's parameters and half the side."""
    outline = (rng.uniform(0.0, 6.3), rng.uniform(0.0, 6.3), rng.uniform(0.04, 0.10), squash)
    reach = int(np.ceil(radius * 1.25))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    y = y / np.float32(squash)
    theta = np.arctan2(y, x)
    ratio = np.hypot(y, x) / np.float32(radius) / _outline(theta, outline)
    return ratio.astype(np.float32), theta, outline, reach


def _outline(theta: Plane, outline: tuple[float, float, float, float]) -> Plane:
    """Return the relative radius in each direction."""
    first, second, amount, _ = outline
    bent: Plane = (1.0 + amount * np.cos(2.0 * theta + first) + 0.6 * amount * np.cos(3.0 * theta + second)).astype(
        np.float32
    )
    return bent


def _around(
    rng: np.random.Generator,
    ratio: Plane,
    theta: Plane,
    *,
    count: int,
    at: float,
    size: tuple[float, float],
    keep: float,
) -> Plane:
    """Return soft drops on a circle: `count` places at relative radius `at`, each taken with probability `keep`."""
    drops = np.zeros_like(ratio)
    for k in range(count):
        if rng.random() > keep:
            continue
        centre = 2.0 * np.pi * (k + rng.uniform(-0.2, 0.2)) / count - np.pi
        across = (np.remainder(theta - np.float32(centre - np.pi), _TURN) - np.float32(np.pi)) * np.float32(at)
        along = ratio - np.float32(at + rng.uniform(-0.06, 0.06))
        distance = (along / size[0]) ** 2 + (across / size[1]) ** 2
        np.maximum(drops, smoothstep(distance.astype(np.float32), 1.1, 0.6), out=drops)
    return drops


def _basal_nuclei(
    rng: np.random.Generator,
    plane: Plane,
    outline: tuple[float, float, float, float],
    radius: float,
    reach: int,
) -> None:
    """Stand nuclei side by side along the base of a gland, long axis towards its centre."""
    count = int(2.0 * np.pi * 0.86 * radius / 12.5)
    for k in range(count):
        theta = 2.0 * np.pi * (k + rng.uniform(-0.3, 0.3)) / count
        bend = float(_outline(np.asarray(theta, np.float32), outline))
        r = radius * bend * rng.uniform(0.76, 0.91)
        y, x = r * np.sin(theta) * outline[3], r * np.cos(theta)
        stamp(plane, nucleus(rng, EPITHELIAL, float(np.arctan2(y, x))), reach + round(y), reach + round(x))


def _red_cells(rng: np.random.Generator, plane: Plane, radius: float, reach: int) -> None:
    """Fill a lumen with red blood cells, 7 µm across, paler in the middle."""
    for _ in range(int(radius * radius / 45.0)):
        size = rng.uniform(5.5, 7.5)
        side = int(size) + 2
        y, x = np.mgrid[-side : side + 1, -side : side + 1].astype(np.float32)
        distance = np.hypot(y, x * np.float32(rng.uniform(1.0, 1.3))) / np.float32(size)
        disc = smoothstep(distance, 1.0, 0.85) * (np.float32(0.72) + np.float32(0.22) * distance)
        r, direction = radius * np.sqrt(rng.random()), rng.uniform(0.0, 2.0 * np.pi)
        stamp(
            plane, disc.astype(np.float32), reach + int(r * np.sin(direction) * 0.7), reach + int(r * np.cos(direction))
        )
