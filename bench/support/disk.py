"""Bytes on disk: into the page cache, out of it, and how many (standard library only)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 4 << 20


def files_of(path: Path) -> Iterator[Path]:
    """Yield the files under `path`, or `path` itself if it is one."""
    if path.is_file():
        yield path
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield Path(folder) / name


def read_through(path: Path) -> int:
    """Read every file under `path`, which leaves them in the page cache; return their bytes."""
    block = bytearray(_BLOCK_BYTES)
    total = 0
    for file in files_of(path):
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(block):
                total += count
    return total


def drop_from_cache(path: Path) -> None:
    """Take every file under `path` out of the page cache, as far as it is on disk: flush first."""
    for file in files_of(path):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def cached_share(path: Path) -> float | None:
    """Return which share of a file's places, out of up to 100, is in the page cache; None if that cannot be told."""
    handle = os.open(path, os.O_RDONLY)
    try:
        places = range(0, max(os.fstat(handle).st_size, 1), max(os.fstat(handle).st_size // 100, 4096))
        return sum(_is_cached(handle, place) for place in places) / len(places)
    except OSError:  # the file system does not know the flag
        return None
    finally:
        os.close(handle)


def _is_cached(handle: int, place: int) -> bool:
    try:
        os.preadv(handle, [bytearray(1)], place, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    return True


def fsync(path: Path) -> None:
    """Put a file on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def heeds_dropping(folder: Path) -> bool:
    """Tell whether files in `folder` can be taken out of the page cache: not where they live in memory."""
    probe = folder / "probe"
    probe.write_bytes(bytes(_BLOCK_BYTES))
    fsync(probe)
    drop_from_cache(probe)
    share = cached_share(probe)
    probe.unlink()
    return share is None or share < 0.5
