"""Originals leave a share only when their slide is safely kept; whatever happens, they are there or proven."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import catalog_kit as kit
from tests.intake_kit import DEAD, HOUR, Killer, copied, look, made_vsi, releasing, said, settle, watch, watched, why
from tests.site_kit import restored, tiny_series, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.clock import iso
from wsistore.events import EventKind
from wsistore.model import CopyState
from wsistore.ops import intake_release
from wsistore.settings import Release
from wsistore.testing.clock import ManualClock


@pytest.fixture
def share(tmp_path: Path) -> Path:
    return tmp_path / "share"


def released(site: ops.Site) -> list[dict[str, Any]]:
    return [dict(event.detail) for event in site.catalog.events() if event.kind == EventKind.ORIGINAL_RELEASED]


def only(site: ops.Site) -> str:
    (row,) = site.catalog.slides()
    return row.slide


def test_nothing_goes_unless_the_settings_say_so(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock)
    tiny_tiff(share / "a.tiff")
    settle(site)
    manual_clock.advance(10_000 * HOUR)
    assert said(look(site)) == {"a.tiff": "kept"}
    assert (share / "a.tiff").exists()


def test_not_before_the_delay(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=48))
    path = tiny_svs(share / "day" / "a.svs")
    data = path.read_bytes()
    settle(site)
    manual_clock.advance(48 * HOUR - 1)
    report = look(site)
    assert said(report) == {"day/a.svs": "kept"}
    assert "until" in why(report, "day/a.svs")
    manual_clock.advance(1)
    assert said(look(site)) == {"day/a.svs": "released"}
    assert list(share.rglob("*")) == [share / "day"]
    assert restored(site, only(site)) == {"a.svs": data}
    (detail,) = released(site)
    assert (detail["share"], detail["how"], detail["files"], detail["bytes"]) == ("scanner-1", "deleted", 1, len(data))
    assert [copy["tier"] for copy in detail["proof"]["copies"]] == ["hot"]
    assert said(look(site)) == {}
    assert site.catalog.check_chains() == []


def test_not_before_there_are_enough_copies(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(copies=2))
    tiny_tiff(share / "a.tiff")
    settle(site)
    report = look(site)
    assert said(report) == {"a.tiff": "kept"}
    assert "not enough good copies" in why(report, "a.tiff")
    assert (share / "a.tiff").exists()
    copied(site, only(site), "warm")
    assert said(look(site)) == {"a.tiff": "released"}
    assert {copy["tier"] for copy in released(site)[0]["proof"]["copies"]} == {"hot", "warm"}


def test_old_evidence_is_renewed_and_must_be_good(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=100, evidence=timedelta(hours=10)))
    tiny_tiff(share / "a.tiff", 1)
    tiny_tiff(share / "b.tiff", 2)
    settle(site)
    bad = next(row.slide for row in site.catalog.slides() if row.name == "b.tiff")
    (copy,) = site.catalog.copies(bad)
    storage = site.tier("hot")
    key = next(info.key for info in storage.list(f"store/{bad}/") if info.size_bytes > 1000)
    data = bytearray(storage.get(key))
    data[len(data) // 2] ^= 1
    storage.put(key, bytes(data))
    manual_clock.advance(100 * HOUR)
    report = look(site)
    assert said(report) == {"a.tiff": "released", "b.tiff": "kept"}
    assert (share / "b.tiff").exists()
    assert site.catalog.copies(bad)[0].state is CopyState.SUSPECT
    assert released(site)[0]["proof"]["copies"][0]["verified_at"] > copy.verified_at


def test_a_hold_keeps_originals(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1))
    tiny_tiff(share / "a.tiff")
    settle(site)
    ops.hold(site, [only(site)], "dispute")
    manual_clock.advance(HOUR)
    report = look(site)
    assert (said(report), "on hold" in why(report, "a.tiff")) == ({"a.tiff": "kept"}, True)
    ops.release(site, [only(site)], "dispute")
    assert said(look(site)) == {"a.tiff": "released"}


def test_original_of_another_version_rests_on_copies_of_its_own_bytes(
    tmp_path: Path, share: Path, manual_clock: ManualClock
) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1))
    tiny_tiff(share / "a.tiff")
    settle(site)
    slide = only(site)
    attempt = kit.begin(site.catalog, slide)
    kit.claim(site.catalog, attempt, "other bytes", n=2)
    site.catalog.commit(attempt.attempt, kit.INGESTED)
    manual_clock.advance(HOUR)
    url, now = f"sqlite:///{tmp_path}/site/catalog.db", iso(manual_clock.now())
    kit.sql(url, "UPDATE copies SET verified_at = ?", now)
    kit.sql(url, "UPDATE copies SET state = 'suspect' WHERE version = 1")
    report = look(site)
    assert (said(report), "not enough good copies" in why(report, "a.tiff")) == ({"a.tiff": "kept"}, True)
    kit.sql(url, "UPDATE copies SET state = 'superseded' WHERE version = 1")
    assert said(look(site)) == {"a.tiff": "released"}


def test_a_clock_that_was_set_back_lets_nothing_go(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1))
    tiny_tiff(share / "a.tiff", 1)
    settle(site)
    tiny_tiff(share / "b.tiff", 2)
    look(site)
    right = manual_clock.now()
    manual_clock.jump(right + timedelta(days=300))
    look(site)
    manual_clock.jump(right)
    assert (share / "b.tiff").exists()
    (report,) = ops.intake(site)
    assert "b.tiff" in said(report)
    assert (share / "b.tiff").exists()


# --- what changed -----------------------------------------------------------------------------------------------------


def test_original_that_changed_is_taken_in_anew(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1))
    tiny_tiff(share / "a.tiff", 1)
    settle(site)
    other = tiny_tiff(share / "a.tiff", 2).read_bytes()
    manual_clock.advance(HOUR)
    assert said(look(site)) == {"a.tiff": "waiting"}
    assert said(settle(site)) == {"a.tiff": "ingested"}
    manual_clock.advance(HOUR)
    assert said(look(site)) == {"a.tiff": "released"}
    assert other in [restored(site, row.slide)["a.tiff"] for row in site.catalog.slides()]
    assert len(site.catalog.slides()) == 2


def test_touched_original_is_hashed_again_and_goes(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1))
    path = tiny_tiff(share / "a.tiff")
    settle(site)
    os.utime(path, (1, 1))
    manual_clock.advance(HOUR)
    assert said(look(site)) == {"a.tiff": "waiting"}
    settle(site)
    manual_clock.advance(HOUR)
    assert said(look(site)) == {"a.tiff": "released"}
    assert len(site.catalog.slides()) == 1


@pytest.mark.parametrize("rehash", [False, True])
def test_rehash_finds_what_size_and_time_hide(
    tmp_path: Path, share: Path, manual_clock: ManualClock, rehash: bool
) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1, rehash=rehash))
    path = tiny_tiff(share / "a.tiff")
    settle(site)
    was = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    manual_clock.advance(HOUR)
    report = look(site)
    assert path.exists() is rehash
    assert said(report) == {"a.tiff": "kept" if rehash else "released"}
    assert not rehash or "other bytes" in why(report, "a.tiff")


@pytest.mark.parametrize("how", [Release.DELETE, Release.MOVE])
def test_file_that_changes_at_the_last_moment_stays(
    tmp_path: Path, share: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch, how: Release
) -> None:
    target = str(tmp_path / "done") if how is Release.MOVE else ""
    site = watched(tmp_path, manual_clock, **releasing(how, release_to=target))
    path = tiny_tiff(share / "a.tiff")
    real = Catalog.start_release

    def changing(*arguments: Any) -> Any:
        path.write_bytes(b"something else")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "start_release", changing)
        settle(site)
    assert path.read_bytes() == b"something else"
    assert not [one for one in (tmp_path / "done").rglob("*") if one.is_file()]
    assert released(site) == []
    assert said(look(site)) == {"a.tiff": "waiting"}


def test_open_original_stays(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(hours=1))
    path = tiny_tiff(share / "a.tiff")
    settle(site)
    manual_clock.advance(HOUR)
    with path.open("r+b"):
        assert "open for writing" in why(look(site), "a.tiff")
    assert said(look(site)) == {"a.tiff": "released"}


# --- moving, folders, shares that refuse ------------------------------------------------------------------------------


def test_moving_writes_over_nothing(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing(Release.MOVE, release_to=str(share / "done")))
    for seed in (1, 2):
        tiny_tiff(share / "day" / "a.tiff", seed)
        assert said(settle(site)) == {"day/a.tiff": "released"}
    assert sorted(path.name for path in (share / "done" / "day").iterdir()) == ["a.tiff", "a.tiff.1"]
    assert not (share / "day" / "a.tiff").exists()
    assert [detail["how"] for detail in released(site)] == ["moved"] * 2
    assert said(settle(site)) == {}


def test_slides_of_several_files_go_whole_with_their_folders(
    tmp_path: Path, share: Path, manual_clock: ManualClock
) -> None:
    site = watched(tmp_path, manual_clock, **releasing())
    made_vsi(share / "v")
    tiny_series(share / "study" / "ser")
    (share / "v" / "slides.csv").write_text("file,stain\na.vsi,HE\n")
    settle(site)
    left = sorted(path.relative_to(share).as_posix() for path in share.rglob("*"))
    assert left == ["study", "v", "v/slides.csv"]
    assert sorted(detail["files"] for detail in released(site)) == [2, 3]


def test_late_instance_after_its_series_has_gone(tmp_path: Path, share: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, **releasing())
    paths = sorted(tiny_series(share / "ser").iterdir())
    whole = {path.name: path.read_bytes() for path in paths}
    late = paths[-1].rename(tmp_path / "late")
    assert said(settle(site)) == {"ser": "released"}
    (share / "ser").mkdir()
    late.rename(share / "ser" / paths[-1].name)
    assert said(settle(site)) == {"ser": "released"}
    assert list(share.iterdir()) == []
    (row,) = site.catalog.slides()
    assert row.version == 2
    assert restored(site, row.slide) == whole


def test_share_that_cannot_be_written(
    tmp_path: Path, share: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = watched(tmp_path, manual_clock, **releasing())
    tiny_tiff(share / "a.tiff")

    def refuse(*_: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        settle(site)
        report = look(site)
        assert said(report)["a.tiff"] == "kept"
        assert "Read-only" in why(report, "a.tiff")
    assert (share / "a.tiff").exists()
    assert released(site) == []
    assert said(look(site)) == {"a.tiff": "released"}


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "change"), [(Release.DELETE, ""), (Release.MOVE, ""), (Release.DELETE, "leave")])
def test_killed_anywhere_originals_are_there_or_proven(
    tmp_path: Path, manual_clock: ManualClock, how: Release, change: str
) -> None:
    """Enumerates every step; afterwards the next pass brings it to its end, or the settings are changed meanwhile."""
    struck, count = True, 0
    while struck:
        struck = False
        for after in (False, True):
            count += 1
            folder = tmp_path / f"{count}{after}"
            target = str(folder / "done") if how is Release.MOVE else ""
            site = watched(folder, manual_clock, **releasing(how, hours=1, release_to=target))
            files = made_vsi(folder / "share")
            settle(site)
            manual_clock.advance(HOUR)
            killer = Killer((count + 1) // 2, after=after)
            try:
                with killer.at_work():
                    look(site)
            except KeyboardInterrupt:
                struck = True
            if change and killer.struck:
                watch(site, folder / "share", settle=timedelta(seconds=600))
            report = look(site)
            assert restored(site, only(site)) == files
            there = {
                str(path.relative_to(folder / "share")) for path in (folder / "share").rglob("*") if path.is_file()
            }
            if not change:
                assert there == set()
                assert len(released(site)) == 1
            else:
                assert not any("wsistore" in name for name in there)
                assert there <= set(files)
                assert len(released(site)) == (0 if there == set(files) else len(released(site)))
            assert set(said(report).values()) <= {"released", "kept", "waiting"}
            assert site.catalog.check_chains() == []
            site.close()
    assert count > 10


def test_original_that_was_hidden_by_a_killed_pass_comes_back_beside_a_new_one(
    tmp_path: Path, share: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = watched(tmp_path, manual_clock, **releasing())
    path = tiny_tiff(share / "a.tiff", 1)
    old = path.read_bytes()

    def killed(*_: Any) -> Any:
        raise DEAD

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            settle(site)
    assert not path.exists()
    new = tiny_tiff(path, 2).read_bytes()
    for _ in range(3):
        settle(site)
    assert [one for one in share.rglob("*") if one.is_file()] == []
    assert {restored(site, row.slide)["a.tiff"] for row in site.catalog.slides()} == {old, new}
    assert intake_release.hidden_name("a.tiff").endswith("a.tiff")
