"""Decorator: sends and reads no more bytes per second than it is told, counted over all threads that share it.

What is paid is the content of objects; requests' heads and listings are small. Sending is paid before the bytes go,
reading after they have come, since only then their number is known: over any time, no more than rate × time + one
request's bytes pass, plus a quarter of a second's worth that may have been saved up while nothing was asked. One call
is not divided, except that an `Upload` pays for what it is given bit by bit.

`RetryStorage` goes around it, so that what is sent again is paid again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import Buffer

from wsistore.clock import Clock, SystemClock
from wsistore.storage._ranges import flat
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, Storage, Upload
from wsistore.storage.wrapper import WrappedStorage, WrappedUpload

BURST_SECONDS = 0.25
"""What may be saved up: short, so that others on the line see an even flow."""

_LEAST_SLICE_BYTES = 64 * 1024


class TokenBucket:
    """Lets so many bytes per second through, in the order in which they were asked for. Threads share it.

    Parameters
    ----------
    bytes_per_second
        At least 1.
    clock
        Measures and waits.

    """

    def __init__(self, bytes_per_second: int, clock: Clock) -> None:
        if bytes_per_second < 1:
            msg = f"A limit of {bytes_per_second} bytes per second lets nothing through."
            raise ValueError(msg)
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_until = clock.monotonic_seconds()
        """When all that was asked for so far will have been let through."""

    def take(self, size_bytes: int) -> None:
        """Wait until `size_bytes` more bytes may pass.

        Whoever is interrupted while waiting gives back what it asked for, so that others do not wait for bytes that
        never pass.
        """
        cost = size_bytes / self.bytes_per_second
        with self._lock:
            earliest = self._clock.monotonic_seconds() - BURST_SECONDS
            self._paid_until = until = max(self._paid_until, earliest) + cost
        try:
            # Nothing sleeps with the lock held: others may ask, and be told to wait longer.
            while (left := until - self._clock.monotonic_seconds()) > 0:
                self._clock.sleep(left)
        except BaseException:
            with self._lock:
                self._paid_until -= cost
            raise


class Limits:
    """The limits of one tier in one process: bytes per second up and down, each perhaps none."""

    def __init__(self, up: int | None, down: int | None, clock: Clock) -> None:
        self.up = None if up is None else TokenBucket(up, clock)
        self.down = None if down is None else TokenBucket(down, clock)
        self._parts = (up, down, clock)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Limits, self._parts)

    def sent(self, size_bytes: int) -> None:
        """Wait until so many bytes may be sent."""
        if self.up is not None:
            self.up.take(size_bytes)

    def read(self, size_bytes: int) -> None:
        """Wait until so many bytes may have been read."""
        if self.down is not None:
            self.down.take(size_bytes)


_SHARED: dict[tuple[str, int | None, int | None], Limits] = {}
_SHARED_LOCK = threading.Lock()


def shared_limits(tier_id: str, up: int | None, down: int | None, clock: Clock) -> Limits:
    """Return the limits of a tier that all who open it in this process share.

    Clocks other than the machine's have a time of their own, and so have limits that wait for them.
    """
    if type(clock) is not SystemClock:
        return Limits(up, down, clock)
    with _SHARED_LOCK:
        return _SHARED.setdefault((tier_id, up, down), Limits(up, down, clock))


class LimitStorage(WrappedStorage):
    """Lets bytes to and from `inner` pass at the rates of `limits`; the module's docstring says how.

    Where reading is limited objects are not offered as files: they would be read past the limit. A pickled copy has a
    limit of its own.

    Parameters
    ----------
    inner
        What does the work.
    limits
        How fast; several storages of one tier may share them.

    """

    def __init__(self, inner: Storage, limits: Limits) -> None:
        super().__init__(inner)
        self._limits = limits

    def __reduce__(self) -> tuple[Any, ...]:
        return (LimitStorage, (self.inner, self._limits))

    @property
    def properties(self) -> Properties:
        """What the inner storage can do, without its files where reading is limited."""
        found = self.inner.properties
        if self._limits.down is None or not found.local_files:
            return found
        return replace(found, local_files=False)

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Wait and write; see `wsistore.storage.base.Storage.put`."""
        self._limits.sent(len(flat(data)))
        return self.inner.put(key, data, if_absent=if_absent)

    def upload(self, key: str) -> LimitUpload:
        """Start writing; see `wsistore.storage.base.Storage.upload`."""
        return LimitUpload(self.inner.upload(key), self._limits)

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Read and wait; see `wsistore.storage.base.Storage.get`."""
        data = self.inner.get(key, byte_range, version=version)
        self._limits.read(len(data))
        return data

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Read and wait; see `wsistore.storage.base.Storage.get_many`."""
        parts = self.inner.get_many(key, spans)
        self._limits.read(sum(map(len, parts)))
        return parts

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield blocks, each after a wait; see `wsistore.storage.base.Storage.stream`."""
        for block in self.inner.stream(key, block_bytes=block_bytes, uncached=uncached):
            self._limits.read(len(block))
            yield block


class LimitUpload(WrappedUpload):
    """Pays for what is appended in slices that pass in a quarter of a second, so that the line is used evenly."""

    def __init__(self, inner: Upload, limits: Limits) -> None:
        super().__init__(inner)
        self._limits = limits

    def write(self, data: Buffer) -> None:
        """Wait and append, slice by slice."""
        up = self._limits.up
        view = flat(data)
        if up is None or not view:
            super().write(data)
            return
        step = max(int(up.bytes_per_second * BURST_SECONDS), _LEAST_SLICE_BYTES)
        for start in range(0, len(view), step):
            part = view[start : start + step]
            up.take(len(part))
            super().write(part)
