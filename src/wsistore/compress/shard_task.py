"""The work of re-encoding, cut for workers: a task reads tiles of a copy and writes whole shards of another.

Tasks are pure, small to send, and may run twice or be begun anew: the same shards come out, under keys that only this
attempt uses. Beside each shard lies a note that says it is whole; a task whose notes are there has nothing to do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wsistore.clock import cpu_seconds
from wsistore.compress import bounded, shards
from wsistore.compress.archive import open_stored
from wsistore.compress.coding import ChunkCoding, CodingError
from wsistore.compress.codings import coding_of
from wsistore.compress.grid import ArrayGrid, Ints, from_metadata
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.recording import Recorder
from wsistore.compress.source_order import source_order
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.model import ObjectRecord
from wsistore.storage.base import Span, Storage
from wsistore.storage.open import open_storage
from wsistore.units import MIB, format_bytes

_log = logging.getLogger(__name__)

_READ_BYTES = 16 * MIB
"""Stored bytes of the source copy held at a time, beside the payloads made of them."""


class StorageRef(Protocol):
    """How a worker gets at a tier: picklable, and the same for all tasks of a tier."""

    def __call__(self) -> Storage:
        """Return the opened storage."""
        ...

    def __hash__(self) -> int:
        """Workers keep what they have opened."""
        ...


@dataclass(frozen=True, slots=True)
class TierUrl:
    """A tier by its URL, which every worker must be able to reach."""

    url: str

    def __call__(self) -> Storage:
        """Open it."""
        return open_storage(self.url)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Shards of one level to write; together they are made from the same chunks of the source."""

    source: StorageRef
    source_place: Place
    target: StorageRef
    target_place: Place
    level: int
    shards: tuple[int, ...]
    source_shards: frozenset[int]
    """Those of the source copy that are there and that these are made from."""
    keep: bool
    """Whether chunks are to lie as in the source's files."""
    document: Mapping[str, Any]
    """The zarr.json of the level in the new copy."""
    bytes_stored: int
    """What its tiles take in the source copy: how large this task is beside others."""


@dataclass(frozen=True, slots=True)
class ShardNote:
    """What became of one shard."""

    record: ObjectRecord | None
    """None if there is no tile in it: then there is no object."""
    bytes_payload: int
    """Of its tiles, as the source has them."""
    tiles: int
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    resumed: bool = False
    """Whether an earlier run wrote it."""


@lru_cache(maxsize=4)
def _opened(ref: StorageRef, place: Place) -> StoredSlide:
    return open_stored(ref(), place)


def note_key(task: ShardTask, grid: ArrayGrid, shard: int) -> str:
    """Return the key of a shard's note, which is removed before the attempt is committed."""
    return f"{task.target_place.private}notes/{grid.shard_key(shard)}.json"


def run_task(task: ShardTask) -> tuple[ShardNote, ...]:
    """Write the shards of a task; return what became of them, in the order of `task.shards`.

    Raises
    ------
    IntegrityError
        If the source copy is damaged.
    StorageError
        If a tier fails; nothing of the shard under way is visible then.

    """
    where = f"{task.target_place.store}{task.level}/image/zarr.json"
    grid = from_metadata(f"{task.level}/image", dict(task.document), where=where)
    coding = coding_of(dict(task.document), where=where)
    storage = task.target()
    prefix = task.target_place.store
    notes = {s: _read_note(storage, note_key(task, grid, s), prefix + grid.shard_key(s)) for s in task.shards}
    todo = [shard for shard in task.shards if notes[shard] is None]
    if todo:
        source = _opened(task.source, task.source_place)
        begun = cpu_seconds()
        payloads = _payloads(task, source, grid, coding.tiles, todo)
        share = (cpu_seconds() - begun) / len(todo)
        for shard in todo:
            notes[shard] = _write(task, source, storage, grid, coding, shard, payloads, share)
    done = tuple(note for shard in task.shards if (note := notes[shard]) is not None)
    _tell(task, done)
    return done


def _tell(task: ShardTask, done: Sequence[ShardNote]) -> None:
    """Log what became of a task's shards: it is read where the run was started."""
    _log.info(
        "slide %s, level %d: %d tiles, %s became %s (shards: %d, of which %d were there)",
        task.target_place.slide,
        task.level,
        sum(note.tiles for note in done),
        format_bytes(sum(note.bytes_payload for note in done)),
        format_bytes(sum(note.record.size_bytes for note in done if note.record is not None)),
        len(done),
        sum(note.resumed for note in done),
    )


def _read_note(storage: Storage, key: str, shard_key: str) -> ShardNote | None:
    """Return the note of a shard that an earlier run finished, if its object is there too."""
    try:
        note = _note(bounded.json_object(storage.get(key), where=key))
        record = note.record
        if record is not None and (record.key, storage.head(shard_key).size_bytes) != (shard_key, record.size_bytes):
            return None
    except ObjectMissingError:
        return None
    except (IntegrityError, LookupError, TypeError, ValueError, OverflowError):
        return None  # not ours, or cut off: the shard is written again
    return note


def _note(document: Mapping[str, Any]) -> ShardNote:
    record = document["record"]
    found = None
    if record is not None:
        key, sha256 = bounded.text(record["key"]), bounded.text(record["sha256"])
        found = ObjectRecord(key, bounded.count(record["size_bytes"]), sha256)
    fallbacks = {reason: bounded.count(tiles) for reason, tiles in bounded.mapping(document["fallbacks"]).items()}
    size, tiles = bounded.count(document["bytes_payload"]), bounded.count(document["tiles"])
    return ShardNote(found, size, tiles, fallbacks, float(document["cpu_seconds"]), resumed=True)


def _write(
    task: ShardTask,
    source: StoredSlide,
    storage: Storage,
    grid: ArrayGrid,
    coding: ChunkCoding,
    shard: int,
    payloads: dict[int, bytes],
    cpu_before: float,
) -> ShardNote:
    begun = cpu_seconds()
    key = task.target_place.store + grid.shard_key(shard)
    index = shards.empty_index(grid.index_length)
    fallbacks: dict[str, int] = {}
    size = count = 0
    with Recorder(storage) as recorder:
        with recorder.upload(key) as upload:
            for chunk, slot in _chunks(task, source, grid, coding, shard):
                tiles = _tiles_of(grid, coding.tiles, chunk)
                mine = [payloads.get(tile) for tile in tiles]
                while mine and mine[-1] is None:
                    mine.pop()
                if not mine:
                    continue
                encoded = coding.encode(mine)
                index[slot] = (upload.size_bytes, len(encoded.data))
                upload.write(encoded.data)
                size += sum(len(payload) for payload in mine if payload is not None)
                count += sum(payload is not None for payload in mine)
                for reason, tiles_of_reason in encoded.fallbacks.items():
                    fallbacks[reason] = fallbacks.get(reason, 0) + tiles_of_reason
            if count:
                upload.write(shards.encode_index(index))
                upload.complete()
        record = recorder.records[0] if count else None
    note = ShardNote(record, size, count, fallbacks, cpu_before + cpu_seconds() - begun)
    document = {**asdict(note), "record": None if record is None else asdict(record)}
    storage.put(note_key(task, grid, shard), json.dumps(document).encode())
    return note


def _tiles_of(grid: ArrayGrid, height: int, chunk: int) -> list[int]:
    pieces = np.arange(height)
    return [int(tile) for tile in grid.tiles_of_chunks(np.full(height, chunk), pieces, height)]


def chunks_of_shard(grid: ArrayGrid, shard: int) -> Ints:
    """Return the numbers of a shard's chunks within the array, row-major."""
    (down, across), (rows, columns) = grid.chunks_per_shard, grid.chunk_grid
    row, column = divmod(shard, grid.shard_grid[1])
    r = np.arange(row * down, min((row + 1) * down, rows))
    c = np.arange(column * across, min((column + 1) * across, columns))
    return (r[:, None] * columns + c[None, :]).ravel()


def _chunks(
    task: ShardTask, source: StoredSlide, grid: ArrayGrid, coding: ChunkCoding, shard: int
) -> Iterator[tuple[int, int]]:
    """Yield number and place in the index of a shard's chunks, in the order in which they are to lie in it."""
    chunks = chunks_of_shard(grid, shard)
    if task.keep:
        chunks = source_order(source, task.level, grid, coding.tiles, shard, chunks)
    _, slots = grid.shard_of_chunk(chunks)
    yield from zip(chunks.tolist(), slots.tolist(), strict=True)


def _payloads(task: ShardTask, source: StoredSlide, grid: ArrayGrid, height: int, todo: list[int]) -> dict[int, bytes]:
    """Return the payloads of all tiles of some shards, by tile number; tiles that are not there are left out."""
    coding, (found, _) = source.coding(task.level), source.array(task.level)
    chunks = np.concatenate([chunks_of_shard(grid, shard) for shard in todo])
    pieces = np.tile(np.arange(height), len(chunks))
    wanted = np.unique(grid.tiles_of_chunks(np.repeat(chunks, height), pieces, height))
    rows, columns = -(-grid.shape[1] // coding.tile_shape[0]), grid.chunk_grid[1]
    wanted = wanted[wanted < rows * columns]
    needed = np.unique(found.chunks_of_tiles(wanted, coding.tiles)[0])
    keep = set(wanted.tolist())
    payloads: dict[int, bytes] = {}
    for chunk, data in _stored_chunks(task, source, found, needed):
        try:
            made = coding.decode(data)
        except CodingError as error:
            msg = f"Chunk {chunk} of level {task.level} of slide {source.place.slide} {error}."
            raise IntegrityError(msg, remedy=bounded.REMEDY) from error
        numbers = _tiles_of(found, coding.tiles, chunk)
        told = zip(numbers, made, strict=False)
        payloads.update((tile, payload) for tile, payload in told if payload is not None and tile in keep)
    return payloads


def _stored_chunks(task: ShardTask, source: StoredSlide, grid: ArrayGrid, chunks: Ints) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes of chunks that are there, reading neighbours together."""
    shard, slot = grid.shard_of_chunk(chunks)
    for number in sorted(task.source_shards.intersection(np.unique(shard).tolist())):
        here = shard == number
        entries = source.index(task.level, number)[slot[here]]
        there = entries["nbytes"] != shards.ABSENT
        entries, numbers = entries[there], chunks[here][there]
        key = source.place.store + grid.shard_key(number)
        for batch in _batches(entries["nbytes"].astype(np.int64)):
            spans = [Span(int(e["offset"]), int(e["nbytes"])) for e in entries[batch]]
            yield from zip(numbers[batch].tolist(), source.storage.get_many(key, spans), strict=True)


def _batches(sizes: npt.NDArray[np.int64]) -> Iterator[slice]:
    total = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _READ_BYTES, side="right")))
        yield slice(start, stop)
        start = stop
