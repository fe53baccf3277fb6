"""Where the tissue is: a mask over the whole slide, made from one of its smallest levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.client.slide import Picture, Slide
from wsistore.errors import MissingError

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_MOST_PIXELS = 2048 * 2048
"""Of the level that a mask is made from."""
_LEAST_COLOUR, _MOST_COLOUR = 10, 60
"""Between these a threshold of colour is looked for, of 255: glass has less, and no pen may hide pale tissue."""
_LEAST_SIGNAL = 0.02
"""Of a sample's range: a dark level without any signal is no tissue."""


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """What of a slide is wanted."""

    wanted: Bools
    """(y, x), evenly over the whole slide."""

    @property
    def fraction(self) -> float:
        """Part of the slide that is wanted, 0 to 1."""
        return float(self.wanted.mean()) if self.wanted.size else 0.0

    def fractions(self, y: Floats, x: Floats, height: float, width: float) -> Floats:
        """Return which part of each rectangle is wanted.

        Parameters
        ----------
        y, x
            (n,) top left corners as parts of the slide, 0 to 1.
        height, width
            Of each rectangle, likewise.

        Returns
        -------
        fractions
            (n,), 0 to 1; what lies outside the slide is not wanted.

        """
        rows, columns = self.wanted.shape
        total = np.zeros((rows + 1, columns + 1), np.int64)
        np.cumsum(np.cumsum(self.wanted, axis=0), axis=1, out=total[1:, 1:])
        top, bottom = _edges(y, height, rows)
        left, right = _edges(x, width, columns)
        inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        area = np.maximum(bottom - top, 1) * np.maximum(right - left, 1)
        shown = _inside(y, height) * _inside(x, width)
        fractions: Floats = inside / area * shown
        return fractions


def everywhere() -> Mask:
    """Return a mask that wants all of a slide."""
    return Mask(np.ones((1, 1), np.bool_))


def as_mask(found: Any, name: str) -> Mask:
    """Return a mask that a caller's function made: a `Mask`, or a boolean array (y, x) over the whole slide.

    Raises
    ------
    MissingError
        If it is neither.

    """
    if isinstance(found, Mask):
        return found
    array = np.asarray(found)
    if array.ndim != 2 or array.dtype != np.bool_ or not array.size:
        msg = f"The mask of {name} is of shape {array.shape} and type {array.dtype}."
        raise MissingError(msg, remedy="Return booleans of shape (y, x) that cover the whole slide.")
    return Mask(array)


def tissue_mask(slide: Slide) -> Mask:
    """Return where a slide has tissue.

    In brightfield tissue is what has colour, or is darker than glass where there are no colours; in fluorescence what
    is brighter than the dark. The threshold is Otsu's, within bounds.

    Raises
    ------
    IntegrityError, StorageError
        If the level cannot be read.

    """
    sizes = [level.height * level.width for level in slide.levels]
    number = next((n for n, size in enumerate(sizes) if size <= _MOST_PIXELS), len(sizes) - 1)
    level = slide.levels[number]
    # A slide of one large level is looked at in every nth pixel: a mask needs no more.
    step = max(1, int(np.ceil(np.sqrt(sizes[number] / _MOST_PIXELS))))
    pixels = _thinned(slide, number, level.height, level.width, step)
    ours: Any = slide.group.attrs.get("wsistore", {})
    dark = isinstance(ours, dict) and ours.get("content") == "fluorescence"
    return Mask(_smooth(_bright(pixels) if dark else _stained(pixels)))


def _thinned(slide: Slide, number: int, height: int, width: int, step: int) -> Picture:
    if step == 1:
        return slide.read_region(number, 0, 0, height, width)
    rows = max(step, 1024 // step * step)
    strips = [
        slide.read_region(number, top, 0, min(rows, height - top), width)[::step, ::step]
        for top in range(0, height, rows)
    ]
    return np.concatenate(strips)


def _stained(pixels: Picture) -> Bools:
    if pixels.shape[2] < 3:
        darkness = _eight_bits(pixels).max() - _eight_bits(pixels)[..., 0]
        return _above(darkness, _LEAST_COLOUR, 255)
    rgb = _eight_bits(pixels)[..., :3]
    colour: npt.NDArray[np.uint8] = rgb.max(axis=2) - rgb.min(axis=2)
    return _above(colour, _LEAST_COLOUR, _MOST_COLOUR)


def _bright(pixels: Picture) -> Bools:
    signal = pixels.max(axis=2)
    top = float(signal.max(initial=0))
    whole = float(np.iinfo(signal.dtype).max) if np.issubdtype(signal.dtype, np.integer) else 1.0
    if top < _LEAST_SIGNAL * whole:
        return np.zeros(signal.shape, np.bool_)
    return _above((signal / top * 255).astype(np.uint8), 1, 255)


def _eight_bits(pixels: Picture) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels / max(float(pixels.max(initial=1)), 1.0) * 255).astype(np.uint8)


def _above(values: npt.NDArray[np.uint8], least: int, most: int) -> Bools:
    above: Bools = values > min(max(_otsu(values), least), most)
    return above


def _otsu(values: npt.NDArray[np.uint8]) -> int:
    """Return the threshold that parts values into the two groups that differ most."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below, mass = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return int(np.nanargmax(np.where(np.isfinite(between), between, -1.0)))


def _smooth(mask: Bools) -> Bools:
    """Return what most of each pixel's 3 × 3 neighbours say: specks go, holes close."""
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    smooth: Bools = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5
    return smooth


def _edges(start: Floats, length: float, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first pixel of a mask that each stretch touches and the one behind the last."""
    first = np.floor(np.clip(start, 0, 1) * count + 1e-6).astype(np.int64)
    last = np.ceil(np.clip(start + length, 0, 1) * count - 1e-6).astype(np.int64)
    return np.minimum(first, count), np.clip(last, np.minimum(first, count), count)


def _inside(start: Floats, length: float) -> Floats:
    """Return which part of each stretch lies on the slide."""
    inside = np.minimum(start + length, 1) - np.maximum(start, 0)
    part: Floats = np.clip(inside / length, 0, 1)  # a thin stretch would round to a little more than all of it
    return part
