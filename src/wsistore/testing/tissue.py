"""Draws sections of stained tissue that look like what a scanner sees at about 0.5 µm per pixel.

The picture is planned on a coarse grid (`wsistore.testing.sections`) and painted in bands of rows, so that beside the
result only a band's worth of memory is needed. The same seed gives the same picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from wsistore.testing.pictures import GLASS, Rgb, label_image, macro_image, pyramid
from wsistore.testing.sections import COARSE, Plan, make_plan
from wsistore.testing.stamps import Plane, smoothstep, stamp

__all__ = ["Stain", "label_image", "macro_image", "pyramid", "tissue"]

Stain = Literal["he", "ihc", "dapi"]

BAND = 64
"""Rows painted at a time: few enough that the planes of a band stay in the processor's cache."""
# Optical density per unit of dye in red, green and blue: (nuclear, ground, positive).
_DENSITY: dict[str, npt.NDArray[np.float32]] = {
    "he": np.array([[0.98, 1.34, 0.60], [0.085, 0.64, 0.33], [0.0, 0.0, 0.0]], np.float32),
    "ihc": np.array([[0.74, 0.58, 0.26], [0.17, 0.18, 0.17], [0.62, 1.06, 1.62]], np.float32),
}


def tissue(height: int, width: int, *, seed: int, stain: Stain = "he") -> Rgb:
    """Draw a section of tissue on a slide.

    Parameters
    ----------
    height, width
        In pixels, at least 1.
    seed
        Same seed and size, same picture.
    stain
        ``"he"``: haematoxylin and eosin; ``"ihc"``: brown positive cells over blue; ``"dapi"``: blue fluorescent
        nuclei on black.

    Returns
    -------
    Rgb
        (y, x, 3), uint8.

    """
    plan = make_plan(height, width, seed)
    image = np.empty((height, width, 3), np.uint8)
    for number, top in enumerate(range(0, height, BAND)):
        bottom = min(top + BAND, height)
        nuclear, ground, positive = _dyes(plan, top, bottom)
        rng = np.random.default_rng((seed, 1, number))
        if stain == "dapi":
            _glow(image[top:bottom], nuclear, ground, rng)
        else:
            if stain == "ihc":
                nuclear *= np.float32(0.85) - np.float32(0.6) * np.minimum(positive, np.float32(1.0))
            _absorb(image[top:bottom], (nuclear, ground, positive), _DENSITY[stain], rng)
    return image


def _enlarge(plan: Plan, field: Plane, top: int, bottom: int) -> Plane:
    """Return rows `top` to `bottom` of a coarse field at full size, bilinear, seamless from band to band."""
    rows = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5)) / np.float32(COARSE) - np.float32(0.5)
    above = np.floor(rows).astype(np.int64)
    share = (rows - above.astype(np.float32))[:, None]
    last = field.shape[0] - 1
    stretched = field[np.clip(above, 0, last)] * (1 - share) + field[np.clip(above + 1, 0, last)] * share
    # Each step of the grid makes two half steps, straight towards the step before and the step after.
    edges = np.concatenate([stretched[:, :1], stretched, stretched[:, -1:]], axis=1)
    slopes = np.repeat(np.diff(edges, axis=1), 2, axis=1)[:, 1:-1]
    full: Plane = np.repeat(slopes, COARSE // 2, axis=1)
    full *= np.tile(_places(), stretched.shape[1])
    full += np.repeat(stretched, COARSE, axis=1)
    return full[:, : plan.width]


@cache
def _places() -> Plane:
    """Return where the middles of a step's pixels lie, from the middle of the step, in steps."""
    return (np.arange(COARSE, dtype=np.float32) + np.float32(0.5)) / np.float32(COARSE) - np.float32(0.5)


def _dyes(plan: Plan, top: int, bottom: int) -> tuple[Plane, Plane, Plane]:
    """Paint rows `top` to `bottom` as amounts of nuclear, ground and positive dye."""
    ground = _fibres(plan, top, bottom)
    nuclear = np.float32(0.10) + np.float32(0.12) * ground
    positive = np.zeros_like(ground)
    _draw_patches(plan, (nuclear, ground, positive), top)
    for y, x, kind in plan.nuclei.touching(top, bottom, 16):
        picture = plan.nucleus_library[kind]
        stamp(nuclear, picture, y - top, x)
        if kind >= plan.positive_from:
            stamp(positive, picture, y - top, x)
    edge = _enlarge(plan, plan.inside, top, bottom)
    edge += np.float32(0.6) * (_tiled(_grain(67, 71), ground.shape, top) + np.float32(0.2) * ground)
    amount = smoothstep(edge, 0.02, 0.10)
    amount *= _enlarge(plan, plan.thickness, top, bottom)
    for plane in (nuclear, ground, positive):
        plane *= amount
    return nuclear, ground, positive


def _tiled(texture: Plane, shape: tuple[int, ...], top: int) -> Plane:
    """Return `texture` repeated over `shape`, in step from band to band."""
    rows = np.arange(top, top + shape[0]) % texture.shape[0]
    columns = np.arange(shape[1]) % texture.shape[1]
    result: Plane = texture[rows][:, columns]
    return result


def _fibres(plan: Plan, top: int, bottom: int) -> Plane:
    """Return the ground dye of the stroma: wavy, interrupted collagen bundles, paler where it is loose."""
    phase = _enlarge(plan, plan.flow, top, bottom)
    loose = _enlarge(plan, plan.loose, top, bottom)
    broken = _enlarge(plan, plan.broken, top, bottom)
    row = np.arange(top, bottom, dtype=np.float32)[:, None] * np.float32(0.30)
    phase *= np.float32(5.0)
    phase += row
    phase += np.float32(1.6) * broken
    bundles = np.sin(phase)
    phase *= np.float32(2.3)
    phase += np.float32(3.0) * loose
    threads = np.sin(phase, out=phase)
    bundles *= np.float32(0.050) + np.float32(0.045) * broken
    threads *= np.float32(0.035) - np.float32(0.045) * broken
    bundles += threads
    bundles += np.float32(0.42) + np.float32(0.05) * broken
    bundles += _tiled(_grain(251, 257), bundles.shape, top)
    bundles *= np.float32(1.0) - np.float32(0.20) * loose
    result: Plane = np.maximum(bundles, np.float32(0.08), out=bundles)
    return result


@cache
def _grain(rows: int, columns: int) -> Plane:
    """Return fine unevenness, repeated over the picture: about 2 px, standard deviation 0.03."""
    grain = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    for axis in (0, 1):
        grain = grain + np.roll(grain, 1, axis)
    return grain * np.float32(0.015)


def _draw_patches(plan: Plan, planes: tuple[Plane, Plane, Plane], top: int) -> None:
    """Blend glands, fat cells and vessels into a band."""
    height, width = planes[0].shape
    for y, x, kind in plan.patches.touching(top, top + height, 100):
        patch = plan.patch_library[kind // 8].turned(kind % 4, mirrored=kind % 8 > 3)
        rows, columns = patch.alpha.shape
        first_row, first_column = y - top - rows // 2, x - columns // 2
        y0, x0 = max(first_row, 0), max(first_column, 0)
        y1, x1 = min(first_row + rows, height), min(first_column + columns, width)
        if y0 >= y1 or x0 >= x1:
            continue
        cut = np.s_[y0 - first_row : y1 - first_row, x0 - first_column : x1 - first_column]
        alpha = patch.alpha[cut]
        for plane, source in zip(planes, (patch.nuclear, patch.ground, patch.positive), strict=True):
            target = plane[y0:y1, x0:x1]
            target += alpha * (source[cut] - target)


def _grainy(rng: np.random.Generator, shape: tuple[int, int], amount: float) -> Callable[[int], Plane]:
    """Return a maker of sensor noise within ± `amount` that costs little: one field, shifted for each channel."""
    rows, columns = shape
    field = rng.random((rows + 8, columns + 64), dtype=np.float32)
    field -= np.float32(0.5)
    field *= np.float32(2.0 * amount)

    def channel(number: int) -> Plane:
        view: Plane = field[2 * number : 2 * number + rows, 21 * number : 21 * number + columns]
        return view

    return channel


def _absorb(
    out: Rgb, dyes: tuple[Plane, Plane, Plane], density: npt.NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Let white light through the dyes (Lambert and Beer) and write what the sensor sees."""
    grain = _grainy(rng, (out.shape[0], out.shape[1]), 2.0)
    for channel in range(3):
        light = dyes[0] * -density[0, channel]
        for dye, strength in zip(dyes[1:], density[1:, channel], strict=True):
            if strength:
                light -= dye * strength
        np.exp(light, out=light)
        light *= np.float32(GLASS[channel])
        light += grain(channel)
        np.clip(light, 0.0, 255.0, out=light)
        out[..., channel] = light + np.float32(0.5)


def _glow(out: Rgb, nuclear: Plane, ground: Plane, rng: np.random.Generator) -> None:
    """Show nuclei as blue light on black, with a breath of autofluorescence."""
    grain = _grainy(rng, (out.shape[0], out.shape[1]), 1.6)
    signal = smoothstep(nuclear, 0.25, 0.6)
    signal *= np.float32(75.0) + np.float32(85.0) * np.minimum(nuclear, np.float32(1.8))
    haze = ground * np.float32(30.0) * ground
    for channel, (bright, faint) in enumerate(((0.0, 0.02), (0.05, 0.05), (1.0, 1.0))):
        light = np.float32(bright) * signal + np.float32(faint) * haze + grain(channel)
        np.clip(light, 0.0, 255.0, out=light)
        out[..., channel] = light
