"""Chunks are undone ahead, once each, and kept from their first use to their last, in memory or beside it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.compress.cache import MakingCache
from wsistore.compress.extents import EXTENT_DTYPE, FOLD, SKELETON, SourceMap
from wsistore.compress.reader import StoredSlide
from wsistore.compress.threads import for_each, shared_pool
from wsistore.compress.unfolding import Need, Undone, Unfolding, needs_of
from wsistore.errors import FullError, IntegrityError

TILES = 8


class Slide:
    """Stands for a stored slide where none is needed."""

    def piece_of(self, _: object, level: int, chunk: int, piece: int) -> bytes:
        msg = f"no {level} {chunk} {piece}"
        raise IntegrityError(msg)


SLIDE = cast("StoredSlide", Slide())


def payload(level: int, chunk: int, piece: int) -> bytes:
    return f"{level}/{chunk}/{piece}".encode() * (piece + 1)


class Work:
    """Undoes chunks that are not there, in threads."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(3)
        self.started: list[tuple[int, int]] = []

    def start(self, level: int, chunk: int) -> Future[Undone]:
        self.started.append((level, chunk))
        return self.pool.submit(lambda: tuple(payload(level, chunk, piece) for piece in range(TILES)))


def rows(across: int, down: int) -> list[tuple[int, int, int]]:
    """Return (level, chunk, piece) in the order of a file whose tiles lie row by row."""
    return [(0, row * across + column, n) for row in range(down) for n in range(TILES) for column in range(across)]


def needs(order: list[tuple[int, int, int]]) -> list[Need]:
    uses = Counter((level, chunk) for level, chunk, _ in order)
    return [Need(level, chunk, count) for (level, chunk), count in uses.items()]


@pytest.mark.parametrize("budget", [0, 500, 1_000_000])
def test_every_tile_comes_and_no_chunk_is_undone_twice(budget: int) -> None:
    order, work = rows(12, 4), Work()
    with Unfolding(SLIDE, needs(order), work.start, budget_bytes=budget) as unfolding:
        for level, chunk, piece in order:
            assert unfolding.piece(level, chunk, piece) == payload(level, chunk, piece)
    assert work.started == [(need.level, need.chunk) for need in needs(order)], "each once, in order"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, TILES - 1))), st.integers(0, 600))
def test_any_order_is_answered(order: list[tuple[int, int, int]], budget: int) -> None:
    work = Work()
    with Unfolding(SLIDE, needs(order), work.start, budget_bytes=budget) as unfolding:
        assert [unfolding.piece(*one) for one in order] == [payload(*one) for one in order]
    assert len(work.started) == len(set(work.started))


def test_what_runs_ahead_and_what_is_held_is_bounded() -> None:
    order, work, seen = rows(40, 3), Work(), 0
    with Unfolding(SLIDE, needs(order), work.start, budget_bytes=2_000) as unfolding:
        asked = set()
        for one in order:
            unfolding.piece(*one)
            asked.add(one[:2])
            seen = max(seen, len(work.started) - len(asked))
            assert sum(held.size_bytes for held in unfolding._here.values()) <= 2_000
    assert seen <= len(os.sched_getaffinity(0)) + 3


def test_the_spill_is_gone_afterwards_and_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    order, work = rows(5, 1), Work()
    with Unfolding(SLIDE, needs(order), work.start, budget_bytes=0) as unfolding:
        for one in order:
            unfolding.piece(*one)
            assert list(tmp_path.iterdir()) == []
        spill = unfolding._spill
        assert spill._file is not None
    assert spill._file is None


def test_no_room_to_spill_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    order = rows(2, 1)
    with (
        Unfolding(SLIDE, needs(order), Work().start, budget_bytes=0) as unfolding,
        pytest.raises(FullError, match="nowhere"),
    ):
        unfolding.piece(*order[0])


def test_a_tile_that_a_chunk_does_not_have_is_an_error() -> None:
    for budget in (0, 10_000):
        work = Work()
        with Unfolding(SLIDE, [Need(0, 0, 9)], work.start, budget_bytes=budget) as unfolding:
            for piece in (TILES, -1):
                with pytest.raises(IntegrityError, match="no 0 0"):
                    unfolding.piece(0, 0, piece)


def test_what_fails_ahead_fails_when_it_is_due() -> None:
    pool = ThreadPoolExecutor(2)

    def undo(chunk: int) -> Undone:
        if chunk == 3:
            raise IntegrityError("chunk 3")
        return (b"x",)

    def start(_: int, chunk: int) -> Future[Undone]:
        return pool.submit(undo, chunk)

    with Unfolding(SLIDE, [Need(0, chunk, 1) for chunk in range(6)], start) as unfolding:
        for chunk in range(3):
            assert unfolding.piece(0, chunk, 0) == b"x"
        with pytest.raises(IntegrityError, match="chunk 3"):
            unfolding.piece(0, 3, 0)


def test_needs_are_in_the_order_of_the_files() -> None:
    first, second = np.zeros(5, EXTENT_DTYPE), np.zeros(2, EXTENT_DTYPE)
    first["origin"] = [SKELETON, FOLD - 1, FOLD, 0, FOLD - 1]
    first["chunk"] = [0, 2**50, 2**50, 9, 2**50]
    second["origin"], second["chunk"] = [FOLD, FOLD], [1, 2**50]
    source = SourceMap(("a",), frozenset({"b"}), (first, second))
    assert needs_of(source, [0, 1]) == [Need(1, 2**50, 2), Need(0, 2**50, 2), Need(0, 1, 1)]
    assert needs_of(source, [1]) == [Need(0, 1, 1), Need(0, 2**50, 1)]
    assert needs_of(source, []) == []


# --- the cache --------------------------------------------------------------------------------------------------------


def test_many_threads_make_a_value_once() -> None:
    cache: MakingCache[int, bytes] = MakingCache(1000, len)
    made, begin = Counter[int](), threading.Barrier(8)
    slow = threading.Event()

    def make(key: int) -> bytes:
        made[key] += 1
        slow.wait(0.05)
        return bytes([key])

    def ask(_: int) -> list[bytes]:
        begin.wait()
        return [cache.get(key, lambda key=key: make(key)) for key in range(10)]  # type: ignore[misc]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers == [[bytes([key]) for key in range(10)]] * 8
    assert set(made.values()) == {1}


def test_a_cache_is_bounded_and_keeps_what_was_used_last() -> None:
    cache: MakingCache[int, bytes] = MakingCache(30, len)
    made: list[int] = []

    def get(key: int) -> None:
        def make() -> bytes:
            made.append(key)
            return bytes(10)

        cache.get(key, make)
        assert cache.size_bytes <= 30

    for key in (1, 2, 3, 1, 4, 1, 2):
        get(key)
    assert made == [1, 2, 3, 4, 2]


def test_a_failure_is_not_kept() -> None:
    cache: MakingCache[int, bytes] = MakingCache(30, len)

    def fail() -> bytes:
        raise IntegrityError("damaged")

    with pytest.raises(IntegrityError, match="damaged"):
        cache.get(1, fail)
    assert cache.get(1, lambda: b"whole") == b"whole"


# --- threads that stay ------------------------------------------------------------------------------------------------


def test_pools_are_shared_and_a_forked_process_has_its_own() -> None:
    pool = shared_pool("test", 2)
    assert pool.submit(lambda: 5).result() == 5
    assert shared_pool("test", 2) is pool
    if sys.platform != "linux":
        return
    child = os.fork()
    if not child:
        try:
            os._exit(0 if shared_pool("test", 2).submit(lambda: 6).result(timeout=240) == 6 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_first_failure_is_raised_when_nothing_runs_any_more() -> None:
    running: list[int] = []

    def act(number: int) -> None:
        running.append(number)
        try:
            if number == 2:
                raise IntegrityError("two")
        finally:
            running.remove(number)

    with pytest.raises(IntegrityError, match="two"):
        for_each(shared_pool("test", 2), act, range(50))
    assert running == []
