"""Large buffers that go back to the system when they are let go of."""

from __future__ import annotations

import mmap

_SMALL_BYTES = 64 * 1024


def buffer(size_bytes: int) -> memoryview:
    """Return a writable buffer of `size_bytes` zeros, one axis of bytes.

    Large ones are pages of their own: from the heap, the threads of many ingests would keep one each in its own arena,
    and a process that takes slides in all night would grow.
    """
    return memoryview(mmap.mmap(-1, size_bytes) if size_bytes > _SMALL_BYTES else bytearray(size_bytes))
