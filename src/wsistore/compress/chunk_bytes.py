"""The stored bytes of many chunks at once: shard indexes kept, neighbours fetched together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from wsistore.compress import shards
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.lru import BytesLru
from wsistore.compress.zarr_store import GAP_BYTES, RUN_BYTES, ReadOnlyStore
from wsistore.errors import IntegrityError
from wsistore.storage.base import Span, Tail
from wsistore.storage.coalescing import coalesce

_MOST_OFFSET = 2**62

Index = npt.NDArray[np.uint64]
"""Offset and length of each chunk of a shard in turn, as `wsistore.compress.shards.INDEX_DTYPE` has them."""
Indexes = BytesLru[str, Index]

Wanted = tuple[str, Sequence[Span | Tail] | None]
"""A key, and which parts of that object; None for all of it."""
Parts = list[bytes] | None
"""In the order asked, one for a whole object; None where there is no such object."""


@runtime_checkable
class Objects(Protocol):
    """Where the objects of a hierarchy come from. Threads share it."""

    @property
    def at_once(self) -> bool:
        """Whether objects that are asked for together come at the same time."""
        ...

    def get_many(self, wanted: Sequence[Wanted]) -> list[Parts]:
        """Return parts of several objects, in the order asked; short where an object ends before."""
        ...


class SyncObjects:
    """Objects of a store that answers without delay, one after another."""

    at_once = False

    def __init__(self, store: ReadOnlyStore) -> None:
        self._store = store

    def get_many(self, wanted: Sequence[Wanted]) -> list[Parts]:
        """Return parts of several objects."""
        return [self._get(key, parts) for key, parts in wanted]

    def _get(self, key: str, parts: Sequence[Span | Tail] | None) -> Parts:
        if parts is None:
            data = self._store.read(key, None)
            return None if data is None else [data]
        return self._store.read_many(key, parts)


class AsyncObjects:
    """Objects of any other Zarr store: all requests at once, in Zarr's own event loop."""

    at_once = True

    def __init__(self, store: Store) -> None:
        self._store = store

    def get_many(self, wanted: Sequence[Wanted]) -> list[Parts]:
        """Return parts of several objects."""
        return sync(self._get_many(wanted))

    async def _get_many(self, wanted: Sequence[Wanted]) -> list[Parts]:
        return list(await asyncio.gather(*(self._get(key, parts) for key, parts in wanted)))

    async def _get(self, key: str, parts: Sequence[Span | Tail] | None) -> Parts:
        if parts is None:
            data = await self._one(key, None)
            return None if data is None else [data]
        if any(isinstance(part, Tail) for part in parts):
            tails = [SuffixByteRequest(part.length_bytes) for part in parts if isinstance(part, Tail)]
            return _all_there(await asyncio.gather(*(self._one(key, request) for request in tails)))
        spans = [(part.start, part.length_bytes) for part in parts if isinstance(part, Span)]
        runs = coalesce(spans, gap_bytes=GAP_BYTES, limit_bytes=RUN_BYTES)
        requests = [RangeByteRequest(run.start, run.start + run.length_bytes) for run in runs]
        fetched = _all_there(await asyncio.gather(*(self._one(key, request) for request in requests)))
        if fetched is None:
            return None
        found = [b""] * len(spans)
        for run, data in zip(runs, fetched, strict=True):
            for member in run.members:
                start = spans[member][0] - run.start
                found[member] = data[start : start + spans[member][1]]
        return found

    async def _one(self, key: str, request: Any) -> bytes | None:
        found = await self._store.get(key, default_buffer_prototype(), request)
        return None if found is None else found.to_bytes()


def _all_there(parts: Sequence[bytes | None]) -> Parts:
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a chunk lie."""

    shard: int
    offset: int
    length: int


class ChunkBytes:
    """The chunks of one array. Threads share it.

    Parameters
    ----------
    objects
        Where the array's objects come from.
    grid
        Chunks and shards; of an array without shards each chunk is an object, and `chunks_per_shard` is (1, 1).
    sharded
        Whether there are shards.
    indexes
        Keeps the indexes of shards that were read, by key.
    name
        Of the slide, for messages.

    """

    def __init__(self, objects: Objects, grid: ArrayGrid, *, sharded: bool, indexes: Indexes, name: str) -> None:
        self.grid, self.sharded, self.name = grid, sharded, name
        self._objects, self._indexes = objects, indexes
        self._columns, self._shard_columns = grid.chunk_grid[1], grid.shard_grid[1]

    def key(self, chunk: int) -> str:
        """Return the key of the object that a chunk is in."""
        return self.grid.shard_key(self._shard_of(chunk)[0])

    def locate(self, chunks: Sequence[int]) -> list[Place | None]:
        """Return where each of `chunks` lies; None for one that is absent.

        Raises
        ------
        IntegrityError
            If the index of a shard is damaged.

        """
        # Plain Python: of the four chunks that a patch takes each NumPy call would cost as much as all four do.
        at = [self._shard_of(chunk) for chunk in chunks]
        indexes = self._read_indexes(sorted({shard for shard, _ in at}))
        return [self._place(shard, indexes[shard], slot) for shard, slot in at]

    def fetch(self, places: Sequence[Place]) -> list[bytes]:
        """Return the bytes of chunks that are there.

        Raises
        ------
        IntegrityError
            If a shard ends before, or is gone.

        """
        members: dict[int, list[int]] = {}
        for position, place in enumerate(places):
            members.setdefault(place.shard, []).append(position)
        wanted = [
            (self.grid.shard_key(shard), [Span(places[n].offset, places[n].length) for n in group])
            for shard, group in members.items()
        ]
        found = [b""] * len(places)
        for (key, _), group, parts in zip(wanted, members.values(), self._objects.get_many(wanted), strict=True):
            for position, data in zip(group, parts or [b""] * len(group), strict=True):
                place = places[position]
                if len(data) != place.length:
                    msg = f"The shard {key} of {self.name} is cut short: it has no byte {place.offset + len(data)}."
                    raise IntegrityError(msg, remedy="Restore the slide from another copy.")
                found[position] = data
        return found

    def whole(self, chunk: int) -> bytes | None:
        """Return a chunk of an array without shards; None where there is none."""
        (parts,) = self._objects.get_many([(self.key(chunk), None)])
        return None if parts is None else parts[0]

    def wholes(self, chunks: Sequence[int]) -> list[bytes | None]:
        """Return chunks of an array without shards, asked for together; None for each that there is not."""
        found = self._objects.get_many([(self.key(chunk), None) for chunk in chunks])
        return [None if parts is None else parts[0] for parts in found]

    @property
    def at_once(self) -> bool:
        """Whether chunks that are asked for together come at the same time."""
        return self._objects.at_once

    def _shard_of(self, chunk: int) -> tuple[int, int]:
        """Return a chunk's shard and its place in the index, as `ArrayGrid.shard_of_chunk`."""
        row, column = divmod(chunk, self._columns)
        down, across = self.grid.chunks_per_shard
        return (row // down) * self._shard_columns + column // across, (row % down) * across + column % across

    def _place(self, shard: int, index: Index, slot: int) -> Place | None:
        offset, length = index.item(2 * slot), index.item(2 * slot + 1)
        if length == shards.ABSENT:
            return None
        if offset > _MOST_OFFSET or length > _MOST_OFFSET:
            msg = (
                f"The index of the shard {self.grid.shard_key(shard)} of {self.name} names bytes that cannot be there."
            )
            raise IntegrityError(msg, remedy="Restore the slide from another copy.")
        return Place(shard, offset, length)

    def _read_indexes(self, numbers: Sequence[int]) -> dict[int, Index]:
        found: dict[int, Index] = {}
        missing: list[int] = []
        for number in numbers:
            known = self._indexes.get(self.grid.shard_key(number))
            if known is None:
                missing.append(number)
            else:
                found[number] = known
        if missing:
            entries = self.grid.index_length
            wanted = [(self.grid.shard_key(number), [Tail(shards.index_bytes(entries))]) for number in missing]
            for number, (key, _), parts in zip(missing, wanted, self._objects.get_many(wanted), strict=True):
                if parts is None:  # not kept: it may have been out of reach only
                    found[number] = shards.empty_index(entries).view("<u8")
                    continue
                found[number] = shards.decode_index(parts[0], entries, where=f"{key} of {self.name}").view("<u8")
                self._indexes.put(key, found[number], found[number].nbytes)
        return found
