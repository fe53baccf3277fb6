"""The meter counts, the read-only decorator refuses, and the manual clock goes when told."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wsistore.errors import Kind, ObjectMissingError, StorageError
from wsistore.storage.base import Span, Storage, SupportsLocalPath
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.meter import MeterStorage, Reading, Tally
from wsistore.storage.readonly import ReadOnlyStorage
from wsistore.storage.wrapper import Verb, WrappedStorage
from wsistore.testing.clock import START, ManualClock

# --- meter -----------------------------------------------------------------------------------------------------------


def test_meter_counts_requests_and_bytes_by_verb() -> None:
    storage = MeterStorage(MemoryStorage())
    storage.put("a", b"0123456789")
    with storage.upload("b") as upload:
        upload.write(memoryview(b"0123456789")[::2])
        upload.write(b"abc")
        upload.complete()
    with storage.upload("c") as upload:
        upload.abort()
    storage.get("a", Span(2, 3))
    storage.get("b")
    storage.get_many("a", [Span(0, 1), Span(8, 9)])
    list(storage.stream("a", block_bytes=4))
    storage.head("a")
    list(storage.list())
    list(storage.versions())
    storage.delete("a")
    assert storage.reading().by_verb == {
        Verb.PUT: Tally(1, bytes_written=10),
        Verb.UPLOAD: Tally(2),
        Verb.UPLOAD_WRITE: Tally(2, bytes_written=8),
        Verb.UPLOAD_COMPLETE: Tally(1),
        Verb.UPLOAD_ABORT: Tally(1),
        Verb.GET: Tally(2, bytes_read=11),
        Verb.GET_MANY: Tally(1, bytes_read=3),
        Verb.STREAM: Tally(1, bytes_read=10),
        Verb.HEAD: Tally(1),
        Verb.LIST: Tally(1),
        Verb.VERSIONS: Tally(1),
        Verb.DELETE: Tally(1),
    }
    assert storage.reading().total == Tally(15, bytes_read=24, bytes_written=18)


def test_meter_counts_failed_requests_and_only_bytes_that_came() -> None:
    storage = MeterStorage(MemoryStorage())
    with pytest.raises(ObjectMissingError):
        storage.get("a")
    storage.put("a", b"0123456789")
    stream = storage.stream("a", block_bytes=4)
    next(stream)
    del stream
    assert storage.reading()[Verb.GET] == Tally(1)
    assert storage.reading()[Verb.STREAM] == Tally(1, bytes_read=4)
    assert storage.reading()[Verb.DELETE] == Tally()


def test_reading_of_a_meter_does_not_change_any_more() -> None:
    storage = MeterStorage(MemoryStorage())
    before = storage.reading()
    storage.put("a", b"x")
    assert before == Reading()
    assert pickle.loads(pickle.dumps(storage.reading())) == storage.reading()


def test_meter_loses_no_count_of_many_threads() -> None:
    storage = MeterStorage(MemoryStorage())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: storage.put(f"{n}", b"xy"), range(500)))
    assert storage.reading().total == Tally(500, bytes_written=1000)


# --- read-only -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.put("a", b"y"),
        lambda s: s.put("b", b"y", if_absent=True),
        lambda s: s.upload("b"),
        lambda s: s.delete("a"),
        lambda s: s.delete("a", version="1"),
    ],
)
def test_read_only_storage_refuses_and_changes_nothing(act: Callable[[Storage], object]) -> None:
    inner = MemoryStorage()
    inner.put("a", b"x")
    before = list(inner.versions())
    with pytest.raises(StorageError) as caught:
        act(ReadOnlyStorage(inner))
    assert caught.value.kind is Kind.STORAGE_DENIED
    assert caught.value.remedy
    assert list(inner.versions()) == before


# --- what decorators have in common ----------------------------------------------------------------------------------


def test_files_show_through_decorators_only_where_there_are_files(tmp_path: Path) -> None:
    inner = LocalStorage(tmp_path)
    inner.put("a/b", b"x")
    storage: Storage = ReadOnlyStorage(MeterStorage(inner))
    assert storage.properties == inner.properties
    assert isinstance(storage, SupportsLocalPath)
    assert storage.local_path("a/b") == tmp_path / "a" / "b"
    wrapped = WrappedStorage(MemoryStorage())
    assert not wrapped.properties.local_files
    with pytest.raises(StorageError, match="as a file"):
        wrapped.local_path("a")


# --- manual clock ----------------------------------------------------------------------------------------------------


def test_manual_clock_stands_still_until_told() -> None:
    clock = ManualClock()
    assert clock.now() == clock.now() == START
    clock.sleep(1.5)
    clock.advance(60)
    assert clock.now() == START + timedelta(seconds=61.5)
    assert clock.monotonic_seconds() == 61.5
    assert clock.slept_seconds == (1.5,)


def test_manual_clock_jumps_without_time_passing() -> None:
    clock = ManualClock(datetime(2026, 5, 1, 14, tzinfo=UTC))
    clock.jump(datetime(2020, 1, 1, tzinfo=UTC))
    assert clock.now() == datetime(2020, 1, 1, tzinfo=UTC)
    assert clock.monotonic_seconds() == 0
    with pytest.raises(ValueError, match="cannot pass"):
        clock.advance(-1)


def test_manual_clock_can_be_sent_to_a_worker() -> None:
    clock = ManualClock()
    clock.advance(5)
    copy: ManualClock = pickle.loads(pickle.dumps(clock))
    copy.advance(1)
    assert (copy.now() - START, clock.now() - START) == (timedelta(seconds=6), timedelta(seconds=5))


def test_memory_storage_takes_its_times_from_the_clock() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    storage.put("a", b"x")
    clock.advance(60)
    storage.put("b", b"x")
    assert [info.modified - START for info in storage.list()] == [timedelta(0), timedelta(seconds=60)]
