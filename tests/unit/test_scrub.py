"""Scrubs: what rots is found and mended; what should not lie in a tier is told; load is spread; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.move_kit import assert_at_rest, bare, drop, in_process, moved, places, reopened, tiered_site
from tests.scrub_kit import copy_in, flip, rot, rotting, scrub
from tests.site_faults import faulty
from tests.site_kit import files_of, ingest, picture, restored, stored_keys, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog import scrubs
from wsistore.clock import iso
from wsistore.compress.keys import Place, commit_key
from wsistore.errors import IntegrityError, Kind, SiteError, StorageError
from wsistore.model import CopyState, Evidence, ObjectRecord, Preset, random_key
from wsistore.ops import scrub_plan
from wsistore.ops.scrub_lock import ScrubLock
from wsistore.ops.scrub_plan import is_archived
from wsistore.ops.stored import commit_of, place_of
from wsistore.settings import TierSettings
from wsistore.settings.archive import ArchiveSettings
from wsistore.storage.fault import Corrupt, FailBefore, FaultStorage, Rule, RunBefore
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock
from wsistore.testing.tiffs import write_svs
from wsistore.tiers import commits
from wsistore.tiers.commits import Commit

DAY = 86_400.0


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[ops.Site]:
    with tiered_site(tmp_path / "site", clock=clock) as opened:
        yield opened


@pytest.fixture
def slide(site: ops.Site, tmp_path: Path) -> str:
    """A slide with copies in hot (keep) and cold (pack)."""
    key = str(ingest(site, tiny_svs(tmp_path / "in" / "a.svs"))[0].slide)
    moved(site, key, "cold", keep_source=True, preset=Preset.PACK)
    return key


@pytest.fixture
def files(tmp_path: Path, slide: str) -> dict[str, bytes]:
    return files_of(tmp_path / "in" / "a.svs")


def kinds(site: ops.Site, slide: str) -> list[str]:
    return [str(event.kind) for event in site.catalog.events(slide)]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_all_well(site: ops.Site, slide: str, clock: ManualClock) -> None:
    clock.advance(DAY)
    done = scrub(site)
    assert done.statuses(slide) == {"hot": "good", "cold": "good"}
    assert done.findings == []
    assert done.errors == []
    assert {copy.verified_at for copy in site.catalog.copies(slide)} == {iso(clock.now())}
    assert [row.bytes_read for row in done.rows] == [copy_in(site, slide, row.tier).bytes_stored for row in done.rows]
    assert kinds(site, slide)[-2:] == ["verified", "verified"]


@pytest.mark.parametrize("preset", list(Preset))
def test_every_class_of_bytes_is_found_and_mended(site: ops.Site, tmp_path: Path, preset: Preset) -> None:
    """One bit in every class of objects, at its beginning, within, or at its end (where indexes are)."""
    path = tiny_svs(tmp_path / "in" / "b.svs", seed=5)
    slide, files = str(ingest(site, path)[0].slide), files_of(path)
    moved(site, slide, "warm", keep_source=True, preset=preset)
    names = [name for name, _ in rotting(copy_in(site, slide, "warm"))]
    assert len(names) == (3 if preset is Preset.PACK else 15), names
    # One repair per class and place would take a minute, so the places take turns.
    for turn, name in enumerate(names):
        for at in (0.0, 0.55, 1.0) if name in {"commit", "shard"} else ((0.0, 0.55, 1.0)[turn % 3],):
            damaged = copy_in(site, slide, "warm")
            rot(site, "warm", dict(rotting(damaged))[name], flip(at))
            done = scrub(site, "warm")
            assert done.statuses(slide) == {"warm": "repaired"}, (name, at, done.rows)
            assert done.rows[0].source == "hot"
            assert done.rows[0].error is not None
            assert (done.rows[0].error.kind, done.rows[0].attempt) == ("corrupt", damaged.attempt)
            mended = copy_in(site, slide, "warm")
            assert (mended.preset, mended.state) == (preset, CopyState.COMMITTED)
            assert not any(damaged.attempt in key for key in stored_keys(bare(site, "warm")))
    assert_at_rest(site, slide, files, "hot", "warm")
    tail = kinds(site, slide)
    assert {"verification-failed", "copied", "repaired", "dropped"} <= set(tail)


@pytest.mark.parametrize("tier", ["hot", "cold"])
def test_missing_and_truncated_are_found_by_listing_alone(
    site: ops.Site, slide: str, files: dict[str, bytes], tier: str
) -> None:
    copy = copy_in(site, slide, tier)
    for number, name in enumerate(["commit", *dict(rotting(copy))]):  # a commit both ways, the others in turn
        key = dict(rotting(copy_in(site, slide, tier)))[name]
        if number % 2:
            bare(site, tier).delete(key)
        else:
            rot(site, tier, key, lambda data: data[:-1])
        done = scrub(site, tier, everything=False)
        assert done.found == [("missing" if number % 2 else "truncated", tier)], name
        assert done.findings[0].key == key
        assert done.statuses(slide) == {tier: "repaired"}
    assert copy.attempt != copy_in(site, slide, tier).attempt
    assert_at_rest(site, slide, files, "hot", "cold")


def test_a_copy_that_is_gone_altogether(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    copy = copy_in(site, slide, "hot")
    for key in stored_keys(bare(site, "hot")):
        if slide in key:
            bare(site, "hot").delete(key)
    done = scrub(site, "hot", everything=False)
    assert done.found == [("missing", "hot")] * 3  # its commit, its companion, its store
    assert sum(one.objects for one in done.findings) == copy.objects
    assert done.statuses(slide) == {"hot": "repaired"}
    assert_at_rest(site, slide, files, "hot", "cold")


def test_the_last_good_copy_is_never_lost_silently(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    before = {tier: stored_keys(bare(site, tier)) for tier in ("hot", "cold")}
    kept = {}
    for tier in ("hot", "cold"):
        name, key = list(rotting(copy_in(site, slide, tier)))[1]
        kept[tier] = key, bare(site, tier).get(key)
        rot(site, tier, key, flip(0.5))
        assert name
    done = scrub(site)
    assert done.statuses(slide) == {"hot": "lost", "cold": "lost"}
    assert all("ingest its source" in row.reason for row in done.rows)
    assert {tier: stored_keys(bare(site, tier)) for tier in ("hot", "cold")} == before
    # A backup of one object brings everything back.
    bare(site, "cold").put(*kept["cold"])
    assert scrub(site).statuses(slide) == {"hot": "repaired", "cold": "good"}
    assert_at_rest(site, slide, files, "hot", "cold")


def test_damaged_source_of_a_repair_is_found_too(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    moved(site, slide, "warm", keep_source=True)
    for tier in ("hot", "warm"):
        rot(site, tier, dict(rotting(copy_in(site, slide, tier)))["shard"], flip(0.5))
    assert scrub(site, "hot").statuses(slide) == {"hot": "repaired"}
    assert places(site, slide)["warm"] == "suspect"
    assert scrub(site, everything=False).statuses(slide) == {"warm": "repaired"}
    assert_at_rest(site, slide, files, "hot", "warm", "cold")


def test_a_held_slide_is_repaired_and_nothing_of_it_dropped(
    site: ops.Site, slide: str, files: dict[str, bytes]
) -> None:
    ops.hold(site, [slide], "court case")
    damaged = copy_in(site, slide, "hot")
    rot(site, "hot", dict(rotting(damaged))["shard"], flip(0.5))
    for _ in range(2):
        (row,) = scrub(site, "hot").rows[:1]
        assert row.status == "repaired"
        assert "on hold" in row.reason
        states = sorted(str(copy.state) for copy in site.catalog.copies(slide) if copy.tier == "hot")
        assert states == ["committed", "suspect"]
    ops.release(site, [slide])
    assert scrub(site, "hot").rows[0].status == "repaired"
    assert_at_rest(site, slide, files, "hot", "cold")


@pytest.mark.parametrize("times", [1, 2])
def test_all_damage_is_told_where_copies_that_had_to_stay_go_at_once(
    site: ops.Site, slide: str, files: dict[str, bytes], clock: ManualClock, times: int
) -> None:
    """While a slide was held its damaged copies could not go; then the copy that replaced them rots as well."""
    rotten = []
    ops.hold(site, [slide], "court case")
    for number in range(times + 1):
        if number == times:
            ops.release(site, [slide])
        good = (copy for copy in site.catalog.copies(slide) if copy.state is CopyState.COMMITTED)
        (found,) = [copy for copy in good if copy.tier == "hot"]
        rot(site, "hot", dict(rotting(found))["shard"], flip(0.5))
        rotten.append(found.attempt)
        done = scrub(site)
        clock.advance(40 * DAY)
    told = {row.attempt: str(row.status) for row in done.rows if row.status != "good"}
    assert rotten[-1] in told, "the others were told of before"
    assert set(told) <= set(rotten)
    assert set(told.values()) == {"repaired"}
    assert set(scrub(site).statuses(slide).values()) <= {"repaired", "good"}
    assert_at_rest(site, slide, files, "hot", "cold")


def test_bytes_altered_on_their_way_are_no_damage(site: ops.Site, slide: str) -> None:
    shard = dict(rotting(copy_in(site, slide, "hot")))["shard"]
    faulty(site, Rule(Corrupt(), verb=Verb.STREAM, key_contains=shard))
    (row,) = scrub(site, "hot").rows
    assert row.status == "good"
    assert "second time" in row.reason


@pytest.mark.parametrize("kind", [Kind.TIER_MISSING, Kind.STORAGE_DENIED, Kind.STORAGE_TRANSIENT])
def test_a_tier_that_does_not_answer_proves_nothing(site: ops.Site, slide: str, kind: Kind) -> None:
    faulty(site, Rule(FailBefore(StorageError("It is gone.", kind=kind)), verb=Verb.STREAM, times=10**6))
    done = scrub(site)
    assert done.statuses(slide) == {"hot": "unread", "cold": "good"}
    assert places(site, slide) == {"hot": "committed", "cold": "committed"}
    faulty(site, Rule(FailBefore(StorageError("It is gone.", kind=kind)), verb=Verb.LIST, times=10**6))
    done = scrub(site)
    assert done.statuses(slide) == {"cold": "good"}
    assert [error.kind for error in done.errors] == [str(kind)]


def test_a_bad_sector_is_damage(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    shard = dict(rotting(copy_in(site, slide, "hot")))["shard"]
    broken = FailBefore(StorageError("Input/output error."))
    faulty(site, *(Rule(broken, verb=verb, key_contains=shard, times=10**6) for verb in (Verb.STREAM, Verb.GET)))
    assert scrub(site, "hot").statuses(slide) == {"hot": "repaired"}
    site._tiers["hot"] = bare(site, "hot")
    assert_at_rest(site, slide, files, "hot", "cold")


def test_superseded_copies_are_told_of_and_left(site: ops.Site, tmp_path: Path, clock: ManualClock) -> None:
    from tests.site_kit import tiny_series

    series = tiny_series(tmp_path / "in", levels=2)
    slide = str(ingest(site, series)[0].slide)
    old = copy_in(site, slide, "hot")
    tiny_series(tmp_path / "more", levels=3)
    ingest(site, tmp_path / "more")
    assert site.catalog.slide(slide).version == 2
    bare(site, "hot").delete(commit_of(old).objects[0].key)
    done = scrub(site, "hot")
    assert ("missing", "hot") in done.found
    assert {row.status for row in done.rows if row.attempt == old.attempt} == {"damaged"}
    assert {row.status for row in done.rows if row.attempt != old.attempt} == {"good"}
    clock.advance(1)


# --- what lies there --------------------------------------------------------------------------------------------------


def test_foreign_objects_are_told_of_and_never_deleted(site: ops.Site, slide: str, clock: ManualClock) -> None:
    copy = copy_in(site, slide, "hot")
    keys = [
        "backup/old.tar", "commits/readme.txt", f"commits/{slide}/00000009.json", f"{place_of(copy).store}notes.txt",
        "private/x", "store/by-hand/x/y.json", "zz", "keyring/x",
    ]  # fmt: skip
    for key in keys:
        bare(site, "hot").put(key, b"not ours")
    clock.advance(40 * DAY)
    done = scrub(site, "hot")
    assert sorted(one.key for one in done.findings) == sorted(keys)
    assert {one.what for one in done.findings} == {"foreign"}
    assert set(keys) <= stored_keys(bare(site, "hot"))
    assert done.statuses(slide) == {"hot": "good"}


def test_orphans_go_after_their_time_of_grace(site: ops.Site, slide: str, clock: ManualClock) -> None:
    place = Place(random_key(), random_key())
    for key in (f"{place.store}zarr.json", f"{place.store}0/image/c/0/0/0", f"{place.private}files.json.zst"):
        bare(site, "hot").put(key, b"left")
    before = stored_keys(bare(site, "hot"))
    assert scrub(site, "hot").findings == []
    clock.advance(8 * DAY)
    (found,) = scrub(site, "hot").findings
    assert (found.what, found.slide, found.attempt, found.removed) == ("orphaned", place.slide, place.attempt, 3)
    assert stored_keys(bare(site, "hot")) == {key for key in before if place.attempt not in key}
    assert scrub(site, "hot").findings == []
    assert scrub(site, "hot").statuses(slide) == {"hot": "good"}


def test_what_an_open_attempt_writes_is_no_orphan(site: ops.Site, slide: str, clock: ManualClock) -> None:
    attempt = site.catalog.begin_attempt(random_key(), "hot", site.owner, clock.now() + timedelta(days=99))
    key = f"{Place(attempt.slide, attempt.attempt).store}zarr.json"
    bare(site, "hot").put(key, b"being written")
    clock.advance(30 * DAY)
    assert scrub(site, "hot").findings == []
    assert bare(site, "hot").get(key) == b"being written"
    assert slide


def test_a_copy_that_the_catalogue_lost_stays(site: ops.Site, slide: str, clock: ManualClock) -> None:
    """Its commit protects it; where the slide has another copy of the same version it is one too many."""
    mine = commit_of(copy_in(site, slide, "hot"))
    for number, owner, expected in ((7, random_key(), "foreign"), (8, slide, "duplicate")):
        place = Place(owner, random_key())
        objects = (ObjectRecord(f"{place.store}zarr.json", 4, "0" * 64),)
        bare(site, "hot").put(objects[0].key, b"{}{}")
        lost = replace(mine, slide=owner, attempt=place.attempt, number=number, objects=objects)
        commits.write(bare(site, "hot"), lost)
        clock.advance(30 * DAY)
        before = stored_keys(bare(site, "hot"))
        found = [one for one in scrub(site, "hot").findings if one.key == commit_key(owner, number)]
        assert [str(one.what) for one in found] == [expected]
        assert stored_keys(bare(site, "hot")) == before


def test_commit_of_a_dropped_copy_is_an_orphan(site: ops.Site, slide: str) -> None:
    copy = copy_in(site, slide, "hot")
    assert drop(site, slide, "hot").status == "dropped"
    bare(site, "hot").put(copy.commit_key, copy.commit_body.encode())
    (found,) = scrub(site, "hot").findings
    assert (found.what, found.key, found.removed) == ("orphaned", copy.commit_key, 1)
    assert copy.commit_key not in stored_keys(bare(site, "hot"))


def test_duplicates_in_the_catalogue_are_told_of(site: ops.Site, slide: str) -> None:
    copy = copy_in(site, slide, "hot")
    rot(site, "hot", dict(rotting(copy))["shard"], flip(0.5))
    ops.hold(site, [slide], "wait")
    assert scrub(site, "hot").rows[0].status == "repaired"
    rot(site, "hot", dict(rotting(copy))["shard"], flip(0.5))  # as it was
    done = scrub(site, "hot")
    assert {row.attempt: str(row.status) for row in done.rows}[copy.attempt] == "good"
    (found,) = scrub(site, "hot").findings
    assert (found.what, found.attempt, found.slide) == ("duplicate", copy.attempt, slide)


def test_inventory_holds_no_listing(site: ops.Site, slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tier of many foreign objects is gone through one by one: what is found comes before the listing has ended."""
    listed = 0
    original = MemoryStorage.list

    def endless(self: MemoryStorage, prefix: str = "", *, after: str = "") -> Iterator[object]:
        nonlocal listed
        if prefix:
            yield from original(self, prefix, after=after)
            return
        first = next(original(self, "commits/"))
        for number in range(100_000):
            listed += 1
            yield replace(first, key=f"aaa/{number:09d}")

    monkeypatch.setattr(MemoryStorage, "list", endless)
    found = ops.scrub(site, ["hot"])
    for _ in range(10):
        next(found)
    assert listed < 20
    found.close()  # type: ignore[attr-defined]
    assert slide


# --- load and order ---------------------------------------------------------------------------------------------------


def many(site: ops.Site, folder: Path, count: int, clock: ManualClock, apart: float = 0.0) -> list[str]:
    """Take in slides of about the same size, some time apart."""
    keys = []
    for number in range(count):
        keys.append(str(ingest(site, tiny_tiff(folder / f"{number}.tiff", seed=40 + number))[0].slide))
        clock.advance(apart)
    return keys


def every(site: ops.Site, days: int) -> None:
    """Say in the settings how often copies are to be read."""
    site.settings = replace(site.settings, tiers=tuple(replace(one, scrub_days=days) for one in site.settings.tiers))


def test_what_was_ingested_in_one_day_is_spread_over_the_period(
    site: ops.Site, tmp_path: Path, clock: ManualClock
) -> None:
    every(site, 10)
    keys = many(site, tmp_path, 6, clock)
    reads: dict[str, list[int]] = {key: [] for key in keys}
    for day in range(22):
        done = scrub(site, "hot", everything=False)
        assert scrub(site, "hot", everything=False).rows == []  # again on the same day: nothing left to do
        assert len(done.rows) <= 2
        for row in done.rows:
            assert row.status == "good"
            reads[row.slide].append(day)
        assert done.tiers["hot"].overdue == 0
        clock.advance(DAY)
    for days in reads.values():
        assert len(days) >= 2
        assert all(later - earlier <= 11 for earlier, later in zip([0, *days], days, strict=False))
    assert sum(map(len, reads.values())) <= 6 * 2 + 2


def test_longest_unread_first_and_no_more_than_the_budget(site: ops.Site, tmp_path: Path, clock: ManualClock) -> None:
    keys = many(site, tmp_path, 4, clock, apart=3600)
    size = copy_in(site, keys[0], "hot").bytes_stored
    clock.advance(40 * DAY)
    order = []
    for _ in range(2):
        done = scrub(site, everything=False, budget_bytes=int(size * 2.5))
        assert len(done.rows) == 2
        order += [row.slide for row in done.rows]
        clock.advance(60)
    assert order == keys
    assert scrub(site, everything=False, budget_bytes=10**12).rows == []  # all are done
    clock.advance(20 * DAY)
    assert len(scrub(site, everything=False, budget_bytes=1).rows) == 1  # one copy at least: else none ever
    assert scrub(site, everything=False, budget_bytes=0).rows == []


def test_a_site_that_was_never_scrubbed_is_not_read_in_one_night(
    site: ops.Site, tmp_path: Path, clock: ManualClock
) -> None:
    every(site, 12)
    many(site, tmp_path, 8, clock)
    clock.advance(400 * DAY)
    nights = []
    for _ in range(40):
        done = scrub(site, "hot", everything=False)
        nights.append(len(done.rows))
        clock.advance(DAY)
        if not done.tiers["hot"].overdue:
            break
    assert max(nights) <= 2
    assert sum(nights) == 8
    assert done.tiers["hot"].round_by is not None


def test_a_weekly_run_keeps_up(site: ops.Site, tmp_path: Path, clock: ManualClock) -> None:
    many(site, tmp_path, 6, clock)
    overdue = []
    for _ in range(14):
        overdue.append(scrub(site, "hot", everything=False).tiers["hot"].overdue)
        clock.advance(7 * DAY)
    assert max(overdue[8:]) == 0


def test_a_clock_that_was_wrong_is_not_believed(site: ops.Site, slide: str, clock: ManualClock) -> None:
    today = clock.now()
    clock.jump(today + timedelta(days=4000))
    assert scrub(site).statuses(slide) == {"hot": "good", "cold": "good"}
    clock.jump(today + timedelta(days=1))
    assert scrub(site, everything=False).statuses(slide) == {"hot": "good", "cold": "good"}
    assert {copy.verified_at for copy in site.catalog.copies(slide)} == {iso(clock.now())}


def test_dry_run_touches_no_tier(site: ops.Site, slide: str, clock: ManualClock) -> None:
    clock.advance(40 * DAY)
    site._tiers.clear()
    events = len(site.catalog.events())
    done = scrub(site, dry_run=True)
    assert done.statuses(slide) == {"hot": "planned", "cold": "planned"}
    assert done.tiers["hot"].overdue == 1
    assert len(site.catalog.events()) == events
    assert site._tiers == {}


def test_pace_is_told(site: ops.Site, slide: str, clock: ManualClock) -> None:
    pace = scrub_plan.pace_of(site, "hot")
    assert (pace.copies, pace.overdue, pace.owed_bytes) == (1, 0, 0)
    assert pace.day_bytes == -(-pace.bytes_stored // 30)
    by = pace.round_by(clock.now())
    assert by is not None
    assert timedelta(days=29) < by - clock.now() <= timedelta(days=30)
    clock.advance(15 * DAY)
    assert scrub_plan.pace_of(site, "hot").owed_bytes == pytest.approx(pace.bytes_stored / 2, abs=2)
    assert scrub_plan.pace_of(site, "warm").round_by(clock.now()) is None
    assert slide


# --- archives ---------------------------------------------------------------------------------------------------------


def archived(site: ops.Site, tier: str) -> None:
    """Say in the settings that a tier is of an archive class."""
    archive = ArchiveSettings(storage_class="DEEP_ARCHIVE")
    tiers = tuple(replace(one, archive=archive) if one.name == tier else one for one in site.settings.tiers)
    site.settings = replace(site.settings, tiers=tiers)


def test_an_archive_is_listed_and_never_read(site: ops.Site, slide: str) -> None:
    archived(site, "cold")
    refused = [
        Rule(RunBefore(_fail), verb=verb, key_contains=tree, times=10**6)
        for verb in (Verb.GET, Verb.GET_MANY, Verb.STREAM)
        for tree in ("private/", "store/", "commits/")
    ]
    site._tiers["cold"] = FaultStorage(bare(site, "cold"), refused)
    done = scrub(site)
    assert done.statuses(slide) == {"hot": "good"}
    assert done.tiers["cold"].archived
    for key in (commit_of(copy_in(site, slide, "cold")).objects[0].key,):
        bare(site, "cold").delete(key)
    done = scrub(site)
    assert done.found == [("missing", "cold")]
    assert done.statuses(slide) == {"cold": "damaged", "hot": "good"}
    assert scrub(site, "cold").statuses(slide) == {"cold": "damaged"}


def test_what_counts_as_an_archive() -> None:
    """A class that the service reads at once is none, whatever it is called."""
    plain = TierSettings(name="x", id="0123456789", url="s3://bucket")
    assert not is_archived(plain)
    assert not is_archived(replace(plain, storage_class="STANDARD_IA"))
    assert is_archived(replace(plain, storage_class="GLACIER"))
    assert is_archived(replace(plain, storage_class="GLACIER", endpoint="https://s3.fr-par.scw.cloud"))
    assert not is_archived(replace(plain, storage_class="GLACIER", endpoint="https://ceph.example.org"))
    assert is_archived(replace(plain, archive=ArchiveSettings(storage_class="DEEP_ARCHIVE")))


def _fail() -> None:
    raise AssertionError("an archive was read")


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_deep_compares_pixels_across_presets(site: ops.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsistore.ops.scrub_pixels.BLOCK", 96)  # several blocks, which cut through tiles
    slide = str(ingest(site, tiny_svs(tmp_path / "a.svs", seed=9))[0].slide)
    moved(site, slide, "warm", keep_source=True, preset=Preset.FOLD)
    moved(site, slide, "cold", keep_source=True, preset=Preset.PACK)
    done = scrub(site, deep=True)
    assert done.statuses(slide) == {"hot": "good", "warm": "good", "cold": "good"}
    told = [event.detail for event in site.catalog.events(slide) if event.kind == "verified"]
    assert len({tuple(sorted(one["pixels"].items())) for one in told[-3:]}) == 1
    assert set(told[-1]["pixels"]) == {"0", "1"}
    assert all(one["compared_with"] not in {"", one["tier"]} for one in told[-3:])


def test_deep_tells_of_copies_that_show_something_else(
    site: ops.Site, slide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsistore.ops import scrub_pixels, scrub_reading

    original = scrub_pixels.pixel_hashes

    def hashes(opened: ops.Site, copy: object, **options: object) -> object:
        found = dict(original(opened, copy, **options))  # type: ignore[arg-type]
        return {**found, "1": "0" * 64} if copy.tier == "cold" else found  # type: ignore[attr-defined]

    monkeypatch.setattr(scrub_pixels, "pixel_hashes", hashes)
    monkeypatch.setattr(scrub_reading, "pixel_hashes", hashes)
    done = scrub(site, "cold", deep=True)
    (row,) = done.rows
    assert (row.status, row.verified_at) == ("damaged", None)
    assert row.error is not None
    assert "Level 1" in row.error.message
    assert places(site, slide) == {"hot": "committed", "cold": "committed"}  # its bytes are good
    monkeypatch.setattr(scrub_pixels, "pixel_hashes", original)
    monkeypatch.setattr(scrub_reading, "pixel_hashes", original)
    assert scrub(site, deep=True).statuses(slide) == {"hot": "good", "cold": "good"}


def test_pixel_hash_is_that_of_the_pixels(site: ops.Site, tmp_path: Path) -> None:
    """It sees what object hashes do not: the same pixels in two files of other compression have one hash."""
    from wsistore.ops.scrub_pixels import pixel_hashes

    one, other = picture(200, 300, 3), picture(200, 300, 4)
    hashes = []
    for name, pixels in (("a", one), ("b", other)):
        write_svs(tmp_path / f"{name}.svs", [pixels], tile=64)
        slide = str(ingest(site, tmp_path / f"{name}.svs")[0].slide)
        hashes.append(pixel_hashes(site, copy_in(site, slide, "hot")))
    assert hashes[0] != hashes[1]


# --- several, and settings --------------------------------------------------------------------------------------------


def test_two_scrubs_do_not_read_the_same(site: ops.Site, slide: str) -> None:
    other = reopened(site)
    first = ops.scrub(site, ["hot"], everything=True)
    begun = next(first)
    second = scrub(other)
    assert second.statuses(slide) == {"cold": "good"}
    assert [error.kind for error in second.errors] == ["busy"]
    assert "hot" in second.errors[0].message
    rest = list(first)
    assert len([one for one in (begun, *rest) if isinstance(one, ops.ScrubRow)]) == 1
    assert scrub(other).statuses(slide) == {"hot": "good", "cold": "good"}
    other.close()


def test_a_copy_that_others_verified_meanwhile_is_not_read_again(
    site: ops.Site, tmp_path: Path, clock: ManualClock
) -> None:
    keys = many(site, tmp_path, 3, clock, apart=60)
    clock.advance(DAY)
    running = ops.scrub(site, ["hot"], everything=True)
    first = next(running)
    clock.advance(1)
    assert isinstance(first, ops.ScrubRow)
    assert first.slide == keys[0]
    assert all(result.ok for result in ops.verify(site, [keys[1]]))
    rest = [one.slide for one in running if isinstance(one, ops.ScrubRow)]
    assert rest == [keys[2]]


def test_lock_and_its_memory(site: ops.Site, clock: ManualClock) -> None:
    lock = ScrubLock(site, "hot")
    assert lock.elapsed() is None
    with lock.held() as mine, ScrubLock(site, "hot").held() as others, ScrubLock(site, "warm").held() as elsewhere:
        assert (mine, others, elsewhere) == (True, False, True)
    lock.note()
    clock.advance(90)
    assert lock.elapsed() == timedelta(seconds=90)
    clock.jump(clock.now() - timedelta(days=1))
    assert lock.elapsed() is None
    (site.folder / "scrub-hot.lock").write_text("garbage é\n", "utf-8")
    assert lock.elapsed() is None
    with lock.held() as mine:
        assert mine


def test_unknown_tier_and_read_only_site(site: ops.Site, slide: str) -> None:
    with pytest.raises(SiteError, match="no tier 'nowhere'"):
        ops.scrub(site, ["nowhere"])
    with ops.open_site(site.folder, read_only=True) as reading, pytest.raises(SiteError):
        ops.scrub(reading)
    assert slide


def test_pages_of_the_catalogue_come_in_order(
    site: ops.Site, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = many(site, tmp_path, 5, clock)
    monkeypatch.setattr(scrubs, "_AGES", 2)
    monkeypatch.setattr(scrubs, "_PLACES", 2)
    monkeypatch.setattr(scrubs, "_COMMITS", 2)
    waiting = list(scrubs.waiting(site.catalog, "hot", iso(clock.now())))
    assert {one.slide for one in waiting} == set(keys)
    assert waiting == sorted(waiting, key=lambda one: (one.verified_at, one.attempt))
    assert [copy.slide for copy in scrubs.copies_by_place(site.catalog, "hot")] == sorted(keys)
    rows = list(scrubs.commits_by_key(site.catalog, "hot"))
    assert [row.key for row in rows] == [commit_key(key, 1) for key in sorted(keys)]
    assert [row.size_bytes for row in rows] == [bare(site, "hot").head(row.key).size_bytes for row in rows]
    assert scrubs.waiting_bytes(site.catalog, "hot") == sum(one.bytes_stored for one in waiting)


def test_restored_is_what_was_ingested(site: ops.Site, slide: str, files: dict[str, bytes]) -> None:
    assert restored(site, slide) == files
    assert Evidence.READ_BACK in {copy.evidence for copy in site.catalog.copies(slide)}
    assert isinstance(commit_of(copy_in(site, slide, "hot")), Commit)
    assert IntegrityError.exit_code == 7
