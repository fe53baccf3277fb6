"""Assembling shards straight from the tile bytes: no decoding, one pass in the source's order, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wsistore.compress import fold, shards
from wsistore.compress.levels import LevelPlan
from wsistore.compress.recording import RecordedUpload, Recorder
from wsistore.compress.source_bytes import WINDOW_BYTES, SourceBytes
from wsistore.errors import BrokenError
from wsistore.slides.base import Codec
from wsistore.slides.screen import TileScreen
from wsistore.units import MIB

_FAR_BYTES = MIB // 16
"""A gap in the source that is larger than this is not read over."""


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
        if _is_plain(job):
            _write_runs(job, source, upload, index, progress)
        else:
            for slot, data in _chunks(job, source):
                index[slot] = (upload.size_bytes, len(data))
                upload.write(data)
                progress(len(data))
        upload.write(shards.encode_index(index))
        upload.complete()


def _is_plain(job: ShardJob) -> bool:
    """Say whether each chunk is one run of source bytes; then chunks are copied many at a time."""
    tiles = job.segments["tile"]
    return not _header_of_strips(job) and not np.any(tiles[1:] == tiles[:-1])


def _write_runs(
    job: ShardJob,
    source: SourceBytes,
    upload: RecordedUpload,
    index: npt.NDArray[np.void],
    progress: Callable[[int], None],
) -> None:
    """Write the chunks of a plain shard in the order of the source, a window's worth at a time."""
    segments = job.segments[np.lexsort((job.segments["tile"], job.segments["offset"], job.segments["file"]))]
    _, slots = job.plan.grid.shard_of_chunk(job.plan.chunk_of_tile(segments["tile"])[0])
    window, look = source.window(), _Look(job)
    for first, last in _batches(segments):
        batch = segments[first:last]
        begin = int(batch["offset"][0])
        starts = batch["offset"] - begin
        stops = starts + batch["length"]
        data = window.get(int(batch["file"][0]), begin, int(stops.max()))
        look(data, batch["tile"], starts, stops)
        upload.settle()  # what the next window's bytes will lie over
        ends = np.cumsum(batch["length"])
        index["offset"][slots[first:last]] = upload.size_bytes + ends - batch["length"]
        index["nbytes"][slots[first:last]] = batch["length"]
        for run in np.split(np.arange(len(batch)), np.flatnonzero(starts[1:] != stops[:-1]) + 1):
            upload.write(data[int(starts[run[0]]) : int(stops[run[-1]])], kept=True)
        progress(int(ends[-1]))


def _batches(segments: npt.NDArray[np.void]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows, sorted by file and offset, that lie close together and fit into a window."""
    stops = segments["offset"] + segments["length"]
    far = (segments["file"][1:] != segments["file"][:-1]) | (segments["offset"][1:] - stops[:-1] > _FAR_BYTES)
    for group in np.split(np.arange(len(segments)), np.flatnonzero(far) + 1):
        first, last = int(group[0]), int(group[-1]) + 1
        while first < last:
            limit = segments["offset"][first] + WINDOW_BYTES
            end = first + int(np.searchsorted(stops[first:last], limit, side="right"))
            yield first, max(end, first + 1)
            first = max(end, first + 1)


class _Look:
    """Looks at a window's tiles: at all of them together where that is possible, else one by one."""

    def __init__(self, job: ShardJob) -> None:
        coding = job.plan.level.coding
        self._check = job.check
        self._screen = TileScreen() if coding is not None and coding.codec is Codec.JPEG else None

    def __call__(
        self,
        data: memoryview,
        tiles: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        stops: npt.NDArray[np.int64],
    ) -> None:
        if self._check is None:
            return
        if self._screen is None:
            self._each(data, tiles, starts, stops, range(len(tiles)))
            return
        pixels = np.frombuffer(data, np.uint8)
        suspects = self._screen.suspects(pixels, starts, stops)
        if len(suspects) == len(tiles):
            # Nothing is known yet, or the header has changed: one look may tell of all.
            self._each(data, tiles, starts, stops, range(1))
            suspects = self._screen.suspects(pixels, starts, stops)
        self._each(data, tiles, starts, stops, suspects.tolist())

    def _each(
        self,
        data: memoryview,
        tiles: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        stops: npt.NDArray[np.int64],
        places: Iterable[int],
    ) -> None:
        for place in places:
            tile = data[int(starts[place]) : int(stops[place])]
            if self._check is not None:
                self._check(int(tiles[place]), tile)
            if self._screen is not None:
                self._screen.learn(tile)


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
