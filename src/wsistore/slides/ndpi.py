"""Hamamatsu NDPI: each level is one large JPEG, cut here at its restart markers into strips one MCU row high.

A strip is a tile: as wide as the restart interval, 8 or 16 pixels high. JPEG pads the bottom of a picture to whole
MCUs, so the last row of strips decodes at full height like the others; its rows beyond the level's height are padding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tifffile import TiffPage

from wsistore.model import Mode
from wsistore.slides import jpeg
from wsistore.slides.base import Codec, Color, Content, Level, Scanner, Source, TileCoding, source_files
from wsistore.slides.boundary import NoTileGridError, broken
from wsistore.slides.segments import Segments, check_apart, check_bounds, extents, from_table
from wsistore.slides.tiff import OpenTiff, open_tiff, page_extents, page_name
from wsistore.slides.tiffmeta import (
    free_name,
    identifying_tags,
    iso_date,
    number,
    pictures,
    resolution_scale,
    tag_values,
    text_of,
)
from wsistore.slides.tiffscan import NDPI_TAG, flavour_of, scan
from wsistore.slides.whole import instead

_MAGNIFICATION, _FOCUS, _STARTS, _STARTS_HIGH, _LABEL, _FILTER = 65421, 65424, 65426, 65432, 65427, 65434
_CAPTURE_MODE, _SERIAL, _COMMENTS = 65441, 65442, 65449
_MACRO, _MAP = -1, -2
_TELLING = re.compile(r"s/n|serial|date|created|label|user|title|operator|patient|barcodeno|case|name", re.IGNORECASE)
"""Keys in the scanner's comments that may identify it, a person or a slide; the others are calibration."""
_SAYS_NOTHING = {"", "0", "None", "-", "--- none ---"}
_WIDE_CAPTURE_MODE = 6
"""From this mode on the levels hold 16-bit grey."""
_MOST_SINGLE_EDGE = 4096
"""Longest edge of a JPEG without restart markers that is still one tile."""
_MOST_HEADER_BYTES = 1024 * 1024
_MOST_LAST_BYTES = 16 * 1024 * 1024
"""How far behind the last restart marker the end of the JPEG is looked for; it may be followed by padding."""


class NdpiReader:
    """Slides of Hamamatsu's NanoZoomer."""

    name = "Hamamatsu NDPI"

    def claims(self, path: Path, head: bytes) -> bool:
        """Claim little-endian classic TIFF: only its tags tell."""
        flavour = flavour_of(head)
        return flavour is not None and not flavour.big and flavour.order == "<"

    def read(self, path: Path) -> Source | None:
        """Return the slide; None if it is another vendor's."""
        # the layout differs from TIFF's from the first directory on, so the name must tell where the tags cannot
        named = path.suffix.lower() == ".ndpi"
        if not named and NDPI_TAG not in scan(path, path.stat().st_size).codes:
            return None
        with open_tiff(path, ndpi=True) as tiff:
            return _read(tiff) if NDPI_TAG in tiff.structure.codes else None


def _read(tiff: OpenTiff) -> Source:
    _check_inside(tiff)
    pages, named = _sorted_pages(tiff)
    base = pages[0]
    levels: tuple[Level, ...] = ()
    reason = ""
    try:
        levels = _levels(tiff, pages, list(named.values()))
    except NoTileGridError as error:
        reason = error.message
    found, left_out = pictures(named)
    scale, warnings = resolution_scale(base)
    tags = base.tags
    make, model, serial, software = (text_of(tags.valueof(code)) for code in (271, 272, _SERIAL, 305))
    source = Source(
        format="hamamatsu-ndpi",
        mode=Mode.TILES,
        mode_reason="",
        files=source_files(tiff.path.parent, [tiff.path]),
        levels=levels,
        um_per_px=scale,
        magnification=number(tags.valueof(_MAGNIFICATION)),
        content=Content.FLUORESCENCE if text_of(tags.valueof(_FILTER)) else Content.BRIGHTFIELD,
        scanner=Scanner(make, model, serial, software),
        scanned_at=iso_date(tags.valueof(306)),
        associated=found,
        metadata={"pages": [tag_values(page) for page in tiff.pages]},
        identifying=_identifying(tiff, base),
        warnings=(*warnings, *left_out),
    )
    return instead(source, reason) if reason else source


def _check_inside(tiff: OpenTiff) -> None:
    """Check that the JPEG of every page lies inside the file; where it is to be cut is another question.

    Raises
    ------
    BrokenError
        SOURCE_TRUNCATED as a rule, naming the page.

    """
    for page in tiff.pages:
        offsets, counts = page.tags.valueof(273), page.tags.valueof(279)
        if isinstance(offsets, tuple) and isinstance(counts, tuple) and len(offsets) == len(counts):
            check_bounds(from_table(offsets, counts), tiff.path, tiff.size_bytes, page_name(page))


def _sorted_pages(tiff: OpenTiff) -> tuple[list[TiffPage], dict[str, TiffPage]]:
    """Return the pages that are levels, in the file's order, and the others by name."""
    levels: list[TiffPage] = []
    named: dict[str, TiffPage] = {}
    for i, page in enumerate(tiff.pages):
        if page.imagelength < 1 or page.imagewidth < 1:
            raise broken(tiff.path, f"{page_name(page)} declares {page.imagewidth}×{page.imagelength} pixels")
        lens = number(page.tags.valueof(_MAGNIFICATION))
        if lens is None or lens > 0:
            levels.append(page)
            continue
        word = {_MACRO: "macro", _MAP: "map"}.get(int(lens), f"page-{i}")
        named[free_name(word, named)] = page
    if not levels:
        raise broken(tiff.path, "it has no page with the slide's pixels")
    return levels, named


def _identifying(tiff: OpenTiff, base: TiffPage) -> dict[str, str]:
    found = {"File name": tiff.path.name} | identifying_tags(tiff.pages)
    codes = {"SlideLabel": _LABEL, "Filter": _FILTER, "ScannerSerialNumber": _SERIAL, "Comments": _COMMENTS}
    for name, code in codes.items():
        value = text_of(base.tags.valueof(code))
        if value:
            found[name] = value
    for line in found.pop("Comments", "").splitlines():
        key, equals, value = line.partition("=")
        if equals and _TELLING.search(key) and value.strip() not in _SAYS_NOTHING:
            found[f"Comments.{key.strip()}"] = value.strip()
    return found


def _levels(tiff: OpenTiff, pages: list[TiffPage], others: list[TiffPage]) -> tuple[Level, ...]:
    _check_one_plane(pages)
    taken = page_extents(tiff, others)
    levels = tuple(_level(tiff, page) for page in pages)
    for level, page in zip(levels, pages, strict=True):
        check_apart(level.segments, tiff.path, tiff.structure.extents, taken, page_name(page))
    every = np.concatenate([level.segments for level in levels])
    check_apart(every, tiff.path, extents([], []), extents([], []), "one level")
    return levels


def _check_one_plane(pages: list[TiffPage]) -> None:
    """Check that there is one picture per size.

    Raises
    ------
    NoTileGridError
        If the file holds focal planes, 16-bit samples, or anything else than a pyramid.

    """
    if (number(pages[0].tags.valueof(_CAPTURE_MODE)) or 0) >= _WIDE_CAPTURE_MODE:
        msg = "the levels hold 16-bit grey inside 8-bit JPEG"
        raise NoTileGridError(msg)
    if len({number(page.tags.valueof(_FOCUS)) or 0.0 for page in pages}) > 1:
        msg = "the slide has several focal planes"
        raise NoTileGridError(msg)
    for above, page in pairwise(pages):
        if page.imagelength >= above.imagelength or page.imagewidth >= above.imagewidth:
            msg = f"{page_name(page)} is not smaller than the level above it"
            raise NoTileGridError(msg)


@dataclass(frozen=True, slots=True)
class _Stream:
    """One level's JPEG: where it lies and what its header says."""

    offset: int
    length: int
    header: jpeg.Header
    head: bytes


def _level(tiff: OpenTiff, page: TiffPage) -> Level:
    where = page_name(page)
    if int(page.compression) != 7 or page.samplesperpixel not in {1, 3} or page.bitspersample != 8:
        msg = f"{where} is not JPEG of 8 bits"
        raise NoTileGridError(msg)
    stream = _stream(tiff, page)
    color = jpeg.color_of(stream.header, rgb_declared=int(page.photometric or 0) == 2)
    starts = _starts(page, stream)
    if starts is not None and stream.header.restart_interval:
        return _strips(tiff, page, stream, starts, color)
    reason = jpeg.unfit(stream.header.frame, page.imagelength, page.imagewidth, page.samplesperpixel)
    if not reason and max(page.imagelength, page.imagewidth) > _MOST_SINGLE_EDGE:
        reason = "is a large JPEG without restart markers to cut it at"
    if reason:
        msg = f"{where} {reason}"
        raise NoTileGridError(msg)
    segments = from_table([stream.offset], [stream.length])
    coding = TileCoding(Codec.JPEG, color)
    size = (page.imagelength, page.imagewidth)
    return Level(*size, *size, coding, segments, page.samplesperpixel)


def _stream(tiff: OpenTiff, page: TiffPage) -> _Stream:
    """Read the header of a level's JPEG."""
    offsets, counts = page.tags.valueof(273), page.tags.valueof(279)
    if not isinstance(offsets, tuple) or not isinstance(counts, tuple) or len(offsets) != 1 or len(counts) != 1:
        msg = f"{page_name(page)} is not one single JPEG"
        raise NoTileGridError(msg)
    segments = from_table(offsets, counts)
    if not len(segments):
        raise broken(tiff.path, f"{page_name(page)} has no data")
    check_bounds(segments, tiff.path, tiff.size_bytes, page_name(page))
    handle = tiff.file.filehandle
    handle.seek(offsets[0])
    head = handle.read(min(counts[0], _MOST_HEADER_BYTES))
    try:
        return _Stream(offsets[0], counts[0], jpeg.parse(head), head)
    except ValueError as error:
        raise broken(tiff.path, f"the JPEG of {page_name(page)} {error}") from error


def _starts(page: TiffPage, stream: _Stream) -> npt.NDArray[np.int64] | None:
    """Return where each restart interval starts, relative to the JPEG's start; None if the page does not say."""
    low = page.tags.valueof(_STARTS)
    if low is None:
        return None
    starts = np.atleast_1d(np.asarray(low)).astype(np.int64)
    high = page.tags.valueof(_STARTS_HIGH)
    if high is not None:
        starts = starts + (np.atleast_1d(np.asarray(high)).astype(np.int64) << 32)
    if starts[0] != stream.header.scan_start or (np.diff(starts) < 3).any() or starts[-1] + 3 > stream.length:
        msg = f"the starts of the restart intervals of {page_name(page)} do not fit its JPEG"
        raise NoTileGridError(msg)
    return starts


def _strips(tiff: OpenTiff, page: TiffPage, stream: _Stream, starts: npt.NDArray[np.int64], color: Color) -> Level:
    frame = stream.header.frame
    mcu_height, mcu_width = frame.mcu if len(frame.components) > 1 else (8, 8)
    width = stream.header.restart_interval * mcu_width
    down, across = -(-page.imagelength // mcu_height), -(-page.imagewidth // width)
    reason = ""
    if frame.code not in {0xC0, 0xC1} or frame.precision != 8 or not stream.header.single_scan:
        reason = "is not a baseline JPEG of one scan"
    elif len(frame.components) != page.samplesperpixel:
        reason = "has other components than samples"
    elif -(-page.imagewidth // mcu_width) % stream.header.restart_interval:
        reason = "has restart intervals that run on into the next row"
    elif down * across != len(starts):
        reason = f"lists {len(starts)} restart intervals where its size needs {down * across}"
    elif width > 65_535:
        reason = "has restart intervals that are wider than a JPEG can be"
    if reason:
        msg = f"{page_name(page)} {reason}"
        raise NoTileGridError(msg)
    segments = _cut_at_markers(tiff, page, stream, starts)
    header = jpeg.strip_header(stream.head, stream.header, mcu_height, width)
    coding = TileCoding(Codec.JPEG_STRIPS, color, header=header)
    return Level(page.imagelength, page.imagewidth, mcu_height, width, coding, segments, page.samplesperpixel)


def _cut_at_markers(tiff: OpenTiff, page: TiffPage, stream: _Stream, starts: npt.NDArray[np.int64]) -> Segments:
    """Return the strips without their markers, after looking that each ends with the marker that is due."""
    ends = starts[1:]
    markers = np.empty(len(ends), np.uint16)
    with tiff.path.open("rb", buffering=0) as file:
        # two bytes at a time: the intervals between are not read
        for i, end in enumerate(ends.tolist()):
            file.seek(stream.offset + end - 2)
            markers[i] = int.from_bytes(file.read(2), "big")
        file.seek(stream.offset + int(starts[-1]))
        last = file.read(min(stream.length - int(starts[-1]), _MOST_LAST_BYTES)).find(jpeg.EOI_BYTES)
    wrong = markers != 0xFFD0 + np.arange(len(ends)) % 8
    if wrong.any() or last < 1:
        first = int(np.argmax(wrong)) if wrong.any() else len(starts) - 1
        msg = f"interval {first} of {page_name(page)} does not end with the marker that is due"
        raise NoTileGridError(msg)
    return from_table(starts + stream.offset, np.append(np.diff(starts) - 2, last))
