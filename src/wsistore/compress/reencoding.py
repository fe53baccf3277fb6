"""Planning how a copy of a slide is written again in another encoding: its arrays, and the tasks that make them."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import grid as grids
from wsistore.compress import shards, skeleton
from wsistore.compress.coding import ChunkCoding
from wsistore.compress.codings import coding_for, coding_of
from wsistore.compress.companion import KeepRecord
from wsistore.compress.fold_encoder import MOST_FOLD_PIXELS
from wsistore.compress.grid import ArrayGrid, Ints
from wsistore.compress.keys import Place
from wsistore.compress.levels import LARGEST_SHARD_BYTES, shards_of, shards_within
from wsistore.compress.presets import LEAST_SHARD_BYTES, MOST_SHARD_BYTES, Encoding
from wsistore.compress.reader import StoredSlide
from wsistore.compress.shard_task import ShardTask, StorageRef, chunks_of_shard
from wsistore.compress.source_order import order_by_layout
from wsistore.model import Mode, ObjectRecord, Preset
from wsistore.storage.base import Span
from wsistore.units import MIB

Json = dict[str, Any]

_SAMPLE_TILES = 6
_MOST_TASK_BYTES = 384 * MIB
"""Payload bytes of a task: shards that are made from the same folds are written by one task up to this much, so that
no fold is undone twice."""
_BASE_BYTES = 256 * MIB
"""Of a worker that has its libraries loaded, a read's worth of stored bytes, and libjxl at work on a tile."""
_BYTES_PER_PIXEL = 30
"""What libjxl takes of memory per pixel of a fold that it encodes: 26 were measured."""
_SHARDS = 16
"""Shards that a slide has at least where they are not too small then."""


@dataclass(frozen=True, slots=True, eq=False)
class ReencodePlan:
    """What is to be done to one copy."""

    encoding: Encoding
    target: Place
    documents: tuple[Json, ...]
    """The zarr.json of every level's image in the new copy."""
    keep: KeepRecord | None
    """None for a slide that is kept whole."""
    tasks: tuple[ShardTask, ...]
    """Largest first."""
    bytes_stored: int
    """Of the tiles in the source copy."""
    memory_bytes: int
    """What one worker takes at most."""
    source_objects: tuple[ObjectRecord, ...]
    """What the commit of the source copy records."""
    framed: bool = False
    """Whether the files of a slide that is kept whole go into frames: not in `keep`, nor where that brings nothing."""

    @property
    def shards(self) -> int:
        """Shards to write."""
        return sum(len(task.shards) for task in self.tasks)


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """One level of the source copy."""

    number: int
    grid: ArrayGrid
    coding: ChunkCoding
    present: frozenset[int]
    """Its shards."""
    sizes: npt.NDArray[np.int64]
    """Stored bytes of every chunk, 0 where there is none."""


def plan_reencode(
    stored: StoredSlide,
    source: StorageRef,
    target: Place,
    target_ref: StorageRef,
    encoding: Encoding,
    objects: Collection[ObjectRecord],
) -> ReencodePlan:
    """Plan how a copy is written in another encoding.

    Parameters
    ----------
    stored
        The copy that it is made from.
    source, target_ref
        How workers get at the tier of that copy, and of the new one.
    target
        Where the new copy will lie.
    encoding
        What it will be.
    objects
        What the commit of the source copy records.

    Raises
    ------
    IntegrityError
        If the source copy is damaged, or of a newer format.

    """
    if stored.companion.mode is Mode.WHOLE:
        framed = encoding.preset is not Preset.KEEP and _whole_gets_smaller(stored)
        return ReencodePlan(encoding, target, (), None, (), 0, _BASE_BYTES, tuple(objects), framed)
    levels = [_level(stored, number) for number in range(len(stored.companion.levels))]
    keep = stored.companion.keep or _keep_record(stored, levels, objects)
    total = sum(int(level.sizes.sum()) for level in levels)
    documents, tasks, memory = [], [], 0
    payloads = _payload_bytes(stored, levels)
    for level in levels:
        arrays = keep.arrays[level.number]
        document, coding = _document(stored, level, arrays, encoding, total, payloads[level.number])
        documents.append(document)
        grid = grids.from_metadata(f"{level.number}/image", document, where=target.store)
        for group, size, stored_size, sources in _groups(level, grid, coding, payloads[level.number]):
            tasks.append(
                ShardTask(
                    source=source,
                    source_place=stored.place,
                    target=target_ref,
                    target_place=target,
                    level=level.number,
                    shards=group,
                    source_shards=sources,
                    keep=encoding.preset is Preset.KEEP,
                    document=document,
                    bytes_stored=stored_size,
                )
            )
            pixels = max(_most_pixels(grid, coding), _most_pixels(level.grid, level.coding))
            memory = max(memory, _BASE_BYTES + size + size // 4 + _BYTES_PER_PIXEL * pixels)
    tasks.sort(key=lambda task: -task.bytes_stored)
    return ReencodePlan(encoding, target, tuple(documents), keep, tuple(tasks), total, memory, tuple(objects))


def _most_pixels(grid: ArrayGrid, coding: ChunkCoding) -> int:
    """Return the pixels of the largest picture that is encoded or decoded at once."""
    return min(math.prod(grid.chunk_shape[1:]), max(MOST_FOLD_PIXELS, math.prod(coding.tile_shape)))


def whole_file(stored: StoredSlide, number: int) -> Iterator[bytes | memoryview]:
    """Yield a file of a slide that is kept whole, in blocks."""
    if stored.skeleton is None:
        yield from stored.storage.stream(stored.place.source(number))
        return
    sizes = [file.size_bytes for file in stored.companion.files]
    start, stop = sum(sizes[:number]), sum(sizes[: number + 1])
    for offset in range(start, stop, skeleton.FRAME_BYTES):
        yield stored.skeleton.read(offset, min(skeleton.FRAME_BYTES, stop - offset))


def _whole_gets_smaller(stored: StoredSlide) -> bool:
    """Say whether a slide that is kept whole gets smaller in frames: it does if one that is so already was worth it."""
    if stored.skeleton is not None:
        return True
    largest = max(range(len(stored.companion.files)), key=lambda number: stored.companion.files[number].size_bytes)
    key = stored.place.source(largest)

    def read(start: int, length: int) -> bytes:
        return stored.storage.get(key, Span(start, length))

    return skeleton.is_worth_it(read, stored.companion.files[largest].size_bytes)


def _level(stored: StoredSlide, number: int) -> _Level:
    grid, _ = stored.array(number)
    prefix = f"{stored.place.store}{grid.path}/c/0/"
    there = {info.key for info in stored.storage.list(prefix)}
    shard_count = math.prod(grid.shard_grid)
    present = frozenset(n for n in range(shard_count) if stored.place.store + grid.shard_key(n) in there)
    sizes = np.zeros(math.prod(grid.chunk_grid), np.int64)
    for shard in sorted(present):
        chunks = chunks_of_shard(grid, shard)
        entries = stored.index(number, shard)[grid.shard_of_chunk(chunks)[1]]
        sizes[chunks] = np.where(entries["nbytes"] == shards.ABSENT, 0, entries["nbytes"]).astype(np.int64)
    return _Level(number, grid, stored.coding(number), present, sizes)


def _keep_record(stored: StoredSlide, levels: list[_Level], objects: Collection[ObjectRecord]) -> KeepRecord:
    """Return the record of a copy that is in the preset `keep`."""
    prefix = stored.place.store
    records = [
        ObjectRecord(record.key.removeprefix(prefix), record.size_bytes, record.sha256)
        for record in objects
        if record.key.startswith(prefix)
    ]
    orders = {key: order for level in levels for key, order in _odd_orders(stored, level)}
    arrays = tuple(stored.document(f"{level.number}/image") for level in levels)
    return KeepRecord(arrays, tuple(records), orders)


def _odd_orders(stored: StoredSlide, level: _Level) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the shards whose chunks do not lie as the layout tells, and how they lie."""
    for shard in sorted(level.present):
        chunks = chunks_of_shard(level.grid, shard)
        entries = stored.index(level.number, shard)[level.grid.shard_of_chunk(chunks)[1]]
        there = entries["nbytes"] != shards.ABSENT
        found = chunks[there][np.argsort(entries["offset"][there], kind="stable")]
        told = order_by_layout(stored, level.number, level.grid, level.coding.tiles, chunks)
        if not np.array_equal(found, told[np.isin(told, found)]):
            yield level.grid.shard_key(shard), tuple(found.tolist())


def _document(
    stored: StoredSlide,
    level: _Level,
    keep: Mapping[str, Any],
    encoding: Encoding,
    total: int,
    payloads: Ints,
) -> tuple[Json, ChunkCoding]:
    """Return a level's zarr.json in the new copy, and its coding; `payloads` are the bytes of its tiles."""
    path, document = f"{level.number}/image", copy.deepcopy(dict(keep))
    where = f"{stored.place.private} (keep, level {level.number})"
    keep_grid, keep_coding = grids.from_metadata(path, document, where=where), coding_of(document, where=where)
    if encoding.preset is Preset.KEEP:
        return document, keep_coding
    coding = coding_for(document, keep_grid, keep_coding, encoding, _sample(stored, level))
    channels, rows, columns = keep_grid.shape
    height, width = coding.tile_shape[0] * coding.tiles, coding.tile_shape[1]
    down, across = -(-rows // height), -(-columns // width)
    aim = min(MOST_SHARD_BYTES, max(LEAST_SHARD_BYTES, total // _SHARDS))
    per_shard = shards_of((down, across), int(level.sizes.sum()), aim)
    tiles = np.flatnonzero(payloads)
    there = tiles // across // coding.tiles, tiles % across
    per_shard = shards_within(there, payloads[tiles], per_shard, LARGEST_SHARD_BYTES)
    document["chunk_grid"]["configuration"]["chunk_shape"] = [channels, height * per_shard[0], width * per_shard[1]]
    inner = document["codecs"][0]["configuration"]
    inner["chunk_shape"], inner["codecs"] = [channels, height, width], coding.codecs
    return document, coding


def _sample(stored: StoredSlide, level: _Level) -> list[bytes]:
    """Return some payloads of a level, from chunks spread evenly over it."""
    chunks = np.flatnonzero(level.sizes)
    picked = chunks[np.linspace(0, len(chunks) - 1, min(len(chunks), _SAMPLE_TILES)).astype(int)] if len(chunks) else []
    found = (stored.payloads(level.number, int(chunk)) for chunk in picked)
    return [payload for payloads in found for payload in payloads[:1] if payload is not None]


def _payload_bytes(stored: StoredSlide, levels: list[_Level]) -> list[npt.NDArray[np.int64]]:
    """Return for each level the payload bytes of every tile, as far as the layout has them."""
    table, found = stored.layout(), []
    for level in levels:
        rows = table[table["level"] == level.number]
        tiles = level.grid.tiles_of_chunks(rows["chunk"], rows["piece"].astype(np.int64), level.coding.tiles)
        sizes = np.zeros(level.grid.chunk_grid[0] * level.coding.tiles * level.grid.chunk_grid[1], np.int64)
        np.add.at(sizes, tiles, rows["length"])
        found.append(sizes)
    return found


def _groups(
    level: _Level, grid: ArrayGrid, coding: ChunkCoding, payloads: npt.NDArray[np.int64]
) -> Iterator[tuple[tuple[int, ...], int, int, frozenset[int]]]:
    """Yield for each task its shards, the payload bytes, the stored bytes, and the source's shards that it reads."""
    rows_down, columns = grid.shard_grid
    tile_rows = grid.chunks_per_shard[0] * coding.tiles
    together = max(1, level.coding.tiles // tile_rows)
    for column in range(columns):
        for top in range(0, rows_down, together):
            group = [row * columns + column for row in range(top, min(rows_down, top + together))]
            whole = _task(level, grid, coding, payloads, group)
            if whole is not None and whole[1] > _MOST_TASK_BYTES:
                yield from (t for n in group if (t := _task(level, grid, coding, payloads, [n])) is not None)
            elif whole is not None:
                yield whole


def _task(
    level: _Level, grid: ArrayGrid, coding: ChunkCoding, payloads: npt.NDArray[np.int64], group: list[int]
) -> tuple[tuple[int, ...], int, int, frozenset[int]] | None:
    chunks = np.concatenate([chunks_of_shard(grid, shard) for shard in group])
    tiles = _tiles(grid, chunks, coding.tiles)
    tiles = tiles[tiles < len(payloads)]
    sources = np.unique(level.grid.chunks_of_tiles(tiles, level.coding.tiles)[0])
    stored_bytes = int(level.sizes[sources].sum())
    if not stored_bytes:
        return None
    there = sources[level.sizes[sources] > 0]
    shard_numbers = frozenset(np.unique(level.grid.shard_of_chunk(there)[0]).tolist())
    return tuple(group), max(int(payloads[tiles].sum()), stored_bytes), stored_bytes, shard_numbers


def _tiles(grid: ArrayGrid, chunks: Ints, height: int) -> Ints:
    pieces = np.tile(np.arange(height), len(chunks))
    return grid.tiles_of_chunks(np.repeat(chunks, height), pieces, height)
