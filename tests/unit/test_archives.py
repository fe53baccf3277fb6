"""Copies in archive classes: verified, then moved by the tier itself; what they prove; killed at every step."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.archive_kit import ARCHIVE, archive, archive_site, classes, dies, ingested, reopened
from tests.move_kit import drop, move, moved
from tests.scrub_kit import scrub
from tests.site_kit import tiny_svs
from wsistore import ops
from wsistore.errors import ObjectArchivedError, StorageError
from wsistore.model import Evidence
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock
from wsistore.tiers import commits


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with archive_site(tmp_path / "site", ManualClock()) as site:
        yield site


def evidence(site: ops.Site, slide: str) -> dict[str, str]:
    return {copy.tier: str(copy.evidence) for copy in site.catalog.copies(slide)}


def assert_frozen(site: ops.Site, slide: str) -> None:
    """Check that all objects of the copy in the archive are in the class, but its commit; and that it says so."""
    assert evidence(site, slide)["cold"] == Evidence.ATTESTED
    found = classes(site, slide)
    assert {name for key, name in found.items() if not key.startswith("commits/")} == {"GLACIER"}
    assert {name for key, name in found.items() if key.startswith("commits/")} == {"STANDARD"}
    storage = archive(site)
    (key,) = [key for key in found if key.startswith("commits/")]
    assert commits.read(storage, key).evidence is Evidence.READ_BACK
    versions = [(info.key, info.etag) for info in storage.versions() if slide in info.key]
    assert len(versions) == len(set(versions)), "a version that the move left behind is paid for"


@pytest.mark.parametrize("versions", [False, True])
def test_a_move_freezes_and_then_drops(tmp_path: Path, versions: bool) -> None:
    with archive_site(tmp_path / "site", ManualClock(), versions=versions) as site:
        slide, _ = ingested(site, tmp_path / "in")
        assert moved(site, slide, "cold").dropped == ("hot",)
        assert_frozen(site, slide)
        kinds = [event.kind for event in site.catalog.events(slide)]
        assert kinds.index("freezing") < kinds.index("frozen") < kinds.index("dropped")
        assert site.catalog.check_chains() == []


def test_an_ingest_into_the_archive_is_read_back_and_frozen(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "warm")
    (result,) = ops.ingest(site, [tiny_svs(tmp_path / "b.svs", 5)], tier="cold")
    assert result.slide is not None
    assert_frozen(site, result.slide)


def test_reading_fails_at_once_and_moving_says_recall(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold")
    with pytest.raises(ObjectArchivedError):
        ops.restore(site, slide, tmp_path / "out")
    failed = move(site, slide, "warm", keep_source=True)
    assert failed.error is not None
    assert failed.error.kind == "object-archived"
    assert evidence(site, slide) == {"cold": Evidence.ATTESTED}


def test_a_move_reads_the_copy_that_can_be_read(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold", keep_source=True)
    assert moved(site, slide, "warm", keep_source=True).status == "copied"


def test_verifying_and_scrubbing_ask_the_tier_and_do_not_read(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold")
    (before,) = site.catalog.copies(slide)
    site.clock.sleep(40 * 86400)
    (result,) = ops.verify(site, [slide])
    (after,) = site.catalog.copies(slide)
    assert (result.ok, result.bytes_read, after.verified_at) == (True, 0, before.verified_at)
    assert after.seen_at is not None
    assert before.seen_at is not None
    assert result.seen_at == after.seen_at > before.seen_at
    site.clock.sleep(40 * 86400)
    scrub(site, "cold", everything=False)
    (later,) = site.catalog.copies(slide)
    assert later.seen_at is not None
    assert later.seen_at > after.seen_at


def test_an_object_that_was_replaced_makes_the_copy_suspect(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold", keep_source=True)
    storage = archive(site)
    key = next(info.key for info in storage.list("store/"))
    storage.put(key, bytes(storage.head(key).size_bytes))
    results = {result.tier: result.ok for result in ops.verify(site, [slide])}
    assert results == {"hot": True, "cold": False}
    assert {str(copy.state) for copy in site.catalog.copies(slide) if copy.tier == "cold"} == {"suspect"}


def test_a_restored_copy_is_read_and_verified_as_any(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold")
    ways = archive(site).retrievals("GLACIER")
    for key, name in classes(site, slide).items():
        if name == "GLACIER":
            archive(site).begin_restore(key, days=1, retrieval=ways[0])
    site.clock.sleep(3600)
    (result,) = ops.verify(site, [slide])
    assert result.ok
    assert result.bytes_read > 0
    assert site.catalog.copies(slide)[0].verified_at == result.verified_at


# --- what they prove --------------------------------------------------------------------------------------------------


def test_a_drop_may_rest_on_an_archived_copy_that_was_just_asked_about(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold", keep_source=True)
    site.clock.sleep(100 * 86400)
    assert drop(site, slide, "hot").status == "dropped"
    proof = next(event for event in site.catalog.events(slide) if event.kind == "dropping").detail["proof"]
    assert proof["copies"][0]["evidence"] == Evidence.ATTESTED
    assert proof["copies"][0]["seen_at"] > proof["fresh_from"] > proof["copies"][0]["verified_at"]


def test_no_drop_rests_on_an_archived_copy_of_which_an_object_is_gone(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    moved(site, slide, "cold", keep_source=True)
    site.clock.sleep(2 * 86400)
    archive(site).delete(next(info.key for info in archive(site).list("private/")))
    assert drop(site, slide, "hot").error is not None
    assert "hot" in evidence(site, slide)


@pytest.mark.parametrize("more", ["attested_days = 0\n", "\n[evidence]\nattested_days = 0\n", "attested_days = 30\n"])
def test_settings_say_whether_and_for_how_long_it_counts(tmp_path: Path, more: str) -> None:
    with archive_site(tmp_path / "site", ManualClock(), more=more) as site:
        slide, _ = ingested(site, tmp_path / "in")
        moved(site, slide, "cold", keep_source=True)
        site.clock.sleep(40 * 86400)
        refused = drop(site, slide, "hot")
        assert refused.error is not None
        assert refused.error.kind == "last-copy"
        assert set(evidence(site, slide)) == {"hot", "cold"}


# --- cut short --------------------------------------------------------------------------------------------------------


def test_a_tier_that_refuses_leaves_it_to_the_next_command(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = ingested(site, tmp_path / "in")
    inner = archive(site)
    rule = Rule(FailBefore(StorageError("refused")), verb=Verb.TRANSITION, nth=4, times=10_000)
    site._tiers["cold"] = FaultStorage(inner, [rule])
    result = moved(site, slide, "cold")
    assert "archive class" in result.reason or result.status == "dropping"
    assert "hot" not in result.dropped, "what the new copy is to replace goes only when it is archived"
    site._tiers["cold"] = inner
    site.clock.sleep(3600)
    assert ops.recover_all(site).failed == 0
    assert_frozen(site, slide)
    assert set(evidence(site, slide)) == {"cold"}


def test_copies_from_before_the_class_was_set_are_frozen_by_recover(tmp_path: Path) -> None:
    with archive_site(tmp_path / "site", ManualClock()) as site:
        path = site.folder / "wsistore.toml"
        text = path.read_text()
        plain_archive = "\n[tiers.cold.archive]\nsimulated_speed = 1\n"
        path.write_text(text.replace(ARCHIVE.format(name="GLACIER", days=1), plain_archive))
        with reopened(site) as plain:
            slide, _ = ingested(plain, tmp_path / "in")
            moved(plain, slide, "cold")
            assert evidence(plain, slide) == {"cold": Evidence.READ_BACK}
        path.write_text(text)
        with reopened(site) as again:
            ops.recover(again)
            assert evidence(again, slide) == {"cold": Evidence.READ_BACK}
            ops.recover_all(again)
            assert_frozen(again, slide)


def freezing_calls(calls: list[str]) -> list[int]:
    """Return the numbers of the calls from the claim on that touch the archive, thinned where they repeat."""
    first = next(n for n, call in enumerate(calls) if call == "catalogue:claim_reencode")
    chosen, seen = [], dict[str, int]()
    for number, call in enumerate(calls[first:], first + 1):
        kind = ":".join(call.split(":")[:2])
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] in {1, 2, 9}:
            chosen.append(number)
    return chosen


@pytest.mark.parametrize("versions", [False, True])
def test_killed_at_every_kind_of_step_it_is_finished(tmp_path: Path, versions: bool) -> None:
    def fresh(name: str) -> tuple[ops.Site, str]:
        site = archive_site(tmp_path / name, ManualClock(), versions=versions)
        return site, ingested(site, tmp_path / "in")[0]

    site, slide = fresh("whole")
    with site:
        calls = dies(site, lambda: moved(site, slide, "cold"), 10**9, after=False).calls
    numbers = freezing_calls(calls)
    assert any(":transition:" in calls[number - 1] for number in numbers)
    for number in numbers:
        after = number % 2 == 0
        site, slide = fresh(f"{number}")
        with site:
            fate = dies(site, partial(move, site, slide, "cold"), number, after=after)
            assert fate.is_dead
            site.clock.sleep(timedelta(hours=1).total_seconds())
            result = moved(site, slide, "cold")
            assert result.status in {"moved", "exists"}, (calls[number - 1], result)
            assert_frozen(site, slide)
            assert set(evidence(site, slide)) == {"cold"}, calls[number - 1]
            assert site.catalog.open_attempts() == []
            assert site.catalog.open_drops() == []
            assert site.catalog.check_chains() == []
