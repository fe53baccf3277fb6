"""Hashing a source's file while it is still being looked at: half of a small slide's time one processor is idle."""

from __future__ import annotations

import hashlib
import os
import stat
from concurrent.futures import Future, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from wsistore.compress.threads import processors, shared_pool
from wsistore.storage.buffers import buffer
from wsistore.units import MIB

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK_BYTES = 4 * MIB


class HeadStart:
    """Hashes a file from its start until it is asked how far it came.

    What it found counts only for a file that is, by everything the system tells of it, the one that was opened here.
    Whatever is wrong with the file, those say who open it next: here it only means that nothing was found.

    Parameters
    ----------
    path
        The file; of anything else nothing is read.

    """

    def __init__(self, path: Path) -> None:
        self._digest, self._done = hashlib.sha256(), 0
        self._stopped = False
        self._handle: int | None = None
        self._status: os.stat_result | None = None
        self._task: Future[None] | None = None
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._status = os.fstat(self._handle)
        except (OSError, ValueError):
            return
        self._task = shared_pool("head-start", processors()).submit(self._run, self._handle)

    def __enter__(self) -> Self:
        """Return what hashes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and close the file."""
        self._stop()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def of(self, handle: int) -> tuple[_Hash, int]:
        """Stop, and return the hash of the first bytes of an open file, and how many they are.

        Parameters
        ----------
        handle
            The file. If it is another one, or was changed since, the hash is that of no bytes.

        """
        self._stop()
        now = os.fstat(handle)
        if self._status is None or _identity(now) != _identity(self._status):
            return hashlib.sha256(), 0
        return self._digest.copy(), self._done

    def _stop(self) -> None:
        self._stopped = True
        if self._task is not None and not self._task.cancel():
            wait([self._task])

    def _run(self, handle: int) -> None:
        block = buffer(_BLOCK_BYTES)
        while not self._stopped:
            try:
                count = os.preadv(handle, [block], self._done)
            except OSError:
                return
            if not count:
                return
            self._digest.update(block[:count])
            self._done += count


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
