"""The map of a vendor's files: for every byte, the stored object and position it is answered from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wsistore.compress import bounded, keys, layout, shards
from wsistore.compress.grid import Ints
from wsistore.compress.reader import StoredSlide
from wsistore.errors import IntegrityError
from wsistore.model import Mode

EXTENT_DTYPE = np.dtype(
    [("offset", "<i8"), ("length", "<i8"), ("origin", "<i4"), ("position", "<i8"), ("chunk", "<i8"), ("piece", "<i4")]
)
"""A run of a file's bytes. `origin` ≥ 0: object number `origin` of the map, from byte `position`. `SKELETON`: the
skeleton from byte `position`. ``FOLD - level``: the payload of tile `piece` of `chunk` of that level, from its byte
`position`, for levels whose chunks have to be undone.
"""
_MOST_OFFSET = 2**62
SKELETON = -1
FOLD = -2


@dataclass(frozen=True, slots=True, eq=False)
class SourceMap:
    """The extents of every file of a slide, each covering its file without holes, in order."""

    objects: tuple[str, ...]
    """Keys that `origin` counts: of shards, of the files of a `whole` slide, or of the archives that they lie in."""
    folded: frozenset[str]
    """Keys of the objects that chunks lie in which have to be undone."""
    files: tuple[npt.NDArray[np.void], ...]

    def uses(self) -> Counter[str]:
        """Return how many extents each object answers."""
        counts: Counter[str] = Counter()
        for extents in self.files:
            origins, found = np.unique(extents["origin"][extents["origin"] >= 0], return_counts=True)
            counts.update({self.objects[n]: c for n, c in zip(origins.tolist(), found.tolist(), strict=True)})
        return counts


@dataclass(slots=True)
class _Found:
    objects: dict[str, int] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)


def map_source(slide: StoredSlide) -> SourceMap:
    """Return where the bytes of the slide's files lie.

    Runs that are contiguous in the file and in the stored object are one extent.

    Raises
    ------
    IntegrityError
        If layout, indexes and file sizes do not fit each other.

    """
    sizes = [file.size_bytes for file in slide.companion.files]
    if slide.companion.mode is Mode.WHOLE and slide.companion.skeleton is None:
        return _map_whole(slide, sizes)
    table = slide.layout()
    gaps = layout.gaps(table, sizes)
    skeleton = np.concatenate(([0], np.cumsum(gaps["length"])))
    _check_cover(slide, table, sizes, int(skeleton[-1]))
    found, files = _Found(), []
    numbers = np.arange(len(sizes) + 1)
    rows, between = np.searchsorted(table["file"], numbers).tolist(), np.searchsorted(gaps["file"], numbers).tolist()
    for number in range(len(sizes)):
        mine = table[rows[number] : rows[number + 1]]
        holes = slice(between[number], between[number + 1])
        extents, at_rows = _interleaved(mine, gaps[holes], skeleton[holes])
        for level in np.unique(mine["level"]).tolist():
            own = mine["level"] == level
            _locate(slide, level, mine[own], extents, at_rows[own], found)
        files.append(_merge(extents))
    return SourceMap(tuple(found.objects), frozenset(found.folded), tuple(files))


def _map_whole(slide: StoredSlide, sizes: Sequence[int]) -> SourceMap:
    objects: dict[str, int] = {}
    files = []
    for number, size in enumerate(sizes):
        extents = np.zeros(1 if size else 0, EXTENT_DTYPE)
        key, start = slide.locate(slide.place.source(number))
        extents["length"], extents["origin"], extents["position"] = size, objects.setdefault(key, len(objects)), start
        files.append(extents)
    return SourceMap(tuple(objects), frozenset(), tuple(files))


def _check_cover(slide: StoredSlide, table: npt.NDArray[np.void], sizes: Sequence[int], left: int) -> None:
    """Refuse a layout that reaches beyond the files, or leaves more or less than the skeleton has."""
    index = slide.companion.skeleton
    total = int(table["length"].sum()) + left
    if index is None or index.size_bytes != left or total != sum(sizes):
        msg = f"The layout {slide.place.private}{keys.LAYOUT} does not fit the source's files and the skeleton."
        raise IntegrityError(msg, remedy=bounded.REMEDY)


def _interleaved(
    rows: npt.NDArray[np.void], gaps: npt.NDArray[np.void], starts: Ints
) -> tuple[npt.NDArray[np.void], Ints]:
    """Return the extents of a file in order, those of `gaps` filled in, and where those of `rows` are to be filled in.

    The tables of NDPI slides have a million rows, hence no sorting of copies.
    """
    extents = np.zeros(len(rows) + len(gaps), EXTENT_DTYPE)
    at_rows = np.arange(len(rows)) + np.searchsorted(gaps["offset"], rows["offset"])
    at_gaps = np.arange(len(gaps)) + np.searchsorted(rows["offset"], gaps["offset"])
    for name in ("offset", "length"):
        extents[name][at_rows], extents[name][at_gaps] = rows[name], gaps[name]
    extents["origin"][at_gaps], extents["position"][at_gaps] = SKELETON, starts
    return extents, at_rows


def _locate(
    slide: StoredSlide,
    level: int,
    rows: npt.NDArray[np.void],
    extents: npt.NDArray[np.void],
    at: Ints,
    found: _Found,
) -> None:
    """Fill in where the rows of one level are answered from."""
    grid, _ = slide.array(level)
    shard, slot = grid.shard_of_chunk(rows["chunk"])
    if not slide.is_plain(level):
        extents["origin"][at], extents["position"][at] = FOLD - level, rows["skip"]
        extents["chunk"][at], extents["piece"][at] = rows["chunk"], rows["piece"]
        keys_of_shards = (slide.place.store + grid.shard_key(number) for number in np.unique(shard).tolist())
        found.folded |= {slide.locate(key)[0] for key in keys_of_shards}
        return
    for number in np.unique(shard).tolist():
        here = shard == number
        key = slide.place.store + grid.shard_key(number)
        entries = slide.index(level, number)[slot[here]]
        skip, length = rows["skip"][here], rows["length"][here]
        outside = (skip + length).astype(np.uint64) > entries["nbytes"]
        if np.any(outside | (entries["nbytes"] == shards.ABSENT) | (entries["offset"] > _MOST_OFFSET)):
            msg = f"The index of {key} does not fit the slide's layout."
            raise IntegrityError(msg, remedy=bounded.REMEDY)
        holder, before = slide.locate(key)
        extents["origin"][at[here]] = found.objects.setdefault(holder, len(found.objects))
        extents["position"][at[here]] = entries["offset"].astype(np.int64) + skip + before


def _merge(extents: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    if not len(extents):
        return extents
    same = np.diff(extents["origin"]) == 0
    follows = extents["position"][1:] == extents["position"][:-1] + extents["length"][:-1]
    starts = np.flatnonzero(np.concatenate(([True], ~(same & follows & (extents["origin"][1:] > FOLD)))))
    if len(starts) == len(extents):
        return extents
    merged = extents[starts]
    merged["length"] = np.add.reduceat(extents["length"], starts)
    return merged
