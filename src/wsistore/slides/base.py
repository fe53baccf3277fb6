"""The reader contract: what a vendor format tells about a slide, and where its tile bytes lie.

A reader looks at headers only. It returns a `Source`: values that say which bytes of which file are the compressed
bytes of which tile. Nobody but the store writer reads those bytes, so a reader's memory does not grow with the slide.

Axes and units: sizes are in pixels, ``height`` before ``width``; physical sizes are micrometres per pixel; tile
numbers are row-major over a level's tile grid; offsets and lengths are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from wsistore.model import Mode

SEGMENT_DTYPE = np.dtype([("tile", "<i8"), ("file", "<i4"), ("offset", "<i8"), ("length", "<i8")])
"""One run of source bytes: which tile it belongs to, in which file, from where, how long."""

Json = Any


class Codec(StrEnum):
    """How a tile's bytes are compressed."""

    JPEG = "jpeg"
    JPEG_STRIPS = "jpeg-strips"
    """Entropy-coded data between the restart markers of one large JPEG: no headers of its own."""
    JPEG2000 = "jpeg2000"
    WEBP = "webp"
    LZW = "lzw"
    DEFLATE = "deflate"
    NONE = "none"


class Color(StrEnum):
    """What the components of a coded tile are."""

    RGB = "rgb"
    YCBCR = "ycbcr"
    GRAY = "gray"


class Content(StrEnum):
    """What shows where there is nothing: decides the fill value of missing tiles."""

    BRIGHTFIELD = "brightfield"
    FLUORESCENCE = "fluorescence"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source as it lies on disk."""

    name: str
    """Path relative to the source's folder, forward slashes; restored under this name."""
    path: Path
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class TileCoding:
    """How every tile of a level is coded; what a decoder needs beside the tile's own bytes."""

    codec: Codec
    color: Color
    """Of the coded components: `YCBCR` means that decoding to RGB converts. For JPEG 2000 whose codestream does the
    transform itself, `RGB`."""
    tables: bytes | None = None
    """JPEG: an abbreviated table-specification stream (SOI, DQT, DHT, EOI) that the tiles share."""
    header: bytes | None = None
    """JPEG_STRIPS: the JPEG header from SOI to the end of SOS, with the height and width of one strip and the
    restart interval left out or 0. Header + strip + EOI is a complete JPEG."""
    predictor: bool = False
    """LZW, DEFLATE, NONE: TIFF horizontal differencing (predictor 2)."""
    planar: bool = False
    """NONE, LZW, DEFLATE: samples lie plane by plane (c, y, x), not interleaved (y, x, c)."""
    big_endian: bool = False
    """LZW, DEFLATE, NONE with samples of more than 8 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level of the pyramid, largest first."""

    height: int
    width: int
    tile_height: int
    tile_width: int
    """The tile is the source's unit of coding. Edge tiles have full size, except strips: see `Codec.JPEG_STRIPS`."""
    coding: TileCoding | None
    """None in `whole` mode."""
    segments: npt.NDArray[np.void]
    """`SEGMENT_DTYPE`, sorted by tile, then by order within the tile: a tile's bytes are its segments joined. A tile
    without segments is missing. Empty in `whole` mode. Padding, restart markers and comments are left out of them."""
    channels: int = 3
    dtype: str = "uint8"
    """NumPy name of the sample type."""

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across."""
        return -(-self.height // self.tile_height), -(-self.width // self.tile_width)


@dataclass(frozen=True, slots=True)
class Associated:
    """A picture that comes with the slide (label, macro, vendor's thumbnail)."""

    name: str
    """``label``, ``macro``, ``thumbnail`` or the vendor's word in lower case."""
    height: int
    width: int
    locator: Mapping[str, Json]
    """How `wsistore.slides.associated.read` finds it in the source's files; JSON values only."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """What took the picture."""

    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    software: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """All that a reader says of one slide."""

    format: str
    """Stable name: ``aperio-svs``, ``generic-tiff``, ``ome-tiff``, ``dicom``, ``hamamatsu-ndpi``, or OpenSlide's
    vendor name for `whole` sources."""
    mode: Mode
    mode_reason: str
    """Why `whole`, in words for people; empty for `tiles`."""
    files: tuple[SourceFile, ...]
    levels: tuple[Level, ...]
    um_per_px: tuple[float, float] | None
    """Height and width of a pixel of level 0, in micrometres; None if the source does not say."""
    magnification: float | None
    content: Content = Content.BRIGHTFIELD
    scanner: Scanner = Scanner()
    scanned_at: str | None = None
    """ISO 8601 as far as the source tells."""
    icc_profile: bytes | None = None
    """What `wsistore.slides.icc.shareable` leaves of it: it becomes part of the store."""
    associated: tuple[Associated, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)
    """The vendor's metadata, JSON values only. Private."""
    identifying: Mapping[str, str] = field(default_factory=dict)
    """Field name to value for all that may identify a patient, case or slide. Private."""
    series: str | None = None
    """Identity that stays when a source gains files (DICOM: Series Instance UID)."""
    warnings: tuple[str, ...] = ()


class Reader(Protocol):
    """One vendor format."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    def claims(self, path: Path, head: bytes) -> bool:
        """Say by the path and the first 4096 bytes (empty for a folder) whether this reader should try."""
        ...

    def read(self, path: Path) -> Source | None:
        """Return the slide, or None if on a closer look it is of another format.

        Raises
        ------
        InputError
            Or one of its kinds, naming the file and what is wrong with it.

        """
        ...


class OpenFile(Protocol):
    """Opens one file of a source by its index in `Source.files`, for reading associated pictures."""

    def __call__(self, index: int) -> BinaryIO:
        """Return a seekable binary file; the caller closes it."""
        ...


def source_files(root: Path, paths: Sequence[Path]) -> tuple[SourceFile, ...]:
    """Describe `paths`, named relative to `root`."""
    found = []
    for path in paths:
        stat = path.stat()
        found.append(SourceFile(path.relative_to(root).as_posix(), path, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def empty_segments() -> npt.NDArray[np.void]:
    """Return no segments."""
    return np.empty(0, SEGMENT_DTYPE)
