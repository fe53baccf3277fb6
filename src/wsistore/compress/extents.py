"""The map of a vendor's files: for every byte, the stored object and position it is answered from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsistore.compress import keys, layout, shards
from wsistore.compress.reader import StoredSlide
from wsistore.errors import IntegrityError
from wsistore.model import Mode

EXTENT_DTYPE = np.dtype(
    [("offset", "<i8"), ("length", "<i8"), ("origin", "<i4"), ("position", "<i8"), ("chunk", "<i8"), ("piece", "<i4")]
)
"""A run of a file's bytes. `origin` ≥ 0: object number `origin` of the map, from byte `position`. `SKELETON`: the
skeleton from byte `position`. ``FOLD - level``: tile `piece` of fold `chunk` of that level, from its byte `position`.
"""
SKELETON = -1
FOLD = -2


@dataclass(frozen=True, slots=True, eq=False)
class SourceMap:
    """The extents of every file of a slide, each covering its file without holes, in order."""

    objects: tuple[str, ...]
    """Keys that `origin` counts."""
    files: tuple[npt.NDArray[np.void], ...]


def map_source(slide: StoredSlide) -> SourceMap:
    """Return where the bytes of the slide's files lie.

    Runs that are contiguous in the file and in the stored object are one extent.

    Raises
    ------
    IntegrityError
        If layout, indexes and file sizes do not fit each other.

    """
    sizes = [file.size_bytes for file in slide.companion.files]
    if slide.companion.mode is Mode.WHOLE:
        objects = tuple(slide.place.source(number) for number in range(len(sizes)))
        return SourceMap(objects, tuple(_one(number, size) for number, size in enumerate(sizes)))
    table = slide.layout()
    objects_of: dict[str, int] = {}
    rows = np.zeros(len(table), EXTENT_DTYPE)
    rows["offset"], rows["length"] = table["offset"], table["length"]
    rows["chunk"], rows["piece"] = table["chunk"], table["piece"]
    for level in np.unique(table["level"]).tolist():
        _locate(slide, level, table, rows, objects_of)
    gaps = layout.gaps(table, sizes)
    files = []
    start = 0
    for number, size in enumerate(sizes):
        mine = [gap for gap in gaps if gap.file == number]
        extra = np.zeros(len(mine), EXTENT_DTYPE)
        for row, gap in zip(extra, mine, strict=True):
            row["offset"], row["length"], row["origin"], row["position"] = gap.offset, gap.length, SKELETON, start
            start += gap.length
        extents = np.concatenate((rows[table["file"] == number], extra))
        files.append(_merge(_checked(extents[np.argsort(extents["offset"], kind="stable")], size, slide)))
    return SourceMap(tuple(objects_of), tuple(files))


def _one(number: int, size: int) -> npt.NDArray[np.void]:
    extents = np.zeros(1 if size else 0, EXTENT_DTYPE)
    extents["length"], extents["origin"] = size, number
    return extents


def _locate(
    slide: StoredSlide,
    level: int,
    table: npt.NDArray[np.void],
    rows: npt.NDArray[np.void],
    objects: dict[str, int],
) -> None:
    """Fill in origin and position of a level's rows."""
    grid, codec = slide.array(level)
    mine = np.flatnonzero(table["level"] == level)
    if codec == "wsistore.fold":
        rows["origin"][mine], rows["position"][mine] = FOLD - level, table["skip"][mine]
        return
    shard, slot = grid.shard_of_chunk(table["chunk"][mine])
    for number in np.unique(shard).tolist():
        here = shard == number
        key = slide.place.store + grid.shard_key(number)
        entries = slide.index(level, number)[slot[here]]
        skip, length = table["skip"][mine][here], table["length"][mine][here]
        absent = entries["nbytes"] == shards.ABSENT
        if np.any(absent) or np.any((skip + length).astype(np.uint64) > entries["nbytes"]):
            msg = f"The index of {key} does not fit the slide's layout."
            raise IntegrityError(msg, remedy="Restore the slide from another copy.")
        rows["origin"][mine[here]] = objects.setdefault(key, len(objects))
        rows["position"][mine[here]] = entries["offset"].astype(np.int64) + skip


def _checked(extents: npt.NDArray[np.void], size: int, slide: StoredSlide) -> npt.NDArray[np.void]:
    ends = np.concatenate(([0], extents["offset"] + extents["length"]))
    if ends[-1] != size or not np.array_equal(ends[:-1], extents["offset"]):
        msg = f"The layout {slide.place.private}{keys.LAYOUT} does not cover the source's files."
        raise IntegrityError(msg, remedy="Restore the slide from another copy.")
    return extents


def _merge(extents: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    if not len(extents):
        return extents
    same = np.diff(extents["origin"]) == 0
    follows = extents["position"][1:] == extents["position"][:-1] + extents["length"][:-1]
    starts = np.flatnonzero(np.concatenate(([True], ~(same & follows & (extents["origin"][1:] > FOLD)))))
    merged = extents[starts]
    merged["length"] = np.add.reduceat(extents["length"], starts)
    return merged
