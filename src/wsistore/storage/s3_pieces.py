"""Cutting long reads of a bucket's objects into requests, and what comes back into blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from itertools import islice
from typing import Self

from wsistore.storage.buffers import buffer
from wsistore.storage.coalescing import Run
from wsistore.storage.s3_objects import Piece
from wsistore.units import MIB

PIECE_BYTES = 8 * MIB
"""Most that one request reads, and most that one PUT through obstore writes."""

AHEAD = 4
"""Requests that run ahead of the reader of a stream: 32 MiB."""

Fetch = Callable[[int, int, str | None], Piece]
"""Returns a piece of an object, given its start, its length and the ETag that the object must have."""


def pieces(fetch: Fetch, start: int, length: int, executor: Executor) -> Iterator[Piece]:
    """Yield a range in pieces, in order, some requests ahead; all of one state of the object."""
    first = fetch(start, min(length, PIECE_BYTES), None)
    yield first
    end = min(start + length, first.size_bytes)
    starts = iter(range(start + PIECE_BYTES, end, PIECE_BYTES))
    ahead: deque[Future[Piece]] = deque()
    try:
        while True:
            for place in islice(starts, AHEAD - len(ahead)):
                ahead.append(executor.submit(fetch, place, min(end - place, PIECE_BYTES), first.etag))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


class Pieces:
    """A stream of an object's blocks, all of one state: see `wsistore.storage.base.OneState`."""

    def __init__(self, fetch: Fetch, length: int, executor: Executor, block_bytes: int) -> None:
        self._etag: str | None = None
        self._blocks = in_blocks((self._noted(piece) for piece in pieces(fetch, 0, length, executor)), block_bytes)

    @property
    def etag(self) -> str | None:
        """ETag of the state, once the first block came."""
        return self._etag

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> memoryview:
        return next(self._blocks)

    def _noted(self, piece: Piece) -> memoryview:
        self._etag = piece.etag  # the same for all: the service is asked for no other
        return piece.data


def serve(fetch: Fetch, run: Run) -> Piece:
    """Return a run, by requests one after the other where it is one long span."""
    first = fetch(run.start, min(run.length_bytes, PIECE_BYTES), None)
    end = min(run.start + run.length_bytes, first.size_bytes)
    rest = [
        fetch(place, min(end - place, PIECE_BYTES), first.etag).data
        for place in range(run.start + PIECE_BYTES, end, PIECE_BYTES)
    ]
    return replace(first, data=memoryview(b"".join([first.data, *rest]))) if rest else first


def in_blocks(parts: Iterator[memoryview], block_bytes: int) -> Iterator[memoryview]:
    """Cut or join parts into blocks of `block_bytes`, the last perhaps shorter.

    A block is valid until the next is asked for. Only where it spans several parts is it copied.
    """
    block, filled = memoryview(b""), 0
    for part in parts:
        rest = part
        while rest:
            if filled == 0 and len(rest) >= block_bytes:
                yield rest[:block_bytes].toreadonly()
                rest = rest[block_bytes:]
                continue
            if len(block) != block_bytes:
                block = buffer(block_bytes)
            taken = min(block_bytes - filled, len(rest))
            block[filled : filled + taken] = rest[:taken]
            filled, rest = filled + taken, rest[taken:]
            if filled == block_bytes:
                yield block.toreadonly()
                filled = 0
    if filled:
        yield block[:filled].toreadonly()
