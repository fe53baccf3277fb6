"""Tiles for the viewer: JPEG that any browser shows, whatever the pixels are."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from wsistore.client.slide import Slide
from wsistore.serve.views.levels import EDGE, DecodedLevel, LevelSource, Pixels, StoredJpeg, encoded

_LEAST_PIXELS, _MOST_EDGE = 128 * 128, 4096
"""Of the slide's own tiles that are shown as they are; others would be too many, or too large, for a browser."""
_DARK, _BRIGHT = 0.1, 99.9
"""Percentiles of the smallest level's samples that become black and white, where samples have more than 8 bits."""


class Tiles:
    """The tiles of one level. Threads share it.

    Parameters
    ----------
    slide, number
        The slide, and which of its levels.
    source
        What cuts that level.

    """

    def __init__(self, slide: Slide, number: int, source: LevelSource) -> None:
        self._slide, self._number = slide, number
        size = slide.levels[number]
        self._size = size.height, size.width
        self._source = source
        array: Any = slide.group[f"{number}/image"]
        if not _is_handy(source, *self._size):
            self._source = DecodedLevel(slide, number, array, (EDGE, EDGE))
        self._channels, self._fill = array.shape[0], array.fill_value
        self.shape = self._source.jpeg_shape or self._source.pixel_shape

    @property
    def is_stored(self) -> bool:
        """Whether tiles are sent as the scanner wrote them."""
        return self._source.is_stored

    def get(self, row: int, column: int) -> bytes | None:
        """Return a tile; where the slide has nothing, a tile of background; None outside of the level."""
        (rows, columns), (height, width) = self._size, self.shape
        if row < 0 or column < 0 or row * height >= rows or column * width >= columns:
            return None
        if self._source.jpeg_shape is not None:
            found = self._source.jpeg(row, column)
        else:
            pixels = self._source.pixels(row, column)
            found = None if pixels is None else encoded(self._shown(pixels))
        return found or self._background

    def _shown(self, pixels: Pixels) -> Pixels:
        """Return samples of any kind as grey or colours of 8 bits."""
        low, high = self._window
        scaled = (pixels.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
        return _colours(scaled.clip(0, 255).astype(np.uint8))

    @cached_property
    def _window(self) -> tuple[float, float]:
        last = len(self._slide.levels) - 1
        level = self._slide.levels[last]
        overview = self._slide.read_region(last, 0, 0, min(level.height, 4 * EDGE), min(level.width, 4 * EDGE))
        if overview.dtype == np.uint8:
            return 0.0, 255.0
        low, high = np.percentile(overview, (_DARK, _BRIGHT))
        return float(low), float(high)

    @cached_property
    def _background(self) -> bytes:
        return encoded(self._shown(np.full((*self.shape, self._channels), self._fill)))


def _is_handy(source: LevelSource, rows: int, columns: int) -> bool:
    """Say whether the own tiles of a level of `rows` × `columns` pixels are of a size that a browser wants."""
    if not isinstance(source, StoredJpeg):
        return True
    height, width = source.jpeg_shape
    is_large = height * width >= _LEAST_PIXELS or (height >= rows and width >= columns)
    return is_large and max(height, width) <= _MOST_EDGE


def _colours(pixels: Pixels) -> Pixels:
    """Return three channels as they are, of any other number the first."""
    return pixels if pixels.shape[2] == 3 else pixels[..., :1]
