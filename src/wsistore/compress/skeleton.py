"""The skeleton: all bytes of a source's files that are not tile payload, in zstd frames that can be read at random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


@dataclass(frozen=True, slots=True)
class SkeletonIndex:
    """Where the frames lie: their compressed sizes in order, and the size of the whole skeleton uncompressed."""

    frames: tuple[int, ...]
    size_bytes: int


def compress(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the zstd frames of the skeleton whose bytes `blocks` are."""
    codec = Zstd(level=_LEVEL, checksum=True)
    pending = bytearray()
    for block in blocks:
        pending += block
        while len(pending) >= FRAME_BYTES:
            yield bytes(codec.encode(bytes(pending[:FRAME_BYTES])))
            del pending[:FRAME_BYTES]
    if pending:
        yield bytes(codec.encode(bytes(pending)))


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
        if number >= len(self._index.frames):
            return b""
        try:
            data = self._storage.get(self._key, Span(self._starts[number], self._index.frames[number]))
        except ObjectMissingError as error:
            msg = f"{self._key} is missing from {self._storage.url}."
            raise IntegrityError(msg, remedy=bounded.REMEDY) from error
        frame = bounded.zstd(data, FRAME_BYTES, where=f"Frame {number} of the skeleton {self._key}")
        with self._lock:
            self._last = (number, frame)
        return frame
