"""Crashes and failures at every step of a re-encoding: the slide is always there, and a second run finishes.

The calls are enumerated: the n-th call of every one of three re-encodings that lead back to the first preset is struck,
for n = 1, 2, 3, … until there is no such call. Deaths that leave behind what the one before left are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.site_faults import DEAD, WRITES, Crash, DyingStorage, died, dying, faulty, mended, shared_tiers
from tests.site_kit import (
    assert_sound,
    committed_keys,
    files_of,
    ingest,
    memory_site,
    reencode,
    reencoded,
    restored,
    store_hashes,
    stored_keys,
    tiny_series,
    tiny_tiff,
)
from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.catalog.owner import Owner
from wsistore.compress import shard_task
from wsistore.compress.shard_task import ShardNote, ShardTask
from wsistore.errors import FullError, StorageError, TransientError
from wsistore.execute import Done, SerialExecutor
from wsistore.execute.base import Run
from wsistore.model import Preset
from wsistore.ops.attempts import RESUMABLE
from wsistore.storage.fault import FailAfter, FailBefore, Fault, Rule
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock

CYCLE = (Preset.FOLD, Preset.PACK, Preset.KEEP)


@pytest.fixture(autouse=True)
def _shared() -> Iterator[None]:
    with shared_tiers():
        yield


def assert_whole(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    """Check that what is committed is there and gives the slide back, whatever else lies about."""
    assert committed_keys(site) <= stored_keys(site.tier("hot"))
    assert restored(site, slide) == files


def assert_done(site: ops.Site, slide: str, files: dict[str, bytes], preset: Preset) -> None:
    """Check that one copy is left, in `preset`, and nothing else."""
    (copy,) = site.catalog.copies(slide)
    assert (copy.preset, copy.state) == (preset, "committed")
    assert_sound(site)
    assert_whole(site, slide, files)


def died_at(
    site: ops.Site, slide: str, files: dict[str, bytes], preset: Preset, nth: int, *, after: bool
) -> int | None:
    """Re-encode in a process that dies at a storage call, and look at what comes of it.

    Returns
    -------
    int or None
        How many shards the second run found; None if there were not so many calls.

    """
    dying(site, nth, after=after, only_anew=not after)
    if not died(site, lambda: reencode(site, slide, preset)):
        return None
    assert_whole(site, slide, files)
    assert ops.recover(site).failed == 0
    assert_whole(site, slide, files)
    resumed = reencoded(site, slide, preset).shards_resumed
    assert_done(site, slide, files, preset)
    return resumed


@pytest.mark.slow
# To die after a call is to die before the next one, but for what other threads do.
@pytest.mark.parametrize(("after", "step"), [(False, 1), (True, 9)], ids=["before", "after"])
def test_process_dies_at_every_storage_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int, *, after: bool
) -> None:
    """Before the first call after each change of tier or catalogue, and after every ninth call, whatever it does."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    kept = struck = 0
    for nth in range(1, 400, step):
        with memory_site(tmp_path / str(nth)) as site:  # a new one: events are many, and all are looked at each time
            slide = str(ingest(site, path)[0].slide)
            first = store_hashes(site, slide)
            found = [died_at(site, slide, files_of(path), preset, nth, after=after) for preset in CYCLE]
            assert store_hashes(site, slide) == first
        shards = [resumed for resumed in found if resumed is not None]
        struck += len(shards)
        kept += sum(shards)
        if not shards:
            break
    else:
        pytest.fail("it never came to an end")
    with capsys.disabled():
        sys.stdout.write(f"\n{struck} deaths, {kept} shards were not written again\n")
    assert struck > (250 // step if after else 100)
    assert kept > 30 // step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "step"),
    [
        (FailBefore(StorageError("refused")), 2),
        (FailAfter(TransientError("reply lost for good")), 3),
        (FailBefore(FullError("no space")), 5),
    ],
    ids=["before", "after", "full"],
)
def test_storage_fails_at_every_call(tmp_path: Path, fault: Fault, step: int) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    files = files_of(path)
    with memory_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        for nth in range(1, 400, step):
            storage = faulty(site, Rule(fault, nth=nth))
            preset = CYCLE[nth % 3]
            before = site.catalog.copies(slide)[0]
            try:
                result = reencode(site, slide, preset)
            except StorageError:
                result = None
            count = len(storage.calls)
            mended(site)
            assert_whole(site, slide, files)
            if result is not None and result.error is not None:
                assert result.status == "failed"
            (now,) = site.catalog.copies(slide)
            assert now.attempt == before.attempt or now.preset is preset
            reencoded(site, slide, preset)
            assert_done(site, slide, files, preset)
            if count < nth:
                break


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_process_dies_around_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool
) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        site.owner = DEAD
        dead = False

        def wrap(name: str) -> Callable:
            original = getattr(Catalog, name)

            def act(*args: object, **kwargs: object) -> object:
                nonlocal dead
                if dead:
                    raise Crash
                if name != method:
                    return original(*args, **kwargs)
                dead = True
                if after:
                    original(*args, **kwargs)
                raise Crash

            return act

        with monkeypatch.context() as patch:
            for name in WRITES:
                patch.setattr(Catalog, name, wrap(name))
            if method in {"begin_reencode", "claim_reencode", "commit_reencode", "prove_drop", "finish_drop"}:
                with pytest.raises(Crash):
                    reencode(site, slide, Preset.FOLD)
            else:
                reencoded(site, slide, Preset.FOLD)  # not one of its steps
        site.owner = str(Owner.current())
        assert_whole(site, slide, files_of(path))
        assert ops.recover(site).failed == 0
        assert_whole(site, slide, files_of(path))
        reencoded(site, slide, Preset.FOLD)
        assert_done(site, slide, files_of(path), Preset.FOLD)
        kinds = [event.kind for event in site.catalog.events(slide) if event.kind not in {"restored", "verified"}]
        assert kinds == ["ingested", "reencoded", "dropped"]


def test_recovery_dies_at_every_storage_call_of_a_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        for nth in range(1, 100):
            preset = CYCLE[(nth - 1) % 3]
            with monkeypatch.context() as patch:
                patch.setattr("wsistore.ops.attempts.drop_replaced", lambda *_: None)  # it dies just before
                reencoded(site, slide, preset)
            assert len(site.catalog.open_drops()) == 1
            assert len(site.catalog.copies(slide)) == 1
            dying(site, nth, after=nth % 2 == 0)
            crashed = died(site, lambda: ops.recover(site))
            assert_whole(site, slide, files_of(path))
            assert ops.recover(site) == ops.Recovered(0, 0, 0)
            assert_done(site, slide, files_of(path), preset)
            if not crashed:
                break
        else:
            pytest.fail("the recovery never came to its end")


# --- going on, and letting go -----------------------------------------------------------------------------------------


class Dying(SerialExecutor):
    """Ends the process after some tasks."""

    def __init__(self, site: ops.Site, after: int) -> None:
        dying(site, 10**9, after=False)
        storage = site._tiers["hot"]
        assert isinstance(storage, DyingStorage)
        self.storage, self.left = storage, after

    def _run(self, run: Run) -> Iterator[Done]:
        for done in super()._run(run):
            if not self.left:
                self.storage.is_dead = True  # nothing cleans up behind it
                raise Crash
            self.left -= 1
            yield done


def interrupted(site: ops.Site, slide: str, preset: Preset, tasks: int = 2) -> None:
    """Re-encode in a process that dies after it has written some shards."""
    assert died(site, lambda: reencode(site, slide, preset, executor=Dying(site, tasks)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_site(tmp_path / "site", clock=ManualClock()) as made:
        yield made


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Return a slide of three levels, each a shard."""
    return tiny_series(tmp_path / "in")


def test_what_is_finished_is_not_done_again(site: ops.Site, series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slide = str(ingest(site, series)[0].slide)
    written: list[int] = []
    write = shard_task._write

    def counted(task: ShardTask, *rest: Any) -> ShardNote:
        written.append(task.level)
        return write(task, *rest)

    monkeypatch.setattr(shard_task, "_write", counted)
    interrupted(site, slide, Preset.FOLD)
    assert len(written) == 3  # the last one is known to nobody but its note
    (attempt,) = site.catalog.open_attempts()
    assert ops.recover(site) == ops.Recovered(0, 0, 0)
    result = reencoded(site, slide, Preset.FOLD)
    assert len(written) == 3
    assert (result.shards, result.shards_resumed) == (3, 3)
    assert site.catalog.copies(slide)[0].attempt == attempt.attempt
    assert_done(site, slide, files_of(series), Preset.FOLD)


def test_a_damaged_shard_of_an_interrupted_run_is_found_out(site: ops.Site, series: Path) -> None:
    slide = str(ingest(site, series)[0].slide)
    interrupted(site, slide, Preset.FOLD)
    (attempt,) = site.catalog.open_attempts()
    storage = site.tier("hot")
    (key, *_) = [key for key in stored_keys(storage) if f"store/{slide}/{attempt.attempt}/" in key]
    data = storage.get(key)
    storage.put(key, data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
    result = reencode(site, slide, Preset.FOLD)
    assert result.error is not None
    assert result.error.kind == "corrupt"
    assert site.catalog.copies(slide)[0].state == "committed"
    reencoded(site, slide, Preset.FOLD)
    assert_done(site, slide, files_of(series), Preset.FOLD)


def test_what_an_interrupted_run_left_is_kept_for_a_week(site: ops.Site, series: Path) -> None:
    slide = str(ingest(site, series)[0].slide)
    interrupted(site, slide, Preset.FOLD)
    clock = site.clock
    assert isinstance(clock, ManualClock)
    clock.advance((RESUMABLE - timedelta(hours=1)).total_seconds())
    assert ops.recover(site) == ops.Recovered(0, 0, 0)
    assert len(site.catalog.open_attempts()) == 1
    clock.advance(timedelta(hours=2).total_seconds())
    assert ops.recover(site) == ops.Recovered(0, 1, 0)
    assert_done(site, slide, files_of(series), Preset.KEEP)


def test_something_else_ends_what_was_interrupted(site: ops.Site, series: Path) -> None:
    slide = str(ingest(site, series)[0].slide)
    interrupted(site, slide, Preset.FOLD)
    result = reencoded(site, slide, Preset.PACK)
    assert result.shards_resumed == 0
    clock = site.clock
    assert isinstance(clock, ManualClock)
    # Its workers may have been others: what they still wrote is looked for when its lease has ended.
    (left,) = site.catalog.open_attempts()
    site.tier("hot").put(f"store/{slide}/{left.attempt}/0/image/c/0/0/0", b"late")
    clock.advance(timedelta(hours=1).total_seconds())
    ops.recover(site)
    assert_done(site, slide, files_of(series), Preset.PACK)


def test_a_new_version_ends_what_was_interrupted(site: ops.Site, series: Path, tmp_path: Path) -> None:
    last = max(series.iterdir())
    bytes_of_last = last.read_bytes()
    last.unlink()
    slide = str(ingest(site, series)[0].slide)
    interrupted(site, slide, Preset.FOLD, tasks=1)
    last.write_bytes(bytes_of_last)
    (result,) = ingest(site, series)
    assert (result.slide, result.supersedes) == (slide, 1)
    clock = site.clock
    assert isinstance(clock, ManualClock)
    clock.advance(timedelta(hours=1).total_seconds())
    ops.recover(site)
    assert_sound(site)
    assert [copy.state for copy in site.catalog.copies(slide)] == ["committed", "superseded"]
    assert site.catalog.copies(slide)[0].n == 2
    reencoded(site, slide, Preset.FOLD)
    assert site.catalog.copies(slide)[0].n == 3
    assert restored(site, slide) == files_of(series)


def test_one_that_another_process_does_is_busy(site: ops.Site, series: Path, tmp_path: Path) -> None:
    slide = str(ingest(site, series)[0].slide)
    seen: list[ops.ReencodeResult] = []

    class Meanwhile(ops.Watcher):
        def encoded(self, bytes_read: int, bytes_written: int) -> None:
            with ops.open_site(tmp_path / "site") as other:
                seen.append(reencode(other, slide, Preset.PACK))

    reencoded(site, slide, Preset.FOLD, watcher=Meanwhile())
    assert {result.error.kind for result in seen if result.error} == {"busy"}
    assert len(seen) == 3
    assert_done(site, slide, files_of(series), Preset.FOLD)


# --- what is not believed ---------------------------------------------------------------------------------------------


class Spoiling(SerialExecutor):
    """Damages every shard after it was written and its note with it."""

    def __init__(self, site: ops.Site) -> None:
        self.site = site

    def _run(self, run: Run) -> Iterator[Done]:
        for done in super()._run(run):
            for note in done.result:
                data = self.site.tier("hot").get(note.record.key)
                self.site.tier("hot").put(note.record.key, bytes([data[0] ^ 1]) + data[1:])
            yield done


@pytest.mark.parametrize("preset", [Preset.FOLD, Preset.PACK])
def test_a_new_copy_that_is_not_good_changes_nothing(site: ops.Site, series: Path, preset: Preset) -> None:
    slide = str(ingest(site, series)[0].slide)
    before = site.catalog.copies(slide)
    result = reencode(site, slide, preset, executor=Spoiling(site))
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.exit_code == 7
    after = site.catalog.copies(slide)
    assert [(copy.attempt, copy.state) for copy in after] == [(copy.attempt, copy.state) for copy in before]
    assert_done(site, slide, files_of(series), Preset.KEEP)


def test_a_damaged_copy_is_not_passed_on(site: ops.Site, series: Path) -> None:
    slide = str(ingest(site, series)[0].slide)
    storage, (copy,) = site.tier("hot"), site.catalog.copies(slide)
    key = f"store/{slide}/{copy.attempt}/0/image/c/0/0/0"
    good = storage.get(key)
    storage.put(key, good[:700] + bytes([good[700] ^ 0xFF]) + good[701:])
    result = reencode(site, slide, Preset.FOLD)
    assert result.error is not None
    assert result.error.exit_code == 7
    assert [copy.state for copy in site.catalog.copies(slide)] == ["suspect"]
    storage.put(key, good)
    assert next(ops.verify(site, [slide])).ok
    reencoded(site, slide, Preset.FOLD)
    assert_done(site, slide, files_of(series), Preset.FOLD)


def test_a_replaced_copy_stays_if_the_new_one_turns_out_bad_before_it_is_gone(
    site: ops.Site, series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = str(ingest(site, series)[0].slide)
    with monkeypatch.context() as patch:
        patch.setattr("wsistore.ops.attempts.drop_replaced", lambda *_: None)
        reencoded(site, slide, Preset.FOLD)
    storage, (new,) = site.tier("hot"), site.catalog.copies(slide)
    key = f"private/{slide}/{new.attempt}/skeleton.zst"
    good = storage.get(key)
    storage.put(key, good[:-1])
    assert not next(ops.verify(site, [slide])).ok
    ops.recover(site)
    assert sorted(str(copy.state) for copy in site.catalog.copies(slide)) == ["suspect", "suspect"]
    assert {result.ok for result in ops.verify(site, [slide])} == {True, False}
    assert restored(site, slide) == files_of(series)
    reencoded(site, slide, Preset.PACK)
    assert_done(site, slide, files_of(series), Preset.PACK)


def test_only_what_the_old_commit_names_is_deleted(site: ops.Site, series: Path) -> None:
    slide = str(ingest(site, series)[0].slide)
    (copy,) = site.catalog.copies(slide)
    storage = site.tier("hot")
    extra = f"store/{slide}/{copy.attempt}/note-of-somebody.txt"
    storage.put(extra, b"not ours")
    deleted: list[str] = []
    spy = faulty(site)
    reencoded(site, slide, Preset.FOLD)
    deleted = [call.key for call in spy.calls if call.verb is Verb.DELETE and copy.attempt in call.key]
    assert extra not in deleted
    assert storage.get(extra) == b"not ours"
    order = [call.key for call in spy.calls if call.verb is Verb.DELETE and "/notes/" not in call.key]
    assert order[0] == copy.commit_key
