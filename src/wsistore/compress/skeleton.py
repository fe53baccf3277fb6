"""The skeleton: all bytes of a source's files that are not tile payload, in zstd frames that can be read at random.

Of a slide that is kept whole everything is skeleton, in the presets in which its files are compressed at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from threading import Lock

from numcodecs.zstd import Zstd

from wsistore.compress import bounded
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.storage.base import Span, Storage
from wsistore.units import MIB

FRAME_BYTES = MIB
"""Skeleton bytes per zstd frame, except the last."""
_LEVEL = 9
_LEAST_GAIN = 0.03
"""What must be saved of a sample of a file: less is not worth undoing frames whenever the file is read."""
_SAMPLES = 16
_IN_FLIGHT = 16
"""Frames that wait for a thread at a time."""


@dataclass(frozen=True, slots=True)
class SkeletonIndex:
    """Where the frames lie: their compressed sizes in order, and the size of the whole skeleton uncompressed."""

    frames: tuple[int, ...]
    size_bytes: int


def compress(blocks: Iterable[bytes | memoryview], pool: Executor | None = None) -> Iterator[bytes]:
    """Yield the zstd frames of the skeleton whose bytes `blocks` are; the same bytes give the same frames.

    Parameters
    ----------
    blocks
        The skeleton from start to end, in blocks of any size.
    pool
        Threads to compress in; None: in this one.

    """
    if pool is None:
        yield from map(_compressed, _frames(blocks))
        return
    pending: deque[Future[bytes]] = deque()
    try:
        for frame in _frames(blocks):
            pending.append(pool.submit(_compressed, frame))
            if len(pending) >= _IN_FLIGHT:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _compressed(frame: bytes) -> bytes:
    return bytes(Zstd(level=_LEVEL, checksum=True).encode(frame))


def _frames(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    pending = bytearray()
    for block in blocks:
        pending += block
        whole = len(pending) // FRAME_BYTES * FRAME_BYTES
        for start in range(0, whole, FRAME_BYTES):
            yield bytes(pending[start : start + FRAME_BYTES])
        del pending[:whole]
    if pending:
        yield bytes(pending)


def is_worth_it(read: Callable[[int, int], bytes], size_bytes: int) -> bool:
    """Say by a sample whether a file gets enough smaller in frames: what vendors write is mostly compressed already.

    Parameters
    ----------
    read
        Returns bytes of the file, given start and length.
    size_bytes
        Of the file.

    """
    count = -(-size_bytes // FRAME_BYTES)
    wanted = sorted({i * (count - 1) // max(1, _SAMPLES - 1) for i in range(_SAMPLES)}) if count else []
    before = after = 0
    for number in wanted:
        start = number * FRAME_BYTES
        frame = read(start, min(FRAME_BYTES, size_bytes - start))
        before += len(frame)
        after += len(_compressed(frame))
    return after < before * (1 - _LEAST_GAIN)


class SkeletonReader:
    """Random access to a stored skeleton; keeps the frame read last. Threads may share it."""

    def __init__(self, storage: Storage, key: str, index: SkeletonIndex) -> None:
        self._storage, self._key, self._index = storage, key, index
        self._starts = [0]
        for size in index.frames:
            self._starts.append(self._starts[-1] + size)
        self._last: tuple[int, bytes] | None = None
        self._lock = Lock()

    def read(self, start: int, length: int) -> bytes:
        """Return `length` skeleton bytes from `start`."""
        parts: list[bytes] = []
        while length > 0:
            number, within = divmod(start, FRAME_BYTES)
            part = self._frame(number)[within : within + length]
            if not part:
                msg = f"The skeleton {self._key} ends before byte {start}."
                raise IntegrityError(msg, remedy="Restore the slide from another copy.")
            parts.append(part)
            start += len(part)
            length -= len(part)
        return b"".join(parts)

    def _frame(self, number: int) -> bytes:
        with self._lock:
            if self._last is not None and self._last[0] == number:
                return self._last[1]
        due = min(FRAME_BYTES, self._index.size_bytes - number * FRAME_BYTES)
        if number >= len(self._index.frames) or due <= 0:
            return b""
        frame = bounded.zstd(self._stored(number), due, where=f"Frame {number} of the skeleton {self._key}")
        if len(frame) != due:
            msg = f"Frame {number} of the skeleton {self._key} holds {len(frame)} bytes where {due} are due."
            raise IntegrityError(msg, remedy=bounded.REMEDY)
        with self._lock:
            self._last = (number, frame)
        return frame

    def _stored(self, number: int) -> bytes:
        try:
            return self._storage.get(self._key, Span(self._starts[number], self._index.frames[number]))
        except ObjectMissingError as error:
            msg = f"{self._key} is missing from {self._storage.url}."
            raise IntegrityError(msg, remedy=bounded.REMEDY) from error
