"""Reads pixels of a slide that is kept whole, through OpenSlide or tifffile."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import openslide
from PIL import Image

from wsistore.errors import InputError, Kind, UnsupportedError, WsistoreError
from wsistore.slides.boundary import translated
from wsistore.slides.pixels import Rgb
from wsistore.slides.tiffregions import TiffRegions
from wsistore.slides.tiffscan import flavour_of

_PROBE_PIXELS = 64
_MOST_THUMBNAIL_PIXELS = 64 * 1024 * 1024
"""Largest level of which every pixel is read for a thumbnail; of larger ones single rows are."""
_BAND_PIXELS = 2 * 1024 * 1024
"""How much of it is in memory at a time."""
_MOST_PIECE_BYTES = 64 * 1024 * 1024
"""Largest strip or tile that is decoded without anybody having asked for its pixels: an ingest stays small."""


class _Backend(Protocol):
    @property
    def levels(self) -> tuple[tuple[int, int], ...]: ...

    def piece_bytes(self, level: int) -> int: ...

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

    def piece_bytes(self, _level: int) -> int:
        """Return 0: OpenSlide opens no slide whose pieces are large."""
        return 0

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
    """Reads regions of a slide that is kept whole, for several threads in turn. A context manager.

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
        self._lock = threading.Lock()
        self._closed = False
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
        InputError
            If the reader was closed.

        """
        with self._lock, translated(self._path):
            if self._closed:
                msg = f"{self._path} was closed while it was being read."
                raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Open it again.")
            return self.backend.read_region(level, y, x, height, width)

    def read_thumbnail(self, max_edge: int) -> Rgb:
        """Return the whole slide, scaled down so that no edge is longer than `max_edge` pixels.

        The smallest level that is large enough is read band by band; of a very large one single rows.

        Returns
        -------
        numpy.ndarray
            uint8, shape (y, x, 3).

        Raises
        ------
        UnsupportedError
            If the level is stored in pieces that are too large to be decoded for a thumbnail.
        BrokenError
            If it cannot be decoded.

        """
        fitting = [i for i, size in enumerate(self.levels) if max(size) >= max_edge]
        level = fitting[-1] if fitting else 0
        height, width = self.levels[level]
        factor = min(1.0, max_edge / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        piece = self.backend.piece_bytes(level)
        if piece > _MOST_PIECE_BYTES:
            msg = f"The picture in {self._path} is stored in pieces of {piece} bytes, too large for a thumbnail."
            raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy="Save it as a tiled TIFF first.")
        return self._banded(level, size) if height * width <= _MOST_THUMBNAIL_PIXELS else self._sampled(level, size)

    def _banded(self, level: int, size: tuple[int, int]) -> Rgb:
        """Return a thumbnail of `size` (width, height) made of all pixels of a level."""
        height, width = self.levels[level]
        step = height / size[1]
        most = max(1, int(_BAND_PIXELS / (width * step)))
        bands = []
        for first in range(0, size[1], most):
            last = min(first + most, size[1])
            top, bottom = int(first * step), min(height, math.ceil(last * step))
            band = Image.fromarray(self.read_region(level, top, 0, bottom - top, width))
            box = (0, first * step - top, width, min(last * step, height) - top)
            bands.append(np.asarray(band.resize((size[0], last - first), Image.Resampling.BOX, box=box)))
        return np.concatenate(bands)

    def _sampled(self, level: int, size: tuple[int, int]) -> Rgb:
        """Return a thumbnail of `size` (width, height) made of single rows of a large level."""
        height, width = self.levels[level]
        rows = []
        for row in range(size[1]):
            line = self.read_region(level, int((row + 0.5) * height / size[1]), 0, 1, width)
            rows.append(np.asarray(Image.fromarray(line).resize((size[0], 1), Image.Resampling.BOX)))
        return np.concatenate(rows)

    def close(self) -> None:
        """Close the files, once no thread reads them. May be repeated."""
        with self._lock:
            if not self._closed:
                self._closed = True
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
            if backend.piece_bytes(level) > _MOST_PIECE_BYTES:
                continue
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
