"""Large buffers that go back to the system when they are let go of."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress

from wsistore.units import MIB

_SMALL_BYTES = 64 * 1024
_HUGE_PAGE_BYTES = 2 * MIB


def buffer(size_bytes: int) -> memoryview:
    """Return a writable buffer of `size_bytes` zeros, one axis of bytes.

    Large ones are pages of their own: from the heap, the threads of many ingests would keep one each in its own arena,
    and a process that takes slides in all night would grow.
    """
    if size_bytes <= _SMALL_BYTES:
        return memoryview(bytearray(size_bytes))
    if sys.platform != "linux":
        return memoryview(mmap.mmap(-1, size_bytes))
    pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size_bytes >= _HUGE_PAGE_BYTES:
        # To be given a page at a time takes longer than to fill it. A kernel without large pages says no.
        with suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)
