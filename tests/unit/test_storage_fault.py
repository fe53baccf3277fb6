"""Faults strike where the table says, each time the same, and every call is in the trace."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wsistore.errors import (
    FullError,
    IntegrityError,
    ObjectMissingError,
    StorageError,
    TransientError,
    WsistoreError,
)
from wsistore.storage.base import Span, Storage
from wsistore.storage.fault import (
    Call,
    Corrupt,
    Cut,
    FailAfter,
    FailBefore,
    FaultStorage,
    Rule,
    RunAfter,
    RunBefore,
)
from wsistore.storage.local import TEMPORARY_FOLDER, LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import Verb

ERROR = TransientError("made to fail")


def _keys(storage: Storage) -> list[str]:
    return [info.key for info in storage.list()]


def test_trace_names_every_call_in_order() -> None:
    storage = FaultStorage(MemoryStorage())
    storage.put("a", b"x")
    with storage.upload("b") as upload:
        upload.write(b"1")
        upload.write(b"2")
        upload.complete()
    with storage.upload("c"):
        pass
    storage.get("a")
    storage.get_many("a", [Span(0, 1)])
    list(storage.stream("b"))
    storage.head("a")
    list(storage.list("a"))
    list(storage.versions())
    storage.delete("a")
    expected = [
        (Verb.PUT, "a"),
        (Verb.UPLOAD, "b"),
        (Verb.UPLOAD_WRITE, "b"),
        (Verb.UPLOAD_WRITE, "b"),
        (Verb.UPLOAD_COMPLETE, "b"),
        (Verb.UPLOAD, "c"),
        (Verb.UPLOAD_ABORT, "c"),
        (Verb.GET, "a"),
        (Verb.GET_MANY, "a"),
        (Verb.STREAM, "b"),
        (Verb.HEAD, "a"),
        (Verb.LIST, "a"),
        (Verb.VERSIONS, ""),
        (Verb.DELETE, "a"),
    ]
    assert storage.calls == tuple(Call(n, verb, key) for n, (verb, key) in enumerate(expected, start=1))


def test_call_that_fails_is_in_the_trace_too() -> None:
    storage = FaultStorage(MemoryStorage(), [Rule(FailBefore(ERROR))])
    with pytest.raises(TransientError):
        storage.get("a")
    with pytest.raises(ObjectMissingError):
        storage.get("a")
    assert [call.number for call in storage.calls] == [1, 2]


def test_nth_call_is_counted_over_those_that_match() -> None:
    storage = FaultStorage(MemoryStorage(), [Rule(FailBefore(ERROR), nth=2, verb=Verb.PUT, key_contains="commit")])
    storage.put("a", b"")
    storage.put("commits/1", b"")
    storage.put("b", b"")
    storage.get("commits/1")
    with pytest.raises(TransientError):
        storage.put("commits/2", b"")
    storage.put("commits/2", b"")
    assert _keys(storage) == ["a", "b", "commits/1", "commits/2"]


def test_rule_strikes_as_often_as_it_says() -> None:
    storage = FaultStorage(MemoryStorage(), [Rule(FailBefore(ERROR), nth=2, times=2)])
    outcomes = []
    for _ in range(5):
        try:
            storage.put("a", b"")
            outcomes.append(True)
        except TransientError:
            outcomes.append(False)
    assert outcomes == [True, False, False, True, True]


def test_of_two_rules_the_first_strikes_and_both_count() -> None:
    full = FullError("full")
    storage = FaultStorage(MemoryStorage(), [Rule(FailBefore(ERROR)), Rule(FailBefore(full), times=2)])
    with pytest.raises(TransientError):
        storage.put("a", b"")
    with pytest.raises(FullError):
        storage.put("a", b"")
    storage.put("a", b"")


ACTS: dict[str, Callable[[Storage], object]] = {
    "put": lambda s: s.put("new", b"data"),
    "delete": lambda s: s.delete("old"),
    "complete": lambda s: _upload(s, "new"),
}


def _upload(storage: Storage, key: str) -> None:
    with storage.upload(key) as upload:
        upload.write(b"data")
        upload.complete()


@pytest.mark.parametrize(
    ("verb", "act", "landed"),
    [
        (Verb.PUT, ACTS["put"], ["new", "old"]),
        (Verb.DELETE, ACTS["delete"], []),
        (Verb.UPLOAD_COMPLETE, ACTS["complete"], ["new", "old"]),
    ],
)
def test_before_nothing_is_done_and_after_all_is(
    verb: Verb, act: Callable[[Storage], object], landed: list[str]
) -> None:
    for fault, expected in ((FailBefore(ERROR), ["old"]), (FailAfter(ERROR), landed)):
        inner = MemoryStorage()
        inner.put("old", b"x")
        with pytest.raises(TransientError) as caught:
            act(FaultStorage(inner, [Rule(fault, verb=verb)]))
        assert caught.value is ERROR
        assert _keys(inner) == expected


@pytest.mark.parametrize("length", [0, 2, 4, 9])
def test_cut_put_leaves_nothing(tmp_path: Path, length: int) -> None:
    inner = LocalStorage(tmp_path)
    storage = FaultStorage(inner, [Rule(Cut(length, ERROR))])
    with pytest.raises(TransientError):
        storage.put("a/b", b"data")
    assert list(tmp_path.rglob("*")) == [tmp_path / TEMPORARY_FOLDER]


def test_cut_write_of_an_upload_has_written_a_part() -> None:
    inner = MemoryStorage()
    storage = FaultStorage(inner, [Rule(Cut(2, ERROR), verb=Verb.UPLOAD_WRITE)])
    with storage.upload("a") as upload:
        with pytest.raises(TransientError):
            upload.write(b"data")
        upload.complete()  # what a careless caller would do
    assert inner.get("a") == b"da"


@pytest.mark.parametrize("length", [0, 3, 4, 5, 8, 10, 11])
def test_cut_stream_delivers_a_part(length: int) -> None:
    inner = MemoryStorage()
    inner.put("a", b"0123456789")
    got: list[bytes] = []
    stream = FaultStorage(inner, [Rule(Cut(length, ERROR))]).stream("a", block_bytes=4)
    with pytest.raises(TransientError):
        got.extend(bytes(block) for block in stream)
    assert b"".join(got) == b"0123456789"[:length]


def test_cut_listing_names_some() -> None:
    inner = MemoryStorage()
    for key in "abc":
        inner.put(key, b"")
    for length in range(5):
        for verb in ("list", "versions"):
            storage = FaultStorage(inner, [Rule(Cut(length, ERROR))])
            got: list[str] = []
            with pytest.raises(TransientError):
                got.extend(info.key for info in getattr(storage, verb)())
            assert got == [*"abc"][:length]


def test_corruption_flips_one_bit_of_what_is_read_only() -> None:
    inner = MemoryStorage()
    inner.put("a", bytes(10))
    rules = [Rule(Corrupt(offset=13, bit=2), verb=verb) for verb in (Verb.GET, Verb.GET_MANY, Verb.STREAM)]
    storage = FaultStorage(inner, rules)
    expected = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0, 0])
    assert storage.get("a") == expected
    assert storage.get_many("a", [Span(0, 0), Span(0, 2), Span(4, 2)]) == [b"", b"\0\4", b"\0\0"]
    assert b"".join(bytes(block) for block in storage.stream("a", block_bytes=5)) == expected
    assert inner.get("a") == bytes(10)
    assert storage.get("a") == bytes(10)


def test_corruption_of_nothing_is_nothing() -> None:
    inner = MemoryStorage()
    inner.put("a", b"")
    storage = FaultStorage(inner, [Rule(Corrupt(), times=9)])
    assert storage.get("a") == b""
    assert storage.get_many("a", [Span(0, 1)]) == [b""]
    assert list(storage.stream("a")) == []


def test_actions_run_before_and_after() -> None:
    inner = MemoryStorage()
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(_keys(inner))

    storage = FaultStorage(inner, [Rule(RunBefore(look), nth=1), Rule(RunAfter(look), nth=2)])
    storage.put("a", b"")
    storage.put("b", b"")
    assert seen == [[], ["a", "b"]]


def test_process_can_be_ended_between_two_parts(tmp_path: Path) -> None:
    code = f"""
import os, pathlib
from wsistore.storage.fault import FaultStorage, Rule, RunBefore
from wsistore.storage.local import LocalStorage
from wsistore.storage.wrapper import Verb
storage = FaultStorage(
    LocalStorage(pathlib.Path({str(tmp_path)!r})),
    [Rule(RunBefore(lambda: os._exit(9)), nth=2, verb=Verb.UPLOAD_WRITE)],
)
with storage.upload("a") as upload:
    upload.write(b"1")
    upload.write(b"2")
    upload.complete()
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert _keys(LocalStorage(tmp_path)) == []
    assert len(list((tmp_path / TEMPORARY_FOLDER).iterdir())) == 1


def test_copy_for_a_worker_counts_anew() -> None:
    storage = FaultStorage(LocalStorage(Path("/nowhere")), [Rule(FailBefore(ERROR), nth=2)])
    with pytest.raises(StorageError):
        storage.get("a")
    copy: FaultStorage = pickle.loads(pickle.dumps(storage))
    assert copy.calls == ()
    with pytest.raises(StorageError) as caught:
        copy.get("a")
    assert not isinstance(caught.value, TransientError)
    with pytest.raises(TransientError):
        copy.get("a")


# --- the use that it is made for -------------------------------------------------------------------------------------


def _commit(storage: Storage) -> None:
    """Write as an ingest does: objects first, then the one that makes them count."""
    storage.put("store/k/1/zarr.json", b"{}")
    with storage.upload("store/k/1/0") as upload:
        upload.write(b"tile" * 10)
        upload.write(b"tile" * 10)
        upload.complete()
    if b"".join(bytes(block) for block in storage.stream("store/k/1/0")) != b"tile" * 20:
        raise IntegrityError("what was read back is not what was written")
    storage.put("commits/k/1.json", b"attempt 1", if_absent=True)


FAULTS = [FailBefore(ERROR), FailAfter(ERROR), Cut(1, ERROR), Corrupt()]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_every_call_of_a_commit_may_fail(fault: FailBefore | FailAfter | Cut | Corrupt) -> None:
    clean = FaultStorage(MemoryStorage())
    _commit(clean)
    assert len(clean.calls) == 7
    for call in clean.calls:
        inner = MemoryStorage()
        try:
            _commit(FaultStorage(inner, [Rule(fault, nth=call.number)]))
            failed = False
        except WsistoreError:
            failed = True
        assert failed == (call.verb is Verb.STREAM or not isinstance(fault, Corrupt)), call
        committed = "commits/k/1.json" in _keys(inner)
        assert committed == (
            not failed or (call.verb is Verb.PUT and call.number == 7 and isinstance(fault, FailAfter))
        )
        if committed:
            assert inner.get("store/k/1/0") == b"tile" * 20
