"""What is repeated, how long, and what a lost reply means."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wsistore.errors import (
    FullError,
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StorageError,
    TransientError,
)
from wsistore.storage.base import ObjectInfo, Span, Storage
from wsistore.storage.fault import Cut, FailAfter, FailBefore, FaultStorage, Rule
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.retry import Retrier, RetryPolicy, RetryStorage
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock

LOST = TransientError("the connection was lost")


class Bench:
    """A memory storage behind faults behind retries, with a clock that only they move."""

    def __init__(self, *rules: Rule, policy: RetryPolicy | None = None, versions: bool = False) -> None:
        self.clock = ManualClock()
        self.memory = MemoryStorage(versions=versions)
        self.faulty = FaultStorage(self.memory, rules)
        self.storage = RetryStorage(self.faulty, clock=self.clock, rng=random.Random(7), policy=policy)

    def count(self, verb: Verb) -> int:
        return sum(call.verb is verb for call in self.faulty.calls)


# --- pauses and limits -----------------------------------------------------------------------------------------------


class Generous(random.Random):
    """Draws the upper bound of each pause."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


def _fail_for_ever(error: StorageError = LOST) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_pauses_double_up_to_the_longest() -> None:
    clock = ManualClock()
    policy = RetryPolicy(attempts=8, first_delay_seconds=0.5, longest_delay_seconds=5.0, total_seconds=1000.0)
    with pytest.raises(TransientError) as caught:
        Retrier(clock, Generous(), policy).call(_fail_for_ever())
    assert caught.value is LOST
    assert clock.slept_seconds == (0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0)


def test_pauses_are_drawn_between_zero_and_their_bound() -> None:
    clock = ManualClock()
    policy = RetryPolicy(attempts=500, first_delay_seconds=1.0, longest_delay_seconds=1.0, total_seconds=1e9)
    with pytest.raises(TransientError):
        Retrier(clock, random.Random(1), policy).call(_fail_for_ever())
    assert 0.0 <= min(clock.slept_seconds) < 0.1
    assert 0.9 < max(clock.slept_seconds) <= 1.0
    assert 0.4 < sum(clock.slept_seconds) / len(clock.slept_seconds) < 0.6


def test_number_of_attempts_is_limited() -> None:
    for attempts in (1, 3):
        bench = Bench(Rule(FailBefore(LOST), times=99), policy=RetryPolicy(attempts=attempts))
        with pytest.raises(TransientError):
            bench.storage.get("a")
        assert len(bench.faulty.calls) == attempts


def test_no_attempt_is_made_after_the_total_time() -> None:
    clock = ManualClock()
    policy = RetryPolicy(attempts=99, first_delay_seconds=4.0, longest_delay_seconds=4.0, total_seconds=10.0)
    calls: list[float] = []

    def act() -> None:
        calls.append(clock.monotonic_seconds())
        raise LOST

    with pytest.raises(TransientError):
        Retrier(clock, Generous(), policy).call(act)
    assert calls == [0.0, 4.0, 8.0]
    assert clock.monotonic_seconds() == 8.0  # nobody waits for an attempt that will not be made


def test_thousands_of_attempts_do_not_overflow() -> None:
    policy = RetryPolicy(attempts=3000, total_seconds=1e9)
    with pytest.raises(TransientError):
        Retrier(ManualClock(), random.Random(1), policy).call(_fail_for_ever())


def test_server_is_given_the_time_that_it_asks_for() -> None:
    clock = ManualClock()
    busy = TransientError("slow down", retry_after_seconds=30.0)
    with pytest.raises(TransientError):
        Retrier(clock, Generous(), RetryPolicy(attempts=4, total_seconds=70.0)).call(_fail_for_ever(busy))
    assert clock.slept_seconds == (30.0, 30.0)


def test_wall_clock_that_jumps_changes_nothing() -> None:
    clock = ManualClock()
    calls = 0

    def act() -> str:
        nonlocal calls
        calls += 1
        clock.jump(clock.now().replace(year=2020 + 10 * calls))
        if calls < 4:
            raise LOST
        return "done"

    assert Retrier(clock, random.Random(1), RetryPolicy()).call(act) == "done"


# --- what is repeated ------------------------------------------------------------------------------------------------


def _prepare(bench: Bench) -> None:
    bench.memory.put("a", b"0123456789")
    bench.memory.put("b", b"x")


REPEATED: dict[str, tuple[Verb, Callable[[Storage], object]]] = {
    "put": (Verb.PUT, lambda s: s.put("c", b"y").size_bytes),
    "put if absent": (Verb.PUT, lambda s: s.put("c", b"y", if_absent=True).size_bytes),
    "upload": (Verb.UPLOAD, lambda s: s.upload("c").complete().size_bytes),
    "complete": (Verb.UPLOAD_COMPLETE, lambda s: s.upload("c").complete().size_bytes),
    "abort": (Verb.UPLOAD_ABORT, lambda s: s.upload("c").abort()),
    "get": (Verb.GET, lambda s: s.get("a")),
    "get_many": (Verb.GET_MANY, lambda s: s.get_many("a", [Span(1, 2)])),
    "stream": (Verb.STREAM, lambda s: b"".join(bytes(block) for block in s.stream("a", block_bytes=3))),
    "head": (Verb.HEAD, lambda s: s.head("a")),
    "list": (Verb.LIST, lambda s: list(s.list())),
    "versions": (Verb.VERSIONS, lambda s: list(s.versions())),
    "delete": (Verb.DELETE, lambda s: s.delete("a")),
}


@pytest.mark.parametrize("fault", [FailBefore, FailAfter])
@pytest.mark.parametrize(("verb", "act"), REPEATED.values(), ids=REPEATED)
def test_passing_failure_is_repeated(
    verb: Verb, act: Callable[[Storage], object], fault: type[FailBefore] | type[FailAfter]
) -> None:
    plain, bench = Bench(), Bench(Rule(fault(LOST), verb=verb, times=3))
    for each in (plain, bench):
        each.memory._clock = ManualClock()
        _prepare(each)
    assert act(bench.storage) == act(plain.storage)
    # The second attempt of a conditional write that landed is told "exists", and recognises its own.
    assert bench.count(verb) == (2 if fault is FailAfter and act is REPEATED["put if absent"][1] else 4)
    assert [(i.key, i.size_bytes) for i in bench.memory.list()] == [(i.key, i.size_bytes) for i in plain.memory.list()]


@pytest.mark.parametrize(
    "error", [StorageError("x"), FullError("x"), ObjectMissingError("x"), ObjectExistsError("x"), IntegrityError("x")]
)
@pytest.mark.parametrize(("verb", "act"), REPEATED.values(), ids=REPEATED)
def test_permanent_failure_is_not_repeated(verb: Verb, act: Callable[[Storage], object], error: StorageError) -> None:
    bench = Bench(Rule(FailBefore(error), verb=verb, times=99))
    _prepare(bench)
    with pytest.raises(type(error)) as caught:
        act(bench.storage)
    assert caught.value is error
    assert bench.count(verb) == 1
    assert bench.clock.slept_seconds == ()


@pytest.mark.parametrize("fault", [FailBefore(LOST), FailAfter(LOST), Cut(2, LOST)])
def test_write_of_an_upload_is_not_repeated(fault: FailBefore | FailAfter | Cut) -> None:
    bench = Bench(Rule(fault, verb=Verb.UPLOAD_WRITE))
    with bench.storage.upload("a") as upload, pytest.raises(TransientError):
        upload.write(b"data")
    assert bench.count(Verb.UPLOAD_WRITE) == 1
    assert list(bench.memory.list()) == []


def test_upload_whose_completion_never_succeeds_is_aborted() -> None:
    bench = Bench(Rule(FailBefore(LOST), verb=Verb.UPLOAD_COMPLETE, times=99))
    with pytest.raises(TransientError), bench.storage.upload("a") as upload:
        upload.complete()
    assert bench.count(Verb.UPLOAD_ABORT) == 1
    assert list(bench.memory.list()) == []


# --- the lost reply of a conditional write ---------------------------------------------------------------------------


def test_own_write_is_recognised_after_a_lost_reply() -> None:
    bench = Bench(Rule(FailAfter(LOST), verb=Verb.PUT))
    info = bench.storage.put("commits/1.json", b"attempt 8f3k", if_absent=True)
    assert info == bench.memory.head("commits/1.json")
    assert bench.memory.get("commits/1.json") == b"attempt 8f3k"
    assert bench.count(Verb.PUT) == 2


def test_own_write_is_recognised_whatever_buffer_it_came_in() -> None:
    bench = Bench(Rule(FailAfter(LOST), verb=Verb.PUT))
    assert bench.storage.put("a", memoryview(bytearray(b"a-b-c-"))[::2], if_absent=True).size_bytes == 3
    assert bench.memory.get("a") == b"abc"


@pytest.mark.parametrize("other", [b"attempt 0000", b"attempt 8f3k and more"])
def test_write_of_another_is_a_conflict_after_a_lost_connection(other: bytes) -> None:
    bench = Bench(Rule(FailBefore(LOST), verb=Verb.PUT))
    bench.memory.put("commits/1.json", other)
    with pytest.raises(ObjectExistsError):
        bench.storage.put("commits/1.json", b"attempt 8f3k", if_absent=True)
    assert bench.memory.get("commits/1.json") == other


def test_equal_bytes_without_a_lost_reply_are_a_conflict() -> None:
    bench = Bench()
    bench.memory.put("commits/1.json", b"same")
    with pytest.raises(ObjectExistsError):
        bench.storage.put("commits/1.json", b"same", if_absent=True)
    assert bench.count(Verb.GET) == 0


def test_look_at_the_object_is_repeated_too() -> None:
    bench = Bench(
        Rule(FailAfter(LOST), verb=Verb.PUT),
        Rule(FailBefore(LOST), verb=Verb.GET, times=2),
        Rule(FailBefore(LOST), verb=Verb.HEAD, times=2),
    )
    assert bench.storage.put("a", b"mine", if_absent=True).size_bytes == 4


def test_object_that_was_taken_away_meanwhile_is_a_conflict() -> None:
    taken = ObjectExistsError("taken")
    bench = Bench(Rule(FailBefore(LOST), verb=Verb.PUT), Rule(FailBefore(taken), nth=2, verb=Verb.PUT))
    with pytest.raises(ObjectExistsError) as caught:
        bench.storage.put("a", b"mine", if_absent=True)
    assert caught.value is taken


# --- streams and listings go on where they broke off -----------------------------------------------------------------


@pytest.mark.parametrize("uncached", [False, True])
@pytest.mark.parametrize("length", range(11))
def test_stream_goes_on_where_it_broke_off(length: int, uncached: bool) -> None:
    bench = Bench(Rule(Cut(length, LOST), verb=Verb.STREAM, times=2))
    _prepare(bench)
    blocks = [bytes(block) for block in bench.storage.stream("a", block_bytes=4, uncached=uncached)]
    assert b"".join(blocks) == b"0123456789"
    assert bench.count(Verb.STREAM) == 3


def test_stream_never_mixes_two_objects() -> None:
    bench = Bench(Rule(Cut(4, LOST), verb=Verb.STREAM))
    _prepare(bench)
    stream = bench.storage.stream("a", block_bytes=4)
    assert bytes(next(stream)) == b"0123"
    bench.memory.put("a", b"abcdefghij")
    with pytest.raises(TransientError):
        next(stream)


def test_stream_of_which_nothing_came_may_be_of_another_object() -> None:
    bench = Bench()
    _prepare(bench)

    def replaced(*_: object, **__: object) -> Iterator[memoryview]:
        bench.memory.put("a", b"abcdefghij")
        yield from ()
        raise LOST

    real = FaultStorage.stream
    streams = iter([replaced, real, real])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultStorage, "stream", lambda self, key, **options: next(streams)(self, key, **options))
        assert b"".join(bytes(block) for block in bench.storage.stream("a", block_bytes=4)) == b"abcdefghij"


class _Told:
    """Blocks of one state of an object, that may break off."""

    def __init__(self, etag: str | None, blocks: list[bytes | TransientError]) -> None:
        self._blocks, self._state = iter(blocks), etag
        self.etag: str | None = None

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        block = next(self._blocks)
        if isinstance(block, TransientError):
            raise block
        self.etag = self._state
        return memoryview(block)


class _Telling(MemoryStorage):
    """Its streams tell their states, so nobody has to ask."""

    def __init__(self, *streams: _Told) -> None:
        super().__init__()
        self._streams = iter(streams)

    def stream(self, key: str, *, block_bytes: int = 1, uncached: bool = False) -> Iterator[memoryview]:
        return iter(next(self._streams))

    def head(self, key: str) -> ObjectInfo:
        raise AssertionError(key)


def _read(*streams: _Told) -> bytes:
    storage = RetryStorage(_Telling(*streams), clock=ManualClock(), rng=random.Random(7))
    return b"".join(bytes(block) for block in storage.stream("a"))


def test_stream_that_tells_its_state_goes_on_without_a_question() -> None:
    assert _read(_Told("x", [b"01", b"23"])) == b"0123"
    assert _read(_Told("x", [b"01", LOST]), _Told("x", [LOST]), _Told("x", [b"0", b"123"])) == b"0123"
    assert _read(_Told(None, [LOST]), _Told("y", [b"0123"])) == b"0123"


@pytest.mark.parametrize("again", [_Told("y", [b"ab", b"cd"]), _Told(None, [b"ab", b"cd"]), _Told("x", [])])
def test_stream_that_tells_another_state_ends(again: _Told) -> None:
    with pytest.raises(TransientError):
        _read(_Told("x", [b"01", LOST]), again)


def test_stream_whose_state_nobody_told_does_not_go_on() -> None:
    with pytest.raises(TransientError):
        _read(_Told(None, [b"01", LOST]), _Told(None, [b"01", b"23"]))


def test_stream_that_goes_on_each_time_is_not_limited() -> None:
    rules = [Rule(Cut(n, LOST), nth=n, verb=Verb.STREAM) for n in range(1, 10)]
    bench = Bench(*rules, policy=RetryPolicy(attempts=2))
    _prepare(bench)
    assert b"".join(bytes(block) for block in bench.storage.stream("a", block_bytes=1)) == b"0123456789"


def test_stream_that_stands_still_is_limited() -> None:
    bench = Bench(Rule(Cut(4, LOST), verb=Verb.STREAM, times=99), policy=RetryPolicy(attempts=3))
    _prepare(bench)
    with pytest.raises(TransientError):
        list(bench.storage.stream("a", block_bytes=4))
    # One attempt that brought something and was not counted against the rest, then the allowance.
    assert bench.count(Verb.STREAM) == 3


@pytest.mark.parametrize("length", range(6))
def test_listing_goes_on_where_it_broke_off(length: int) -> None:
    bench = Bench(Rule(Cut(length, LOST), times=3))
    keys = ["a-b", "a/b", "a/c", "a0", "é"]
    for key in keys:
        bench.memory.put(key, b"x")
    assert [info.key for info in bench.storage.list()] == keys


@pytest.mark.parametrize("length", range(7))
def test_listing_of_versions_goes_on_where_it_broke_off(length: int) -> None:
    bench = Bench(Rule(Cut(length, LOST), times=2), versions=True)
    for key in ("a", "b", "b", "b", "c", "c"):
        bench.memory.put(key, b"x")
    assert list(bench.storage.versions()) == list(bench.memory.versions())


def test_retrying_storage_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    # An error of its own: distributed has tracebacks pickled too, and that of `LOST` grows each time it is raised.
    inner = FaultStorage(LocalStorage(tmp_path), [Rule(FailBefore(TransientError("lost")), times=2)])
    storage = RetryStorage(inner, clock=ManualClock(), rng=random.Random(3))
    copy: RetryStorage = pickle.loads(pickle.dumps(storage))
    copy.put("a", b"x")
    assert storage.get("a") == b"x"
