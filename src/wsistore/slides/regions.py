"""Reads pixels of a slide that is kept whole, through OpenSlide or tifffile."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import openslide
from PIL import Image

from wsistore.errors import Kind, UnsupportedError, WsistoreError
from wsistore.slides.boundary import translated
from wsistore.slides.pixels import Rgb
from wsistore.slides.tiffregions import TiffRegions
from wsistore.slides.tiffscan import flavour_of

_PROBE_PIXELS = 64
_MOST_THUMBNAIL_PIXELS = 64 * 1024 * 1024
"""Largest level that is read in one piece for a thumbnail; larger ones are sampled in bands."""


class _Backend(Protocol):
    @property
    def levels(self) -> tuple[tuple[int, int], ...]: ...

    def read_region(self, level: int, y: int, x: int, height: int, width: int) -> Rgb: ...

    def close(self) -> None: ...


class OpenSlideRegions:
    """Levels and regions through OpenSlide; may be used from several threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path):
            self.slide = openslide.OpenSlide(path)
        self._background = _background(self.slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR))

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level in pixels, largest first."""
        return tuple((height, width) for width, height in self.slide.level_dimensions)

    def close(self) -> None:
        """Close the slide."""
        self.slide.close()

    def read_region(self, level: int, y: int, x: int, height: int, width: int) -> Rgb:
        """Return a region as uint8 (y, x, 3), on the slide's background colour where there is nothing.

        Raises
        ------
        BrokenError
            If it cannot be decoded.

        """
        with translated(self._path):
            factor = self.slide.level_downsamples[level]
            at = (round(x * factor), round(y * factor))
            pixels = np.asarray(self.slide.read_region(at, level, (width, height)))
        alpha = pixels[..., 3:].astype(np.uint16)
        if alpha.min(initial=255) == 255:
            return np.ascontiguousarray(pixels[..., :3])
        blended = pixels[..., :3] * alpha + self._background * (255 - alpha) + 127
        return (blended // 255).astype(np.uint8)


class WholeReader:
    """Reads regions of a slide that is kept whole. A context manager.

    Parameters
    ----------
    path
        The slide's main file, its other files beside it.

    Raises
    ------
    UnsupportedError
        If neither OpenSlide nor tifffile opens it.
    BrokenError, MissingError, InputError
        If the file is damaged, gone or unreadable.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.backend: _Backend = _open(path)

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level in pixels, largest first."""
        return self.backend.levels

    def read_region(self, level: int, y: int, x: int, height: int, width: int) -> Rgb:
        """Return a region of a level, in that level's pixels.

        Returns
        -------
        numpy.ndarray
            uint8, shape (height, width, 3), axes y, x, RGB; background colour or white beyond the picture.

        Raises
        ------
        BrokenError
            If it cannot be decoded.
        UnsupportedError
            If nothing here decodes such pixels.

        """
        with translated(self._path):
            return self.backend.read_region(level, y, x, height, width)

    def read_thumbnail(self, max_edge: int) -> Rgb:
        """Return the whole slide, scaled down so that no edge is longer than `max_edge` pixels.

        The smallest level that is large enough is read; of one that is too large for the memory every n-th row.

        Returns
        -------
        numpy.ndarray
            uint8, shape (y, x, 3).

        """
        fitting = [i for i, size in enumerate(self.levels) if max(size) >= max_edge]
        level = fitting[-1] if fitting else 0
        height, width = self.levels[level]
        factor = min(1.0, max_edge / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        if height * width <= _MOST_THUMBNAIL_PIXELS:
            picture = Image.fromarray(self.read_region(level, 0, 0, height, width))
            return np.asarray(picture.resize(size, Image.Resampling.BOX))
        return self._sampled(level, size)

    def _sampled(self, level: int, size: tuple[int, int]) -> Rgb:
        """Return a thumbnail of `size` (width, height) made of single rows of a large level."""
        height, width = self.levels[level]
        rows = []
        for row in range(size[1]):
            line = self.read_region(level, int((row + 0.5) * height / size[1]), 0, 1, width)
            rows.append(np.asarray(Image.fromarray(line).resize((size[0], 1), Image.Resampling.BOX)))
        return np.concatenate(rows)

    def close(self) -> None:
        """Close the files. May be repeated."""
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> _Backend:
    """Open a vendor's slide with OpenSlide, any other TIFF (and what OpenSlide fails to read) with tifffile."""
    with translated(path), path.open("rb") as file:
        is_tiff = flavour_of(file.read(16)) is not None
    try:
        slide = OpenSlideRegions(path)
        # OpenSlide opens generic TIFFs without looking whether it can decode their pixels, and knows no SubIFDs
        if not is_tiff or slide.slide.properties.get(openslide.PROPERTY_NAME_VENDOR) != "generic-tiff":
            return _probed(slide)
        slide.close()
    except WsistoreError as error:
        unknown = isinstance(error.__cause__, openslide.OpenSlideUnsupportedFormatError)
        if is_tiff:
            return _by_tifffile(path, None if unknown else error)
        if unknown:
            msg = f"{path} is of no slide format that OpenSlide or tifffile opens."
            remedy = "If it is a slide, ask for its format; else leave it out."
            raise UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy=remedy) from error
        raise
    return _by_tifffile(path, None)


def _by_tifffile(path: Path, before: WsistoreError | None) -> _Backend:
    """Open with tifffile; where that fails too, raise what OpenSlide said `before`, for it knows the format better."""
    try:
        return _probed(TiffRegions(path))
    except UnsupportedError:
        raise
    except WsistoreError as error:
        raise before or error from error


def _probed(backend: _Backend) -> _Backend:
    """Decode a little of every level, so that a damaged slide is refused at once, not when somebody needs it."""
    try:
        for level, (height, width) in enumerate(backend.levels):
            size = (min(height, _PROBE_PIXELS), min(width, _PROBE_PIXELS))
            backend.read_region(level, (height - size[0]) // 2, (width - size[1]) // 2, *size)
    except BaseException:
        backend.close()
        raise
    return backend


def _background(color: str | None) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    try:
        parts = bytes.fromhex(color or "FFFFFF")
    except ValueError:
        parts = b"\xff\xff\xff"
    return np.frombuffer(parts if len(parts) == 3 else b"\xff\xff\xff", np.uint8).astype(np.uint16)
