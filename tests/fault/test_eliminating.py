"""Slides deleted for good: wholly or not begun, whatever dies; certified, told to the ledgers, and never back."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest

from tests.elimination_kit import (
    AUTHORITY,
    ELIMINATION_STEPS,
    doomed,
    eliminated,
    kinds,
    left_of,
    others_left,
)
from tests.fault.test_catalog_rebuild import lose, rebuilt, reopened
from tests.move_kit import TIERS, assert_whole, bare, dies, in_process, moved, tiered_site
from tests.site_kit import cli, files_of, ingest, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.errors import ConflictError, IntegrityError, Kind, MissingError, StorageError, TransientError
from wsistore.events import EventKind
from wsistore.model import Preset
from wsistore.ops.certificates import certificate_of, check_certificate
from wsistore.ops.eliminating import Doomed, check_begun, eliminate
from wsistore.ops.ledgers import tell
from wsistore.ops.metadata import read_metadata
from wsistore.storage.archive import Retrieval
from wsistore.storage.base import ArchiveState, ObjectInfo, Properties
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.storage.wrapper import Verb, WrappedStorage
from wsistore.testing.clock import ManualClock


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process(), mock.patch("tests.move_kit.STEPS", ELIMINATION_STEPS):
        yield


def taken_in(site: ops.Site, path: Path, *tiers: str) -> str:
    slide = str(ingest(site, path)[0].slide)
    for tier in tiers:
        moved(site, slide, tier, keep_source=True)
    return slide


def assert_deleted(site: ops.Site, slide: str) -> None:
    """Check that nothing of a slide is left but the record that it was deleted."""
    assert left_of(site, slide) == []
    assert site.catalog.eliminations() == []
    assert kinds(site, slide).count("deleting") == kinds(site, slide).count("deleted") == 1
    assert site.catalog.check_chains() == []
    with pytest.raises(MissingError):
        site.catalog.resolve(slide)
    certificate = certificate_of(site.catalog.events(slide))
    assert certificate is not None
    assert check_certificate(site, certificate)
    told = cli(site.settings.folder, "events", slide, "--json").lines
    assert [event["kind"] for event in told] == [str(kind) for kind in kinds(site, slide)]


def test_all_copies_of_all_versions_go_and_what_names_the_slide(tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text("file,case_id,patient_id\na.svs,CASE-1,PATIENT-0001\nb.tiff,CASE-1,PATIENT-0001\n")
    paths = [tiny_svs(tmp_path / "in" / "a.svs"), tiny_tiff(tmp_path / "in" / "b.tiff")]
    with tiered_site(tmp_path / "site", versions=True) as site:
        key = {Path(one.source).name: str(one.slide) for one in ops.ingest(site, paths, metadata=read_metadata(table))}
        slide, other = key["a.svs"], key["b.tiff"]
        moved(site, slide, "warm", keep_source=True, preset=Preset.FOLD)
        moved(site, slide, "cold", keep_source=True, preset=Preset.PACK)
        for info in list(bare(site, "cold").list(f"store/{slide}/")):  # as after a lost reply
            bare(site, "cold").put(info.key, bare(site, "cold").get(info.key))
        lay = sum(copy.bytes_stored for copy in site.catalog.copies(slide))
        (done,) = eliminated(site, slide)
        assert (done.status, done.bytes_deleted, done.tiers) == ("deleted", lay, ("cold", "hot", "warm"))
        assert_deleted(site, slide)
        assert_whole(site, other, files_of(paths[1]))
        assert [row.slide for row in site.catalog.slides()] == [other]
        told = json.dumps([state for state, _ in site.catalog.all_states() if state["slide"]["slide"] == slide])
        assert "PATIENT-0001" not in told
        assert "CASE-1" not in told
        assert "a.svs" not in told


def test_the_certificate_says_by_whom_and_an_altered_one_is_found(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, tiny_tiff(tmp_path / "a.tiff"), "warm")
        source = site.catalog.source(slide)
        eliminated(site, slide)
        certificate = certificate_of(site.catalog.events(slide))
        assert certificate is not None
        document = certificate["document"]
        assert document["slide"] == slide
        assert document["content"] == [{"version": 1, "fingerprint": source.fingerprint, "bytes": source.size_bytes}]
        assert {copy["tier"] for copy in document["copies"]} == {"hot", "warm"}
        assert document["authority"]["plan"] == "f" * 64
        assert document["authority"]["visas"] == [{"authority": "archives", "reference": "V-1"}]
        assert document["why"] == {"rule": "csp-r1112-7", "keep_until": "2020-01-01"}
        altered = json.loads(json.dumps(certificate).replace("account:approver-1", "account:approver-2"))
        with pytest.raises(IntegrityError, match="altered"):
            check_certificate(site, altered)
        assert not check_certificate(site, {**certificate, "signature": {}})


def test_a_slide_that_is_held_worked_on_or_changed_stays(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, path)
        wanted = doomed(site, slide)
        moved(site, slide, "warm", keep_source=True)
        assert eliminated_kind(site, wanted) == Kind.BUSY
        ops.hold(site, [slide], "a court asked")
        assert eliminated_kind(site, doomed(site, slide)) == Kind.HELD
        ops.release(site, [slide])
        site.catalog.begin_attempt(slide, "cold", site.owner, site.clock.now() + timedelta(hours=1))
        assert eliminated_kind(site, doomed(site, slide)) == Kind.BUSY
        assert_whole(site, slide, files_of(path))
        assert "deleting" not in kinds(site, slide)


def eliminated_kind(site: ops.Site, wanted: Sequence[Doomed]) -> Kind:
    (done,) = eliminate(site, wanted, AUTHORITY)
    assert done.status == "failed"
    assert done.error is not None
    return Kind(done.error.kind)


def test_a_hold_that_comes_last_of_all_is_seen(tmp_path: Path) -> None:
    """It is placed by another process between the last look and the transaction."""
    path = tiny_tiff(tmp_path / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, path)

        def late(*_: object) -> None:
            ops.hold(site, [slide], "placed in the last moment")

        with mock.patch("wsistore.ops.eliminating.check_unlocked", late):
            assert eliminated_kind(site, doomed(site, slide)) == Kind.HELD
        assert_whole(site, slide, files_of(path))


def test_ingested_again_it_is_another_slide(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, path)
        eliminated(site, slide)
        again = taken_in(site, path)
        assert again != slide
        assert_whole(site, again, files_of(path))
        assert_deleted(site, slide)


class Locked(WrappedStorage):
    """A tier that keeps versions and locks what lies there until a day."""

    def __init__(self, inner: WrappedStorage, until: datetime) -> None:
        super().__init__(inner)
        self.until = until

    @property
    def properties(self) -> Properties:
        return Properties(True, True, local_files=False, uncached_reads=True, archive=True)

    def retrievals(self, storage_class: str | None) -> tuple[Retrieval, ...]:
        return ()

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        return replace(self.inner.head(key), locked_until=self.until)

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        raise NotImplementedError


def test_what_is_locked_stays_and_it_is_said_until_when(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tiny_tiff(tmp_path / "a.tiff")
    with tiered_site(tmp_path / "site", clock=clock, versions=True) as site:
        slide = taken_in(site, path, "warm")
        until = clock.now() + timedelta(days=30)
        site._tiers["warm"] = Locked(bare(site, "warm"), until)  # type: ignore[arg-type]
        (done,) = eliminated(site, slide)
        assert done.status == "failed"
        assert f"{until:%Y-%m-%d}" in done.reason
        assert_whole(site, slide, files_of(path))
        site._tiers["warm"] = Locked(bare(site, "warm"), datetime.max.replace(tzinfo=UTC))  # type: ignore[arg-type]
        assert "legal hold" in eliminated(site, slide)[0].reason
        site._tiers["warm"] = Locked(bare(site, "warm"), until)  # type: ignore[arg-type]
        clock.jump(until + timedelta(seconds=1))
        assert eliminated(site, slide)[0].status == "deleted"
        assert_deleted(site, slide)


def test_a_tier_that_is_away_keeps_it_deleting_until_it_is_there(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, tiny_tiff(tmp_path / "a.tiff"), "warm")
        away = StorageError("the medium is out", kind=Kind.TIER_MISSING)
        site._tiers["warm"] = FaultStorage(bare(site, "warm"), [Rule(FailBefore(away), times=10**9)])
        (done,) = eliminated(site, slide)
        assert (done.status, "the medium is out" in done.reason) == ("deleting", True)
        assert ops.recover(site).failed == 1
        assert not any(slide in info.key for info in bare(site, "hot").list("store/"))
        assert any(slide in info.key for info in bare(site, "warm").list("store/"))
        assert [row.slide for row in site.catalog.slides()] == []
        site._tiers["warm"] = bare(site, "warm")
        assert ops.recover(site).failed == 0
        assert_deleted(site, slide)
        assert others_left(site) == []


def test_nothing_is_touched_before_the_ledger_is_told(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, tiny_tiff(tmp_path / "a.tiff"))
        before = left_of(site, slide)
        fails = Rule(FailBefore(TransientError("no")), verb=Verb.PUT, times=10**9)
        site._tiers["hot"] = FaultStorage(bare(site, "hot"), [fails])
        assert eliminated(site, slide)[0].status == "deleting"
        assert left_of(site, slide) == before
        site._tiers["hot"] = bare(site, "hot")
        assert ops.recover(site).failed == 0
        assert_deleted(site, slide)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_process_dies_at_every_call_of_an_elimination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, after: bool
) -> None:
    """Before every call that changes something, and after each (before a step of its own in the catalogue)."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    deaths, begun = 0, 0
    with tiered_site(tmp_path / "site", versions=after) as site:
        for nth in range(1, 1000):
            slide = taken_in(site, path, "warm")
            act = functools.partial(eliminated, site, slide)
            fate = dies(site, act, nth, after=after, changes=True)
            deaths += fate.is_dead
            if "deleting" in kinds(site, slide):
                begun += 1
            else:
                assert_whole(site, slide, files_of(path))
                eliminated(site, slide)
            assert ops.recover(site).failed == 0, fate.calls[-1]
            assert_deleted(site, slide)
            assert others_left(site) == []
            if not fate.is_dead:
                break
        else:
            pytest.fail("it never came to an end")
    with capsys.disabled():
        sys.stdout.write(f"\n{deaths} deaths of eliminations, {begun} had begun, all ended\n")
    assert deaths > 10


@pytest.mark.slow
def test_recovery_of_an_elimination_dies_at_every_third_call(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        for nth in range(1, 1000, 3):
            slide = taken_in(site, path, "warm")
            assert dies(site, lambda slide=slide: eliminated(site, slide), 8, after=True).is_dead  # type: ignore[misc]
            assert kinds(site, slide)[-1] == "deleting"
            inner = dies(site, lambda: ops.recover(site), nth, after=nth % 2 == 0)
            assert ops.recover(site).failed == 0
            assert_deleted(site, slide)
            if not inner.is_dead:
                break
        else:
            pytest.fail("it never came to an end")


@pytest.mark.slow
def test_catalogue_lost_at_every_third_call_of_an_elimination(tmp_path: Path) -> None:
    """What the tiers know suffices: the slide is whole, or its deletion goes on. Never is it there in part."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    ways = set()
    for nth in range(1, 1000, 3):
        with tiered_site(tmp_path / f"site{nth}") as site:
            slide, files = taken_in(site, path, "warm"), files_of(path)
            for tier in TIERS:
                tell(site, tier)
            fate = dies(site, lambda site=site, slide=slide: eliminated(site, slide), nth, after=True)  # type: ignore[misc]
            lose(site)
            done = rebuilt(site)
            assert (done.problems, done.without_copies, done.suspect) == ((), (), ()), fate.calls[-1]
            with reopened(site) as again:
                if again.catalog.slides():
                    assert_whole(again, slide, files)
                    assert len(again.catalog.copies(slide)) == 2
                    ways.add("whole")
                else:
                    ways.add("deleted" if str(again.catalog.deletion_of(slide)) == "deleted" else "deleting")
                    assert ops.recover(again).failed == 0
                    assert left_of(again, slide) == []
                    assert again.catalog.eliminations() == []
        if not fate.is_dead:
            break
    assert ways == {"whole", "deleting", "deleted"}


def test_what_comes_back_to_a_tier_is_deleted_again(tmp_path: Path) -> None:
    """A bucket is put back from its own backup, and the catalogue is lost."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, path, "warm")
        saved = {info.key: bare(site, "warm").get(info.key) for info in bare(site, "warm").list() if slide in info.key}
        eliminated(site, slide)
        for key, data in saved.items():
            bare(site, "warm").put(key, data)
        lose(site)
        done = rebuilt(site)
        assert (done.without_copies, done.slides) == ((), 0)
        with reopened(site) as again:
            assert again.catalog.slides() == []
            assert str(again.catalog.deletion_of(slide)) == "deleting"
            assert ops.recover(again).failed == 0
            assert left_of(again, slide) == []


def test_a_rebuild_from_one_tier_does_not_forget_what_lies_in_another(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, tiny_tiff(tmp_path / "a.tiff"), "warm")
        gone = StorageError("the medium is out", kind=Kind.TIER_MISSING)
        site._tiers["warm"] = FaultStorage(bare(site, "warm"), [Rule(FailBefore(gone), times=10**9)])
        assert eliminated(site, slide)[0].status == "deleting"
        site._tiers["warm"] = bare(site, "warm")
        lose(site)
        rebuilt(site, "hot")
        with reopened(site) as again:
            assert again.catalog.eliminations() == [slide]
            assert ops.recover(again).failed == 0
            assert left_of(again, slide) == []
            assert again.catalog.eliminations() == []


def test_nobody_goes_on_with_a_slide_that_is_deleted(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = taken_in(site, tiny_tiff(tmp_path / "a.tiff"))
        copies = site.catalog.copies(slide)
        eliminated(site, slide)
        for act in (
            lambda: list(ops.move(site, [slide], "warm")),
            lambda: list(ops.drop(site, [slide], "hot")),
            lambda: list(ops.verify(site, [slide])),
            lambda: ops.hold(site, [slide], "too late"),
        ):
            with pytest.raises(MissingError):
                act()
        assert not site.catalog.record_failure(copies[0].attempt, mock.Mock(kind=EventKind.VERIFIED))
        with pytest.raises(ConflictError, match="was deleted for good"):
            check_begun(site, slide)
