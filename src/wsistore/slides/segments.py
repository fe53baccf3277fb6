"""Segments: where tile bytes lie. Built from offset tables, checked against the file, cut around comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wsistore.slides.base import SEGMENT_DTYPE
from wsistore.slides.boundary import NoTileGridError, broken, truncated

Segments = npt.NDArray[np.void]
Extents = npt.NDArray[np.int64]
"""Byte ranges of a file, shape (n, 2): start and stop, sorted by start."""

_FARTHEST = 1 << 60
"""No file is longer: offsets beyond are garbage, not a sign of truncation."""


def from_table(offsets: Sequence[int] | npt.NDArray[Any], counts: Sequence[int] | npt.NDArray[Any]) -> Segments:
    """Return one segment per tile that is there; tiles of offset 0 or length 0 are missing.

    Raises
    ------
    ValueError
        If a number does not fit into 64 bits.

    """
    table = np.empty(len(offsets), SEGMENT_DTYPE)
    try:
        table["offset"], table["length"] = offsets, counts
    except OverflowError as error:
        msg = "an offset or length of a tile is beyond 64 bits"
        raise ValueError(msg) from error
    table["tile"], table["file"] = np.arange(len(offsets)), 0
    there: Segments = table[(table["offset"] != 0) & (table["length"] != 0)]
    return there


def check_bounds(segments: Segments, path: Path, size_bytes: int, where: str) -> None:
    """Check that every segment lies inside its file.

    Raises
    ------
    BrokenError
        Naming file, page (`where`) and the first tile that does not.

    """
    offset, length = segments["offset"], segments["length"]
    nonsense = (offset < 0) | (length < 0) | (offset > _FARTHEST) | (length > _FARTHEST)
    if nonsense.any():
        first = segments[int(np.argmax(nonsense))]
        what = f"tile {first['tile']} of {where} lies at {first['offset']} with {first['length']} bytes"
        raise broken(path, what)
    beyond = offset + length > size_bytes
    if beyond.any():
        first = segments[int(np.argmax(beyond))]
        end = int(first["offset"]) + int(first["length"])
        what = f"tile {first['tile']} of {where} ends at byte {end}, the file at {size_bytes}"
        raise truncated(path, what)


def check_apart(segments: Segments, path: Path, structure: Extents, pictures: Extents, where: str) -> None:
    """Check that the tiles of one level touch neither the file's structure, nor its other pictures, nor each other.

    Tiles may share exactly the same bytes.

    Raises
    ------
    BrokenError
        If a tile lies over the file's own directories.
    NoTileGridError
        If ranges overlap in part, or a tile lies over another picture's bytes.

    """
    ranges = _distinct(extents(segments["offset"], segments["length"]))
    hit = _first_hit(ranges, structure)
    if hit is not None:
        raise broken(path, f"{_named(segments, ranges[hit], where)} lies over the file's directory")
    hit = _first_hit(ranges, pictures)
    if hit is not None:
        msg = f"{_named(segments, ranges[hit], where)} shares bytes with another picture of the file"
        raise NoTileGridError(msg)
    if len(ranges) > 1 and (ranges[1:, 0] < np.maximum.accumulate(ranges[:-1, 1])).any():
        at = int(np.argmax(ranges[1:, 0] < np.maximum.accumulate(ranges[:-1, 1]))) + 1
        msg = f"{_named(segments, ranges[at], where)} overlaps another tile in part"
        raise NoTileGridError(msg)


def _named(segments: Segments, extent: npt.NDArray[np.int64], where: str) -> str:
    row = segments[(segments["offset"] == extent[0]) & (segments["offset"] + segments["length"] == extent[1])][0]
    return f"tile {row['tile']} of {where}"


def extents(offsets: Sequence[int] | npt.NDArray[Any], lengths: Sequence[int] | npt.NDArray[Any]) -> Extents:
    """Return byte ranges sorted by start; those of length 0 are left out."""
    starts = np.asarray(offsets, np.int64)
    pairs = np.stack([starts, starts + np.asarray(lengths, np.int64)], axis=1).reshape(-1, 2)
    pairs = pairs[pairs[:, 1] > pairs[:, 0]]
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def _distinct(ranges: Extents) -> Extents:
    """Return ranges once each, sorted by start, then by stop."""
    ordered = ranges[np.lexsort((ranges[:, 1], ranges[:, 0]))]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return ordered[new]


def _first_hit(ranges: Extents, others: Extents) -> int | None:
    """Return the index of the first of `ranges` that touches any of `others`, both sorted by start."""
    if not len(ranges) or not len(others):
        return None
    # of the others that start before a range's end, the one that reaches farthest decides
    reach = np.maximum.accumulate(others[:, 1])
    before = np.searchsorted(others[:, 0], ranges[:, 1], side="left")
    touched = (before > 0) & (reach[np.maximum(before - 1, 0)] > ranges[:, 0])
    return int(np.argmax(touched)) if touched.any() else None


def without(segments: Segments, cuts: Mapping[int, Sequence[tuple[int, int]]]) -> Segments:
    """Return segments that leave out byte ranges of tiles.

    Parameters
    ----------
    segments
        Of one level.
    cuts
        By tile number: ranges (start, stop) of the tile's joined bytes, sorted and disjoint.

    """
    if not cuts:
        return segments
    touched = np.isin(segments["tile"], np.fromiter(cuts, np.int64, len(cuts)))
    pieces = []
    at, tile = 0, -1
    for row in segments[touched]:
        if row["tile"] != tile:
            at, tile = 0, int(row["tile"])
        stop = at + int(row["length"])
        for start, end in _kept(at, stop, cuts[tile]):
            pieces.append((tile, row["file"], int(row["offset"]) + start - at, end - start))
        at = stop
    joined = np.concatenate([segments[~touched], np.array(pieces, SEGMENT_DTYPE)])
    return joined[np.argsort(joined["tile"], kind="stable")]


def _kept(start: int, stop: int, cuts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of ``start:stop`` when `cuts` are taken out."""
    kept = []
    for cut_start, cut_stop in cuts:
        if cut_stop <= start or cut_start >= stop:
            continue
        if cut_start > start:
            kept.append((start, cut_start))
        start = cut_stop
    if start < stop:
        kept.append((start, stop))
    return kept


def read_tile(rows: Segments, files: Mapping[int, BinaryIO]) -> bytes:
    """Return a tile's bytes: its segments (rows of one tile, in order) joined.

    Raises
    ------
    OSError
        If a file cannot be read.

    """
    parts = []
    for row in rows:
        file = files[int(row["file"])]
        file.seek(int(row["offset"]))
        parts.append(file.read(int(row["length"])))
    return b"".join(parts)
