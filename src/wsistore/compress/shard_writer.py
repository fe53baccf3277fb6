"""Assembling shards straight from the tile bytes: no decoding, one pass in the source's order, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wsistore.compress import fold, shards
from wsistore.compress.levels import LevelPlan
from wsistore.compress.recording import Recorder
from wsistore.compress.source_bytes import SourceBytes
from wsistore.errors import BrokenError
from wsistore.slides.base import Codec


class CheckTile(Protocol):
    """Looks at a tile's bytes as they pass; raises an `InputError` if the tile may not be stored like this."""

    def __call__(self, tile: int, data: memoryview) -> None:
        """Check tile number `tile` of the level."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ShardJob:
    """One shard to write."""

    plan: LevelPlan
    shard: int
    segments: npt.NDArray[np.void]
    """Of the shard's tiles, `SEGMENT_DTYPE`."""
    check: CheckTile | None


def jobs(plan: LevelPlan, make_check: Callable[[], CheckTile | None]) -> Iterator[ShardJob]:
    """Yield a job for each shard that has tiles; each gets a check of its own."""
    segments = plan.level.segments
    if not len(segments):
        return
    chunk, _ = plan.chunk_of_tile(segments["tile"])
    shard, _ = plan.grid.shard_of_chunk(chunk)
    order = np.argsort(shard, kind="stable")
    borders = np.flatnonzero(np.diff(shard[order])) + 1
    for rows in np.split(order, borders):
        yield ShardJob(plan, int(shard[rows[0]]), segments[rows], make_check())


def write_shard(
    job: ShardJob, source: SourceBytes, recorder: Recorder, prefix: str, progress: Callable[[int], None]
) -> None:
    """Write one shard under `prefix`.

    Raises
    ------
    InputError
        If a tile may not be stored like this.
    ConflictError
        If the source changed.
    StorageError
        If the tier fails; nothing is visible then.

    """
    grid = job.plan.grid
    index = shards.empty_index(grid.index_length)
    with recorder.upload(prefix + grid.shard_key(job.shard)) as upload:
        for slot, data in _chunks(job, source):
            index[slot] = (upload.size_bytes, len(data))
            upload.write(data)
            progress(len(data))
        upload.write(shards.encode_index(index))
        upload.complete()


def _chunks(job: ShardJob, source: SourceBytes) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield (place in the index, bytes) of the shard's chunks in the order of the source."""
    chunk, _ = job.plan.chunk_of_tile(job.segments["tile"])
    least = int(chunk.min())
    first = np.full(int(chunk.max()) - least + 1, np.iinfo(np.int64).max)
    place = job.segments["file"].astype(np.int64) * 2**48 + job.segments["offset"]
    np.minimum.at(first, chunk - least, place)
    order = np.lexsort((chunk, first[chunk - least]))
    _, slots = job.plan.grid.shard_of_chunk(chunk[order])
    read = _reader(job, source)
    for slot, rows in groupby(_rows(slots, job.segments[order]), key=itemgetter(0)):
        yield slot, _chunk(job, read, list(rows))


Row = tuple[int, int, int, int, int]
Read = Callable[[int, int, int], bytes | memoryview]
"""Gets file, offset and length; the bytes are valid until the next call."""

_ROWS = 65_536
"""Rows made into Python objects at a time: as objects they take ten times the memory."""


def _rows(slots: npt.NDArray[np.int64], segments: npt.NDArray[np.void]) -> Iterator[Row]:
    """Yield (place in the index, tile, file, offset, length) of each segment."""
    for start in range(0, len(segments), _ROWS):
        block = segments[start : start + _ROWS]
        fields = (block[name].tolist() for name in ("tile", "file", "offset", "length"))
        yield from zip(slots[start : start + _ROWS].tolist(), *fields, strict=True)


def _reader(job: ShardJob, source: SourceBytes) -> Read:
    """Return how tiles are read: ahead, but strips one by one, for those of a fold lie a row of the level apart."""
    return source.exactly if _header_of_strips(job) else source.window().get


def _header_of_strips(job: ShardJob) -> bytes:
    coding = job.plan.level.coding
    return (coding.header or b"") if coding is not None and coding.codec is Codec.JPEG_STRIPS else b""


def _chunk(job: ShardJob, read: Read, rows: list[Row]) -> bytes | memoryview:
    header = _header_of_strips(job)
    if len(rows) == 1 and not header:
        _, tile, file, offset, length = rows[0]
        data = memoryview(read(file, offset, length))
        if job.check is not None:
            job.check(tile, data)
        return data
    pieces: dict[int, list[bytes]] = {}
    for _, tile, file, offset, length in rows:
        pieces.setdefault(tile, []).append(bytes(read(file, offset, length)))
    joined = {tile: memoryview(b"".join(parts)) for tile, parts in pieces.items()}
    if job.check is not None:
        for tile, data in joined.items():
            job.check(tile, data)
    return _join_strips(job.plan, header, joined) if header else joined[rows[0][1]]


def _join_strips(plan: LevelPlan, header: bytes, strips: dict[int, memoryview]) -> bytes:
    """Return the fold of a chunk's strips; they must be the first ones of the chunk, without a hole."""
    columns = plan.level.grid[1]
    numbers = sorted(strips)
    first = (numbers[0] // columns // plan.fold_height) * plan.fold_height * columns + numbers[0] % columns
    if numbers != list(range(first, first + columns * len(numbers), columns)):
        msg = f"Strips are missing between the restart markers of level {plan.grid.path}."
        raise BrokenError(msg, remedy="Re-export the slide from the scanner's software.")
    try:
        return fold.join(header, [strips[number] for number in numbers])
    except fold.FoldError as error:
        msg = f"The strips of level {plan.grid.path} cannot be joined: {error}."
        raise BrokenError(msg, remedy="Re-export the slide from the scanner's software.") from error
