"""Looks at each tile as its bytes stream past: whether it is what its level says, and carries nothing but pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wsistore.slides import jpeg, jpeg2000, webp
from wsistore.slides.base import Codec, Color, Level, TileCoding

Range = tuple[int, int]

_MOST_HEADERS = 64
"""How many different headers a checker remembers; slides have one to three."""


@dataclass(frozen=True, slots=True)
class TileVerdict:
    """What is to be said of one tile. All fields empty: it is good."""

    problem: str = ""
    """The tile is damaged: a phrase that follows its name."""
    whole: str = ""
    """The tile is legal, but not as a chunk: the slide must be kept whole. A phrase that follows its name."""
    cut: tuple[Range, ...] = ()
    """Byte ranges of the tile (start, stop) that may carry an identity and must not become part of the chunk."""

    @property
    def good(self) -> bool:
        """Whether the tile can be a chunk as it is."""
        return not (self.problem or self.whole or self.cut)


GOOD = TileVerdict()


class TileChecker:
    """Checks the tiles of one level, one after the other; not for use from several threads at once.

    The common case, a tile that begins as an earlier good one did, costs about a microsecond.
    """

    def __init__(self, level: Level) -> None:
        if level.coding is None:
            msg = "a level without tile coding has no tiles to check"
            raise ValueError(msg)
        self._check: Callable[[memoryview], TileVerdict] = _CHECKS[level.coding.codec](level, level.coding)

    def __call__(self, tile: memoryview | bytes | bytearray) -> TileVerdict:
        """Return the verdict on one tile's bytes (its segments joined). Never raises, whatever the bytes."""
        return self._check(memoryview(tile))


class _Remembered:
    """Verdicts by header bytes, so that a header seen before is not parsed again."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[bytes, TileVerdict]] = {}
        self._count = 0

    def find(self, tile: memoryview) -> tuple[int, TileVerdict] | None:
        """Return length of and verdict on the header that the tile starts with."""
        for length, verdicts in self._by_length.items():
            verdict = verdicts.get(tile[:length].tobytes())
            if verdict is not None:
                return length, verdict
        return None

    def add(self, header: bytes, verdict: TileVerdict) -> None:
        if self._count < _MOST_HEADERS:
            self._by_length.setdefault(len(header), {})[header] = verdict
            self._count += 1


class _JpegCheck:
    def __init__(self, level: Level, coding: TileCoding) -> None:
        self._level = level
        self._color = coding.color
        self._tables = jpeg.shared_tables(coding.tables)
        self._seen = _Remembered()

    def __call__(self, tile: memoryview) -> TileVerdict:
        seen = self._seen.find(tile)
        if seen is not None and tile[-1] == jpeg.EOI and tile[-2] == 0xFF:
            return seen[1]
        data = bytes(tile)
        try:
            return self._parse(data)
        except ValueError as error:
            return TileVerdict(problem=str(error))

    def _parse(self, data: bytes) -> TileVerdict:
        header = jpeg.parse(data)
        level = self._level
        reason = jpeg.unfit(header.frame, level.tile_height, level.tile_width, level.channels)
        if not reason and _contradicts(header, self._color):
            reason = "is coded in other colours than the tiles before it"
        if reason:
            return TileVerdict(whole=reason)
        wanted = {c.table for c in header.frame.components}
        if wanted - header.tables - self._tables:
            return TileVerdict(problem="lacks its JPEG quantisation tables")
        found = header.segments if header.single_scan else tuple(jpeg.segments(data, whole=True))
        stop = data.find(jpeg.EOI_BYTES, header.scan_start) + 2 if header.single_scan else found[-1].stop
        if stop < 2:
            return TileVerdict(problem="has no end-of-image marker")
        if any(data[stop:]):
            return TileVerdict(whole="has bytes behind its JPEG picture")
        verdict = TileVerdict(cut=jpeg.telling(data, found)) if jpeg.telling(data, found) else GOOD
        if header.single_scan:
            self._seen.add(data[: header.scan_start], verdict)
        return verdict


def _contradicts(header: jpeg.Header, color: Color) -> bool:
    """Say whether a tile's own markers speak against its level's colours."""
    if color is Color.GRAY:
        return False
    if header.jfif or header.adobe_transform:
        return header.jfif and color is Color.RGB
    return header.adobe_transform == 0 and color is Color.YCBCR


class _Jpeg2000Check:
    def __init__(self, level: Level, coding: TileCoding) -> None:
        self._level = level
        self._color = coding.color
        self._seen = _Remembered()

    def __call__(self, tile: memoryview) -> TileVerdict:
        seen = self._seen.find(tile)
        if seen is not None and jpeg2000.single_part(tile, seen[0]):
            return seen[1]
        data = bytes(tile)
        if jpeg2000.boxed(data):
            return TileVerdict(whole="is a JPEG 2000 codestream inside JP2 boxes")
        try:
            return self._parse(data)
        except ValueError as error:
            return TileVerdict(problem=str(error))

    def _parse(self, data: bytes) -> TileVerdict:
        stream = jpeg2000.parse(data)
        reason = unfit_codestream(stream, self._level, self._color)
        if not reason and any(data[stream.stop :]):
            reason = "has bytes behind its JPEG 2000 codestream"
        if reason:
            return TileVerdict(whole=reason)
        verdict = TileVerdict(cut=stream.telling) if stream.telling else GOOD
        if jpeg2000.single_part(data, stream.header_stop):
            self._seen.add(data[: stream.header_stop], verdict)
        return verdict


def unfit_codestream(stream: jpeg2000.Codestream, level: Level, color: Color) -> str:
    """Return why a JPEG 2000 codestream cannot be a tile of this level, or nothing."""
    if stream.subsampled:
        return "is JPEG 2000 with subsampled colour, which the codecs for Zarr cannot decode"
    if len(stream.depths) != level.channels:
        return f"is JPEG 2000 with {len(stream.depths)} components where {level.channels} are declared"
    if (stream.height, stream.width) != (level.tile_height, level.tile_width):
        size = f"{stream.width}×{stream.height}"
        return f"is JPEG 2000 of {size} pixels where {level.tile_width}×{level.tile_height} are declared"
    bits = 8 * np.dtype(level.dtype).itemsize
    if any(depth < 1 or (depth > 8) != (bits > 8) or depth > bits for depth in stream.depths):
        return f"is JPEG 2000 of another depth than the {bits} bits that are declared"
    if stream.transformed and color is Color.YCBCR:
        return "is coded in other colours than the tiles before it"
    return ""


class _WebpCheck:
    def __init__(self, level: Level, _coding: TileCoding) -> None:
        self._size = (level.tile_height, level.tile_width)

    def __call__(self, tile: memoryview) -> TileVerdict:
        data = bytes(tile)
        try:
            height, width = webp.size_of(data)
            reason = webp.unfit(data)
        except ValueError as error:
            return TileVerdict(problem=str(error))
        if (height, width) != self._size:
            reason = f"is a WebP picture of {width}×{height} pixels where {self._size[1]}×{self._size[0]} are declared"
        return TileVerdict(whole=reason) if reason else GOOD


class _PlainCheck:
    """Uncompressed tiles: their length says all."""

    def __init__(self, level: Level, _coding: TileCoding) -> None:
        samples = level.tile_height * level.tile_width * level.channels
        self._bytes = samples * np.dtype(level.dtype).itemsize

    def __call__(self, tile: memoryview) -> TileVerdict:
        if len(tile) == self._bytes:
            return GOOD
        if len(tile) > self._bytes:
            return TileVerdict(whole="has bytes behind its pixels")
        return TileVerdict(problem=f"has {len(tile)} bytes where its pixels take {self._bytes}")


class _StreamCheck:
    """LZW and deflate: nothing but the first bytes can be judged without decoding."""

    def __init__(self, _level: Level, coding: TileCoding) -> None:
        self._zlib = coding.codec is Codec.DEFLATE

    def __call__(self, tile: memoryview) -> TileVerdict:
        if len(tile) < 2:
            return TileVerdict(problem="is too short to be a compressed tile")
        if self._zlib and (tile[0] & 15 != 8 or (tile[0] << 8 | tile[1]) % 31):
            return TileVerdict(problem="does not start as deflated data")
        return GOOD


class _StripCheck:
    """Entropy-coded strips between restart markers: they have no header, so they must not be empty."""

    def __init__(self, _level: Level, _coding: TileCoding) -> None:
        pass

    def __call__(self, tile: memoryview) -> TileVerdict:
        return GOOD if len(tile) else TileVerdict(problem="is empty")


_CHECKS: dict[Codec, Callable[[Level, TileCoding], Callable[[memoryview], TileVerdict]]] = {
    Codec.JPEG: _JpegCheck,
    Codec.JPEG_STRIPS: _StripCheck,
    Codec.JPEG2000: _Jpeg2000Check,
    Codec.WEBP: _WebpCheck,
    Codec.LZW: _StreamCheck,
    Codec.DEFLATE: _StreamCheck,
    Codec.NONE: _PlainCheck,
}
