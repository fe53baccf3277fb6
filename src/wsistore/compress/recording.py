"""Writing objects while taking their sizes and hashes, small ones side by side."""

from __future__ import annotations

import hashlib
from concurrent import futures
from concurrent.futures import Future
from threading import Lock
from types import TracebackType
from typing import Self

from wsistore.compress.crew import Crew
from wsistore.compress.threads import processors, shared_pool
from wsistore.model import ObjectRecord
from wsistore.storage.base import Storage, Upload
from wsistore.storage.buffers import buffer
from wsistore.units import MIB

_SMALL_WRITERS = 8
"""A durable write of a small object mostly waits; together they wait once."""
_BUFFER_BYTES = 4 * MIB
_LARGE_BYTES = MIB
"""What is as large as this is written as it comes, without being copied."""


class Recorder:
    """Puts objects of one attempt and remembers them. Leaving the ``with`` block waits for all of them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._records: dict[str, ObjectRecord] = {}
        self._lock = Lock()
        self._pool = Crew(_SMALL_WRITERS)
        self._pending: list[Future[None]] = []

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait; raise the first failure unless one is on its way already."""
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            self.wait()

    def put(self, key: str, data: bytes) -> None:
        """Write a small object in the background; `wait` or the end of the block raises what failed."""
        self._pending.append(self._pool.submit(self._put, key, data))

    def wait(self) -> None:
        """Wait for the small objects put so far."""
        while self._pending:
            self._pending.pop().result()

    def upload(self, key: str) -> RecordedUpload:
        """Start a large object."""
        return RecordedUpload(self, key, self._storage.upload(key))

    def add(self, record: ObjectRecord) -> None:
        """Remember an object."""
        with self._lock:
            self._records[record.key] = record

    @property
    def records(self) -> tuple[ObjectRecord, ...]:
        """All objects written, by key."""
        with self._lock:
            return tuple(self._records[key] for key in sorted(self._records))

    def _put(self, key: str, data: bytes) -> None:
        self._storage.put(key, data)
        self.add(ObjectRecord(key, len(data), hashlib.sha256(data).hexdigest()))


class RecordedUpload:
    """A large object on its way, written in blocks; each is hashed at the same time."""

    def __init__(self, recorder: Recorder, key: str, upload: Upload) -> None:
        self._recorder, self._key, self._upload = recorder, key, upload
        self._digest = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._buffer, self._filled = memoryview(b""), 0
        self.size_bytes = 0

    def write(self, data: bytes | memoryview, *, kept: bool = False) -> None:
        """Append.

        Parameters
        ----------
        data
            The bytes.
        kept
            `data` stays as it is until `settle` or `complete` has returned: it may be hashed until then.

        """
        length = len(data)
        self.size_bytes += length
        if self._filled + length > _BUFFER_BYTES or length >= _LARGE_BYTES:
            self._flush()
        if length >= _LARGE_BYTES:
            self._hash(data)
            self._upload.write(data)
            if not kept:
                self.settle()
            return
        if not self._buffer:
            self._buffer = buffer(_BUFFER_BYTES)
        self._buffer[self._filled : self._filled + length] = data
        self._filled += length

    def settle(self) -> None:
        """Wait for what is being hashed: what was `kept` need not be any longer."""
        hashing, self._hashing = self._hashing, None
        if hashing is not None:
            hashing.result()

    def complete(self) -> None:
        """Make the object visible and remember it."""
        self._flush()
        self._upload.complete()
        self.settle()
        self._recorder.add(ObjectRecord(self._key, self.size_bytes, self._digest.hexdigest()))

    def __enter__(self) -> Self:
        """Start."""
        self._upload.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless completed."""
        if self._hashing is not None:
            futures.wait([self._hashing])
        self._upload.__exit__(kind, error, trace)

    def _flush(self) -> None:
        if not self._filled:
            return
        part = self._buffer[: self._filled]
        self._hash(part)
        self._upload.write(part)
        self.settle()
        self._filled = 0

    def _hash(self, data: bytes | memoryview) -> None:
        """Begin to hash what comes next; what came before is through then."""
        self.settle()
        if len(data) < _LARGE_BYTES:
            self._digest.update(data)
        else:
            self._hashing = shared_pool("hash", processors()).submit(self._digest.update, data)
