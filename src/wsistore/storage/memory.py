"""Objects in this process's memory: for tests, and as the plainest reading of the storage contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from typing_extensions import Buffer

from wsistore.clock import Clock, SystemClock
from wsistore.errors import Kind, StorageError
from wsistore.storage._errors import object_exists, object_missing
from wsistore.storage._ranges import bounds, check_block_bytes, flat
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, check_key


@dataclass(frozen=True, slots=True)
class _Kept:
    """One version of an object, or with `data` None the mark that a deletion leaves where versions are kept."""

    info: ObjectInfo
    data: bytes | None


class MemoryStorage:
    """The storage contract on a dictionary.

    Parameters
    ----------
    name
        What it is called in messages.
    versions
        Whether replaced and deleted objects stay readable by their version, as in a bucket that keeps versions: a
        plain `delete` hides the object, deleting a version removes it for good and uncovers the one before.
    clock
        Where times of change come from; the machine's clock by default.

    """

    def __init__(self, name: str = "memory", *, versions: bool = False, clock: Clock | None = None) -> None:
        self._name = name
        self._versions = versions
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._writes = 0
        self._kept: dict[str, list[_Kept]] = {}
        """Every key's versions, newest last; one at most unless versions are kept."""

    def __repr__(self) -> str:
        return f"MemoryStorage({self._name!r})"

    def __getstate__(self) -> dict[str, Any]:
        msg = f"{self.url} lives in one process and cannot be sent to another."
        raise StorageError(msg, kind=Kind.INTERNAL, remedy="Use a folder or a bucket where several processes work.")

    @property
    def url(self) -> str:
        """``memory://`` and the name."""
        return f"memory://{self._name}"

    @property
    def properties(self) -> Properties:
        """Conditional; reads are uncached in that there is no cache before the dictionary."""
        return Properties(conditional_put=True, versions=self._versions, local_files=False, uncached_reads=True)

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object; see `wsistore.storage.base.Storage.put`."""
        check_key(key)
        content = bytes(flat(data))
        with self._lock:
            if if_absent and self._current(key) is not None:
                raise object_exists(self.url, key)
            self._writes += 1
            number = f"{self._writes:012d}"
            version = number if self._versions else None
            info = ObjectInfo(key, len(content), self._clock.now(), etag=number, version=version)
            self._append(key, _Kept(info, content))
        return info

    def upload(self, key: str) -> MemoryUpload:
        """Start writing a large object in parts; see `wsistore.storage.base.Storage.upload`."""
        return MemoryUpload(self, check_key(key))

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        data = self._read(key, version)
        start, length = bounds(byte_range, len(data))
        return data[start : start + length]

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        data = self._read(key)
        parts = [bounds(span, len(data)) for span in spans]
        return [data[start : start + length] for start, length in parts]

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`."""
        check_block_bytes(block_bytes)
        data = memoryview(self._read(key))
        for start in range(0, len(data), block_bytes):
            yield data[start : start + block_bytes]

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        check_key(key)
        with self._lock:
            kept = self._current(key)
        if kept is None:
            raise object_missing(self.url, key)
        return kept.info

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`."""
        low = after.encode("utf-8", "surrogatepass")
        with self._lock:
            current = [kept.info for key in self._kept if (kept := self._current(key)) is not None]
        for info in _in_order(current):
            if info.key.startswith(prefix) and info.key.encode() > low:
                yield info

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every kept version, newest first; see `wsistore.storage.base.Storage.versions`."""
        with self._lock:
            kept = [k.info for of_key in self._kept.values() for k in reversed(of_key) if k.data is not None]
        for info in _in_order(kept):  # the sort is stable: newest stays first
            if info.key.startswith(prefix):
                yield info

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object or one version of it; see `wsistore.storage.base.Storage.delete`."""
        check_key(key)
        with self._lock:
            if version is not None:
                left = [kept for kept in self._kept.get(key, []) if kept.info.version != version or kept.data is None]
                self._replace(key, left)
            elif (current := self._current(key)) is not None:
                self._append(key, _Kept(current.info, None))

    def _read(self, key: str, version: str | None = None) -> bytes:
        check_key(key)
        with self._lock:
            if version is None:
                found = self._current(key)
            else:
                found = next((kept for kept in self._kept.get(key, []) if kept.info.version == version), None)
        if found is None or found.data is None:
            raise object_missing(self.url, key, version)
        return found.data

    def _current(self, key: str) -> _Kept | None:
        kept = self._kept.get(key)
        return kept[-1] if kept and kept[-1].data is not None else None

    def _append(self, key: str, kept: _Kept) -> None:
        self._replace(key, [*self._kept.get(key, []), kept] if self._versions else [kept])

    def _replace(self, key: str, kept: Sequence[_Kept]) -> None:
        """Keep these versions of a key; the mark of a deletion that hides nothing is dropped."""
        if any(one.data is not None for one in kept):
            self._kept[key] = [*kept]
        else:
            self._kept.pop(key, None)


class MemoryUpload:
    """One object of a `MemoryStorage` being written; see `wsistore.storage.base.Upload`.

    `complete` may be repeated after it succeeded.
    """

    def __init__(self, storage: MemoryStorage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._written = bytearray()
        self._is_open = True
        self._info: ObjectInfo | None = None

    def write(self, data: Buffer) -> None:
        """Append `data`.

        Raises
        ------
        StorageError
            If the upload has ended.

        """
        self._require_open()
        self._written += flat(data)

    def complete(self) -> ObjectInfo:
        """Make the object visible.

        Raises
        ------
        StorageError
            If the upload was aborted.

        """
        if self._info is None:
            self._require_open()
            self._info = self._storage.put(self._key, self._written)
            self._end()
        return self._info

    def abort(self) -> None:
        """Throw away what was written. May be repeated; does nothing after `complete`."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.abort()

    def _end(self) -> None:
        self._is_open = False
        self._written = bytearray()

    def _require_open(self) -> None:
        if not self._is_open:
            msg = f"The upload of {self._key!r} to {self._storage.url} has ended; nothing can follow."
            raise StorageError(msg, kind=Kind.INTERNAL, remedy="Start a new upload.")


def _in_order(infos: Sequence[ObjectInfo]) -> list[ObjectInfo]:
    return sorted(infos, key=lambda info: info.key.encode())
