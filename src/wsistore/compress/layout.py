"""Which bytes of a source's files are tile payload and which are skeleton: what makes the store reversible."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wsistore.compress.levels import LevelPlan
from wsistore.errors import BrokenError, IntegrityError, Kind

LAYOUT_DTYPE = np.dtype(
    [
        ("file", "<i4"),
        ("offset", "<i8"),
        ("length", "<i8"),
        ("level", "<i4"),
        ("chunk", "<i8"),
        ("piece", "<i4"),
        ("skip", "<i8"),
    ]
)
"""One run of source bytes, [`offset`, `offset` + `length`) of a `file`, is payload of a `level`'s `chunk` (row-major
number over the level's chunk grid): of the `piece`-th tile in it (0 where a chunk is one tile), from byte `skip` of
that tile's payload on. Sorted by file and offset, free of overlaps."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a file that no tile owns."""

    file: int
    offset: int
    length: int


def layout_of(plans: Sequence[LevelPlan]) -> npt.NDArray[np.void]:
    """Return the layout of all levels, of `LAYOUT_DTYPE`.

    Ranges that several tiles share are listed once.

    Raises
    ------
    BrokenError
        If ranges overlap in part: readers keep such sources as `whole`.

    """
    parts = []
    for number, plan in enumerate(plans):
        segments = plan.level.segments
        rows = np.zeros(len(segments), LAYOUT_DTYPE)
        for name in ("file", "offset", "length"):
            rows[name] = segments[name]
        rows["level"] = number
        rows["chunk"], rows["piece"] = plan.chunk_of_tile(segments["tile"])
        rows["skip"] = _skips(segments)
        parts.append(rows)
    table = np.concatenate(parts) if parts else np.zeros(0, LAYOUT_DTYPE)
    table = table[table["length"] > 0]
    table = table[np.lexsort((table["length"], table["offset"], table["file"]))]
    same = (np.diff(table["file"]) == 0) & (np.diff(table["offset"]) == 0) & (np.diff(table["length"]) == 0)
    table = table[np.concatenate(([True], ~same))] if len(table) else table
    ends = table["offset"] + table["length"]
    if np.any((np.diff(table["file"]) == 0) & (table["offset"][1:] < ends[:-1])):
        msg = "Tiles of the source overlap in part."
        raise BrokenError(msg, remedy="Re-export the slide from the scanner's software.")
    return table


def _skips(segments: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Return for each segment the bytes of its tile that earlier segments hold."""
    length = segments["length"]
    before = np.concatenate(([0], np.cumsum(length)[:-1])) if len(length) else length
    first = np.concatenate(([True], np.diff(segments["tile"]) != 0)) if len(length) else np.zeros(0, bool)
    starts = np.maximum.accumulate(np.where(first, before, 0)) if len(length) else before
    return before - starts


def gaps(table: npt.NDArray[np.void], sizes: Sequence[int]) -> list[Gap]:
    """Return what the layout leaves of files of `sizes` bytes, in order: the skeleton's content."""
    found = []
    for file, size in enumerate(sizes):
        rows = table[table["file"] == file]
        starts = np.concatenate(([0], rows["offset"] + rows["length"]))
        ends = np.concatenate((rows["offset"], [size]))
        keep = ends > starts
        found += [Gap(file, a, b - a) for a, b in zip(starts[keep].tolist(), ends[keep].tolist(), strict=True)]
    return found


def encode(table: npt.NDArray[np.void]) -> bytes:
    """Return the layout as a Parquet file, delta-coded and zstd-compressed."""
    names = list(LAYOUT_DTYPE.names or ())
    arrow = pa.table({name: np.ascontiguousarray(table[name]) for name in names})
    sink = io.BytesIO()
    pq.write_table(
        arrow,
        sink,
        compression="zstd",
        compression_level=9,
        use_dictionary=False,
        column_encoding=dict.fromkeys(names, "DELTA_BINARY_PACKED"),
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue()


def decode(data: bytes, *, where: str) -> npt.NDArray[np.void]:
    """Return the layout from its Parquet file.

    Raises
    ------
    IntegrityError
        If the bytes are not such a file; `where` is its key, for the message.

    """
    try:
        arrow = pq.read_table(pa.BufferReader(data), use_threads=False)
        table = np.zeros(arrow.num_rows, LAYOUT_DTYPE)
        for name in LAYOUT_DTYPE.names or ():
            table[name] = arrow.column(name).to_numpy()
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        msg = f"The layout {where} cannot be read ({error})."
        raise IntegrityError(msg, kind=Kind.CORRUPT, remedy="Restore the slide from another copy.") from error
    return table
