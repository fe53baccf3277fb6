"""Bytes pass at the rate that was told, whoever asks, and nobody waits for bytes that never pass."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.clock import SystemClock
from wsistore.storage.base import Span, Tail
from wsistore.storage.limit import BURST_SECONDS, Limits, LimitStorage, TokenBucket, shared_limits
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.testing.clock import ManualClock

RATE = 1000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def limited(clock: ManualClock, up: int | None = RATE, down: int | None = RATE) -> LimitStorage:
    return LimitStorage(MemoryStorage(), Limits(up, down, clock))


@given(st.lists(st.integers(0, 10_000), max_size=30), st.integers(1, 10_000))
def test_so_many_bytes_take_so_many_seconds(sizes: list[int], rate: int) -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate, clock)
    for size in sizes:
        bucket.take(size)
    assert clock.monotonic_seconds() == pytest.approx(sum(sizes) / rate)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 5000)), max_size=30))
def test_no_stretch_of_time_lets_more_through_than_rate_and_burst(steps: list[tuple[float, int]]) -> None:
    clock = ManualClock()
    bucket = TokenBucket(RATE, clock)
    passed: list[tuple[float, int]] = []
    for pause, size in steps:
        clock.advance(pause)
        bucket.take(size)
        passed.append((clock.monotonic_seconds(), size))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            seconds = passed[last][0] - passed[first][0]
            inside = sum(size for _, size in passed[first + 1 : last + 1])
            assert inside <= RATE * (seconds + BURST_SECONDS) + 1e-6


def test_idle_time_is_saved_up_for_a_quarter_of_a_second_only(clock: ManualClock) -> None:
    bucket = TokenBucket(RATE, clock)
    clock.advance(3600)
    bucket.take(250)
    assert len(clock.slept_seconds) == 0
    bucket.take(1000)
    assert list(clock.slept_seconds) == [1.0]


def test_writing_waits_before_reading_after(clock: ManualClock) -> None:
    storage = limited(clock, down=500)
    storage.put("a", bytes(2000))
    assert clock.monotonic_seconds() == pytest.approx(2)
    for read, seconds in (
        (lambda: storage.get("a"), 4 - BURST_SECONDS),  # saved up while writing waited
        (lambda: storage.get("a", Span(0, 500)), 1),
        (lambda: storage.get("a", Tail(250)), 0.5),
        (lambda: storage.get_many("a", [Span(0, 500), Span(1000, 500)]), 2),
        (lambda: list(storage.stream("a", block_bytes=300)), 4),
    ):
        before = clock.monotonic_seconds()
        read()
        assert clock.monotonic_seconds() - before == pytest.approx(seconds)


def test_upload_pays_bit_by_bit(clock: ManualClock) -> None:
    storage = limited(clock, up=1_000_000)
    with storage.upload("a") as upload:
        upload.write(bytes(2_000_000))
        upload.write(b"")
        upload.complete()
    assert clock.monotonic_seconds() == pytest.approx(2)
    assert max(clock.slept_seconds) <= BURST_SECONDS
    assert storage.head("a").size_bytes == 2_000_000


def test_each_direction_has_its_own_limit_or_none(clock: ManualClock) -> None:
    up_only = limited(clock, down=None)
    up_only.put("a", bytes(RATE))
    up_only.get("a")
    assert clock.monotonic_seconds() == pytest.approx(1)
    down_only = limited(clock, up=None)
    down_only.put("a", bytes(RATE))
    with down_only.upload("b") as upload:
        upload.write(bytes(RATE))
        upload.complete()
    assert clock.monotonic_seconds() == pytest.approx(1)


def test_threads_share_a_limit() -> None:
    clock = SystemClock()
    bucket = TokenBucket(100_000, clock)
    begun = clock.monotonic_seconds()

    def take() -> None:
        for _ in range(10):
            bucket.take(1000)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic_seconds() - begun >= 0.4 - 0.001


class Interrupted(ManualClock):
    """Somebody presses Ctrl-C while it sleeps."""

    is_interrupting = True

    def sleep(self, seconds: float) -> None:
        if self.is_interrupting:
            raise KeyboardInterrupt
        super().sleep(seconds)


def test_who_is_interrupted_gives_back_what_it_asked_for() -> None:
    clock = Interrupted()
    bucket = TokenBucket(RATE, clock)
    for _ in range(100):
        with pytest.raises(KeyboardInterrupt):
            bucket.take(1_000_000)
    clock.is_interrupting = False
    bucket.take(1000)
    assert clock.monotonic_seconds() == pytest.approx(1)


def test_interrupted_put_sends_nothing() -> None:
    storage = LimitStorage(MemoryStorage(), Limits(RATE, None, Interrupted()))
    with pytest.raises(KeyboardInterrupt):
        storage.put("a", bytes(RATE))
    assert list(storage.list()) == []


def test_a_limit_of_nothing_is_refused(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        TokenBucket(0, clock)


def test_limited_reading_offers_no_files(tmp_path: object, clock: ManualClock) -> None:
    local = LocalStorage(tmp_path)  # type: ignore[arg-type]
    assert not LimitStorage(local, Limits(None, 1, clock)).properties.local_files
    assert LimitStorage(local, Limits(1, None, clock)).properties.local_files


def test_one_tier_has_one_limit_in_a_process() -> None:
    clock = SystemClock()
    one = shared_limits("tier-for-this-test", 5, None, clock)
    assert shared_limits("tier-for-this-test", 5, None, SystemClock()) is one
    assert shared_limits("another-tier", 5, None, clock) is not one
    manual = ManualClock()
    assert shared_limits("tier-for-this-test", 5, None, manual) is not one


def test_limits_pickle(clock: ManualClock) -> None:
    copy: Limits = pickle.loads(pickle.dumps(Limits(RATE, None, clock)))
    assert copy.up is not None
    assert copy.up.bytes_per_second == RATE
    assert copy.down is None


def test_a_stream_that_is_left_is_closed(clock: ManualClock) -> None:
    storage = limited(clock)
    storage.put("a", bytes(100))
    stream: Iterator[memoryview] = storage.stream("a", block_bytes=10)
    next(stream)
    del stream
    assert storage.get("a") == bytes(100)
