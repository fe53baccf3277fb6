"""The flow that watches scanners' shares, without Prefect: real slides arrive, wait, are kept, and leave."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.flows_kit import hospital
from tests.intake_kit import copied
from tests.site_kit import files_of, restored, tiny_series, tiny_tiff
from wsistore import ops
from wsistore.execute import Executor, SerialExecutor
from wsistore.ops import many
from wsistore.ops.ingesting import ingest_one
from wsistore.ops.process_lock import process_lock
from wsistore.testing.clock import ManualClock
from wsistore_flows import running
from wsistore_flows.ingest import ingest
from wsistore_flows.notes import last_run

SETTLE, HOUR, DAY = 600, 3600, 86400
SETTINGS = """
[intake.scanner-1]
path = "{share}"
settle_seconds = 600
release = "delete"
release_after_hours = 24
release_copies = 2
evidence_hours = 720
"""


REAL_OPEN = ops.open_site


class Night:
    """A site on disk whose clock the test moves, and a share beside it."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.share, self.clock = folder / "share", clock
        self.share.mkdir()
        self.site = hospital(folder / "site", SETTINGS.format(share=self.share))

    def run(self, **parameters: Any) -> Any:
        return ingest.fn(site=str(self.site), **parameters)

    def settled(self, **parameters: Any) -> Any:
        """Make two passes so far apart that everything has stopped changing; return the second's state."""
        self.run()
        self.clock.advance(SETTLE)
        return self.run(**parameters)

    def opened(self) -> ops.Site:
        return REAL_OPEN(self.site, clock=self.clock)

    def statuses(self) -> dict[str, str]:
        with self.opened() as site:
            return {row.path: str(row.status) for row in ops.intake_state(site)}

    def kept(self) -> dict[str, dict[str, bytes]]:
        with self.opened() as site:
            return {row.name: restored(site, row.slide) for row in site.catalog.slides()}


@pytest.fixture
def night(tmp_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.setattr(ops, "open_site", lambda folder: REAL_OPEN(folder, clock=manual_clock))
    return Night(tmp_path, manual_clock)


def drop(source: Path, target: Path, part: float = 1.0) -> None:
    """Let a scanner write a file, or the first part of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * part)])


def test_real_slides_go_in_when_they_are_whole_and_leave_when_they_are_safe(night: Night, real_slides: Path) -> None:
    share, dicom = night.share, sorted((real_slides / "dicom" / "CMU-1-Small-Region").iterdir())
    drop(real_slides / "aperio" / "CMU-1-Small-Region.svs", share / "rack1" / "a.svs", part=0.5)
    drop(real_slides / "hamamatsu" / "test3-DAPI-2.ndpi", share / "b.ndpi")
    drop(real_slides / "tiff" / "CMU-1-jpeg420.tiff", share / "c.tiff")
    drop(real_slides / "broken" / "unreadable.svs", share / "d.svs")
    drop(real_slides / "broken" / "unopenable.tiff", share / "e.tiff")
    for instance in dicom[:-2]:
        drop(instance, share / "series" / instance.name)

    first = night.run()
    assert first.name == "NothingToDo"
    assert set(night.statuses().values()) == {"waiting"}

    drop(real_slides / "aperio" / "CMU-1-Small-Region.svs", share / "rack1" / "a.svs", part=0.9)
    night.clock.advance(SETTLE)
    second = night.run()
    assert second.name == "NeedsAction"  # two are refused, and somebody has to see to them
    assert "3 ingested" in second.message
    assert "2 refused" in second.message
    found = night.statuses()
    assert found["rack1/a.svs"] == "waiting"
    assert {found["d.svs"], found["e.tiff"]} == {"refused"}
    assert "d.svs" not in second.message  # names of files may tell of patients
    with night.opened() as site:
        reasons = {row.path: row.reason for row in ops.intake_state(site)}
    assert reasons["d.svs"]
    assert reasons["e.tiff"]

    drop(real_slides / "aperio" / "CMU-1-Small-Region.svs", share / "rack1" / "a.svs")
    for instance in dicom[-2:]:
        drop(instance, share / "series" / instance.name)
    assert night.settled().name == "Completed"
    whole = {
        "a.svs": {"a.svs": (real_slides / "aperio" / "CMU-1-Small-Region.svs").read_bytes()},
        "b.ndpi": {"b.ndpi": (real_slides / "hamamatsu" / "test3-DAPI-2.ndpi").read_bytes()},
        "c.tiff": {"c.tiff": (real_slides / "tiff" / "CMU-1-jpeg420.tiff").read_bytes()},
        "series": {one.name: one.read_bytes() for one in dicom},
    }
    assert night.kept() == whole
    with night.opened() as site:
        (series,) = [row for row in site.catalog.slides() if row.series]
        assert series.version == 2  # what came late has superseded the first ten
    left = sorted(path for path in share.rglob("*") if path.is_file())
    assert len(left) == 3 + 2 + len(dicom)  # nothing went yet

    night.clock.advance(DAY)
    assert night.run().name == "NothingToDo"
    assert sorted(path for path in share.rglob("*") if path.is_file()) == left  # one copy is not enough
    with night.opened() as site:
        for row in site.catalog.slides():
            copied(site, row.slide, "warm")
    last = night.run()
    assert last.name == "Completed"
    assert "4 released" in last.message
    assert sorted(path.name for path in share.rglob("*") if path.is_file()) == ["d.svs", "e.tiff"]
    assert night.kept() == whole
    assert night.run().name == "NothingToDo"


def test_each_file_of_the_share_is_accounted_for(night: Night, real_slides: Path) -> None:
    for path in ("tiff/boxes.tiff", "broken/unreadable.svs", "tiff/CMU-1-webp.tiff"):
        drop(real_slides / path, night.share / path)
    (night.share / "notes.txt").write_text("no slide")
    night.settled()

    with night.opened() as site:
        rows = list(ops.intake_state(site))
    assert sum(row.files for row in rows) == 4
    assert sum(night_facts(night)["shares"]["scanner-1"].values()) == 4


def night_facts(night: Night) -> Any:
    last = last_run(night.site, "ingest")
    assert last is not None
    return last.facts


def test_a_share_that_is_unplugged_fails_the_run_and_loses_nothing(night: Night) -> None:
    for seed in (1, 2):
        tiny_tiff(night.share / f"{seed}.tiff", seed)
    night.run()
    night.share.rename(night.share.with_name("away"))
    night.clock.advance(SETTLE)

    gone = night.run()
    assert (gone.type.value, gone.name) == ("FAILED", "TierFailed")
    assert "Share scanner-1" in gone.message
    assert "exit code 6" in gone.message
    again = night.run()
    assert again.message == gone.message  # it is one problem, told once

    night.share.with_name("away").rename(night.share)
    back = night.run()
    assert "2 ingested" in back.message
    night.share.rename(night.share.with_name("away"))
    night.run()
    night.share.with_name("away").rename(night.share)
    assert "ingested" not in night.settled().message
    assert len(night.kept()) == 2


def test_a_pass_that_dies_is_gone_on_with(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        tiny_tiff(night.share / f"{seed}.tiff", seed)
    night.run()
    night.clock.advance(SETTLE)
    real, left = ingest_one, 3

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(many, "ingest_one", dying)
        with suppress(KeyboardInterrupt):
            night.run(jobs=1)
    night.clock.advance(DAY)  # the lease of the dead one ends
    night.settled()

    assert sorted(night.kept()) == [f"{seed}.tiff" for seed in range(6)]


def test_a_batch_is_a_task_and_names_no_file(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, bool]] = []

    def step(_: running.Run, name: str, work: Callable[[], Any], *, again: bool = True, **__: Any) -> Any:
        steps.append((name, again))
        return work()

    for seed in range(11):
        tiny_tiff(night.share / f"{seed}.tiff", seed)
    tiny_series(night.share / "PATIENT-0001")
    night.run()
    night.clock.advance(SETTLE)
    monkeypatch.setattr(running.Run, "step", step)
    state = night.run(jobs=1)

    assert steps == [("share scanner-1: slides 1-8 of 12", False), ("share scanner-1: slides 9-12 of 12", False)]
    assert state.message == "1 share: 12 ingested."
    steps.clear()
    night.run()
    assert steps == []  # a look costs Prefect's server no task


def test_a_tier_of_another_preset_is_served_by_the_workers_of_the_settings(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def late(_site: Any, scheduler: str | None, workers: int | None, _told: Any) -> Executor:
        asked.append((scheduler, workers))
        return SerialExecutor()

    monkeypatch.setattr(running, "late_executor", late)
    settings = (night.site / "wsistore.toml").read_text()
    settings = settings.replace("settle_seconds = 600", 'settle_seconds = 600\ntier = "cold"', 1)
    (night.site / "wsistore.toml").write_text(settings + '\n[flows]\nscheduler = "tcp://10.0.0.5:8786"\nworkers = 3\n')
    tiny_tiff(night.share / "1.tiff", 1)
    night.settled()

    assert set(asked) == {("tcp://10.0.0.5:8786", 3)}
    with night.opened() as site:
        (row,) = site.catalog.slides()
        (copy,) = site.catalog.copies(row.slide)
        assert (copy.tier, str(copy.preset)) == ("cold", str(site.tier_settings("cold").preset))
    assert files_of(night.share / "1.tiff") == {"1.tiff": night.kept()["1.tiff"]["1.tiff"]}


def test_what_was_refused_is_told_once_and_tried_again_when_asked(night: Night) -> None:
    (night.share / "a.svs").write_bytes(b"no slide" * 30)
    assert night.settled().name == "NeedsAction"
    night.clock.advance(1)
    assert night.run().name == "NothingToDo"
    assert night.run(retry=True).name == "NeedsAction"


def test_an_unknown_share_and_a_site_that_watches_none(night: Night) -> None:
    state = night.run(shares=["scanner-9"])
    assert (state.name, state.type.value) == ("NotThere", "FAILED")
    text = (night.site / "wsistore.toml").read_text()
    (night.site / "wsistore.toml").write_text(text.partition("[intake.")[0])
    assert night.run().name == "NothingToDo"


def test_a_pass_at_work_on_the_share_is_left_alone(night: Night) -> None:
    tiny_tiff(night.share / "1.tiff", 1)
    with process_lock(night.site / "intake-scanner-1.lock") as held:
        assert held
        assert night.run().name == "Skipped"
