"""Reads rectangles of a level straight from its chunks: what takes part is fetched at once and decoded in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import zarr

from wsistore.compress import threads as thread_pools
from wsistore.compress.chunk_bytes import ChunkBytes, Indexes, Objects, Place
from wsistore.compress.chunk_decoders import ChunkDecoder, Pixels, decoder_of
from wsistore.compress.coding import CodingError, Payloads
from wsistore.compress.grid import ArrayGrid, Ints, from_metadata
from wsistore.compress.lru import BytesLru
from wsistore.errors import IntegrityError, WsistoreError
from wsistore.storage.base import Span
from wsistore.units import MIB

CACHE_BYTES = 64 * MIB
"""What a slide keeps by default: folds that were undone, and decoded tiles that were used in part, for a neighbour may
want the rest."""
INDEX_BYTES = 32 * MIB
"""Of shard indexes that a slide keeps; those of the largest slides are a few MiB."""
_BATCH_BYTES = 16 * MIB
"""Compressed bytes that are fetched before they are decoded."""
_FAR_BATCH_BYTES = MIB
"""The same from far away, where others come meanwhile."""
_READERS = _BATCH_BYTES // _FAR_BATCH_BYTES
"""Threads of the process that wait for such bytes."""
_TOGETHER = 64
"""Chunks that are objects of their own, fetched before they are decoded."""
_FAR = 2**40
"""Pixels; positions are cut to this, which is far outside of any slide."""

Window = tuple[int, int, int, int, int, int, int]
"""Number of the rectangle; top, bottom, left, right in pixels of the level; top and left of the rectangle."""


class LevelPixels(Protocol):
    """The pixels of one level. Threads share it."""

    def read(self, positions: Ints, height: int, width: int, threads: int | None = None) -> Pixels:
        """Return rectangles of one size.

        Parameters
        ----------
        positions
            (n, 2) int64: y and x of their top left corners; what lies outside the level reads as its fill value.
        height, width
            Of each rectangle, in pixels.
        threads
            How many decode at most; None: as many as there are processors.

        Returns
        -------
        pixels
            (n, height, width, c), of the array's dtype.

        """
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Decoded rows of a chunk."""

    first: int
    """Number of the first one."""
    pixels: Pixels
    """(y, x, c)."""


@runtime_checkable
class KeepsUndone(Protocol):
    """Keeps folds that were undone for longer than a slide is open. Threads share it; it never raises."""

    def undone(self, key: str, span: Span) -> Payloads | None:
        """Return the payloads of the fold that lies in a part of an object; None if they are not kept."""
        ...

    def keep_undone(self, key: str, span: Span, payloads: Payloads) -> None:
        """Keep them, if there is room."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What the levels of a slide keep."""

    chunks: BytesLru[tuple[int, int], Payloads | Rows]
    """By level and number."""
    indexes: Indexes
    far: KeepsUndone | None = None
    """Keeps folds for longer."""


def kept(cache_bytes: int = CACHE_BYTES, far: KeepsUndone | None = None) -> Kept:
    """Return empty caches."""
    return Kept(BytesLru(cache_bytes), BytesLru(INDEX_BYTES), far)


def level_pixels(array: zarr.Array[Any], number: int, objects: Objects, keep: Kept, name: str) -> LevelPixels:
    """Return what reads the array of level `number`; through Zarr itself where its layout is not one that we write.

    `name` is the slide's, for messages.
    """
    grid = _grid_of(array)
    if grid is None:
        return ZarrPixels(array)
    known, sharded = grid
    chunks = ChunkBytes(objects, known, sharded=sharded, indexes=keep.indexes, name=name)
    return ChunkPixels(array, number, chunks, decoder_of(array, known.chunk_shape), keep)


def _grid_of(array: zarr.Array[Any]) -> tuple[ArrayGrid, bool] | None:
    document: Any = array.metadata.to_dict()
    try:
        if document["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
            return None
        if document["codecs"][0]["name"] != "sharding_indexed":
            shape, chunk = (tuple(int(n) for n in part) for part in (array.shape, array.chunks))
            return (ArrayGrid(array.path, shape, chunk, (1, 1)), False) if chunk[0] == shape[0] else None  # type: ignore[arg-type]
        config = document["codecs"][0]["configuration"]
        index = [codec["name"] for codec in config["index_codecs"]], config["index_location"]
        if index != (["bytes", "crc32c"], "end") or config["index_codecs"][0]["configuration"] != {"endian": "little"}:
            return None
        found = from_metadata(array.path, document, where=f"{array.path}/zarr.json")
    except (KeyError, TypeError, ValueError, IndexError, IntegrityError):
        return None
    return (found, True) if found.chunk_shape[0] == found.shape[0] else None


class ZarrPixels:
    """Pixels as Zarr reads them."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array

    def read(self, positions: Ints, height: int, width: int, threads: int | None = None) -> Pixels:
        """Return rectangles of one size."""
        channels, rows, columns = self._array.shape
        out = np.full((len(positions), height, width, channels), self._array.fill_value, self._array.dtype)
        for target, (y, x) in zip(out, positions.tolist(), strict=True):
            top, left, bottom, right = max(0, y), max(0, x), min(rows, y + height), min(columns, x + width)
            if top < bottom and left < right:
                pixels = np.asarray(self._array[:, top:bottom, left:right])
                target[top - y : bottom - y, left - x : right - x] = np.moveaxis(pixels, 0, -1)
        return out


class ChunkPixels:
    """Pixels decoded from chunks without Zarr in between.

    Zarr decodes chunks into an array of its own order (c, y, x), one event loop for all. Here a tile is decoded once
    per call, as (y, x, c), by a thread that then copies what is wanted of it to all rectangles that want it.
    """

    def __init__(
        self, array: zarr.Array[Any], number: int, chunks: ChunkBytes, decoder: ChunkDecoder, keep: Kept
    ) -> None:
        self._dtype, self._fill, self._number = array.dtype, array.fill_value, number
        self._chunks, self._decoder, self._keep = chunks, decoder, keep

    def read(self, positions: Ints, height: int, width: int, threads: int | None = None) -> Pixels:
        """Return rectangles of one size."""
        grid = self._chunks.grid
        positions = np.clip(positions, -_FAR, _FAR)
        out = np.empty((len(positions), height, width, grid.shape[0]), self._dtype)
        _, rows, columns = grid.shape
        (y, x) = positions.T
        for outside in np.flatnonzero((y < 0) | (x < 0) | (y + height > rows) | (x + width > columns)).tolist():
            out[outside] = self._fill
        uses = [_Use(self, out, chunk, windows) for chunk, windows in _plan(grid, positions, height, width).items()]
        uses = [use for use in uses if not use.from_rows()]
        thread_pools.run([use.show for use in uses if use.payloads is not None], threads)
        left = [use for use in uses if use.payloads is None]
        if self._chunks.sharded:
            self._read_shards(left, threads)
        else:
            self._read_objects(left, threads)
        return out

    def _read_objects(self, uses: list[_Use], threads: int | None) -> None:
        if not self._chunks.at_once:
            thread_pools.run([partial(use.load, partial(self._chunks.whole, use.chunk)) for use in uses], threads)
            return
        for first in range(0, len(uses), _TOGETHER):
            batch = uses[first : first + _TOGETHER]
            found = self._chunks.wholes([use.chunk for use in batch])
            thread_pools.run([partial(use.show_chunk, data) for use, data in zip(batch, found, strict=True)], threads)

    def _read_shards(self, uses: list[_Use], threads: int | None) -> None:
        there: list[tuple[Place, _Use]] = []
        for use, place in zip(uses, self._chunks.locate([use.chunk for use in uses]), strict=True):
            if place is None:
                use.fill()
            else:
                use.place = place
                there.append((place, use))
        if self._decoder.folds and self._keep.far is not None:
            thread_pools.run([use.recall for _, use in there], threads)
            there = [one for one in there if one[1].payloads is None]
        there.sort(key=lambda one: (one[0].shard, one[0].offset))
        for batch, found in self._fetched(there):
            jobs = [partial(use.show_chunk, data) for (_, use), data in zip(batch, found, strict=True)]
            thread_pools.run(jobs, threads)

    def _fetched(self, there: list[tuple[Place, _Use]]) -> Iterator[tuple[list[tuple[Place, _Use]], list[bytes]]]:
        """Yield chunks with their bytes, as many as are held at a time.

        Where bytes come from far, those of the next ones come while these are decoded.
        """
        batches = list(_batches(there, _FAR_BATCH_BYTES if self._chunks.at_once else _BATCH_BYTES))
        if not self._chunks.at_once or len(batches) < 2:
            for batch in batches:
                yield batch, self._fetch(batch)
            return
        readers = thread_pools.shared_pool("readers", _READERS)
        left = iter(batches)
        coming = deque((batch, readers.submit(self._fetch, batch)) for batch in islice(left, _READERS))
        try:
            while coming:
                batch, task = coming.popleft()
                found = task.result()
                coming.extend((more, readers.submit(self._fetch, more)) for more in islice(left, 1))
                yield batch, found
        finally:
            # Who stops in between leaves nothing that still asks.
            wait([task for _, task in coming if not task.cancel()])

    def _fetch(self, batch: list[tuple[Place, _Use]]) -> list[bytes]:
        return self._chunks.fetch([place for place, _ in batch])

    def fill(self, target: Pixels) -> None:
        """Fill what an absent chunk would show."""
        target[...] = self._fill

    def recalled(self, chunk: int, place: Place) -> Payloads | None:
        """Return the payloads of a fold that was undone before, as far as that is kept."""
        if self._keep.far is None:
            return None
        payloads = self._keep.far.undone(self._chunks.key(chunk), Span(place.offset, place.length))
        if payloads is not None:
            self._keep_payloads(chunk, payloads)
        return payloads

    def undo(self, chunk: int, data: bytes, place: Place | None) -> Payloads:
        """Return the payloads of a chunk, and keep those of folds."""
        try:
            payloads = self._decoder.payloads(data)
        except Exception as error:  # codec libraries raise what they like
            raise self._undecodable(chunk, error) from error
        if self._decoder.folds:
            self._keep_payloads(chunk, payloads)
            if self._keep.far is not None and place is not None:
                self._keep.far.keep_undone(self._chunks.key(chunk), Span(place.offset, place.length), payloads)
        return payloads

    def _keep_payloads(self, chunk: int, payloads: Payloads) -> None:
        self._keep.chunks.put((self._number, chunk), payloads, sum(len(one or b"") for one in payloads))

    def decode(self, chunk: int, payloads: Payloads, top: int, bottom: int) -> tuple[int, Pixels]:
        """Return rows of a chunk."""
        try:
            return self._decoder.decode(payloads, top, bottom)
        except Exception as error:  # codec libraries raise what they like
            raise self._undecodable(chunk, error) from error

    def _undecodable(self, chunk: int, error: Exception) -> WsistoreError:
        if isinstance(error, WsistoreError):
            return error
        row, column = divmod(chunk, self._chunks.grid.chunk_grid[1])
        where = f"row {row}, column {column} of level {self._number} of {self._chunks.name}"
        reason = str(error) if isinstance(error, CodingError) else f"cannot be decoded: {error!r:.200}"
        msg = f"The chunk in {where} ({self._chunks.key(chunk)}) {reason}."
        return IntegrityError(msg, remedy="Verify the slide, and restore it from another copy.")

    def known(self, chunk: int) -> Payloads | Rows | None:
        """Return what is kept of a chunk."""
        return self._keep.chunks.get((self._number, chunk))

    def keep(self, chunk: int, first: int, pixels: Pixels) -> None:
        """Keep rows of a chunk that is no fold."""
        if not self._decoder.folds:
            self._keep.chunks.put((self._number, chunk), Rows(first, pixels), pixels.nbytes)

    def shown(self, chunk: int) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of what the level shows of a chunk, in its pixels."""
        (_, rows, columns), (_, height, width) = self._chunks.grid.shape, self._chunks.grid.chunk_shape
        row, column = divmod(chunk, self._chunks.grid.chunk_grid[1])
        return row * height, min((row + 1) * height, rows), column * width, min((column + 1) * width, columns)


class _Use:
    """One chunk, and all windows of it that a call wants."""

    __slots__ = ("_bottom", "_level", "_out", "_shown", "_top", "_windows", "chunk", "payloads", "place")

    def __init__(self, level: ChunkPixels, out: Pixels, chunk: int, windows: list[Window]) -> None:
        self.chunk = chunk
        self.payloads: Payloads | None = None
        self.place: Place | None = None
        self._level, self._out, self._windows = level, out, windows
        self._shown = level.shown(chunk)
        self._top = min(window[1] for window in windows) - self._shown[0]
        self._bottom = max(window[2] for window in windows) - self._shown[0]

    def from_rows(self) -> bool:
        """Copy the windows from rows that are kept; False if these are not enough."""
        found = self._level.known(self.chunk)
        if not isinstance(found, Rows):
            self.payloads = found
            return False
        if found.first > self._top or found.first + len(found.pixels) < self._bottom:
            return False
        self._copy(found.first, found.pixels)
        return True

    def load(self, get: Callable[[], bytes | None]) -> None:
        """Decode the chunk, whose bytes `get` returns, and copy the windows from it."""
        self.show_chunk(get())

    def show_chunk(self, data: bytes | None) -> None:
        """Decode the chunk from its bytes, and copy the windows from it; None: there is no such chunk."""
        if data is None:
            self.fill()
            return
        self.payloads = self._level.undo(self.chunk, data, self.place)
        self.show()

    def recall(self) -> None:
        """Copy the windows from a fold that was undone before, if that is kept; `payloads` stays None if not."""
        if self.place is not None:
            self.payloads = self._level.recalled(self.chunk, self.place)
        if self.payloads is not None:
            self.show()

    def show(self) -> None:
        """Decode what is wanted of the payloads, and copy the windows from it."""
        first, pixels = self._level.decode(self.chunk, self.payloads or [], self._top, self._bottom)
        self._copy(first, pixels)
        if self._is_partial():
            self._level.keep(self.chunk, first, pixels)

    def fill(self) -> None:
        """Show the fill value: there is no such chunk."""
        for number, top, bottom, left, right, y, x in self._windows:
            self._level.fill(self._out[number, top - y : bottom - y, left - x : right - x])

    def _copy(self, first: int, pixels: Pixels) -> None:
        above, _, before, _ = self._shown
        above += first
        for number, top, bottom, left, right, y, x in self._windows:
            target = self._out[number, top - y : bottom - y, left - x : right - x]
            target[...] = pixels[top - above : bottom - above, left - before : right - before]

    def _is_partial(self) -> bool:
        """Say whether no window shows all of the chunk: others may want the rest."""
        return all(window[1:5] != self._shown for window in self._windows)


def _batches(there: list[tuple[Place, _Use]], most_bytes: int) -> Iterator[list[tuple[Place, _Use]]]:
    """Yield what is fetched at once: compressed bytes are held for one batch at a time."""
    batch: list[tuple[Place, _Use]] = []
    size = 0
    for one in there:
        if batch and size + one[0].length > most_bytes:
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one[0].length
    if batch:
        yield batch


def _plan(grid: ArrayGrid, positions: Ints, height: int, width: int) -> dict[int, list[Window]]:
    """Return the chunks that the rectangles at `positions` touch, each with its windows."""
    (_, rows, columns), (_, tall, wide), across = grid.shape, grid.chunk_shape, grid.chunk_grid[1]
    found: dict[int, list[Window]] = {}
    for number, (y, x) in enumerate(positions.tolist()):
        top, bottom, left, right = max(y, 0), min(y + height, rows), max(x, 0), min(x + width, columns)
        if top >= bottom or left >= right:
            continue
        for row in range(top // tall, -(-bottom // tall)):
            above, below = max(top, row * tall), min(bottom, (row + 1) * tall)
            for column in range(left // wide, -(-right // wide)):
                window = (number, above, below, max(left, column * wide), min(right, (column + 1) * wide), y, x)
                found.setdefault(row * across + column, []).append(window)
    return found
