"""Reading objects from their medium once, from start to end, and hashing them while others use what passes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from wsistore.compress.reader import ChunkRange
from wsistore.compress.threads import for_each, processors, shared_pool
from wsistore.errors import IntegrityError
from wsistore.model import ObjectRecord
from wsistore.storage.base import Span, Storage
from wsistore.units import MIB

BLOCK_BYTES = 4 * MIB
OPEN_STREAMS = 8
"""Objects streamed at a time; a source that jumps between more of them has the rest read by ranges."""
HELD_BYTES = 64 * MIB
"""Stored bytes of chunks that pass before they are due, held until then."""
_SMALL_BYTES = MIB
"""Objects that nobody asks for are read while the others pass if they are no larger than this."""
_REMEDY = "Restore the slide from another copy, or ingest the source again."


class _Cursor:
    """One object being streamed once, block by block, hashed in the background."""

    def __init__(self, storage: Storage, record: ObjectRecord, pool: ThreadPoolExecutor) -> None:
        self.record, self._pool = record, pool
        self._storage = storage
        self._blocks: Iterator[memoryview] = storage.stream(record.key, block_bytes=BLOCK_BYTES, uncached=True)
        self._digest = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._start, self._block = 0, memoryview(b"")

    @property
    def start(self) -> int:
        """Where the present block starts."""
        return self._start

    @property
    def end(self) -> int:
        """Where the present block ends."""
        return self._start + len(self._block)

    def _advance(self) -> bool:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None
        self._start, self._block = self.end, memoryview(b"")
        block = next(self._blocks, None)
        if block is None:
            return False
        self._block = block
        self._hashing = self._pool.submit(self._digest.update, block)
        return True

    def take(self, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a range; those that have passed already are read again."""
        if start < self._start:
            part = min(length, self._start - start)
            yield from _ranges(self._storage, self.record.key, start, part)
            start, length = start + part, length - part
        while length > 0:
            while start >= self.end:
                if not self._advance():
                    return
            part = min(length, self.end - start)
            yield self._block[start - self._start : start - self._start + part]
            start, length = start + part, length - part

    def finish(self) -> None:
        """Read the rest and compare.

        Raises
        ------
        IntegrityError
            If size or hash are not those recorded.

        """
        while self._advance():
            pass
        _compare(self._storage, self.record, self._start, self._digest.hexdigest())

    def abandon(self) -> None:
        """Wait for what uses the present block."""
        if self._hashing is not None:
            wait([self._hashing])


def _compare(storage: Storage, record: ObjectRecord, size: int, digest: str) -> None:
    if size != record.size_bytes or digest != record.sha256:
        msg = f"{record.key} in {storage.url} has {size} bytes with SHA-256 {digest}, recorded were "
        msg += f"{record.size_bytes} bytes with {record.sha256}."
        raise IntegrityError(msg, remedy=_REMEDY)


def _ranges(storage: Storage, key: str, start: int, length: int) -> Iterator[bytes]:
    """Yield a range that no stream passes any more, in blocks."""
    for offset in range(start, start + length, BLOCK_BYTES):
        yield storage.get(key, Span(offset, min(BLOCK_BYTES, start + length - offset)))


def joined(blocks: Iterator[bytes | memoryview]) -> bytes:
    """Return blocks as one, each copied while it is valid."""
    return b"".join([bytes(block) for block in blocks])


class SinglePass:
    """Streams objects, each once and uncached, in the order in which they are asked for; compares all of them.

    Parameters
    ----------
    storage
        Where they lie.
    records
        What was recorded of them.
    uses
        How often each will be asked for: after that its stream makes room for another.
    chunks
        The ranges that `chunk` will be asked for, once each. Those that pass too early are held.

    """

    def __init__(
        self,
        storage: Storage,
        records: Sequence[ObjectRecord],
        uses: Mapping[str, int] | None = None,
        chunks: Iterable[ChunkRange] = (),
    ) -> None:
        self._storage, self._pool = storage, shared_pool("hash", processors())
        self._waiting = {record.key: record for record in records}
        self._open: dict[str, _Cursor] = {}
        self._uses = dict(uses or {})
        self._aside: list[Future[None]] = []
        self._held: dict[tuple[str, int], bytes] = {}
        self._held_bytes = 0
        self._to_come: dict[str, deque[tuple[int, int]]] = {}
        for one in sorted(chunks, key=lambda one: one.start):
            self._to_come.setdefault(one.key, deque()).append((one.start, one.length_bytes))

    def __enter__(self) -> Self:
        """Start with what is small and that nobody will ask for: it mostly waits for the medium."""
        alone = [r for r in self._waiting.values() if r.size_bytes <= _SMALL_BYTES and not self._uses.get(r.key)]
        for record in alone:
            self._aside.append(shared_pool("verify", OPEN_STREAMS).submit(self._whole, self._waiting.pop(record.key)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of what is open."""
        for task in self._aside:
            task.cancel()
        wait(self._aside)
        for cursor in self._open.values():
            cursor.abandon()
        self._open.clear()

    def take(self, key: str, start: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield a part of an object, which uses it once; each block is valid until the next is asked for.

        Raises
        ------
        IntegrityError
            If this was the last use, and the object is not what was recorded.

        """
        cursor = self._cursor(key)
        yield from _ranges(self._storage, key, start, length) if cursor is None else cursor.take(start, length)
        self._used(key)

    def chunk(self, where: ChunkRange) -> bytes:
        """Return the bytes of a chunk, which uses its object once; raises as `take`."""
        held = self._held.pop((where.key, where.start), None)
        if held is not None:
            self._held_bytes -= len(held)
            self._used(where.key)
            return held
        self._hold_before(where)
        return joined(self.take(where.key, where.start, where.length_bytes))

    def finish(self) -> None:
        """Compare every object that is not yet compared.

        Raises
        ------
        IntegrityError
            If one is not what was recorded.

        """
        for key in list(self._open):
            self._open.pop(key).finish()
        for task in self._aside:
            task.result()
        for_each(shared_pool("verify", OPEN_STREAMS), self._whole, self._waiting.values())
        self._waiting.clear()

    def _hold_before(self, where: ChunkRange) -> None:
        """Take the chunks that lie before one out of the stream: they will be asked for, too."""
        queue = self._to_come.get(where.key)
        cursor = self._cursor(where.key)
        while queue and queue[0][0] <= where.start:
            start, length = queue.popleft()
            is_due = start == where.start
            if is_due or cursor is None or start < cursor.start or self._held_bytes + length > HELD_BYTES:
                continue
            self._held[where.key, start] = joined(cursor.take(start, length))
            self._held_bytes += length

    def _cursor(self, key: str) -> _Cursor | None:
        """Return the object's stream, opened if there is room for one more; None if what is asked for is read apart."""
        cursor = self._open.get(key)
        if cursor is None and key in self._waiting and len(self._open) < OPEN_STREAMS:
            cursor = self._open[key] = _Cursor(self._storage, self._waiting.pop(key), self._pool)
        return cursor

    def _used(self, key: str) -> None:
        self._uses[key] = self._uses.get(key, 0) - 1
        if self._uses[key] <= 0 and key in self._open:
            self._open.pop(key).finish()

    def _whole(self, record: ObjectRecord) -> None:
        digest, size = hashlib.sha256(), 0
        for block in self._storage.stream(record.key, block_bytes=BLOCK_BYTES, uncached=True):
            digest.update(block)
            size += len(block)
        _compare(self._storage, record, size, digest.hexdigest())
