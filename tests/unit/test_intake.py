"""Watching a share: what is taken when, what is remembered, and that every file is accounted for."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.intake_kit import NAME, SETTLE, copied, look, made_vsi, said, settle, watch, watched, why
from tests.site_kit import cli, new_site, restored, tiny_series, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog.intake import IntakeState
from wsistore.errors import Kind, MissingError, SiteError
from wsistore.ops import intake_taking
from wsistore.ops.process_lock import process_lock
from wsistore.settings import load
from wsistore.testing.clock import ManualClock


@pytest.fixture
def share(tmp_path: Path) -> Path:
    return tmp_path / "share"


@pytest.fixture
def site(tmp_path: Path, manual_clock: ManualClock) -> ops.Site:
    return watched(tmp_path, manual_clock)


def slide_of(site: ops.Site, name: str) -> str:
    (found,) = [row.slide for row in site.catalog.slides() if row.name == name]
    return found


# --- when a file is taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [0, 4_000_000_000], ids=["1970", "2096"])
def test_two_looks_and_our_clock_decide(site: ops.Site, share: Path, manual_clock: ManualClock, when: int) -> None:
    os.utime(tiny_tiff(share / "a.tiff"), (when, when))
    assert said(look(site)) == {"a.tiff": "waiting"}
    manual_clock.advance(SETTLE - 1)
    assert said(look(site)) == {"a.tiff": "waiting"}
    manual_clock.advance(1)
    assert said(look(site)) == {"a.tiff": "ingested"}
    assert said(look(site)) == {"a.tiff": "kept"}
    assert len(site.catalog.slides()) == 1


def test_one_look_is_not_enough_however_long_nothing_need_change(tmp_path: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, settle=timedelta(0))
    tiny_tiff(tmp_path / "share" / "a.tiff")
    assert said(look(site)) == {"a.tiff": "waiting"}
    assert said(look(site)) == {"a.tiff": "ingested"}


def test_file_that_grows_waits(site: ops.Site, share: Path, manual_clock: ManualClock) -> None:
    whole = tiny_svs(share / "whole.svs").read_bytes()
    (share / "whole.svs").unlink()
    growing = share / "a.svs"
    for part in range(1, 5):
        growing.write_bytes(whole[: len(whole) * part // 5])
        assert said(look(site)) == {"a.svs": "waiting"}
        manual_clock.advance(SETTLE)
    growing.write_bytes(whole)
    assert said(look(site)) == {"a.svs": "waiting"}
    assert site.catalog.slides() == []
    manual_clock.advance(SETTLE)
    assert said(look(site)) == {"a.svs": "ingested"}
    assert restored(site, slide_of(site, "a.svs")) == {"a.svs": whole}


def test_clock_that_was_ahead_begins_the_waiting_anew(site: ops.Site, share: Path, manual_clock: ManualClock) -> None:
    tiny_tiff(share / "a.tiff")
    right = manual_clock.now()
    manual_clock.jump(right + timedelta(days=365))
    look(site)
    manual_clock.jump(right)
    assert said(look(site)) == {"a.tiff": "waiting"}
    manual_clock.advance(SETTLE)
    assert said(look(site)) == {"a.tiff": "ingested"}


def test_temporary_names_and_locks(site: ops.Site, share: Path, manual_clock: ManualClock) -> None:
    tiny_tiff(share / "a.tiff.part", 1)
    tiny_tiff(share / "b.tiff", 2)
    (share / "b.tiff.lock").write_bytes(b"")
    report = settle(site)
    assert said(report) == {"a.tiff.part": "waiting", "b.tiff": "waiting", "b.tiff.lock": "waiting"}
    assert "b.tiff.lock" in why(report, "b.tiff")
    (share / "a.tiff.part").rename(share / "a.tiff")
    (share / "b.tiff.lock").unlink()
    assert said(settle(site)) == {"a.tiff": "ingested", "b.tiff": "kept"}


def test_file_that_is_open_for_writing_waits(site: ops.Site, share: Path, manual_clock: ManualClock) -> None:
    with tiny_tiff(share / "a.tiff").open("r+b"):
        report = settle(site)
        assert said(report) == {"a.tiff": "waiting"}
        assert "open for writing" in why(report, "a.tiff")
    assert said(look(site)) == {"a.tiff": "ingested"}


# --- slides of several files ------------------------------------------------------------------------------------------


def test_olympus_slide_is_taken_whole(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.vsi")
    report = settle(site)
    assert said(report) == {"a.vsi": "waiting"}
    assert "_a_" in why(report, "a.vsi")
    (share / "a.vsi").unlink()
    files = made_vsi(share)
    report = settle(site)
    assert said(report)["a.vsi"] == "ingested"
    assert restored(site, slide_of(site, "a.vsi")) == files
    assert next(row.files for row in report.rows if row.status == "ingested") == 2


def test_slide_waits_for_all_its_files(site: ops.Site, share: Path, manual_clock: ManualClock) -> None:
    made_vsi(share)
    look(site)
    manual_clock.advance(SETTLE)
    with (share / "_a_" / "stack1" / "frame_t.ets").open("ab") as file:
        file.write(b"more")
    report = look(site)
    assert said(report) == {"a.vsi": "waiting"}
    assert "1 of its 2 files" in why(report, "a.vsi")


def test_mirax_without_its_folder_waits_and_a_broken_one_is_one_refusal(site: ops.Site, share: Path) -> None:
    (share / "m.mrxs").parent.mkdir(exist_ok=True)
    (share / "m.mrxs").write_bytes(b"\xff\xd8\xff" + b"x" * 100)
    assert said(settle(site)) == {"m.mrxs": "waiting"}
    (share / "m").mkdir()
    (share / "m" / "Data0000.dat").write_bytes(b"x" * 100)
    report = settle(site)
    assert said(report) == {"m.mrxs": "refused"}
    assert report.rows[0].files == 2


def test_series_in_one_folder_is_called_by_it(site: ops.Site, share: Path) -> None:
    files = {path.name: path.read_bytes() for path in tiny_series(share / "ser").iterdir()}
    assert said(settle(site)) == {"ser": "ingested"}
    assert restored(site, slide_of(site, "ser")) == files


def test_series_in_several_folders_is_one_slide(site: ops.Site, share: Path) -> None:
    paths = sorted(tiny_series(share / "study" / "x").iterdir())
    whole = {path.read_bytes() for path in paths}
    for number, path in enumerate(paths):
        folder = share / "study" / f"level{number}"
        folder.mkdir()
        path.rename(folder / "image.dcm")
    settle(site)
    (row,) = site.catalog.slides()
    assert set(restored(site, row.slide).values()) == whole
    assert [one.state for one in site.catalog.intake_files(NAME) if one.gone_at is None] == [IntakeState.INGESTED] * 3
    assert not (site.folder / "intake" / NAME).exists()


def test_same_series_twice_is_kept_once(site: ops.Site, share: Path) -> None:
    tiny_series(share / "one")
    shutil.copytree(share / "one", share / "two")
    assert set(said(settle(site)).values()) == {"ingested"}
    assert len(site.catalog.slides()) == 1


@pytest.mark.parametrize("earlier_gone", [False, True])
def test_late_instance_makes_the_next_version(site: ops.Site, share: Path, earlier_gone: bool) -> None:
    paths = sorted(tiny_series(share / "ser").iterdir())
    whole = {path.name: path.read_bytes() for path in paths}
    late = paths[-1].rename(share.parent / "late")
    settle(site)
    slide = slide_of(site, "ser")
    assert len(restored(site, slide)) == 2
    if earlier_gone:
        for path in paths[:-1]:
            path.unlink()
    late.rename(paths[-1])
    assert said(settle(site))["ser"] == "ingested"
    (row,) = site.catalog.slides()
    assert (row.slide, row.name, row.version) == (slide, "ser", 2)
    assert restored(site, slide) == whole
    assert said(settle(site)) == {"ser": "kept"}


def test_unfinished_instance_keeps_its_series_waiting(site: ops.Site, share: Path) -> None:
    paths = sorted(tiny_series(share / "ser").iterdir())
    last = paths[-1].read_bytes()
    paths[-1].unlink()
    look(site)
    site.clock.advance(SETTLE)  # type: ignore[attr-defined]
    paths[-1].write_bytes(last[:50])
    report = look(site)
    assert "waiting" in set(said(report).values())
    assert "ingested" not in set(said(report).values())
    paths[-1].write_bytes(last)
    settle(site)
    (row,) = site.catalog.slides()
    assert (row.version, len(restored(site, row.slide))) == (1, 3)


# --- what is remembered -----------------------------------------------------------------------------------------------


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what was given to be ingested."""
    names: list[str] = []
    real: Any = vars(intake_taking)["ingest"]

    def counting(site: ops.Site, paths: list[Path], **options: Any) -> Any:
        names.extend(path.name for path in paths)
        return real(site, paths, **options)

    monkeypatch.setattr(intake_taking, "ingest", counting)
    return names


def test_broken_file_is_tried_once_until_it_changes_or_is_asked_for(
    site: ops.Site, share: Path, tried: list[str]
) -> None:
    bad = share / "a.svs"
    bad.write_bytes(b"no slide at all" * 20)
    assert said(settle(site)) == {"a.svs": "refused"}
    for _ in range(3):
        report = settle(site)
        assert said(report) == {"a.svs": "refused"}
    assert tried == ["a.svs"]
    assert report.rows[0].error == Kind.NOT_A_SLIDE
    look(site, retry=["elsewhere"])
    assert tried == ["a.svs"]
    assert said(look(site, retry=["a.svs"])) == {"a.svs": "refused"}
    assert tried == ["a.svs"] * 2
    tiny_svs(bad)
    assert said(settle(site)) == {"a.svs": "ingested"}


def test_what_cannot_be_read_is_tried_ever_more_seldom(
    site: ops.Site, share: Path, monkeypatch: pytest.MonkeyPatch, manual_clock: ManualClock
) -> None:
    tiny_tiff(share / "a.tiff")
    calls = []

    def failing(_site: ops.Site, paths: list[Path], **_: Any) -> Any:
        calls.append(manual_clock.now())
        error = ops.Failure(str(Kind.SOURCE_UNREADABLE), "cannot be read now", 3)
        failed = ops.IngestStatus.FAILED
        return iter(ops.IngestResult(slide=None, source=str(one), status=failed, error=error) for one in paths)

    with monkeypatch.context() as patch:
        patch.setattr(intake_taking, "ingest", failing)
        look(site)
        for _ in range(60):
            manual_clock.advance(SETTLE)
            assert said(look(site)) == {"a.tiff": "waiting"}
    pauses = [int((later - earlier).total_seconds()) for earlier, later in itertools.pairwise(calls)]
    assert pauses == sorted(pauses)
    assert pauses[0] == SETTLE
    assert len(calls) <= 8
    assert said(look(site, retry=[""])) == {"a.tiff": "ingested"}


def test_slide_that_kills_its_process_comes_last(site: ops.Site, share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        tiny_tiff(share / f"{number:02d}.tiff", number)
    real: Any = vars(intake_taking)["ingest"]

    def deadly(site_: ops.Site, paths: list[Path], **options: Any) -> Any:
        if any(path.name == "00.tiff" for path in paths):
            raise KeyboardInterrupt
        return real(site_, paths, **options)

    monkeypatch.setattr(intake_taking, "ingest", deadly)
    look(site)
    site.clock.advance(SETTLE)  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            look(site)
    assert {row.name for row in site.catalog.slides()} == {f"{number:02d}.tiff" for number in range(8, 12)}
    monkeypatch.setattr(intake_taking, "ingest", real)
    look(site)
    assert len(site.catalog.slides()) == 12


def test_share_that_is_away_changes_nothing(site: ops.Site, share: Path, tried: list[str]) -> None:
    tiny_tiff(share / "a.tiff", 1)
    tiny_tiff(share / "b" / "b.tiff", 2)
    settle(site)
    before = site.catalog.intake_files(NAME)
    away = share.rename(share.with_name("away"))
    (report,) = ops.intake(site)
    assert (report.error, report.exit_code, report.rows) == (Kind.TIER_MISSING, 6, [])
    assert site.catalog.intake_files(NAME) == before
    share.mkdir()  # the empty mount point
    look(site)
    share.rmdir()
    away.rename(share)
    assert set(said(look(site)).values()) == {"kept"}
    assert len(tried) == 2


def test_share_without_its_marker_is_away(tmp_path: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, marker="here.txt")
    tiny_tiff(tmp_path / "share" / "a.tiff")
    (report,) = ops.intake(site)
    assert report.error == Kind.TIER_MISSING
    assert "here.txt" in report.problem
    (tmp_path / "share" / "here.txt").write_text("")
    assert said(settle(site)) == {"a.tiff": "ingested"}


def test_folder_that_cannot_be_listed_is_told_and_its_files_are_not_gone(
    site: ops.Site, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tiff(share / "in" / "a.tiff", 1)
    tiny_tiff(share / "b.tiff", 2)
    look(site)
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("/in"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        site.clock.advance(SETTLE)  # type: ignore[attr-defined]
        report = look(site)
    assert report.remarks == ["in: Permission denied"]
    assert said(report) == {"in/a.tiff": "waiting", "b.tiff": "ingested"}
    assert said(look(site))["in/a.tiff"] == "ingested"


def test_file_that_goes_before_it_was_taken_is_told_of_once(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "b.tiff")
    look(site)
    (share / "b.tiff").unlink()
    assert said(look(site)) == {"b.tiff": "vanished"}
    assert said(look(site)) == {}


def test_slide_that_was_deleted_for_good_does_not_come_back(
    site: ops.Site, share: Path, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tiff(share / "a.tiff")
    settle(site)

    def gone(*_: Any) -> Any:
        msg = "no such slide"
        raise MissingError(msg)

    monkeypatch.setattr(site.catalog, "slide", gone)
    assert said(settle(site)) == {"a.tiff": "kept"}
    assert tried == ["a.tiff"]


def test_content_that_is_there_under_another_name_is_kept_once(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.tiff")
    shutil.copy(share / "a.tiff", share / "z.tiff")
    assert said(settle(site)) == {"a.tiff": "ingested", "z.tiff": "ingested"}
    assert len(site.catalog.slides()) == 1


# --- every file -------------------------------------------------------------------------------------------------------


def test_every_file_is_in_one_row(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "good.tiff")
    (share / "bad.svs").write_bytes(b"x" * 50)
    (share / "notes.txt").write_text("x")
    (share / "link.svs").symlink_to(share / "good.tiff")
    (share / "photo.png").write_bytes(b"\x89PNG\r\n" + b"x" * 50)
    os.mkfifo(share / "pipe")
    (share / "unfinished.dcm").write_bytes(b"x" * 300)
    (share / "slides.csv").write_text("file,case_id\ngood.tiff,CASE-1\n")
    (share / ".hidden.svs").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(share) + b"/odd\xff.svs")).write_bytes(b"x")
    made_vsi(share / "v")
    report = settle(site)
    assert said(report) == {
        "good.tiff": "ingested",
        "v/a.vsi": "ingested",
        "bad.svs": "refused",
        "photo.png": "refused",
        "unfinished.dcm": "refused",
        "notes.txt": "foreign",
        "link.svs": "foreign",
        "pipe": "foreign",
        "slides.csv": "metadata",
        "//odd\\udcff.svs": "refused",
    }
    assert sum(row.files for row in report.rows) == 11
    listed = {row.path: str(row.status) for row in ops.intake_state(site)}
    assert listed == {path: "kept" if status == "ingested" else status for path, status in said(report).items()}


def test_ignored_names(tmp_path: Path, manual_clock: ManualClock) -> None:
    site = watched(tmp_path, manual_clock, ignore=("preview*",))
    tiny_tiff(tmp_path / "share" / "Preview_1.tiff")
    assert said(settle(site)) == {"Preview_1.tiff": "foreign"}


# --- what is said of slides -------------------------------------------------------------------------------------------


def metadata_of(site: ops.Site, name: str) -> dict[str, str]:
    return dict(site.catalog.slide(slide_of(site, name)).metadata)


def test_tables_and_sidecars_nearest_first(site: ops.Site, share: Path) -> None:
    for number, name in enumerate(("a.tiff", "b.tiff", "c.tiff")):
        tiny_tiff(share / "day" / name, number)
    (share / "slides.csv").write_text("file,case_id,stain\na.tiff,CASE-1,HE\nb.tiff,CASE-2,HE\n")
    (share / "day" / "slides.csv").write_text("file;stain\na.tiff;IHC\n")
    (share / "day" / "b.tiff.json").write_text(json.dumps({"block": 3, "stain": "PAS"}))
    (share / "day" / "c.json").write_text(json.dumps({"case_id": "CASE-3"}))
    settle(site)
    assert metadata_of(site, "a.tiff") == {"case_id": "CASE-1", "stain": "IHC"}
    assert metadata_of(site, "b.tiff") == {"case_id": "CASE-2", "stain": "PAS", "block": "3"}
    assert metadata_of(site, "c.tiff") == {"case_id": "CASE-3"}


def test_what_is_said_late_reaches_slides_that_are_kept(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.tiff")
    settle(site)
    (share / "slides.csv").write_text("file,case_id\na.tiff,CASE-1\n")
    settle(site)
    assert metadata_of(site, "a.tiff") == {"case_id": "CASE-1"}
    events = len(site.catalog.events())
    settle(site)
    assert len(site.catalog.events()) == events
    (share / "slides.csv").write_text("file,case_id\na.tiff,CASE-22\n")
    settle(site)
    assert metadata_of(site, "a.tiff") == {"case_id": "CASE-22"}


def test_wrong_tables_are_refused_and_their_slides_taken(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "one" / "a.tiff", 1)
    tiny_tiff(share / "two" / "a.tiff", 2)
    (share / "slides.csv").write_text("file,case_id\na.tiff,CASE-1\n")
    (share / "one" / "a.json").write_text("[1]")
    report = settle(site)
    assert said(report)["slides.csv"] == "refused"
    assert "may mean" in why(report, "slides.csv")
    assert said(report)["one/a.json"] == "refused"
    assert [dict(row.metadata) for row in site.catalog.slides()] == [{}, {}]


def test_slide_that_contradicts_its_case_is_tried_again_when_that_is_mended(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.tiff", 1)
    tiny_tiff(share / "b.tiff", 2)
    table = share / "slides.csv"
    table.write_text("file,case_id,patient_id\na.tiff,C1,P1\nb.tiff,C1,P2\n")
    assert sorted(said(settle(site)).values()) == ["ingested", "metadata", "refused"]
    table.write_text("file,case_id,patient_id\na.tiff,C1,P1\nb.tiff,C22,P2\n")
    settle(site)
    assert metadata_of(site, "b.tiff") == {"case_id": "C22", "patient_id": "P2"}


# --- passes -----------------------------------------------------------------------------------------------------------


def test_second_pass_at_once_does_nothing(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.tiff")
    with process_lock(site.folder / f"intake-{NAME}.lock") as alone:
        assert alone
        (report,) = ops.intake(site)
    assert report.busy
    assert report.rows == []
    assert said(look(site)) == {"a.tiff": "waiting"}


def test_what_another_pass_wrote_meanwhile_stands(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.tiff")
    settle(site)
    (kept,) = site.catalog.intake_files(NAME)
    stale = replace(kept, state=IntakeState.WAITING, slide=None)
    site.catalog.put_intake([(stale, replace(stale, reason="late")), (None, stale)])
    assert site.catalog.intake_files(NAME) == [kept]


def test_tier_that_is_away_keeps_slides_waiting(site: ops.Site, share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_tiff(share / "a.tiff")
    look(site)
    site.clock.advance(SETTLE)  # type: ignore[attr-defined]

    def away(*_: Any, **__: Any) -> Any:
        msg = "The tier hot is away."
        raise SiteError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(intake_taking, "ingest", away)
        (report,) = ops.intake(site)
    assert (report.exit_code, said(report)) == (8, {"a.tiff": "waiting"})
    assert "away" in why(report, "a.tiff")
    assert said(look(site)) == {"a.tiff": "ingested"}


def test_unknown_share(site: ops.Site) -> None:
    with pytest.raises(MissingError, match="scanner-9"):
        ops.intake(site, ["scanner-9"])


def test_command_line(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    assert "docs/intake.md" in cli(folder, "intake", "run").out
    with (folder / "wsistore.toml").open("a") as file:
        file.write(f'\n[intake.{NAME}]\npath = "{tmp_path}/share"\nsettle_seconds = 0\n')
    done = cli(folder, "intake", "run", "--json")
    assert done.code == 6
    assert done.lines[-1]["error"]["kind"] == "tier-missing"
    tiny_tiff(tmp_path / "share" / "a.tiff")
    assert cli(folder, "intake", "run").code == 0
    lines = cli(folder, "intake", "run", "--json").lines
    assert [line.get("status") for line in lines] == ["ingested", None]
    assert lines[-1]["counts"]["ingested"] == 1
    (row,) = cli(folder, "intake", "ls", "--json").lines
    assert (row["path"], row["status"], row["files"]) == ("a.tiff", "kept", 1)
    assert "a.tiff" in cli(folder, "intake", "ls").out
    assert cli(folder, "intake", "ls", "--status", "refused").out == "Nothing is on the shares.\n"
    assert cli(folder, "intake", "run", "nowhere").code == 4


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "path"),
        ('path = "s3://x"', "folder"),
        ('path = "a"\ntier = "hott"', "did you mean 'hot'"),
        ('path = "a"\nrelease = "move"', "release_to"),
        ('path = "a"\nrelease = "delete"\nrelease_to = "b"', '"move"'),
        ('path = "a"\nrelease = "move"\nrelease_to = "a"', "other than the share"),
        ('path = "a"\nsettle_seconds = -1', "whole number"),
        ('path = "a"\ntemporary = "*.tmp"', "list of patterns"),
        ('path = "a"\nrelease_copies = 0', "whole number"),
        ('path = "a"\nmetadata = "x/y.csv"', "without a folder"),
        ('path = "a"\n[intake.other]\npath = "a/b"', "neither that of"),
        ('path = "a"\nsettle = 3', "unknown key"),
    ],
)
def test_wrong_settings_say_what_is_wrong(tmp_path: Path, lines: str, expected: str) -> None:
    folder = new_site(tmp_path / "site")
    with (folder / "wsistore.toml").open("a") as file:
        file.write(f"\n[intake.one]\n{lines}\n")
    with pytest.raises(SiteError) as caught:
        load(folder)
    assert expected in caught.value.message
    assert "intake" in caught.value.message


def test_copies_elsewhere_change_nothing_on_the_share(site: ops.Site, share: Path) -> None:
    tiny_tiff(share / "a.tiff")
    settle(site)
    copied(site, slide_of(site, "a.tiff"), "warm")
    watch(site, share)
    assert said(settle(site)) == {"a.tiff": "kept"}
    assert (share / "a.tiff").exists()
