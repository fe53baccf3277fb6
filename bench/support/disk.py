"""Bytes on disk: into the page cache, out of it, and how many (standard library only)."""

from __future__ import annotations

import ctypes
import mmap
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


def cached_share(path: Path) -> float:
    """Return which share of a file's pages is in the page cache.

    Asks mincore: reading would tell too, but even a read that is not to wait makes the kernel read ahead.
    """
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    present = (ctypes.c_ubyte * pages)()
    # A private writable mapping, because ctypes finds the address of no other; nothing is written.
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_COPY) as mapping:
        first = ctypes.c_char.from_buffer(mapping)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), present
        )
        del first
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return sum(page & 1 for page in present) / pages


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
    return share < 0.5
