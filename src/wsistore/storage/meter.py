"""Decorator: counts requests and bytes, for reports and for tests of how often something asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Buffer

from wsistore.storage._ranges import flat
from wsistore.storage.archive import Retrieval
from wsistore.storage.base import ArchiveState, ByteRange, ObjectInfo, Span, Storage, Upload
from wsistore.storage.wrapper import Verb, WrappedStorage, WrappedUpload


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a verb was called, and how many bytes of objects its calls carried."""

    requests: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter showed at one moment."""

    by_verb: dict[Verb, Tally] = field(default_factory=dict)
    """Verbs that were called; the others are not in it."""

    def __getitem__(self, verb: Verb) -> Tally:
        return self.by_verb.get(verb, Tally())

    @property
    def total(self) -> Tally:
        """All verbs together."""
        return sum(self.by_verb.values(), start=Tally())


class MeterStorage(WrappedStorage):
    """Counts what goes through to `inner`: calls when they are made, bytes when they have arrived.

    A call that fails counts as a request. One call counts once, whatever number of requests a back end makes of it.
    Reads of files through `local_path` are not seen. A pickled copy counts for itself, from zero.
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._tallies: dict[Verb, Tally] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (MeterStorage, (self.inner,))

    def reading(self) -> Reading:
        """Return what was counted so far."""
        with self._lock:
            return Reading(dict(self._tallies))

    def count(self, verb: Verb, *, requests: int = 0, bytes_read: int = 0, bytes_written: int = 0) -> None:
        """Add to the tally of `verb`."""
        with self._lock:
            self._tallies[verb] = self._tallies.get(verb, Tally()) + Tally(requests, bytes_read, bytes_written)

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Count and write; see `wsistore.storage.base.Storage.put`."""
        self.count(Verb.PUT, requests=1)
        info = self.inner.put(key, data, if_absent=if_absent)
        self.count(Verb.PUT, bytes_written=info.size_bytes)
        return info

    def upload(self, key: str) -> MeterUpload:
        """Count and start writing; see `wsistore.storage.base.Storage.upload`."""
        self.count(Verb.UPLOAD, requests=1)
        return MeterUpload(self.inner.upload(key), self)

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Count and read; see `wsistore.storage.base.Storage.get`."""
        self.count(Verb.GET, requests=1)
        data = self.inner.get(key, byte_range, version=version)
        self.count(Verb.GET, bytes_read=len(data))
        return data

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Count and read; see `wsistore.storage.base.Storage.get_many`."""
        self.count(Verb.GET_MANY, requests=1)
        parts = self.inner.get_many(key, spans)
        self.count(Verb.GET_MANY, bytes_read=sum(map(len, parts)))
        return parts

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Count and read; see `wsistore.storage.base.Storage.stream`."""
        self.count(Verb.STREAM, requests=1)
        for block in self.inner.stream(key, block_bytes=block_bytes, uncached=uncached):
            self.count(Verb.STREAM, bytes_read=len(block))
            yield block

    def head(self, key: str) -> ObjectInfo:
        """Count and look; see `wsistore.storage.base.Storage.head`."""
        self.count(Verb.HEAD, requests=1)
        return self.inner.head(key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Count and list; see `wsistore.storage.base.Storage.list`."""
        self.count(Verb.LIST, requests=1)
        return self.inner.list(prefix, after=after)

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Count and list; see `wsistore.storage.base.Storage.versions`."""
        self.count(Verb.VERSIONS, requests=1)
        return self.inner.versions(prefix)

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Count and delete; see `wsistore.storage.base.Storage.delete`."""
        self.count(Verb.DELETE, requests=1)
        self.inner.delete(key, version=version)

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Count and look; see `wsistore.storage.archive.SupportsArchive.look`."""
        self.count(Verb.LOOK, requests=1)
        return super().look(key, version=version)

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Count and ask; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        self.count(Verb.RESTORE, requests=1)
        return super().begin_restore(key, days=days, retrieval=retrieval, version=version)

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Count and move; see `wsistore.storage.archive.SupportsArchive.transition`."""
        self.count(Verb.TRANSITION, requests=1)
        return super().transition(key, storage_class, version=version, etag=etag)


class MeterUpload(WrappedUpload):
    """Counts what goes through to one upload."""

    def __init__(self, inner: Upload, meter: MeterStorage) -> None:
        super().__init__(inner)
        self._meter = meter

    def write(self, data: Buffer) -> None:
        """Count and append."""
        self._meter.count(Verb.UPLOAD_WRITE, requests=1)
        super().write(data)
        self._meter.count(Verb.UPLOAD_WRITE, bytes_written=len(flat(data)))

    def complete(self) -> ObjectInfo:
        """Count and complete."""
        self._meter.count(Verb.UPLOAD_COMPLETE, requests=1)
        return super().complete()

    def abort(self) -> None:
        """Count and abort."""
        self._meter.count(Verb.UPLOAD_ABORT, requests=1)
        super().abort()
