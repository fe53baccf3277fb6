"""Which patches: the level and the scale, where they lie, and who is in which part. Arithmetic, the same everywhere.

All that is random follows from a seed, the epoch and the slide's name, by hashes that no process changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsistore.client.masks import Mask
from wsistore.client.slide import LevelInfo, Picture
from wsistore.errors import MissingError
from wsistore.optional import needing

Ints = npt.NDArray[np.int64]

_TOLERANCE = 0.02
"""Scanners' pixel sizes are rounded: a level this near to the wanted one is taken as it is."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How patches of one size in micrometres are read from a slide."""

    level: int
    height: int
    """Pixels of that level that a patch covers."""
    width: int
    size: int
    """Pixels that a patch has; others are resized."""

    @classmethod
    def of(cls, levels: Sequence[LevelInfo], size: int, mpp: float | None, name: str) -> Scale:
        """Return how patches of `size` pixels at `mpp` micrometres per pixel are read from levels.

        The smallest level that is at least as fine as `mpp` is read and made smaller; with None the largest as it is.

        Raises
        ------
        MissingError
            If size or `mpp` are not positive, the slide has no pixel size, or is coarser than `mpp`.

        """
        if size <= 0 or (mpp is not None and not 0 < mpp < 1e6):
            msg = f"Patches of {size} pixels at {mpp} µm per pixel cannot be read."
            raise MissingError(msg, remedy="Ask for a positive size and resolution.")
        own = levels[0].um_per_px
        if mpp is None:
            return cls(0, size, size, size)
        if own is None:
            msg = f"{name} does not say how large its pixels are."
            raise MissingError(msg, remedy="Leave it out, or ask for patches of level 0 with mpp=None.")
        for number in reversed(range(len(levels))):
            sizes = levels[number].um_per_px
            if sizes is not None and max(sizes) <= mpp * (1 + _TOLERANCE):
                height, width = (_pixels(size, mpp / one) for one in sizes)
                return cls(number, height, width, size)
        msg = f"{name} has {max(own):g} µm per pixel at most, which is coarser than {mpp:g}."
        raise MissingError(msg, remedy="Leave it out, or ask for a coarser resolution.")

    def resized(self, patches: Picture) -> Picture:
        """Return patches (n, height, width, c) as (n, size, size, c), of the same dtype.

        Raises
        ------
        SiteError
            If Pillow is not installed.

        """
        if (self.height, self.width) == (self.size, self.size):
            return patches
        if self.height == self.width and self.height % self.size == 0:
            step = self.height // self.size
            blocks = patches.reshape(len(patches), self.size, step, self.size, step, -1).mean(axis=(2, 4))
            return _like(blocks, patches)
        return self._filtered(patches)

    def _filtered(self, patches: Picture) -> Picture:
        with needing("Resizing patches", "client"):
            from PIL import Image  # not needed where levels have the wanted resolution

        out = np.empty((len(patches), self.size, self.size, patches.shape[3]), patches.dtype)
        whole = patches.dtype == np.uint8 and patches.shape[3] == 3
        for target, patch in zip(out, patches, strict=True):
            if whole:
                target[...] = np.asarray(Image.fromarray(patch).resize((self.size, self.size), Image.Resampling.BOX))
                continue
            for channel in range(patch.shape[2]):
                plane = Image.fromarray(patch[..., channel].astype(np.float32))
                shrunk = np.asarray(plane.resize((self.size, self.size), Image.Resampling.BOX))
                target[..., channel] = _like(shrunk, patches)
        return out


def _pixels(size: int, factor: float) -> int:
    """Return how many pixels of a level a patch covers."""
    near = round(factor)
    return size * near if near and abs(factor / near - 1) <= _TOLERANCE else max(1, round(size * factor))


def _like(values: npt.NDArray[np.floating], patches: Picture) -> Picture:
    rounded = np.rint(values) if np.issubdtype(patches.dtype, np.integer) else values
    return rounded.astype(patches.dtype)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator that depends on nothing but what is given."""
    text = "\0".join(map(str, (seed, *names)))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def part_of(seed: int, name: str, shares: Sequence[float]) -> int:
    """Return which part a patient (or whatever must not be in two parts) belongs to, by its name alone.

    So it stays in its part when others come and go; the parts have about the shares that are wanted, not exactly.
    """
    place = generator(seed, "part", name).random() * sum(shares)
    for number, end in enumerate(np.cumsum(shares).tolist()):
        if place < end:
            return number
    return len(shares) - 1


def grid(mask: Mask, level: LevelInfo, height: int, width: int, least: float, stride: float = 1.0) -> Ints:
    """Return the patches of a regular grid that are wanted.

    Parameters
    ----------
    mask
        What is wanted.
    level
        That patches lie in.
    height, width
        Of a patch, in pixels of the level.
    least
        Part of a patch that must be wanted.
    stride
        From one patch to the next, in patches.

    Returns
    -------
    positions
        (n, 2): y and x of the top left corners in pixels of the level.

    """
    rows = _starts(level.height, height, stride)
    columns = _starts(level.width, width, stride)
    y, x = (one.ravel() for one in np.meshgrid(rows, columns, indexing="ij"))
    found = mask.fractions(y / level.height, x / level.width, height / level.height, width / level.width)
    return np.stack([y, x], axis=1)[found >= least]


def scattered(
    mask: Mask, level: LevelInfo, height: int, width: int, least: float, count: int, rng: np.random.Generator
) -> Ints:
    """Return `count` random patches that are wanted, as `grid` does; fewer (none) where hardly anything is wanted."""
    found: list[Ints] = []
    rows, columns = mask.wanted.shape
    places = np.flatnonzero(mask.wanted)
    left = count
    for _ in range(20):
        if left <= 0 or not len(places):
            break
        # A random place within a random wanted pixel is the centre.
        picked = rng.choice(places, max(4 * left, 64))
        y = (picked // columns + rng.random(len(picked))) / rows * level.height - height / 2
        x = (picked % columns + rng.random(len(picked))) / columns * level.width - width / 2
        y = np.clip(np.rint(y), 0, max(0, level.height - height))
        x = np.clip(np.rint(x), 0, max(0, level.width - width))
        good = mask.fractions(y / level.height, x / level.width, height / level.height, width / level.width) >= least
        taken = np.stack([y, x], axis=1)[good][:left].astype(np.int64)
        found.append(taken)
        left -= len(taken)
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def _starts(length: int, patch: int, stride: float) -> Ints:
    """Return where patches begin along one side, at least one."""
    step = max(1, round(patch * stride))
    return np.arange(0, max(1, length - patch + 1), step, dtype=np.int64)
