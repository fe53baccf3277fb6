"""Reads regions of TIFF pages that OpenSlide does not open: strips or tiles, decoded as far as a region needs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from tifffile import TIFF, TiffFile, TiffPage

from wsistore.errors import Kind, UnsupportedError
from wsistore.slides import jpeg
from wsistore.slides.boundary import translated
from wsistore.slides.pixels import Rgb, to_rgb8
from wsistore.slides.tiff import OpenTiff, check_plausible, data_segments, page_name, same_shape
from wsistore.slides.tiffmeta import number, page_index
from wsistore.slides.tiffscan import NDPI_TAG, scan

_JPEG = 7
_NDPI_LENS = 65421
_CACHE_BYTES = 32 * 1024 * 1024
_MOST_SEGMENT_BYTES = 1024 * 1024 * 1024
"""Largest strip or tile that is decoded in one piece."""
_MOST_STRAY_PIXELS = 16 * 1024 * 1024
"""Largest JPEG that is decoded although it is of another size than its tile."""

Samples = npt.NDArray[Any]


class TiffRegions:
    """Levels and regions of a TIFF by tifffile; not for use from several threads at once (`WholeReader` sees to it)."""

    def __init__(self, path: Path) -> None:
        with translated(path):
            size_bytes = path.stat().st_size
            structure = scan(path, size_bytes, ndpi=path.suffix.lower() == ".ndpi")
            self._tiff = OpenTiff(path, size_bytes, structure, TiffFile(path))
        try:
            self._pages = _level_pages(self._tiff)
        except BaseException:
            self.close()
            raise
        self._cache: OrderedDict[tuple[int, int], Samples] = OrderedDict()

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level in pixels, largest first."""
        return tuple((page.imagelength, page.imagewidth) for page in self._pages)

    @property
    def base(self) -> TiffPage:
        """The page of the largest level."""
        return self._pages[0]

    def close(self) -> None:
        """Close the file."""
        self._tiff.file.close()

    def piece_bytes(self, level: int) -> int:
        """Return how many bytes one strip or tile of a level takes when it is decoded."""
        return _piece_bytes(self._pages[level])

    def read_region(self, level: int, y: int, x: int, height: int, width: int) -> Rgb:
        """Return a region as uint8 (y, x, 3); white where the picture ends.

        Raises
        ------
        BrokenError
            If its data cannot be decoded.
        UnsupportedError
            If nothing here decodes such data, or its pieces are too large for the memory.

        """
        page = self._pages[level]
        out = np.full((height, width, 3), 255, np.uint8)
        top, left = max(0, y), max(0, x)
        bottom, right = min(page.imagelength, y + height), min(page.imagewidth, x + width)
        if top >= bottom or left >= right:
            return out
        with translated(self._tiff.path, f" ({page_name(page)})"):
            samples = self._samples(level, page, (top, left, bottom, right))
            out[top - y : bottom - y, left - x : right - x] = to_rgb8(samples, page)
        return out

    def _samples(self, level: int, page: TiffPage, box: tuple[int, int, int, int]) -> Samples:
        top, left, bottom, right = box
        _check_decodable(self._tiff.path, page)
        count = page.samplesperpixel
        out = np.zeros((bottom - top, right - left, count), page.dtype)
        for place, plane, y, x in _pieces(page, box):
            piece = self._piece(level, page, place)
            if piece is None:
                continue
            part = piece[max(0, top - y) : bottom - y, max(0, left - x) : right - x]
            down, across = max(0, y - top), max(0, x - left)
            target = out[down : down + part.shape[0], across : across + part.shape[1]]
            if page.planarconfig == 2 and count > 1:
                target[..., plane] = part[..., 0]
            else:
                target[...] = part[..., :count]
        return out

    def _piece(self, level: int, page: TiffPage, place: int) -> Samples | None:
        """Return one decoded strip or tile, shape (y, x, s), from the cache if it is there; None if it is missing."""
        key = (level, place)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        offset, length = page.dataoffsets[place], page.databytecounts[place]
        if not offset or not length:
            return None
        handle = self._tiff.file.filehandle
        handle.seek(offset)
        piece = _decoded(page, place, handle.read(length))
        if piece is None:
            return None
        self._cache[key] = piece
        while len(self._cache) > 1 and sum(one.nbytes for one in self._cache.values()) > _CACHE_BYTES:
            self._cache.popitem(last=False)
        return piece


def _decoded(page: TiffPage, place: int, data: bytes) -> Samples | None:
    """Return a strip or tile, shape (y, x, s), None if it is empty."""
    if int(page.compression) != _JPEG:
        found = page.decode(data, place)[0]
        return None if found is None else found[0]
    try:
        found = page.decode(data, place, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
    except (ValueError, RuntimeError):
        # a JPEG of another size than its tile is not what tifffile expects, but it can be looked at
        frame = jpeg.parse(data).frame
        if frame.height * frame.width > _MOST_STRAY_PIXELS:
            raise
        alone = imagecodecs.jpeg8_decode(data, tables=page.jpegtables)
        return np.asarray(alone).reshape(*alone.shape[:2], -1)
    return None if found is None else found[0]


def _level_pages(tiff: OpenTiff) -> tuple[TiffPage, ...]:
    """Return the first page and those that are smaller versions of it, largest first."""
    base = tiff.page(0)
    if NDPI_TAG in tiff.structure.codes:
        return _ndpi_pages(tiff)
    check_plausible(tiff, base)
    data_segments(tiff, base)
    found = []
    for page in [*tiff.pages[1:], *tiff.below(0)]:
        if same_shape(page, base) and (page.is_reduced or len(page_index(page)) > 1):
            check_plausible(tiff, page)
            data_segments(tiff, page)
            found.append(page)
    found.sort(key=lambda page: -page.imagelength * page.imagewidth)
    return (base, *found)


def _ndpi_pages(tiff: OpenTiff) -> tuple[TiffPage, ...]:
    """Return the levels of an NDPI, each as the one JPEG that it is: the listed restart intervals are not believed."""
    found: list[TiffPage] = []
    for page in tiff.pages:
        smaller = not found or page.imagelength < found[-1].imagelength  # one focal plane only
        if smaller and (number(page.tags.valueof(_NDPI_LENS)) or 1) > 0:
            page.dataoffsets, page.databytecounts = page.tags.valueof(273, ()), page.tags.valueof(279, ())
            page.tilewidth = page.tilelength = 0
            page.jpegheader, page.rowsperstrip = None, page.imagelength
            check_plausible(tiff, page)
            data_segments(tiff, page)
            found.append(page)
    return tuple(found)


def _check_decodable(path: Path, page: TiffPage) -> None:
    if page.dtype is None:
        msg = f"The pixels of {path} have {page.bitspersample} bits in a format that nothing here reads."
        raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS)
    if int(page.compression) not in TIFF.DECOMPRESSORS:
        msg = f"The pixels of {path} are compressed with method {int(page.compression)}, which nothing here decodes."
        raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy="Save it with a usual compression.")
    size_bytes = _piece_bytes(page)
    if size_bytes > _MOST_SEGMENT_BYTES:
        msg = f"The picture in {path} is stored in pieces of {size_bytes} bytes, too large to be decoded."
        raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy="Save it as a tiled TIFF first.")


def _piece_bytes(page: TiffPage) -> int:
    height, width = _piece_size(page)
    return height * width * page.samplesperpixel * max(1, page.bitspersample // 8)


def _piece_size(page: TiffPage) -> tuple[int, int]:
    """Return height and width of a page's tiles or strips."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return max(1, min(page.rowsperstrip, page.imagelength)), page.imagewidth


def _pieces(page: TiffPage, box: tuple[int, int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, plane, y and x of the strips or tiles that touch a box (top, left, bottom, right)."""
    height, width = _piece_size(page)
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    for plane in range(planes):
        for row in range(box[0] // height, -(-box[2] // height)):
            for column in range(box[1] // width, -(-box[3] // width)):
                yield (plane * down + row) * across + column, plane, row * height, column * width
