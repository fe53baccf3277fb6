"""Small pieces of file handling for `wsistore.storage.local`; they raise `OSError`, which the caller translates.

Paths are bytes: a key's UTF-8 is the file's name whatever the locale says, and sorts as keys must.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROCESS = secrets.token_hex(4)
"""Tells this process from an earlier one of the same number, as containers have after each start."""
_BEHIND_BYTES = 8 * 1024 * 1024
"""What of a file being written may lie in memory before the system is told to begin with its way to the medium."""


def moment(mtime_ns: int) -> datetime:
    """Return a file's time in UTC; times that no calendar has become the nearest that it has."""
    try:
        return _EPOCH + timedelta(microseconds=mtime_ns // 1000)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if mtime_ns > 0 else datetime.min.replace(tzinfo=UTC)


def open_regular(path: bytes) -> int:
    """Open an object's file for reading and return its descriptor.

    Raises
    ------
    FileNotFoundError
        Also for whatever is no regular file: folders, pipes, sockets and devices are no objects.

    """
    # O_NONBLOCK: a pipe that somebody put there must not hang us; regular files do not care.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError
    return descriptor


def read_at(descriptor: int, start: int, length_bytes: int) -> bytes:
    """Return `length_bytes` bytes from `start`, fewer only at the end of the file."""
    data = os.pread(descriptor, length_bytes, start)
    if len(data) == length_bytes:
        return data
    parts = [data]
    done = len(data)
    # One call reads 2 GiB at most, and file servers may give less than asked.
    while done < length_bytes and (data := os.pread(descriptor, length_bytes - done, start + done)):
        parts.append(data)
        done += len(data)
    return b"".join(parts)


def read_into(descriptor: int, buffer: memoryview) -> int:
    """Fill `buffer` from the descriptor's position; return how many bytes there were."""
    done = 0
    while done < len(buffer) and (count := os.readv(descriptor, [buffer[done:]])):
        done += count
    return done


def forget_cached(descriptor: int) -> None:
    """Make the next reads of a file come from its medium, where the system can do so."""
    if sys.platform == "linux":
        # Only clean pages can be dropped. What `put` wrote is flushed already, and flushing a clean file costs next
        # to nothing; but a file may also have come here by other ways a moment ago.
        with suppress(OSError):  # file systems that are mounted read-only may refuse, and have nothing to flush
            os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_ahead(descriptor: int, start: int, length_bytes: int) -> None:
    """Have the system fetch bytes that will be read soon, where it can do so; returns at once."""
    if sys.platform == "linux":
        os.posix_fadvise(descriptor, start, length_bytes, os.POSIX_FADV_WILLNEED)


def flush_folder(path: bytes) -> tuple[int, int] | None:
    """Flush a folder's entries to the medium.

    Returns
    -------
    tuple[int, int] or None
        The folder's identity (device, inode); None if there is no such folder (any more).

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        os.fsync(descriptor)
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return status.st_dev, status.st_ino


class TemporaryFile:
    """A file being written where nobody looks, until it gets its name or is thrown away."""

    def __init__(self, folder: bytes) -> None:
        # The name says whose it is, so that what a dead process left can be told from what a live one writes.
        name = f"{_host()}-{os.getpid()}-{_PROCESS}-{secrets.token_hex(8)}"
        self.path = os.path.join(folder, name.encode())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor: int | None = os.open(self.path, flags, 0o666)
        self._written = self._begun = 0

    def write(self, data: memoryview) -> None:
        """Append all of `data`."""
        assert self._descriptor is not None  # noqa: S101 - the upload refuses writes after the end
        self._written += len(data)
        while data:
            data = data[os.write(self._descriptor, data) :]

    def begin_flush(self) -> None:
        """Have the system begin to write what has gathered, so that `seal` finds less to wait for; returns at once."""
        assert self._descriptor is not None  # noqa: S101 - as above
        if sys.platform == "linux" and self._written - self._begun >= _BEHIND_BYTES:
            # Dirty pages cannot be let go of: asked to, Linux starts writing them and waits for nothing.
            os.posix_fadvise(self._descriptor, self._begun, self._written - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = self._written

    def seal(self, *, durable: bool) -> os.stat_result:
        """Close the file, flushed to the medium if `durable`, and return its status."""
        assert self._descriptor is not None  # noqa: S101 - as above
        if durable:
            os.fsync(self._descriptor)
        status = os.fstat(self._descriptor)
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)  # file servers may tell only now that a quota is used up
        return status

    def discard(self) -> None:
        """Close and remove the file, if it is still there under this name."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):
                os.close(descriptor)
        with suppress(OSError):  # what cannot be removed now is found by age later
            os.unlink(self.path)


def is_abandoned(name: str) -> bool:
    """Return whether the process that named a temporary file is certainly not writing it any more.

    Processes of other machines cannot be asked; their files count as abandoned, and the caller judges by age.
    """
    try:
        host, number, process, _ = name.split("-")
        pid = int(number)
    except ValueError:
        return True
    if host != _host():
        return True
    if pid == os.getpid():
        return process != _PROCESS
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it runs under another account
        return False
    return False


def is_of_this_machine(name: str) -> bool:
    """Return whether a temporary file was made by a process that `is_abandoned` can ask for."""
    return name.startswith(f"{_host()}-")


def _host() -> str:
    """Return a short stand-in for this machine's name, which may hold any character, and its process namespace.

    Containers may share a name, never their processes.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(os.fsencode(f"{os.uname().nodename}/{namespace}")).hexdigest()[:8]
