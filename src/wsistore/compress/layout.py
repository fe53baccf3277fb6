"""Which bytes of a source's files are tile payload and which are skeleton: what makes the store reversible."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

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

_GROUP_ROWS = 262_144
"""Rows of a row group of the Parquet file: what it takes in memory beside the table itself."""
_MOST_ROWS = 2**25
"""The largest slides in use have a million tiles or strips."""


GAP_DTYPE = np.dtype([("file", "<i4"), ("offset", "<i8"), ("length", "<i8")])
"""Bytes of a file that no tile owns."""

_ROWS = 65_536
"""Rows made into Python objects at a time: as objects they take ten times the memory."""


def rows_of(table: npt.NDArray[np.void], *names: str) -> Iterator[tuple[int, ...]]:
    """Yield the rows of a structured array as tuples of its fields `names`."""
    for start in range(0, len(table), _ROWS):
        block = table[start : start + _ROWS]
        yield from zip(*(block[name].tolist() for name in names), strict=True)


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
    parts.clear()
    table = _where(table, table["length"] > 0)
    table = table[np.lexsort((table["length"], table["offset"], table["file"]))]
    same = (np.diff(table["file"]) == 0) & (np.diff(table["offset"]) == 0) & (np.diff(table["length"]) == 0)
    table = _where(table, np.concatenate((np.ones(min(1, len(table)), bool), ~same)))
    if overlapping(table):
        msg = "Tiles of the source overlap in part."
        raise BrokenError(msg, remedy="Re-export the slide from the scanner's software.")
    return table


def overlapping(table: npt.NDArray[np.void]) -> bool:
    """Say whether rows that are sorted by file and offset overlap."""
    ends = table["offset"] + table["length"]
    return bool(np.any((np.diff(table["file"]) == 0) & (table["offset"][1:] < ends[:-1])))


def _where(table: npt.NDArray[np.void], keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
    """Return the rows to keep; the table itself where these are all, for the tables of some slides are large."""
    return table if keep.all() else table[keep]


def _skips(segments: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Return for each segment the bytes of its tile that earlier segments hold."""
    length = segments["length"]
    before = np.concatenate(([0], np.cumsum(length)[:-1])) if len(length) else length
    first = np.concatenate(([True], np.diff(segments["tile"]) != 0)) if len(length) else np.zeros(0, bool)
    starts = np.maximum.accumulate(np.where(first, before, 0)) if len(length) else before
    return before - starts


def gaps(table: npt.NDArray[np.void], sizes: Sequence[int]) -> npt.NDArray[np.void]:
    """Return what the layout leaves of files of `sizes` bytes, in order, of `GAP_DTYPE`: the skeleton's content."""
    found = [np.zeros(0, GAP_DTYPE)]
    borders = np.searchsorted(table["file"], np.arange(len(sizes) + 1)).tolist()
    for file, size in enumerate(sizes):
        rows = table[borders[file] : borders[file + 1]]
        starts = np.concatenate(([0], rows["offset"] + rows["length"]))
        ends = np.concatenate((rows["offset"], [size]))
        keep = ends > starts
        mine = np.zeros(int(keep.sum()), GAP_DTYPE)
        mine["file"], mine["offset"], mine["length"] = file, starts[keep], (ends - starts)[keep]
        found.append(mine)
    return np.concatenate(found)


def encode(table: npt.NDArray[np.void]) -> bytes:
    """Return the layout as a Parquet file, delta-coded and zstd-compressed."""
    names = list(LAYOUT_DTYPE.names or ())
    schema = pa.schema([(name, pa.from_numpy_dtype(LAYOUT_DTYPE[name])) for name in names])
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=False,
        column_encoding=dict.fromkeys(names, "DELTA_BINARY_PACKED"),
        write_statistics=False,
        store_schema=False,
    ) as writer:
        for start in range(0, len(table), _GROUP_ROWS):
            block = table[start : start + _GROUP_ROWS]
            columns = [_column(block[name]) for name in names]
            writer.write_table(pa.table(columns, schema=schema))
    return sink.getvalue()


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Return an Arrow array of integers; `pyarrow.array` would import pandas, for half a second and 40 MB."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def decode(data: bytes, *, where: str) -> npt.NDArray[np.void]:
    """Return the layout from its Parquet file.

    Raises
    ------
    IntegrityError
        If the bytes are not such a file; `where` is its key, for the message.

    """
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            _check_size(file.metadata)
            table = np.zeros(file.metadata.num_rows, LAYOUT_DTYPE)
            start = 0
            for group in range(file.metadata.num_row_groups):
                rows = file.read_row_group(group, use_threads=False)
                for name in LAYOUT_DTYPE.names or ():
                    _fill(table[name][start : start + rows.num_rows], rows.column(name))
                start += rows.num_rows
    except Exception as error:  # what Arrow raises on damaged bytes is many things that all mean this
        msg = f"The layout {where} cannot be read ({error})."
        raise IntegrityError(msg, kind=Kind.CORRUPT, remedy="Restore the slide from another copy.") from error
    _check_rows(table, where)
    return table


def _fill(target: npt.NDArray[Any], column: pa.ChunkedArray) -> None:
    """Put a column's integers into `target`; `ChunkedArray.to_numpy` would import pandas too."""
    start = 0
    for chunk in column.chunks:
        target[start : start + len(chunk)] = np.from_dlpack(chunk)
        start += len(chunk)


def _check_size(described: pq.FileMetaData) -> None:
    groups = [described.row_group(number) for number in range(described.num_row_groups)]
    largest = max((group.total_byte_size for group in groups), default=0)
    if described.num_rows > _MOST_ROWS or largest > 2 * LAYOUT_DTYPE.itemsize * _GROUP_ROWS:
        msg = f"{described.num_rows} rows are more than any slide has"
        raise ValueError(msg)


def _check_rows(table: npt.NDArray[np.void], where: str) -> None:
    """Refuse rows that no writer makes: what uses them counts on their order and on numbers that are not negative."""
    files, offsets = table["file"], table["offset"]
    sound = all(bool(np.all(table[name] >= 0)) for name in LAYOUT_DTYPE.names or ()) and bool(np.all(table["length"]))
    sound = sound and bool(np.all(np.diff(files) >= 0)) and not np.any((np.diff(files) == 0) & (np.diff(offsets) < 0))
    if not sound or np.any(offsets + table["length"] < offsets) or overlapping(table):
        msg = f"The layout {where} is damaged: its rows are not in order."
        raise IntegrityError(msg, remedy="Restore the slide from another copy.")
