"""Files of a local tier, held open for a while: small parts that the system has in memory are read at once."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from wsistore.clock import Clock

_MOST_OPEN = 256
_HELD_SECONDS = 10.0
"""Objects never change; but one that was deleted is not to occupy the disk for longer."""
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_ROOM_BYTES = 256 * 1024
"""Made once, for parts that are no longer: nearly all are small."""


class OpenFiles:
    """Files that are read again and again. For one thread, the event loop's: nothing here waits for a disk.

    Parameters
    ----------
    clock
        Tells how long a file has been open.

    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: OrderedDict[Path, tuple[int, float]] = OrderedDict()
        self._swept = clock.monotonic_seconds()
        self._room = memoryview(bytearray(_ROOM_BYTES))

    def read(self, path: Path, start: int, length_bytes: int) -> bytes | None:
        """Return a part of a file, whole, if the system has it in memory; None: read it where waiting is allowed.

        That is also the answer where the file is gone, or the system cannot tell.
        """
        data = self.look(path, start, length_bytes)
        return None if data is None else bytes(data)

    def look(self, path: Path, start: int, length_bytes: int) -> memoryview | None:
        """Return what `read` does, to be used before anything else is read: the memory is the same each time."""
        if not _NOWAIT:
            return None
        is_small = length_bytes <= _ROOM_BYTES
        data = self._room[:length_bytes] if is_small else memoryview(bytearray(length_bytes))
        try:
            count = os.preadv(self._descriptor(path), [data], start, _NOWAIT)
        except OSError:
            return None
        return data if count == length_bytes else None

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._close_first()

    def _descriptor(self, path: Path) -> int:
        now = self._clock.monotonic_seconds()
        if now - self._swept > _HELD_SECONDS / 4:
            self._sweep(now)
        found = self._open.get(path)
        if found is not None:
            return found[0]
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open[path] = (descriptor, now)
        if len(self._open) > _MOST_OPEN:
            self._close_first()
        return descriptor

    def _sweep(self, now: float) -> None:
        self._swept = now
        while self._open and now - next(iter(self._open.values()))[1] > _HELD_SECONDS:
            self._close_first()

    def _close_first(self) -> None:
        _, (descriptor, _) = self._open.popitem(last=False)
        with suppress(OSError):
            os.close(descriptor)
