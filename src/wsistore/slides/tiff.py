"""TIFF pages: opens a TIFF safely, and says of one page where its tiles lie and how they are coded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage

from wsistore.slides import jpeg, jpeg2000
from wsistore.slides.base import Codec, Color, Level, TileCoding
from wsistore.slides.boundary import NoTileGridError, broken, implausible, translated
from wsistore.slides.segments import Extents, Segments, check_apart, check_bounds, extents, from_table
from wsistore.slides.tiffmeta import page_index
from wsistore.slides.tiffscan import Structure, scan

# tifffile tells of oddities through logging, which without a handler would end on the user's terminal
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_CODECS = {
    1: Codec.NONE, 5: Codec.LZW, 7: Codec.JPEG, 8: Codec.DEFLATE, 32946: Codec.DEFLATE, 33003: Codec.JPEG2000,
    33005: Codec.JPEG2000, 34712: Codec.JPEG2000, 50001: Codec.WEBP,
}  # fmt: skip
APERIO_YCBCR = 33003
_PLAIN = {Codec.NONE, Codec.LZW, Codec.DEFLATE}
_GREY, _RGB, _YCBCR = 1, 2, 6
_UNSIGNED = 1
_HEADER_BYTES = 64 * 1024
"""How much of the first tile is read to see its colours; JPEG headers are a few hundred bytes."""
MOST_TILE_BYTES = 64 * 1024 * 1024
"""Largest decoded tile that is a chunk of its own; beyond, readers would need too much memory for one pixel."""
MOST_PIXELS = 1 << 44
"""More than any scanner can deliver: a glass slide of 25 mm × 75 mm at 0.05 µm per pixel has 2**40."""


@dataclass(frozen=True, slots=True)
class OpenTiff:
    """An open TIFF and what the walk through its directories found."""

    path: Path
    size_bytes: int
    structure: Structure
    file: TiffFile

    @property
    def pages(self) -> list[TiffPage]:
        """The pages of the main chain, each with its own tags."""
        return [self.page(i) for i in range(len(self.file.pages))]

    def page(self, index: int | tuple[int, ...]) -> TiffPage:
        """Return a page by its place in the chain, or of a page below it by (place, place below)."""
        first, *below = (index,) if isinstance(index, int) else index
        page = _full(self.file.pages[first])
        for part in below:
            if page.pages is None:
                raise IndexError(part)
            page = _full(page.pages[part])
        return page

    def below(self, index: int) -> list[TiffPage]:
        """Return the pages below (SubIFDs of) a page."""
        found = self.page(index).pages
        return [] if found is None else [_full(found[i]) for i in range(len(found))]


def _full(page: TiffPage | TiffFrame) -> TiffPage:
    return page if isinstance(page, TiffPage) else page.aspage()


@contextmanager
def open_tiff(path: Path, *, ndpi: bool = False) -> Iterator[OpenTiff]:
    """Open a TIFF after its structure was walked; exceptions of the block are translated too.

    Raises
    ------
    BrokenError
        Whatever is wrong with the file's structure.

    """
    with translated(path):
        size_bytes = path.stat().st_size
        structure = scan(path, size_bytes, ndpi=ndpi)
        with TiffFile(path, is_ndpi=ndpi) as file:
            if not len(file.pages):
                raise broken(path, "it has no page")
            file.pages.cache = True
            yield OpenTiff(path, size_bytes, structure, file)


def page_name(page: TiffPage) -> str:
    """Return how messages name a page."""
    return "page " + ".".join(str(part) for part in page_index(page))


def check_plausible(tiff: OpenTiff, page: TiffPage) -> None:
    """Check declared sizes against what the offset tables can hold, before anything is allocated by them.

    Raises
    ------
    BrokenError
        SOURCE_IMPLAUSIBLE, naming the page.

    """
    where, height, width = page_name(page), page.imagelength, page.imagewidth
    if height < 1 or width < 1 or page.samplesperpixel < 1:
        raise broken(tiff.path, f"{where} declares {width}×{height} pixels")
    if page.is_tiled:
        if page.tilelength < 1 or page.tilewidth < 1:
            raise broken(tiff.path, f"{where} declares tiles of {page.tilewidth}×{page.tilelength} pixels")
        need = -(-height // page.tilelength) * -(-width // page.tilewidth)
    else:
        need = -(-height // max(1, page.rowsperstrip))
    need *= max(1, page.imagedepth) * (page.samplesperpixel if page.planarconfig == 2 else 1)
    have = min(len(page.dataoffsets), len(page.databytecounts))
    if need > have or height * width > MOST_PIXELS:
        what = f"{where} with {width}×{height} pixels, which needs {need} tiles or strips, and lists {have}"
        raise implausible(tiff.path, what)


def data_segments(tiff: OpenTiff, page: TiffPage) -> Segments:
    """Return where a page's tiles or strips lie, checked against the size of the file.

    Raises
    ------
    BrokenError
        If any lies outside it.

    """
    count = min(len(page.dataoffsets), len(page.databytecounts))
    try:
        table = from_table(page.dataoffsets[:count], page.databytecounts[:count])
    except ValueError as error:
        raise broken(tiff.path, f"{error} ({page_name(page)})") from error
    check_bounds(table, tiff.path, tiff.size_bytes, page_name(page))
    return table


def check_inside(tiff: OpenTiff) -> None:
    """Check that the data of all pages lie inside the file, whether they are levels or other pictures.

    A file that was cut may miss no more than the end of a label; it is not what the scanner wrote all the same.

    Raises
    ------
    BrokenError
        SOURCE_TRUNCATED as a rule, naming the first page whose data do not.

    """
    for number in range(len(tiff.file.pages)):
        for page in (tiff.page(number), *tiff.below(number)):
            data_segments(tiff, page)


def page_extents(tiff: OpenTiff, pages: Sequence[TiffPage]) -> Extents:
    """Return the bytes that the pictures on these pages take."""
    tables = [data_segments(tiff, page) for page in pages]
    empty = np.empty(0, np.int64)
    offsets, lengths = ([empty, *(table[name] for table in tables)] for name in ("offset", "length"))
    return extents(np.concatenate(offsets), np.concatenate(lengths))


def page_level(tiff: OpenTiff, page: TiffPage, pictures: Extents, *, aperio: bool = False) -> Level:
    """Describe one tiled page as a level.

    Parameters
    ----------
    tiff, page
        The open file and one of its pages.
    pictures
        Bytes of other pictures (label, macro, …) that no tile may touch.
    aperio
        Compression 33003 means YCbCr whatever PhotometricInterpretation says.

    Raises
    ------
    NoTileGridError
        If the tiles cannot be taken one by one, with the reason.
    BrokenError
        If the page lies about itself.

    """
    check_plausible(tiff, page)
    where = page_name(page)
    reason = _unfit(page)
    if reason:
        msg = f"{where} {reason}"
        raise NoTileGridError(msg)
    segments = _tile_segments(tiff, page)
    check_apart(segments, tiff.path, tiff.structure.extents, pictures, where)
    return Level(
        height=page.imagelength,
        width=page.imagewidth,
        tile_height=page.tilelength,
        tile_width=page.tilewidth,
        coding=_coding(tiff, page, segments, aperio=aperio),
        segments=segments,
        channels=page.samplesperpixel,
        dtype="uint8" if page.bitspersample == 8 else "uint16",
    )


def _tile_segments(tiff: OpenTiff, page: TiffPage) -> Segments:
    tiles = -(-page.imagelength // page.tilelength) * -(-page.imagewidth // page.tilewidth)
    table = data_segments(tiff, page)
    if len(page.dataoffsets) > tiles and (table["tile"] >= tiles).any():
        msg = f"{page_name(page)} lists {len(page.dataoffsets)} tiles where its size needs {tiles}"
        raise NoTileGridError(msg)
    return table


def _unfit(page: TiffPage) -> str:
    """Return why a page's tiles cannot be chunks as they are, or nothing."""
    codec = _CODECS.get(int(page.compression))
    bits, samples, photometric = page.bitspersample, page.samplesperpixel, int(page.photometric or 0)
    if not page.is_tiled:
        return "is stored in strips, not in tiles"
    if page.imagedepth > 1 or page.tiledepth > 1:
        return "has tiles with a depth"
    if codec is None:
        return f"is compressed with method {int(page.compression)}, which no Zarr codec here decodes"
    if page.planarconfig == 2 and samples > 1:
        return "stores its colours plane by plane"
    if page.extrasamples:
        return "has samples beyond its colours (transparency)"
    if (samples, photometric) not in {(1, _GREY), (3, _RGB), (3, _YCBCR)}:
        return f"has {samples} samples per pixel with photometric interpretation {photometric}: neither grey nor RGB"
    if bits not in {8, 16} or int(page.sampleformat) != _UNSIGNED or (bits == 16 and samples > 1):
        return f"has samples of {bits} bits in format {int(page.sampleformat)}: neither 8-bit nor 16-bit grey"
    return _unfit_coding(page, codec)


def _unfit_coding(page: TiffPage, codec: Codec) -> str:
    predictors = {1, 2} if codec in {Codec.LZW, Codec.DEFLATE} else {1}
    if int(page.predictor) not in predictors:
        return f"uses predictor {int(page.predictor)} with this compression"
    if int(page.fillorder) != 1:
        return "stores its bits in reverse order"
    if page.bitspersample == 16 and codec in {Codec.JPEG, Codec.WEBP}:
        return "is JPEG or WebP of 16 bits"
    if codec is Codec.WEBP and page.samplesperpixel != 3:
        return "is WebP without colours"
    if codec in _PLAIN and int(page.photometric or 0) == _YCBCR:
        return "stores YCbCr without JPEG"
    if page.tilelength * page.tilewidth * page.samplesperpixel * page.bitspersample // 8 > MOST_TILE_BYTES:
        return f"has tiles of {page.tilewidth}×{page.tilelength} pixels, too large to be decoded as one chunk"
    return ""


def _coding(tiff: OpenTiff, page: TiffPage, segments: Segments, *, aperio: bool) -> TileCoding:
    codec = _CODECS[int(page.compression)]
    color = Color.GRAY if page.samplesperpixel == 1 else Color.RGB
    if codec in _PLAIN:
        wide = page.bitspersample > 8
        predictor, big_endian = int(page.predictor) == 2, wide and tiff.file.byteorder == ">"
        return TileCoding(codec, color, predictor=predictor, big_endian=big_endian)
    if codec is Codec.WEBP:
        return TileCoding(codec, Color.RGB)
    first = _first_bytes(tiff, segments)
    try:
        if codec is Codec.JPEG:
            tables = jpeg.bare_tables(page.jpegtables) if page.jpegtables else None
            return TileCoding(codec, _jpeg_color(page, first), tables=tables)
        return TileCoding(codec, _jpeg2000_color(page, first, aperio=aperio))
    except ValueError as error:
        tile = int(segments["tile"][0]) if len(segments) else 0
        raise broken(tiff.path, f"tile {tile} of {page_name(page)} {error}") from error


def _first_bytes(tiff: OpenTiff, segments: Segments) -> bytes:
    """Return the start of the first tile that is there, or nothing."""
    if not len(segments):
        return b""
    handle = tiff.file.filehandle
    handle.seek(int(segments["offset"][0]))
    data: bytes = handle.read(min(int(segments["length"][0]), _HEADER_BYTES))
    return data


def _jpeg_color(page: TiffPage, first: bytes) -> Color:
    if page.samplesperpixel == 1:
        return Color.GRAY
    declared = int(page.photometric or 0) == _RGB
    if not first:
        return Color.RGB if declared else Color.YCBCR
    return jpeg.color_of(jpeg.parse(first), rgb_declared=declared)


def _jpeg2000_color(page: TiffPage, first: bytes, *, aperio: bool) -> Color:
    """Say what the components are.

    Aperio's 33003 holds YCbCr that OpenJPEG does not convert, unless the codestream has a transform of its own;
    elsewhere PhotometricInterpretation decides (Bio-Formats writes RGB under the same number).
    """
    if page.samplesperpixel == 1:
        return Color.GRAY
    declared = int(page.photometric or 0) == _YCBCR or (aperio and int(page.compression) == APERIO_YCBCR)
    if not declared or not first:
        return Color.YCBCR if declared else Color.RGB
    if jpeg2000.boxed(first):
        msg = f"{page_name(page)} holds JPEG 2000 codestreams inside JP2 boxes"
        raise NoTileGridError(msg)
    return Color.RGB if jpeg2000.transformed(first) else Color.YCBCR


def same_shape(page: TiffPage, base: TiffPage) -> bool:
    """Say whether a page can be a smaller level of `base`: the same sides, but for rounding."""
    if page.imagelength >= base.imagelength or page.imagewidth >= base.imagewidth:
        return False
    down, across = base.imagelength / page.imagelength, base.imagewidth / page.imagewidth
    # a level may be rounded or cropped to whole pixels at every halving, so the tolerance grows with the factor
    slack = 2.0 * max(down / page.imagelength, across / page.imagewidth)
    return bool(np.isclose(down, across, rtol=0.02, atol=slack))
