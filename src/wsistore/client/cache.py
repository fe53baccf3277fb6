"""A bounded cache of chunks on this machine's disk, which several processes may share.

Each entry is a file, named by a hash of what it holds, with a checksum in front: one that was cut short by a power cut,
or damaged, is as if it were not there. Names have the ETag of the object in them, so that nothing is ever out of date.
What was used longest ago goes first; when an entry was used is its time of change.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from wsistore.errors import Kind, SiteError

_HEAD = 4
_LOW_WATER = 0.9
"""Room is made down to this part of the bound, so that not every entry looks through the folder."""


class ChunkCache:
    """Bytes by name, at most so many of them. Threads and processes share it.

    Parameters
    ----------
    folder
        Only for this; made if it is not there, for its owner only.
    most_bytes
        What is kept; several processes together may exceed it by what they write in a moment.

    Raises
    ------
    SiteError
        If the folder cannot be made or used.

    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self._lock = Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._size = sum(size for _, size, _ in _entries(folder))
        except OSError as error:
            msg = f"The cache {folder} cannot be used ({error.strerror})."
            raise SiteError(
                msg, kind=Kind.SETTINGS_INVALID, remedy="Name another folder, or connect without."
            ) from error
        self.hits = self.misses = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as folder and bound."""
        return (ChunkCache, (self.folder, self.most_bytes))

    @property
    def size_bytes(self) -> int:
        """What is kept, as far as this process knows."""
        return self._size

    def get(self, name: str) -> bytes | None:
        """Return what is kept under a name; None if nothing is, or it is damaged."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read()
                with suppress(OSError):
                    os.utime(file.fileno())  # it was used
        except OSError:
            self.misses += 1
            return None
        if len(data) < _HEAD or zlib.crc32(memoryview(data)[_HEAD:]) != int.from_bytes(data[:_HEAD], "little"):
            with suppress(OSError):
                path.unlink()
            self.misses += 1
            return None
        self.hits += 1
        return data[_HEAD:]

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes under a name. A full or broken disk is no error: then nothing is kept."""
        size = len(data) + _HEAD
        if size > self.most_bytes:
            return
        path = self._path(name)
        # Of one name no two threads of any process write the same file.
        part = path.with_name(f"{path.name}.{os.getpid()}-{id(data):x}.part")
        try:
            path.parent.mkdir(exist_ok=True, mode=0o700)
            part.write_bytes(zlib.crc32(data).to_bytes(_HEAD, "little") + data)
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink()
            return
        with self._lock:
            self._size += size
            if self._size > self.most_bytes:
                with suppress(OSError):  # the folder may be gone by now
                    self._make_room(path)

    def drop(self, name: str) -> None:
        """Throw away what is kept under a name, if anything is."""
        path = self._path(name)
        with self._lock, suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            self._size -= size

    def clear(self) -> None:
        """Throw everything away."""
        with self._lock:
            for _, _, path in _entries(self.folder):
                with suppress(OSError):
                    path.unlink()
            self._size = 0

    def _make_room(self, newest: Path) -> None:
        # Clocks of file systems tick so slowly that what was just written may be as old as others.
        entries = sorted(_entries(self.folder), key=lambda one: (one[2] == newest, one[0]))
        self._size = sum(size for _, size, _ in entries)  # of other processes, too
        for _, size, path in entries:
            if self._size <= self.most_bytes * (1.0 if path == newest else _LOW_WATER):
                return
            with suppress(OSError):
                path.unlink()
            self._size -= size

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / digest[:2] / digest[2:]


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """Return when each entry was used last, its size and its file."""
    found = []
    with os.scandir(folder) as folders:
        names = [Path(one.path) for one in folders if len(one.name) == 2 and one.is_dir(follow_symlinks=False)]
    for one in names:
        with suppress(OSError), os.scandir(one) as files:
            for file in files:
                with suppress(OSError):
                    status = file.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, Path(file.path)))
    return found
