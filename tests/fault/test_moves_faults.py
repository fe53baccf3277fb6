"""Failing tiers, damage on the way, lists that lag, clocks that jump, two movers, two drops: and what a move does."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest

from tests.move_kit import (
    TIERS,
    assert_at_rest,
    assert_whole,
    bare,
    drop,
    in_process,
    mended,
    move,
    moved,
    places,
    reopened,
    tiered_site,
)
from tests.site_kit import command, files_of, ingest, new_site, reencode, restored, stored_keys, tiny_series, tiny_svs
from wsistore import ops
from wsistore.catalog.records import DropRule
from wsistore.errors import ConflictError, FullError, Kind, StorageError, TransientError, WsistoreError
from wsistore.model import Preset
from wsistore.ops.attempts import LEASE
from wsistore.ops.orphans import GRACE, recover_all
from wsistore.settings import EvidenceAges
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.fault import (
    Corrupt,
    Cut,
    FailAfter,
    FailBefore,
    Fault,
    FaultStorage,
    Rule,
    RunBefore,
)
from wsistore.storage.retry import RetryPolicy, RetryStorage
from wsistore.storage.wrapper import Verb, WrappedStorage
from wsistore.testing.clock import ManualClock
from wsistore.tiers import commits

ELSEWHERE = "elsewhere/1:boot:1:1"
EVIDENCE_AGE = EvidenceAges().begin


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[ops.Site]:
    with tiered_site(tmp_path / "site", clock=clock) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_svs(tmp_path / "in" / "a.svs")


@pytest.fixture
def slide(site: ops.Site, path: Path) -> str:
    return str(ingest(site, path)[0].slide)


def faulty(site: ops.Site, tier: str, *rules: Rule) -> FaultStorage:
    storage = FaultStorage(bare(site, tier), rules)
    site._tiers[tier] = storage
    return storage


def spoil(storage: Storage, part: str) -> tuple[str, bytes]:
    """Flip a bit in the middle of an object; return it as it was."""
    key = min(key for key in stored_keys(storage) if part in key)
    good = storage.get(key)
    at = len(good) // 2
    storage.put(key, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    return key, good


# --- tiers that fail --------------------------------------------------------------------------------------------------

FAULTS = {
    "refused": FailBefore(StorageError("refused")),
    "reply lost": FailAfter(TransientError("reply lost")),
    "full": FailBefore(FullError("no space")),
    "cut": Cut(3, TransientError("connection cut")),
    "denied": FailBefore(StorageError("no", kind=Kind.STORAGE_DENIED)),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("streamed", [False, True], ids=["small", "streamed"])
def test_tier_fails_at_every_call(
    site: ops.Site, slide: str, path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, *, streamed: bool
) -> None:
    """Each fault strikes every fourth call, each another one first: together they strike every call."""
    if streamed:
        monkeypatch.setattr("wsistore.compress.copying._SMALL_BYTES", 0)
    files, struck = files_of(path), 0
    first = 1 + list(FAULTS.values()).index(fault) % 4
    for nth in range(first, 400, 4):
        silent = 0
        for tier in ("hot", "warm"):
            spies = {name: faulty(site, name, *([Rule(fault, nth=nth)] if name == tier else [])) for name in TIERS}
            to = "warm" if places(site, slide).get("hot") else "hot"
            try:
                result = move(site, slide, to)
            except WsistoreError:
                result = None
            silent += len(spies[tier].calls) < nth
            struck += len(spies[tier].calls) >= nth
            mended(site)
            assert_whole(site, slide, files)
            assert "committed" in places(site, slide).values()
            if result is not None and result.status in {"moved", "dropping"}:
                assert places(site, slide) == {to: "committed"}
            ops.recover(site)
            moved(site, slide, to)
            assert_at_rest(site, slide, files, to)
        if silent == 2:
            break
    else:
        pytest.fail("it never came to an end")
    assert struck > 15


@pytest.mark.parametrize("delay", [None, 7.0], ids=["500", "503 with Retry-After"])
def test_bursts_of_errors_are_outlasted(
    site: ops.Site, slide: str, path: Path, clock: ManualClock, delay: float | None
) -> None:
    busy = TransientError("busy", retry_after_seconds=delay)
    for tier in ("hot", "warm"):
        rules = [Rule(FailBefore(busy), nth=nth, times=3) for nth in range(2, 200, 9)]
        storage = FaultStorage(bare(site, tier), rules)
        site._tiers[tier] = RetryStorage(storage, clock=clock, rng=random.Random(1), policy=RetryPolicy())
    moved(site, slide, "warm")
    mended(site)
    assert_at_rest(site, slide, files_of(path), "warm")
    assert len(clock.slept_seconds) > 20
    assert delay is None or max(clock.slept_seconds) >= delay


def test_tier_that_is_gone_stops_the_run_and_leaves_all_as_it_was(
    site: ops.Site, slide: str, path: Path, tmp_path: Path
) -> None:
    other = str(ingest(site, tiny_svs(tmp_path / "b.svs", seed=5))[0].slide)
    gone = StorageError("gone", kind=Kind.TIER_MISSING)
    faulty(site, "warm", Rule(FailBefore(gone), nth=12, times=10**6))
    results = list(ops.move(site, [slide, other], "warm", jobs=1))
    assert [result.error.kind for result in results if result.error] == ["tier-missing", "tier-missing"]
    assert places(site, slide) == {"hot": "committed"}
    with pytest.raises(StorageError):
        list(ops.move(site, [slide], "warm"))
    mended(site)
    for one in (slide, other):
        moved(site, one, "warm")
    assert places(site, slide) == {"warm": "committed"}
    assert_whole(site, slide, files_of(path))


def test_source_tier_is_gone_but_another_copy_is_there(site: ops.Site, slide: str, path: Path) -> None:
    moved(site, slide, "warm", keep_source=True)
    faulty(site, "hot", Rule(FailBefore(StorageError("gone", kind=Kind.TIER_MISSING)), times=10**6))
    result = moved(site, slide, "cold", keep_source=True)
    assert (result.source, result.tier, result.status) == ("warm", "cold", "copied")
    result = moved(site, slide, "cold", source="hot")
    assert result.status == "dropping"  # it counts for nothing, though nobody can delete it now
    assert places(site, slide) == {"cold": "committed", "warm": "committed"}
    mended(site)
    assert ops.recover(site).failed == 0
    assert_at_rest(site, slide, files_of(path), "cold", "warm")


def test_object_lock_keeps_the_old_objects_and_recovery_tries_again(site: ops.Site, slide: str, path: Path) -> None:
    locked = StorageError("locked until 2031", kind=Kind.STORAGE_DENIED)
    faulty(site, "hot", Rule(FailBefore(locked), verb=Verb.DELETE, times=10**6))
    result = moved(site, slide, "warm")
    assert (result.status, result.dropped) == ("dropping", ())
    assert places(site, slide) == {"warm": "committed"}
    assert ops.recover(site).failed == 1
    refused = drop(site, slide, "warm")
    assert refused.error is not None  # what is dropping counts for nothing, and rests on this one
    assert_whole(site, slide, files_of(path))
    mended(site)
    assert ops.recover(site).failed == 0
    assert_at_rest(site, slide, files_of(path), "warm")


# --- other bytes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [Preset.KEEP, Preset.PACK])
@pytest.mark.parametrize("part", ["/0/image/c", "skeleton", "thumbnail/c"])
def test_damaged_source_is_found_while_it_is_copied(
    site: ops.Site, slide: str, path: Path, part: str, preset: Preset
) -> None:
    if preset is Preset.PACK:
        reencode(site, slide, preset)
        part = {"skeleton": "private/"}.get(part, "store/")
    key, good = spoil(bare(site, "hot"), part)
    result = move(site, slide, "warm")
    assert result.error is not None
    assert (result.error.kind, result.error.exit_code) == ("corrupt", 7)
    assert places(site, slide) == {"hot": "suspect"}
    assert {name for name in stored_keys(bare(site, "warm")) if slide in name} == set()
    bare(site, "hot").put(key, good)
    assert all(verdict.ok for verdict in ops.verify(site, [slide]))
    moved(site, slide, "warm")
    assert_at_rest(site, slide, files_of(path), "warm")


def test_another_copy_is_taken_where_the_first_is_damaged(site: ops.Site, slide: str, path: Path) -> None:
    moved(site, slide, "warm", keep_source=True)
    spoil(bare(site, "hot"), "/0/image/c")
    result = moved(site, slide, "cold", source="hot")
    assert (result.source, result.dropped) == ("warm", ("hot",))
    assert_at_rest(site, slide, files_of(path), "cold", "warm")


@pytest.mark.parametrize("preset", [None, Preset.FOLD])
def test_damage_at_the_destination_is_found_by_reading_back(
    site: ops.Site, slide: str, path: Path, preset: Preset | None
) -> None:
    inner = bare(site, "warm")

    class Spoiling(WrappedStorage):
        def stream(self, key: str, *, block_bytes: int = 1 << 22, uncached: bool = False) -> Iterator[memoryview]:
            for block in self.inner.stream(key, block_bytes=block_bytes, uncached=uncached):
                yield memoryview(bytes([block[0] ^ 1]) + bytes(block[1:])) if "image/c" in key else block

    site._tiers["warm"] = Spoiling(inner)
    result = move(site, slide, "warm", preset=preset)
    assert result.error is not None
    assert result.error.kind == "corrupt"
    assert places(site, slide) == {"hot": "committed"}
    mended(site)
    moved(site, slide, "warm", preset=preset)
    assert_at_rest(site, slide, files_of(path), "warm")


@pytest.mark.parametrize("streamed", [False, True])
def test_damage_in_flight_is_taken_again(
    site: ops.Site, slide: str, path: Path, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    if streamed:
        monkeypatch.setattr("wsistore.compress.copying._SMALL_BYTES", 0)
    verb = Verb.STREAM if streamed else Verb.GET
    faulty(site, "hot", Rule(Corrupt(offset=9), verb=verb, key_contains="/c/0"))
    moved(site, slide, "warm")
    mended(site)
    assert_at_rest(site, slide, files_of(path), "warm")


def test_connection_cut_in_mid_body_is_taken_again(
    site: ops.Site, slide: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsistore.compress.copying._SMALL_BYTES", 0)
    cut = Cut(50, TransientError("cut"))
    faulty(site, "hot", Rule(cut, verb=Verb.STREAM), Rule(cut, verb=Verb.STREAM, nth=5))
    spy = faulty(site, "warm", Rule(cut, verb=Verb.UPLOAD_WRITE), Rule(cut, verb=Verb.UPLOAD_WRITE, nth=6))
    moved(site, slide, "warm")
    assert any(call.verb is Verb.UPLOAD_ABORT for call in spy.calls)
    mended(site)
    assert_at_rest(site, slide, files_of(path), "warm")


class Lagging(WrappedStorage):
    """Lists what was there when it was made: later objects are not named, deleted ones are."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.seen = list(inner.list())

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self.seen if info.key.startswith(prefix) and info.key > after)


def test_lists_that_lag_do_no_harm(site: ops.Site, slide: str, path: Path) -> None:
    for to in ("warm", "hot", "warm", "cold"):
        for tier in TIERS:
            site._tiers[tier] = Lagging(bare(site, tier))
        moved(site, slide, to)
        ops.recover(site)
        recover_all(site)
        mended(site)
        assert_at_rest(site, slide, files_of(path), to)


# --- movers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [None, Preset.FOLD])
@pytest.mark.parametrize("where", ["write", "read back", "claim", "commit"])
def test_mover_that_slept_beyond_its_lease_commits_nothing(
    site: ops.Site, slide: str, path: Path, clock: ManualClock, where: str, preset: Preset | None
) -> None:
    """It is paused somewhere; another one takes over and finishes; then it wakes up."""
    site.owner = ELSEWHERE
    second: list[ops.MoveResult] = []

    def meanwhile() -> None:
        clock.advance(LEASE.total_seconds() + 1)
        with reopened(site) as other:
            second.append(moved(other, slide, "warm", preset=preset))

    rules = {
        "write": Rule(RunBefore(meanwhile), verb=Verb.PUT, key_contains="zarr.json", nth=3),
        "read back": Rule(RunBefore(meanwhile), verb=Verb.STREAM, nth=2),
        "claim": Rule(RunBefore(meanwhile), verb=Verb.LIST, key_contains="commits/"),
        "commit": Rule(RunBefore(meanwhile), verb=Verb.PUT, key_contains="commits/"),
    }
    faulty(site, "warm", rules[where])
    # All threads of a process that is paused are: none of them renews its lease.
    with mock.patch.object(site.catalog, "extend_lease"):
        first = move(site, slide, "warm", preset=preset)
    mended(site)
    assert len(second) == 1
    if where == "commit":  # it had claimed: the other one finished its work, with the same bytes
        assert first.error is None
    else:
        assert first.error is not None
        assert first.error.kind == "busy"
    assert places(site, slide) == {"warm": "committed"}
    (copy,) = site.catalog.copies(slide)
    commit = commits.read(bare(site, "warm"), copy.commit_key)
    assert commit.fence == (1 if where == "commit" else 2)
    clock.advance(GRACE.total_seconds() + 1)
    recover_all(site)
    assert_at_rest(site, slide, files_of(path), "warm")


def test_mover_that_slept_before_its_commit_takes_it_back_where_the_copy_is_gone(
    site: ops.Site, slide: str, path: Path, clock: ManualClock
) -> None:
    site.owner = ELSEWHERE

    def meanwhile() -> None:
        clock.advance(LEASE.total_seconds() + 1)
        with reopened(site) as other:
            moved(other, slide, "warm")
            moved(other, slide, "cold")

    faulty(site, "warm", Rule(RunBefore(meanwhile), verb=Verb.PUT, key_contains="commits/"))
    move(site, slide, "warm")
    mended(site)
    assert_at_rest(site, slide, files_of(path), "cold")


def test_commit_that_came_back_is_swept(site: ops.Site, slide: str, path: Path) -> None:
    (old,) = site.catalog.copies(slide)
    moved(site, slide, "warm")
    bare(site, "hot").put(old.commit_key, old.commit_body.encode())
    assert recover_all(site).orphans == 1
    assert_at_rest(site, slide, files_of(path), "warm")


def test_one_mover_per_slide(site: ops.Site, slide: str, path: Path) -> None:
    seen: list[ops.MoveResult] = []

    def meanwhile() -> None:
        with reopened(site) as other:
            seen.extend((move(other, slide, "cold"), move(other, slide, "warm")))

    faulty(site, "warm", Rule(RunBefore(meanwhile), verb=Verb.STREAM))
    moved(site, slide, "warm")
    mended(site)
    assert [result.error.kind for result in seen if result.error] == ["busy", "busy"]
    assert_at_rest(site, slide, files_of(path), "warm")


def test_clocks_that_jump(site: ops.Site, slide: str, path: Path, clock: ManualClock) -> None:
    year = timedelta(days=365)
    for verb, delta in ((Verb.PUT, year), (Verb.STREAM, -2 * year), (Verb.LIST, year), (Verb.PUT, -year)):
        to = "warm" if "hot" in places(site, slide) else "hot"
        for tier in TIERS:
            faulty(site, tier, Rule(RunBefore(lambda delta=delta: clock.jump(clock.now() + delta)), verb=verb, nth=2))  # type: ignore[misc]
        moved(site, slide, to)
        mended(site)
        ops.recover(site)
        moved(site, slide, to)
        assert_at_rest(site, slide, files_of(path), to)


def test_old_evidence_is_renewed_before_anything_is_dropped(
    site: ops.Site, slide: str, path: Path, clock: ManualClock
) -> None:
    moved(site, slide, "warm", keep_source=True)
    for act in (lambda: moved(site, slide, "warm"), lambda: drop(site, slide, "hot")):
        clock.advance(EVIDENCE_AGE.total_seconds() + 1)
        spy = faulty(site, "warm")
        assert act().dropped == ("hot",)
        assert sum(call.verb in (Verb.STREAM, Verb.GET) for call in spy.calls) > 10
        mended(site)
        assert_at_rest(site, slide, files_of(path), "warm")
        moved(site, slide, "hot", keep_source=True)


def test_old_evidence_that_cannot_be_renewed_drops_nothing(site: ops.Site, slide: str, clock: ManualClock) -> None:
    moved(site, slide, "warm", keep_source=True)
    clock.advance(EVIDENCE_AGE.total_seconds() + 1)
    key, good = spoil(bare(site, "warm"), "/0/image/c")
    result = drop(site, slide, "hot")
    assert result.error is not None
    assert result.error.kind == "last-copy"
    assert places(site, slide) == {"hot": "committed", "warm": "suspect"}
    bare(site, "warm").put(key, good)


# --- drops ------------------------------------------------------------------------------------------------------------


def test_two_drops_never_cite_each_other(tmp_path: Path, path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        for _ in range(6):
            moved(site, slide, "hot", keep_source=True)
            moved(site, slide, "warm", keep_source=True)
            gate = threading.Barrier(2)
            results: list[ops.MoveResult] = []

            def one(tier: str, gate: threading.Barrier = gate, results: list[ops.MoveResult] = results) -> None:
                with reopened(site) as other:
                    gate.wait()
                    results.append(drop(other, slide, tier))

            threads = [threading.Thread(target=one, args=(tier,)) for tier in ("hot", "warm")]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(str(result.status) for result in results) == ["dropped", "failed"]
            assert list(places(site, slide).values()) == ["committed"]
            assert_whole(site, slide, files_of(path))


def test_what_a_drop_rests_on_stays_until_it_has_ended(site: ops.Site, slide: str, path: Path) -> None:
    for tier in ("warm", "cold"):
        moved(site, slide, tier, keep_source=True)
    locked = StorageError("locked", kind=Kind.STORAGE_DENIED)
    faulty(site, "hot", Rule(FailBefore(locked), verb=Verb.DELETE, times=10**6))
    assert drop(site, slide, "hot").status == "dropping"
    outcomes = {tier: drop(site, slide, tier) for tier in ("warm", "cold")}
    assert sorted(str(result.status) for result in outcomes.values()) == ["dropped", "failed"]
    (kept,) = [tier for tier, result in outcomes.items() if result.error]
    assert str(outcomes[kept].error).find("busy") >= 0
    mended(site)
    assert ops.recover(site).failed == 0
    assert_at_rest(site, slide, files_of(path), kept)


def test_drop_of_what_changed_since_it_was_seen_is_refused(site: ops.Site, slide: str) -> None:
    moved(site, slide, "warm", keep_source=True)
    seen = next(copy for copy in site.catalog.copies(slide) if copy.tier == "hot")
    reencode(site, slide, Preset.FOLD, tier="hot")
    rule = DropRule(required=1, fresh_from="", fresh_until="9")
    with pytest.raises(ConflictError):
        site.catalog.start_drop(seen, rule, "me")
    assert places(site, slide) == {"hot": "committed", "warm": "committed"}


def test_proof_is_kept(site: ops.Site, slide: str) -> None:
    moved(site, slide, "warm")
    (copy,) = site.catalog.copies(slide)
    told = [event for event in site.catalog.events(slide) if event.kind in {"dropping", "dropped"}]
    assert [event.kind for event in told] == ["dropping", "dropped"]
    for event in told:
        (cited,) = event.detail["proof"]["copies"]
        assert (cited["attempt"], cited["tier"], cited["evidence"]) == (copy.attempt, "warm", "read-back")
        assert cited["verified_at"] == copy.verified_at
        assert len(cited["commit_sha256"]) == 64


def test_hold_suspends_every_drop(site: ops.Site, slide: str, path: Path) -> None:
    moved(site, slide, "warm", keep_source=True)
    ops.hold(site, [slide], "court case")
    for result in (drop(site, slide, "hot"), move(site, slide, "cold", source="hot"), move(site, slide, "warm")):
        assert result.error is not None
        assert result.error.kind == "held"
    assert reencode(site, slide, Preset.FOLD, tier="hot").error is not None
    moved(site, slide, "cold", keep_source=True)
    assert places(site, slide) == dict.fromkeys(TIERS, "committed")
    ops.release(site, [slide])
    assert drop(site, slide, "hot").status == "dropped"
    assert_at_rest(site, slide, files_of(path), "cold", "warm")


@pytest.mark.parametrize("at", ["read back", "delete"])
def test_hold_that_is_placed_in_the_middle(site: ops.Site, slide: str, path: Path, at: str) -> None:
    def meanwhile() -> None:
        with reopened(site) as other:
            ops.hold(other, [slide], "court case")

    if at == "read back":
        faulty(site, "warm", Rule(RunBefore(meanwhile), verb=Verb.STREAM))
    else:  # after the drop has begun, before its commit is deleted
        denied = StorageError("x", kind=Kind.STORAGE_DENIED)
        faulty(site, "hot", Rule(FailBefore(denied), verb=Verb.DELETE, times=10))
    result = moved(site, slide, "warm")
    mended(site)
    if at == "read back":
        assert (result.status, result.dropped) == ("copied", ())
        assert "court case" in result.reason
        assert places(site, slide) == {"hot": "committed", "warm": "committed"}
    else:
        assert result.status == "dropping"
        meanwhile()
        assert ops.recover(site).failed == 1
        assert any(slide in key for key in stored_keys(bare(site, "hot")))
    ops.release(site, [slide], "court case")
    ops.recover(site)
    moved(site, slide, "warm")
    assert_at_rest(site, slide, files_of(path), "warm")


# --- the catalogue, and what lies about -------------------------------------------------------------------------------


def test_locked_catalogue_fails_the_move_and_nothing_else(
    site: ops.Site, slide: str, path: Path, tmp_path: Path
) -> None:
    locker = sqlite3.connect(tmp_path / "site" / "catalog.db", isolation_level=None, check_same_thread=False)

    def lock() -> None:
        if not locker.in_transaction:
            locker.execute("BEGIN IMMEDIATE")

    for nth in (2, 20):
        faulty(site, "warm", Rule(RunBefore(lock), nth=nth))
        with ops.open_site(site.folder, clock=site.clock) as impatient:
            impatient.catalog.close()
            impatient.catalog = type(site.catalog).open(
                site.settings.catalog_url, clock=site.clock, busy_timeout_seconds=0.1
            )
            impatient._tiers |= site._tiers
            result = move(impatient, slide, "warm")
            assert result.error is not None
            assert result.error.kind == "busy"
        locker.rollback()
        mended(site)
        assert_whole(site, slide, files_of(path))
    locker.close()
    ops.recover(site)
    moved(site, slide, "warm")
    assert_at_rest(site, slide, files_of(path), "warm")


def test_orphans_are_removed_after_a_time_of_grace_and_nothing_else(
    site: ops.Site, slide: str, path: Path, clock: ManualClock
) -> None:
    moved(site, slide, "warm", keep_source=True)
    hot = bare(site, "hot")
    lost = [
        f"store/{slide}/{'0' * 20}/0/image/c/0/0/0",
        f"private/{slide}/{'0' * 20}/notes/x",
        f"store/{'1' * 20}/{'2' * 20}/x",
    ]
    for key in lost:
        hot.put(key, b"late")
    assert recover_all(site).orphans == 0
    clock.advance(GRACE.total_seconds() + 1)
    hot.put(lost[0] + "1", b"later still")  # its writer lives
    assert recover_all(site).orphans == 1
    clock.advance(GRACE.total_seconds() + 1)
    assert recover_all(site) == ops.Recovered(0, 0, 0, orphans=3)
    assert recover_all(site) == ops.Recovered(0, 0, 0)
    assert_at_rest(site, slide, files_of(path), "hot", "warm")


def test_commits_that_the_catalogue_lost_are_no_orphans(
    site: ops.Site, slide: str, clock: ManualClock, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "site" / "catalog.db") as database:
        backup = "".join(f"{line}\n" for line in database.iterdump())
    moved(site, slide, "warm", keep_source=True)
    site.catalog.close()
    (tmp_path / "site" / "catalog.db").unlink()
    for suffix in ("-wal", "-shm"):
        (tmp_path / "site" / f"catalog.db{suffix}").unlink(missing_ok=True)
    with sqlite3.connect(tmp_path / "site" / "catalog.db") as database:
        database.executescript(backup)
    database.close()
    clock.advance(10 * GRACE.total_seconds())
    before = stored_keys(bare(site, "warm"))
    with reopened(site) as again:
        recover_all(again)
    assert stored_keys(bare(site, "warm")) == before


# --- real processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_processes(tmp_path: Path) -> None:
    """`kill -9` at random moments of `wsistore move`; then the same command."""
    folder = new_site(tmp_path / "site")
    path = tiny_series(tmp_path / "in")
    with ops.open_site(folder) as site:
        slide = str(ingest(site, path)[0].slide)
    killed = 0
    for turn in range(8):
        to = ("warm", "hot")[turn % 2]
        running = subprocess.Popen(command(folder, "move", slide, "--to", to, "--json"), stdout=subprocess.DEVNULL)
        time.sleep(0.5 + turn * 0.2)
        if running.poll() is None:
            os.kill(running.pid, signal.SIGKILL)
            killed += 1
        running.wait()
        with ops.open_site(folder) as site:
            assert restored(site, slide) == files_of(path)
            assert site.catalog.check_chains() == []
            assert ops.recover(site).failed == 0
            (result,) = ops.move(site, [slide], to)
            assert result.error is None
            assert places(site, slide) == {to: "committed"}
            for tier in {"hot", "warm"} - {to}:
                assert not any(slide in key for key in stored_keys(site.tier(tier)))
    assert killed
