"""Recoveries that meet what is not dead, and catalogues that know less than the tier."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.site_faults import DEAD, faulty, mended
from tests.site_kit import (
    assert_all_restore,
    assert_sound,
    files_of,
    ingest,
    memory_site,
    new_site,
    stored_keys,
    tiny_series,
    tiny_svs,
    tiny_tiff,
)
from wsistore import ops
from wsistore.catalog import Attempt, AttemptState, Catalog
from wsistore.compress.keys import COMMITS
from wsistore.errors import TransientError
from wsistore.ops import attempts, stored, verifying
from wsistore.storage.fault import FailBefore, Rule

ELSEWHERE = "otherhost/1:otherboot:77:88"
"""A process of another machine: only its lease says whether it lives."""


def commit_keys(site: ops.Site) -> list[str]:
    """Return the keys of the commits on the tier."""
    return sorted(key for key in stored_keys(site.tier("hot")) if key.startswith(f"{COMMITS}/"))


# --- an owner that is slow, and taken for dead ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["claim", "copy_of_attempt", "commit"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_owner_taken_for_dead_around_its_claim_leaves_one_whole_slide_or_none(
    tmp_path: Path, method: str, *, after: bool
) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site, ops.open_site(tmp_path / "site") as other:
        site.owner = DEAD
        original = getattr(site.catalog, method)
        done: list[ops.Recovered] = []

        def sleep(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs) if after else None
            if not done:
                done.append(ops.recover(other))
            return found if after else original(*args, **kwargs)

        with mock.patch.object(site.catalog, method, sleep):
            (result,) = ops.ingest(site, [slide], jobs=1)
        ops.recover(other)
        assert_sound(site)
        assert_all_restore(site, {"a.tiff": files_of(slide)} if commit_keys(site) else {})
        taken_before_its_claim = method == "claim" and not after
        assert result.status == ("failed" if taken_before_its_claim else "ingested")
        assert done == [
            ops.Recovered(0, 1, 0) if taken_before_its_claim else ops.Recovered(*_finished(method, after), 0)
        ]


def _finished(method: str, after: bool) -> tuple[int, int]:
    return (0, 0) if method == "commit" and after else (1, 0)


def test_what_was_listed_long_ago_is_not_acted_upon(tmp_path: Path) -> None:
    # The other one listed the attempt while it was writing; when it comes to act, the attempt is claimed.
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site, ops.open_site(tmp_path / "site") as other:
        site.owner = ELSEWHERE
        claim, read = site.catalog.claim, site.catalog.copy_of_attempt
        listed: list[Attempt] = []
        acted: list[bool] = []

        def list_then_claim(*args: Any, **kwargs: Any) -> None:
            listed.extend(other.catalog.open_attempts())
            claim(*args, **kwargs)

        def act_then_go_on(attempt: str) -> object:
            acted.append(attempts.give_up(other, listed[0], "its process died"))
            return read(attempt)

        with (
            mock.patch.object(site.catalog, "claim", list_then_claim),
            mock.patch.object(site.catalog, "copy_of_attempt", act_then_go_on),
        ):
            (result,) = ingest(site, slide)
        assert result.status == "ingested"
        assert acted == [False]
        assert_sound(site)


def test_a_lease_that_was_renewed_is_respected(tmp_path: Path) -> None:
    with memory_site(tmp_path / "site") as site:
        begun = site.catalog.begin_attempt("slide", "hot", ELSEWHERE, site.clock.now())
        site.catalog.extend_lease(begun.attempt, site.clock.now() + timedelta(hours=1))
        assert not attempts.give_up(site, begun, "its process died")
        assert site.catalog.attempt(begun.attempt).state is AttemptState.WRITING
        assert attempts.give_up(site, site.catalog.attempt(begun.attempt), "its process died")
        assert site.catalog.open_attempts() == []


# --- interruptions after the claim ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["claim", "commit"])
def test_whatever_interrupts_a_commit_the_slide_is_whole_in_the_end(
    tmp_path: Path, error: type[BaseException], method: str, *, after: bool
) -> None:
    slide = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        original = getattr(Catalog, method)

        def interrupted(*args: object, **kwargs: object) -> None:
            if after:
                original(*args, **kwargs)
            raise error

        with mock.patch.object(Catalog, method, interrupted), pytest.raises(error):
            ops.ingest_one(site, slide, tier="hot")
        is_there = method == "commit" or after
        assert len(commit_keys(site)) == (method == "commit")
        ops.recover(site)
        assert_sound(site)
        assert len(site.catalog.slides()) == is_there
        (again,) = ingest(site, slide)
        assert again.status == ("exists" if is_there else "ingested")
        assert_sound(site)


# --- a catalogue that was put back from a backup ----------------------------------------------------------------------


def backup(site: ops.Site, target: Path) -> None:
    """Copy the catalogue as it is now."""
    source, copy = sqlite3.connect(site.folder / "catalog.db"), sqlite3.connect(target)
    source.backup(copy)
    source.close()
    copy.close()


def put_back(folder: Path, saved: Path) -> None:
    """Replace the catalogue of a closed site."""
    for path in folder.glob("catalog.db*"):
        path.unlink()
    shutil.copyfile(saved, folder / "catalog.db")


def ingest_with_backup(folder: Path, source: Path, saved: Path) -> ops.IngestResult:
    """Take a slide in as a process that is dead afterwards; `saved` is the catalogue as it was half-way."""
    with ops.open_site(folder) as site:
        site.owner = DEAD

        def save(*_: object) -> None:
            if not saved.exists():
                backup(site, saved)

        (result,) = ingest(site, source, progress=save)
    return result


def test_a_slide_that_the_backup_does_not_know_yet_is_adopted(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    svs = tiny_svs(tmp_path / "in" / "b.svs")
    was = ingest_with_backup(folder, svs, tmp_path / "saved.db")
    with ops.open_site(folder) as site:
        before = ops.show(site, str(was.slide))
    put_back(folder, tmp_path / "saved.db")
    with ops.open_site(folder) as site:
        assert site.catalog.slides() == []
        assert ops.recover(site) == ops.Recovered(1, 0, 0)
        assert_sound(site)
        now = ops.show(site, str(was.slide))
        assert {key for key in before if before[key] != now[key]} <= {"created_at", "path", "copies"}
        assert now["copies"] == before["copies"]
        (event,) = site.catalog.events(was.slide)
        assert (event.kind, event.detail["adopted"], event.detail["version"]) == ("ingested", True, 1)
        assert_all_restore(site, {"b.svs": files_of(svs)})
        (again,) = ingest(site, svs)
        assert (again.status, again.slide) == ("exists", was.slide)
        assert len(commit_keys(site)) == 1


def test_a_newer_version_that_the_backup_does_not_know_yet_is_adopted(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    whole = tiny_series(tmp_path / "whole")
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    max(part.iterdir()).unlink()
    with ops.open_site(folder) as site:
        (first,) = ingest(site, part)
    grown = ingest_with_backup(folder, whole, tmp_path / "saved.db")
    assert (grown.slide, grown.supersedes) == (first.slide, 1)
    put_back(folder, tmp_path / "saved.db")
    with ops.open_site(folder) as site:
        assert ops.recover(site) == ops.Recovered(1, 0, 0)
        assert_sound(site)
        assert [str(copy.state) for copy in site.catalog.copies(str(first.slide))] == ["committed", "superseded"]


def test_an_abandoned_attempt_with_a_commit_is_adopted_not_left_open_for_ever(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    tiff = tiny_tiff(tmp_path / "in" / "a.tiff")
    ingest_with_backup(folder, tiff, tmp_path / "saved.db")
    put_back(folder, tmp_path / "saved.db")
    with ops.open_site(folder) as site:
        (attempt,) = site.catalog.open_attempts()
        site.catalog.abandon(attempt.attempt, "an older release gave it up")
        assert ops.recover(site) == ops.Recovered(1, 0, 0)
        assert_sound(site)
        assert_all_restore(site, {"a.tiff": files_of(tiff)})


def test_what_cannot_be_adopted_stays_whole_and_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = new_site(tmp_path / "site")
    tiff = tiny_tiff(tmp_path / "in" / "a.tiff")
    was = ingest_with_backup(folder, tiff, tmp_path / "saved.db")
    put_back(folder, tmp_path / "saved.db")
    (companion,) = (folder / "tiers" / "hot" / "private").rglob("files.json.zst")
    good = companion.read_bytes()
    companion.write_bytes(good[:-9])
    with ops.open_site(folder) as site:
        before = stored_keys(site.tier("hot"))
        caplog.clear()
        assert ops.recover(site) == ops.Recovered(0, 0, 1)
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
        assert stored_keys(site.tier("hot")) == before
        companion.write_bytes(good)
        assert ops.recover(site) == ops.Recovered(1, 0, 0)
        assert [row.slide for row in site.catalog.slides()] == [was.slide]


def test_what_was_ingested_anew_meanwhile_is_not_adopted_twice(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    tiff = tiny_tiff(tmp_path / "in" / "a.tiff")
    ingest_with_backup(folder, tiff, tmp_path / "saved.db")
    put_back(folder, tmp_path / "saved.db")
    with ops.open_site(folder) as site:
        (seen,) = site.catalog.open_attempts()
        ops.ingest_one(site, tiff, tier="hot")  # without the recovery that goes first
        assert ops.recover(site) == ops.Recovered(0, 0, 1)
        assert len(site.catalog.slides()) == 1
        assert site.catalog.attempt(seen.attempt) == seen


# --- copies that are damaged or gone ----------------------------------------------------------------------------------


def damage(site: ops.Site, how: str) -> None:
    """Do something to the one copy in a tier."""
    storage = site.tier("hot")
    key = next(
        key for key in sorted(stored_keys(storage)) if key.startswith("commits/" if how == "commit" else "store/")
    )
    if how == "flipped":
        key = max((info.size_bytes, info.key) for info in storage.list("store/"))[1]
        data = bytearray(storage.get(key))
        data[len(data) // 2] ^= 1
        storage.put(key, data)
    elif how == "cut":
        storage.put(key, storage.get(key)[:-1])
    elif how == "all":
        for one in stored_keys(storage) - {"wsistore-tier.json"}:
            storage.delete(one)
    else:
        storage.delete(key)


@pytest.mark.parametrize(
    ("how", "verified"),
    [("flipped", True), ("cut", False), ("gone", False), ("commit", False), ("all", False), ("all", True)],
)
def test_what_is_lost_is_taken_in_anew(tmp_path: Path, how: str, *, verified: bool) -> None:
    tiff = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        (first,) = ingest(site, tiff)
        key = str(first.slide)
        damage(site, how)
        if verified:
            (verdict,) = ops.verify(site, [key])
            assert not verdict.ok
            shown = ops.show(site, key)
            assert (shown["verified_at"], shown["copies"][0]["state"]) == (None, "suspect")
        (again,) = ingest(site, tiff)
        assert (again.status, again.slide, again.supersedes) == ("ingested", key, 1)
        assert ops.show(site, key)["verified_at"] == again.verified_at
        assert [str(copy.state) for copy in site.catalog.copies(key)] == ["committed", "superseded"]
        kinds = [event.kind for event in site.catalog.events(key)]
        assert kinds == ["ingested", "verification-failed", "ingested"]
        assert site.catalog.events(key)[-1].detail["repairs"] == 1
        assert [result.ok for result in ops.verify(site, [key])] == [True]
        assert_all_restore(site, {"a.tiff": files_of(tiff)})
        (last,) = ingest(site, tiff)
        assert (last.status, str(last.verified_at) >= str(again.verified_at)) == ("exists", True)


def test_a_tier_that_cannot_be_asked_makes_nothing_suspect(tmp_path: Path) -> None:
    tiff = tiny_tiff(tmp_path / "in" / "a.tiff")
    with memory_site(tmp_path / "site") as site:
        (first,) = ingest(site, tiff)
        faulty(site, Rule(FailBefore(TransientError("no answer")), times=10_000))
        (verdict,) = ops.verify(site, [str(first.slide)])
        assert not verdict.ok
        mended(site)
        (again,) = ingest(site, tiff)
        assert again.status == "exists"


def test_a_version_that_comes_while_another_is_verified_is_verified_too(tmp_path: Path) -> None:
    whole, part = tiny_series(tmp_path / "whole"), tmp_path / "part"
    shutil.copytree(whole, part)
    max(part.iterdir()).unlink()
    with memory_site(tmp_path / "site") as site:
        (first,) = ingest(site, part)
        (older,) = site.catalog.copies(str(first.slide))
        results = ops.verify(site, [str(first.slide)])
        original = stored.check_commit
        done: list[Any] = []

        def grow_first(*args: Any) -> None:
            if not done:
                done.append(ingest(site, whole))
                storage = site.tier("hot")
                storage.delete(next(key for key in stored_keys(storage) if f"/{older.attempt}/0/" in key))
            original(*args)

        with mock.patch.object(verifying, "check_commit", grow_first):
            verdicts = list(results)
        kinds = [event.kind for event in site.catalog.events(str(first.slide))]
        assert [str(copy.state) for copy in site.catalog.copies(str(first.slide))][-1] == "superseded"
        assert [verdict.ok for verdict in verdicts] == [True]
        assert kinds == ["ingested", "ingested", "verified"]
