"""Looks at each tile as its bytes stream past: whether it is what its level says, and carries nothing but pixels."""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np

from wsistore.slides import jpeg, jpeg2000, webp
from wsistore.slides.base import Codec, Color, Level, TileCoding

Range = tuple[int, int]

_MOST_HEADERS = 64
"""How many different headers a checker remembers; slides have one to three."""
_LZW_END_BYTES = 4
"""A clear and an end code, up to 12 bits each, end at most this far behind the byte that the last pixel is in."""


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

    The common case, a tile that begins as an earlier good one did, costs microseconds.
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
        self._by_length: dict[int, dict[bytes, tuple[TileVerdict, bool]]] = {}
        self._count = 0

    def find(self, tile: memoryview) -> tuple[int, tuple[TileVerdict, bool]] | None:
        """Return the length of the header that the tile starts with, the verdict on it, and whether it has restarts."""
        for length, verdicts in self._by_length.items():
            verdict = verdicts.get(tile[:length].tobytes())
            if verdict is not None:
                return length, verdict
        return None

    def add(self, header: bytes, verdict: TileVerdict, *, restarts: bool = False) -> None:
        if self._count < _MOST_HEADERS:
            self._by_length.setdefault(len(header), {})[header] = (verdict, restarts)
            self._count += 1


class _JpegCheck:
    def __init__(self, level: Level, coding: TileCoding) -> None:
        self._level = level
        self._color = coding.color
        self._tables = jpeg.shared_tables(coding.tables)
        self._seen = _Remembered()

    def __call__(self, tile: memoryview) -> TileVerdict:
        seen = self._seen.find(tile)
        if seen is not None and jpeg.ends_alone(tile, seen[0], restarts=seen[1][1]):
            return seen[1][0]
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
        found = tuple(jpeg.segments(data, whole=True))
        reason = jpeg.odd(data, header, found)
        if reason:
            return TileVerdict(whole=reason)
        verdict = _cutting(*jpeg.telling(data, found), *_behind(data, found[-1].stop))
        restarts = header.restart_interval > 0
        if header.single_scan and jpeg.ends_alone(data, header.scan_start, restarts=restarts):
            self._seen.add(data[: header.scan_start], verdict, restarts=restarts)
        return verdict


def _cutting(*ranges: Range) -> TileVerdict:
    return TileVerdict(cut=ranges) if ranges else GOOD


def _behind(data: bytes, stop: int) -> tuple[Range, ...]:
    """Return what is behind the end of a picture, nothing if it is but zeros: they pad."""
    return ((stop, len(data)),) if any(data[stop:]) else ()


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
            return seen[1][0]
        data = bytes(tile)
        if jpeg2000.boxed(data):
            return TileVerdict(whole="is a JPEG 2000 codestream inside JP2 boxes")
        try:
            return self._parse(data)
        except ValueError as error:
            return TileVerdict(problem=str(error))

    def _parse(self, data: bytes) -> TileVerdict:
        stream = jpeg2000.parse(data)
        reason = unfit_codestream(stream, self._level, self._color) or stream.odd
        if reason:
            return TileVerdict(whole=reason)
        verdict = _cutting(*stream.telling, *_behind(data, stream.stop))
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
        return TileVerdict(whole=reason) if reason else _cutting(*_behind(data, webp.end_of(data)))


def _pixel_bytes(level: Level) -> int:
    return level.tile_height * level.tile_width * level.channels * np.dtype(level.dtype).itemsize


class _PlainCheck:
    """Uncompressed tiles: their length says all."""

    def __init__(self, level: Level, _coding: TileCoding) -> None:
        self._bytes = _pixel_bytes(level)

    def __call__(self, tile: memoryview) -> TileVerdict:
        if len(tile) == self._bytes:
            return GOOD
        if len(tile) > self._bytes:
            return _cutting((self._bytes, len(tile)))
        return TileVerdict(problem=f"has {len(tile)} bytes where its pixels take {self._bytes}")


class _DeflateCheck:
    """Deflated tiles: only inflating shows where their stream ends."""

    def __init__(self, level: Level, _coding: TileCoding) -> None:
        self._bytes = _pixel_bytes(level)

    def __call__(self, tile: memoryview) -> TileVerdict:
        if len(tile) < 2:
            return TileVerdict(problem="is too short to be a compressed tile")
        if tile[0] & 15 != 8 or (tile[0] << 8 | tile[1]) % 31:
            return TileVerdict(problem="does not start as deflated data")
        stream = zlib.decompressobj()
        try:
            length = len(stream.decompress(tile, self._bytes + 1))
        except zlib.error as error:
            return TileVerdict(problem=f"cannot be inflated ({error})")
        if length < self._bytes:
            return TileVerdict(problem=f"inflates to {length} bytes where its pixels take {self._bytes}")
        if length > self._bytes or not stream.eof:
            return TileVerdict(whole="is deflated data that does not end with its pixels")
        return _cutting(*_behind(bytes(tile), len(tile) - len(stream.unused_data)))


class _LzwCheck:
    """LZW tiles: the decoder does not say where their stream ends, but what it needs for all pixels shows it."""

    def __init__(self, level: Level, _coding: TileCoding) -> None:
        self._bytes = _pixel_bytes(level)

    def __call__(self, tile: memoryview) -> TileVerdict:
        if len(tile) < 2:
            return TileVerdict(problem="is too short to be a compressed tile")
        data = bytes(tile)
        if not self._complete(data):
            return TileVerdict(problem="is LZW data that does not hold all its pixels")
        if not self._complete(data[:-_LZW_END_BYTES]):
            return GOOD
        # the shortest part that holds all pixels, and the end-of-information code behind it
        stop = bisect.bisect_left(range(len(data)), 1, key=lambda length: self._complete(data[:length]))
        return _cutting(*_behind(data, stop + _LZW_END_BYTES))

    def _complete(self, data: bytes) -> bool:
        try:
            return len(imagecodecs.lzw_decode(data, out=self._bytes)) == self._bytes
        except Exception:  # the codec raises errors of its own, and they always mean the same
            return False


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
    Codec.LZW: _LzwCheck,
    Codec.DEFLATE: _DeflateCheck,
    Codec.NONE: _PlainCheck,
}
