"""Makes a slide of any size by repeating the compressed tiles of a real or synthetic one; nothing is encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from wsistore.errors import UnsupportedError
from wsistore.testing.files import ASCII, LONG, LONG8, Tag, big_directory, tag, translated

_OFFSETS, _COUNTS = {273, 324}, {279, 325}
_RENEWED = {256, 257, 270, 330, *_OFFSETS, *_COUNTS}
"""Tags that are written anew (or dropped: 330, SubIFDs); all others are copied."""


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """The full tiles of one level of the template that are repeated."""

    page: tifffile.TiffPage
    factor: int
    """How many pixels of level 0 one pixel is wide."""
    offsets: npt.NDArray[np.int64]
    """(rows, columns)."""
    counts: npt.NDArray[np.int64]
    """(rows, columns)."""


def write_big_svs(path: Path, *, template: Path, at_least_bytes: int) -> Path:
    """Write a BigTIFF slide with the tiles of `template` laid out again and again over a larger grid.

    The block that is repeated is the largest of whole tiles that is whole on every level, so that the levels fit
    together. Every tile has bytes of its own in the file. Label, macro and thumbnail are copied.

    Parameters
    ----------
    path
        File to write.
    template
        A tiled little-endian TIFF or SVS whose levels have one tile size and whole factors between them.
    at_least_bytes
        Size to reach.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UnsupportedError
        If the template has no such block.
    BrokenError
        If the template is not a sound TIFF.
    StorageError
        If a file cannot be read or written.

    """
    with translated(template), tifffile.TiffFile(template) as tiff, template.open("rb") as source:
        blocks = _blocks(tiff, template)
        repeats = _repeats(blocks, at_least_bytes)
        old, new = _sides(blocks[0].page), _new_sides(blocks[0], repeats)
        with translated(path), path.open("wb", buffering=4 << 20) as out:
            out.write(b"II+\0\x08\0\0\0" + bytes(8))
            levels = {block.page.offset: (block, _write_tiles(out, source, block, repeats)) for block in blocks}
            pages = [one for one in tiff.pages if isinstance(one, tifffile.TiffPage)]
            extra = [block.page for block in blocks if block.page.offset not in {one.offset for one in pages}]
            directories: list[list[Tag]] = []
            for page in [*pages, *extra]:
                says = page.description.replace(_as_text(old), _as_text(new))
                if page.offset in levels:
                    block, places = levels[page.offset]
                    sides = _new_sides(block, repeats)
                    says = says.replace(_as_text(_sides(page)), _as_text(sides))
                    directories.append(_directory(source, page, sides, places, says))
                elif not page.is_tiled:
                    directories.append(_directory(source, page, _sides(page), _copy_strips(out, source, page), says))
            _write_directories(out, directories)
    return path


def _as_text(sides: tuple[int, int]) -> str:
    return f"{sides[1]}x{sides[0]}"


def _sides(page: tifffile.TiffPage) -> tuple[int, int]:
    return page.imagelength, page.imagewidth


def _blocks(tiff: tifffile.TiffFile, template: Path) -> list[_Block]:
    """Return what to repeat of each level, leaving out levels too small to fit whole tiles."""
    pages = [level.keyframe for level in tiff.series[0].levels]
    first = pages[0]
    if not first.is_tiled or tiff.byteorder != "<":
        msg = f"{template} is not a tiled little-endian TIFF."
        raise UnsupportedError(msg, remedy="Take another template.")
    tile = (first.tilelength, first.tilewidth)
    full = (first.imagelength // tile[0], first.imagewidth // tile[1])
    kept: list[tuple[tifffile.TiffPage, int]] = []
    for page in pages:
        factor = round(first.imagewidth / page.imagewidth)
        if (page.tilelength, page.tilewidth) == tile and min(full) >= factor:
            kept.append((page, factor))
    if not kept:
        msg = f"{template} has no tile that is whole."
        raise UnsupportedError(msg, remedy="Take a larger template.")
    common = math.lcm(*(factor for _, factor in kept))
    if min(full) < common:
        kept, common = kept[:1], 1
    rows, columns = (side // common * common for side in full)
    return [_cut_block(page, factor, rows // factor, columns // factor) for page, factor in kept]


def _cut_block(page: tifffile.TiffPage, factor: int, rows: int, columns: int) -> _Block:
    across = -(-page.imagewidth // page.tilewidth)
    places = [
        np.asarray(values, np.int64).reshape(-1, across)[:rows, :columns]
        for values in (page.dataoffsets, page.databytecounts)
    ]
    return _Block(page, factor, *places)


def _repeats(blocks: Sequence[_Block], at_least_bytes: int) -> tuple[int, int]:
    """Return how often to repeat downwards and across, for a slide that is about square."""
    once = sum(int(block.counts.sum()) for block in blocks)
    times = max(1, -(-at_least_bytes // max(once, 1)))
    height, width = _new_sides(blocks[0], (1, 1))
    across = max(1, round(math.sqrt(times * height / width)))
    return -(-times // across), across


def _new_sides(block: _Block, repeats: tuple[int, int]) -> tuple[int, int]:
    rows, columns = block.counts.shape
    return rows * repeats[0] * block.page.tilelength, columns * repeats[1] * block.page.tilewidth


def _write_tiles(
    out: BinaryIO, source: BinaryIO, block: _Block, repeats: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Append a level's tiles row by row; return their offsets and lengths."""
    start = out.tell()
    for _ in range(repeats[0]):
        for offsets, counts in zip(block.offsets, block.counts, strict=True):
            row = b"".join(_read(source, offsets, counts))
            for _ in range(repeats[1]):
                out.write(row)
    lengths = np.tile(block.counts, repeats).ravel()
    places = start + np.cumsum(lengths) - lengths
    return np.where(lengths > 0, places, 0), lengths


def _copy_strips(
    out: BinaryIO, source: BinaryIO, page: tifffile.TiffPage
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Append the strips of a picture that comes with the slide."""
    start = out.tell()
    lengths = np.asarray(page.databytecounts, np.int64)
    out.writelines(_read(source, np.asarray(page.dataoffsets, np.int64), lengths))
    return start + np.cumsum(lengths) - lengths, lengths


def _read(source: BinaryIO, offsets: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Iterator[bytes]:
    for offset, count in zip(offsets.tolist(), counts.tolist(), strict=True):
        source.seek(offset)
        yield source.read(count)


def _directory(
    source: BinaryIO,
    page: tifffile.TiffPage,
    sides: tuple[int, int],
    places: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    says: str,
) -> list[Tag]:
    """Return the entries of one page: copied, but for size, description and places of the data."""
    tags = [
        tag(256, LONG, sides[1]),
        tag(257, LONG, sides[0]),
        Tag(324 if page.is_tiled else 273, LONG8, len(places[0]), places[0].astype("<u8").tobytes()),
        Tag(325 if page.is_tiled else 279, LONG, len(places[1]), places[1].astype("<u4").tobytes()),
    ]
    if says:
        tags.append(tag(270, ASCII, says.encode("latin-1", "replace") + b"\0"))
    for one in page.tags.values():
        if one.code not in _RENEWED:
            source.seek(one.valueoffset)
            tags.append(Tag(one.code, int(one.dtype), one.count, source.read(one.valuebytecount)))
    return tags


def _write_directories(out: BinaryIO, directories: Sequence[Sequence[Tag]]) -> None:
    out.write(bytes(-out.tell() % 8))
    first = out.tell()
    for tags in directories[:-1]:
        # What follows depends on where each directory starts: they are written one by one.
        directory = big_directory(tags, out.tell(), -1)
        out.write(directory)
    last = big_directory(directories[-1], out.tell(), 0)
    out.write(last)
    out.seek(8)
    out.write(first.to_bytes(8, "little"))
