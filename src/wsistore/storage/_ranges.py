"""Arithmetic on byte ranges and buffers that every back end needs."""

from __future__ import annotations

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError
from wsistore.storage.base import ByteRange, Span, Tail


def flat(data: Buffer) -> memoryview:
    """Return `data` as bytes in C order: a view where the buffer is contiguous, else a copy."""
    view = memoryview(data)
    if not view.c_contiguous or view.nbytes == 0:  # memoryview.cast refuses both
        return memoryview(view.tobytes())
    return view.cast("B")


def bounds(byte_range: ByteRange | None, size_bytes: int) -> tuple[int, int]:
    """Return start and length in bytes of the part of an object of `size_bytes` that `byte_range` names.

    Raises
    ------
    StorageError
        If the range is negative: a mistake of the caller that must not silently read something else.

    """
    match byte_range:
        case None:
            return 0, size_bytes
        case Tail(length_bytes=length):
            _require(length >= 0, byte_range)
            return max(size_bytes - length, 0), min(length, size_bytes)
        case Span(start=start, length_bytes=length):
            _require(start >= 0 and length >= 0, byte_range)
            return start, max(min(length, size_bytes - start), 0)


def check_block_bytes(block_bytes: int) -> None:
    """Refuse blocks that would never end a stream.

    Raises
    ------
    StorageError
        If `block_bytes` is not positive.

    """
    if block_bytes <= 0:
        msg = f"Blocks of {block_bytes} bytes cannot be streamed."
        raise StorageError(msg, kind=Kind.INTERNAL, remedy="Ask for blocks of at least one byte.")


def _require(good: bool, byte_range: ByteRange) -> None:
    if not good:
        msg = f"The byte range {byte_range} is negative."
        raise StorageError(msg, kind=Kind.INTERNAL, remedy="Ask for a start and a length of zero or more.")
