"""Reads associated pictures (label, macro, thumbnail) by their locators, from any seekable files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import openslide
from tifffile import TiffFile, TiffPage, TiffPages

from wsistore.errors import Kind, MissingError, UnsupportedError
from wsistore.slides.base import Json, OpenFile
from wsistore.slides.boundary import broken, translated
from wsistore.slides.dicom import read_associated
from wsistore.slides.pixels import Rgb, to_rgb8
from wsistore.slides.tiffmeta import MOST_PICTURE_PIXELS

Locator = Mapping[str, Json]


def read(locator: Locator, open_file: OpenFile) -> Rgb:
    """Decode one associated picture.

    Parameters
    ----------
    locator
        As in `Associated.locator`.
    open_file
        Opens a file of the source by its index. For slides of OpenSlide's own formats the files must be real ones, with
        their path as ``name``; for all others any seekable file will do.

    Returns
    -------
    numpy.ndarray
        uint8, shape (y, x, 3).

    Raises
    ------
    MissingError
        If the locator points to nothing.
    UnsupportedError
        If the picture cannot be had from such files, or nothing decodes its pixels.
    BrokenError
        If it is damaged.

    """
    how = _HOW.get(str(locator.get("reader")))
    if how is None:
        msg = f"{dict(locator)!r} names no picture of a slide."
        raise MissingError(msg)
    return how(locator, open_file)


def _number(locator: Locator) -> int:
    number = locator.get("file")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        msg = f"{dict(locator)!r} names no file of a slide."
        raise MissingError(msg)
    return number


def _tiff(locator: Locator, open_file: OpenFile) -> Rgb:
    number = _number(locator)
    index = locator.get("page")
    if not isinstance(index, list | tuple) or not index or not all(isinstance(i, int) and i >= 0 for i in index):
        msg = f"{dict(locator)!r} names no page of a TIFF."
        raise MissingError(msg)
    with open_file(number) as file:
        path = Path(getattr(file, "name", "") if isinstance(getattr(file, "name", ""), str) else f"file {number}")
        with translated(path), TiffFile(file) as tiff:
            page = _page(tiff, tuple(index))
            if page is None:
                msg = f"There is no page {index} in {path}."
                raise MissingError(msg)
            if not 0 < page.imagelength * page.imagewidth <= MOST_PICTURE_PIXELS:
                raise broken(path, f"page {index} is no picture of a usual size")
            samples = np.asarray(page.asarray(maxworkers=1))
            return to_rgb8(_last_axis(samples, page), page)


def _page(tiff: TiffFile, index: tuple[int, ...]) -> TiffPage | None:
    pages: TiffPages | None = tiff.pages
    page: TiffPage | None = None
    for part in index:
        if pages is None or part >= len(pages):
            return None
        found = pages[part]
        page = found if isinstance(found, TiffPage) else found.aspage()
        pages = page.pages
    return page


def _last_axis(samples: Rgb, page: TiffPage) -> Rgb:
    """Return samples with axes y, x, s, whatever the page's planar configuration."""
    if samples.ndim == 2:
        return samples[..., None]
    return samples.transpose(1, 2, 0) if page.planarconfig == 2 else samples


def _openslide(locator: Locator, open_file: OpenFile) -> Rgb:
    with open_file(_number(locator)) as file:
        name = getattr(file, "name", None)
    if not isinstance(name, str) or not Path(name).is_file():
        msg = "Pictures of this slide can be read from its real files only."
        raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_FORMAT, remedy="Restore the slide and look at the files.")
    path = Path(name)
    with translated(path), openslide.OpenSlide(path) as slide:
        picture = slide.associated_images.get(str(locator.get("name")))
        if picture is None:
            msg = f"There is no picture {locator.get('name')!r} in {path}."
            raise MissingError(msg)
        return _over_white(np.asarray(picture.convert("RGBA")))


def _over_white(pixels: Rgb) -> Rgb:
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _dicom(locator: Locator, open_file: OpenFile) -> Rgb:
    return read_associated(locator, open_file)


_HOW: dict[str, Callable[[Locator, OpenFile], Rgb]] = {"tiff": _tiff, "openslide": _openslide, "dicom": _dicom}
