"""Undoing the chunks of a slide ahead of those who read its files from start to end, each chunk once.

The tiles of a chunk lie one above the other, and a file has its tiles row by row: who reads it comes back to a chunk
for each of its tiles, and goes through all chunks of a row meanwhile. Payloads are therefore kept until their last use.
Of a slide with many tiles to a chunk that may be hundreds of megabytes: what exceeds the budget is written to a
temporary file without a name, gone with the process: the only scratch space that reading a slide takes.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

import numpy as np

from wsistore.compress.coding import Payload
from wsistore.compress.extents import FOLD, SourceMap
from wsistore.compress.reader import StoredSlide
from wsistore.compress.threads import processors
from wsistore.errors import FullError
from wsistore.units import MIB

BUDGET_BYTES = 256 * MIB
"""Payloads held in memory."""

Undone = tuple[Payload | None, ...]
Start = Callable[[int, int], "Future[Undone]"]
"""Starts to undo a chunk, given its level and number."""


@dataclass(frozen=True, slots=True)
class Need:
    """A chunk, and how often files ask for a tile of it."""

    level: int
    chunk: int
    uses: int


def needs_of(source: SourceMap, numbers: Iterable[int]) -> list[Need]:
    """Return the chunks that have to be undone for some files, in the order in which these first ask for them."""
    parts = [source.files[number] for number in numbers]
    rows = [part[["origin", "chunk"]][part["origin"] <= FOLD] for part in parts]
    rows = [part for part in rows if len(part)]
    if not rows:
        return []
    origins, chunks = (np.concatenate([part[name] for part in rows]) for name in ("origin", "chunk"))
    known, numbered = np.unique(chunks, return_inverse=True)
    codes = (FOLD - origins.astype(np.int64)) * len(known) + numbered
    found, first, uses = np.unique(codes, return_index=True, return_counts=True)
    order = np.argsort(first)
    levels, places = np.divmod(found[order], len(known))
    return [Need(*need) for need in zip(levels.tolist(), known[places].tolist(), uses[order].tolist(), strict=True)]


class Unfolding:
    """The payloads of a slide's chunks, each kept from its undoing to its last use. For one thread.

    Parameters
    ----------
    slide
        What is read.
    needs
        What will be asked for, in order; asking in another order is answered, but may hold more in memory.
    start
        Undoes a chunk in the background. It is called in the order of `needs`, by the thread that asks.
    budget_bytes
        Payloads held in memory; what exceeds it is spilled.

    """

    def __init__(
        self, slide: StoredSlide, needs: Iterable[Need], start: Start, *, budget_bytes: int = BUDGET_BYTES
    ) -> None:
        self._slide, self._start = slide, start
        self._waiting = deque(needs)
        self._planned = {(need.level, need.chunk) for need in self._waiting}
        self._ahead = processors() + 2
        self._coming: dict[tuple[int, int], tuple[Future[Undone], int]] = {}
        self._here: dict[tuple[int, int], _Held | _Spilled] = {}
        self._spill = _Spill()
        self._budget = budget_bytes

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what runs ahead, wait for it, and let go of all that is kept."""
        tasks = [future for future, _ in self._coming.values()]
        for task in tasks:
            task.cancel()
        wait(tasks)
        self._coming.clear()
        self._here.clear()
        self._spill.close()

    def piece(self, level: int, chunk: int, piece: int) -> Payload:
        """Return the payload of the `piece`-th tile of a chunk, which uses the chunk once.

        Raises
        ------
        IntegrityError
            If the chunk is missing or damaged, or has no such tile.
        StorageError
            If the tier fails, or there is no room to spill what does not fit into memory.

        """
        known = self._here.get((level, chunk))
        if known is None:
            known = self._arrive(level, chunk)
        found = known.piece(piece)
        known.left -= 1
        if known.left <= 0:
            self._budget += known.size_bytes
            del self._here[level, chunk]
        if found is None:
            return self._slide.piece_of((), level, chunk, piece)
        return found

    def _arrive(self, level: int, chunk: int) -> _Held | _Spilled:
        """Take what was started for a chunk, and start as many others instead."""
        while (level, chunk) in self._planned:
            self._start_next()
        future, uses = self._coming.pop((level, chunk), (None, 1))
        while self._waiting and len(self._coming) < self._ahead:
            self._start_next()
        payloads = (future or self._start(level, chunk)).result()
        size = sum(len(payload) for payload in payloads if payload is not None)
        fits = uses <= 1 or size <= self._budget
        held = _Held(payloads, uses, size) if fits else self._spill.add(payloads, uses)
        self._budget -= held.size_bytes
        self._here[level, chunk] = held
        return held

    def _start_next(self) -> None:
        need = self._waiting.popleft()
        self._planned.discard((need.level, need.chunk))
        self._coming[need.level, need.chunk] = self._start(need.level, need.chunk), need.uses


@dataclass(slots=True)
class _Held:
    payloads: Undone
    left: int
    size_bytes: int

    def piece(self, number: int) -> Payload | None:
        return self.payloads[number] if 0 <= number < len(self.payloads) else None


@dataclass(slots=True)
class _Spilled:
    file: IO[bytes]
    ranges: list[tuple[int, int] | None]
    left: int
    size_bytes: int = 0
    """Of memory."""

    def piece(self, number: int) -> Payload | None:
        where = self.ranges[number] if 0 <= number < len(self.ranges) else None
        if where is None:
            return None
        with _room():
            return os.pread(self.file.fileno(), where[1], where[0])


class _Spill:
    """A file without a name, made when it is first needed."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0

    def add(self, payloads: Undone, uses: int) -> _Spilled:
        with _room():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="wsistore-", buffering=0)  # noqa: SIM115 - see `close`
            ranges: list[tuple[int, int] | None] = []
            for payload in payloads:
                ranges.append(None if payload is None else (self._end, len(payload)))
                self._end += len(payload or b"")
            left = memoryview(b"".join(payload for payload in payloads if payload is not None))
            while left:
                left = left[os.write(self._file.fileno(), left) :]
        return _Spilled(self._file, ranges, uses)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"A slide's tiles do not fit into memory, and not into {tempfile.gettempdir()} either ({error.strerror})."
        raise FullError(msg, remedy="Make room there, or set TMPDIR to a folder that has some.") from error
