"""Takes a few tiles of every level, decodes them, and cuts comments that may carry an identity out of the segments."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from wsistore.errors import BrokenError
from wsistore.slides.base import Codec, Content, Level, Source
from wsistore.slides.boundary import NoTileGridError, translated
from wsistore.slides.check import Range, TileChecker, TileVerdict
from wsistore.slides.decode import Pixels, decode_tile
from wsistore.slides.segments import Segments, read_tile, without

_SAMPLES = 5
"""Tiles per level: the first, the last, and some between."""
_DARK = 24
"""Grey level below which an empty border is that of a fluorescence slide."""


def examine(source: Source, *, scan_all: bool = False) -> Source:
    """Look into the tiles of a slide in `tiles` mode.

    Parameters
    ----------
    source
        What a reader said.
    scan_all
        Look at every tile of every level, not only where the sample shows comments. For the case that a later tile
        turns out to carry one.

    Returns
    -------
    Source
        With comments cut out of its segments and, where the borders are dark, as fluorescence.

    Raises
    ------
    BrokenError
        If a tile is damaged; names file, level and tile.
    NoTileGridError
        If the tiles are sound but cannot be chunks.

    """
    with ExitStack() as stack, translated(source.files[0].path):
        files: dict[int, BinaryIO] = {}
        for number in sorted({int(n) for level in source.levels for n in np.unique(level.segments["file"])}):
            files[number] = stack.enter_context(source.files[number].path.open("rb"))
        levels = []
        dark = False
        for index, level in enumerate(source.levels):
            work = _LevelExam(source, index, level, files)
            levels.append(work.run(scan_all=scan_all))
            dark = work.dark
    content = Content.FLUORESCENCE if dark else source.content
    return replace(source, levels=tuple(levels), content=content)


class _LevelExam:
    """The examination of one level."""

    def __init__(self, source: Source, index: int, level: Level, files: Mapping[int, BinaryIO]) -> None:
        self._source, self._index, self._level, self._files = source, index, level, files
        self._tiles, self._firsts = np.unique(level.segments["tile"], return_index=True)
        self._check = TileChecker(level) if level.coding is not None else None
        self.dark = False

    def run(self, *, scan_all: bool) -> Level:
        """Return the level, its segments without what must not become part of a chunk."""
        if self._check is None or not len(self._tiles):
            return self._level
        picked = np.unique(np.linspace(0, len(self._tiles) - 1, _SAMPLES).astype(np.int64))
        borders, cut = [], scan_all
        for place in picked.tolist():
            data = self._read(place)
            verdict = self._judge(place, data)
            cut = cut or bool(verdict.cut)
            kept = _left(data, verdict.cut)  # what the chunk will be, and must decode
            borders.append(self._border(int(self._tiles[place]), self._decode(place, kept)))
        known = [border for border in borders if border is not None]
        self.dark = bool(known) and max(known) < _DARK
        return self._cut() if cut else self._level

    def _rows(self, place: int) -> Segments:
        stop = self._firsts[place + 1] if place + 1 < len(self._firsts) else len(self._level.segments)
        return self._level.segments[self._firsts[place] : stop]

    def _read(self, place: int) -> bytes:
        rows = self._rows(place)
        data = read_tile(rows, self._files)
        if len(data) != int(rows["length"].sum()):
            raise self._broken(place, "ends before its length; the file may still be written")
        return data

    def _judge(self, place: int, data: bytes) -> TileVerdict:
        """Return a verdict that is good or cuts; raise the others."""
        assert self._check is not None  # noqa: S101 - run() returns before where there is none
        verdict = self._check(data)
        if verdict.problem:
            raise self._broken(place, verdict.problem)
        if verdict.whole:
            msg = f"tile {self._tiles[place]} of level {self._index} {verdict.whole}"
            raise NoTileGridError(msg)
        return verdict

    def _decode(self, place: int, data: bytes) -> Pixels:
        try:
            return decode_tile(self._level, data)
        except BrokenError as error:
            what = error.message.removeprefix("The tile ").removesuffix(".")
            raise self._broken(place, what) from error

    def _broken(self, place: int, what: str) -> BrokenError:
        path = self._source.files[int(self._rows(place)["file"][0])].path
        msg = f"The file {path} is damaged: tile {self._tiles[place]} of level {self._index} {what}."
        return BrokenError(msg, remedy="Get the file anew from the scanner or a copy.")

    def _border(self, tile: int, pixels: Pixels) -> float | None:
        """Return the brightness along those edges of a tile that are the slide's own, None if it has none there."""
        level = self._level
        if level.dtype != "uint8":
            return None
        row, column = divmod(tile, level.grid[1])
        inside = pixels[: level.height - row * level.tile_height, : level.width - column * level.tile_width]
        edges = [
            (row == 0, inside[0]),
            (column == 0, inside[:, 0]),
            (row == level.grid[0] - 1, inside[-1]),
            (column == level.grid[1] - 1, inside[:, -1]),
        ]
        values = [float(np.median(edge)) for there, edge in edges if there]
        return max(values) if values else None

    def _cut(self) -> Level:
        """Look at every tile and cut out what may carry an identity."""
        level = self._level
        if level.coding is None or level.coding.codec is Codec.JPEG_STRIPS:
            return level
        cuts = {}
        for place in range(len(self._tiles)):
            verdict = self._judge(place, self._read(place))
            if verdict.cut:
                cuts[int(self._tiles[place])] = verdict.cut
        return replace(level, segments=without(level.segments, cuts))


def _left(data: bytes, cuts: tuple[Range, ...]) -> bytes:
    """Return what is left of a tile's bytes without the ranges that are cut out."""
    starts = [0, *(stop for _, stop in cuts)]
    stops = [*(start for start, _ in cuts), len(data)]
    return b"".join(data[start:stop] for start, stop in zip(starts, stops, strict=True))
