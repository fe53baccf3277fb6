"""Stores for Zarr over what wsistore keeps: objects of a tier, and sources that are not stored at all."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

from typing_extensions import override
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.storage.base import Span, Storage, Tail
from wsistore.storage.coalescing import coalesce

GAP_BYTES, RUN_BYTES = 64 * 1024, 8 * 1024 * 1024
"""Parts of an object that are nearer to each other are read at once, up to so many bytes."""


class ReadOnlyStore(Store):
    """A Zarr store that answers `read` and `names` and refuses to change anything."""

    supports_writes = False
    supports_deletes = False
    supports_listing = True
    supports_partial_writes = False

    def __init__(self) -> None:
        super().__init__(read_only=True)

    @abstractmethod
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        """Return an object or a part of it; None if there is none."""

    def read_many(self, key: str, parts: Sequence[Span | Tail]) -> list[bytes] | None:
        """Return several parts of one object, in the order asked and short where it ends before; None if there is none.

        Either all are spans, or all are tails.
        """
        found = [b""] * len(parts)
        spans = [(part.start, part.length_bytes) for part in parts if isinstance(part, Span)]
        if len(spans) < len(parts):
            tails = [self.read(key, SuffixByteRequest(part.length_bytes)) for part in parts]
            return None if any(tail is None for tail in tails) else [tail for tail in tails if tail is not None]
        for run in coalesce(spans, gap_bytes=GAP_BYTES, limit_bytes=RUN_BYTES):
            data = self.read(key, RangeByteRequest(run.start, run.start + run.length_bytes))
            if data is None:
                return None
            for member in run.members:
                start = spans[member][0] - run.start
                found[member] = data[start : start + spans[member][1]]
        return found

    @abstractmethod
    def names(self, prefix: str) -> Iterable[str]:
        """Return the keys that start with `prefix`."""

    @override
    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        data = await asyncio.to_thread(self.read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    @override
    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    @override
    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self.read, key, RangeByteRequest(0, 1)) is not None

    @override
    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()

    @override
    async def delete(self, key: str) -> None:
        self._check_writable()

    @override
    async def list(self) -> AsyncIterator[str]:
        async for key in self.list_prefix(""):
            yield key

    @override
    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(lambda: list(self.names(prefix))):
            yield key

    @override
    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        folder = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        seen = set()
        async for key in self.list_prefix(folder):
            name = key[len(folder) :].split("/", 1)[0]
            if name not in seen:
                seen.add(name)
                yield name


class TierStore(ReadOnlyStore):
    """The objects of a tier under a prefix, as Zarr reads them.

    Parameters
    ----------
    storage, prefix
        Where they lie.
    required
        Keys of the tier that a commit names. To Zarr an object that is missing is a chunk of background; of these,
        one that is missing is a loss, and reading it raises `IntegrityError`.

    """

    def __init__(self, storage: Storage, prefix: str, *, required: Collection[str] = ()) -> None:
        super().__init__()
        self._storage, self._prefix = storage, prefix
        self._required = frozenset(required)

    @override
    def __eq__(self, value: object) -> bool:
        return isinstance(value, TierStore) and value._storage is self._storage and value._prefix == self._prefix

    def __hash__(self) -> int:
        return hash(self._prefix)

    @override
    def __str__(self) -> str:
        return f"{self._storage.url}/{self._prefix}"

    @override
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        try:
            return self._storage.get(self._prefix + key, _span(request, self._storage, self._prefix + key))
        except ObjectMissingError as error:
            self._may_be_missing(key, error)
            return None

    @override
    def read_many(self, key: str, parts: Sequence[Span | Tail]) -> list[bytes] | None:
        where = self._prefix + key
        spans = [part for part in parts if isinstance(part, Span)]
        try:
            if len(spans) == len(parts):
                return self._storage.get_many(where, spans)
            return [self._storage.get(where, part) for part in parts]
        except ObjectMissingError as error:
            self._may_be_missing(key, error)
            return None

    def _may_be_missing(self, key: str, error: ObjectMissingError) -> None:
        if self._prefix + key in self._required:
            msg = f"{self._prefix}{key} is missing from {self._storage.url}."
            raise IntegrityError(msg, remedy="Verify the slide, and restore it from another copy.") from error

    @override
    def names(self, prefix: str) -> Iterable[str]:
        start = len(self._prefix)
        return (info.key[start:] for info in self._storage.list(self._prefix + prefix))


def _span(request: ByteRequest | None, storage: Storage, key: str) -> Span | Tail | None:
    if isinstance(request, RangeByteRequest):
        return Span(request.start, request.end - request.start)
    if isinstance(request, SuffixByteRequest):
        return Tail(request.suffix)
    if isinstance(request, OffsetByteRequest):
        return Span(request.offset, max(0, storage.head(key).size_bytes - request.offset))
    return None


def cut(data: bytes, request: ByteRequest | None) -> bytes:
    """Return the part of `data` that was asked for."""
    if isinstance(request, RangeByteRequest):
        return data[request.start : request.end]
    if isinstance(request, SuffixByteRequest):
        return data[-request.suffix :] if request.suffix else b""
    if isinstance(request, OffsetByteRequest):
        return data[request.offset :]
    return data
