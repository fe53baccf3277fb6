"""The flow that brings slides back from an archive, without Prefect: a list, a time, a price, and no patient's name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.archive_kit import HOUR, archive_site, expiries, ingested
from tests.move_kit import moved
from tests.site_kit import restored
from wsistore import ops
from wsistore.execute import Executor, SerialExecutor
from wsistore.testing.clock import ManualClock
from wsistore_flows import recall as module
from wsistore_flows import running
from wsistore_flows.artifacts import Shown
from wsistore_flows.notes import last_run
from wsistore_flows.recall import recall

REAL_OPEN = ops.open_site


def reopened(site: ops.Site) -> ops.Site:
    """Open the same site once more, past what the tests put in the place of opening one; its tiers are the same."""
    other = REAL_OPEN(site.folder, clock=site.clock)
    other._tiers |= site._tiers
    return other


class Board:
    """A site with three slides of two cases in its archive, and what the flow says of them."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.site = archive_site(folder / "site", clock)
        cases = ("CASE-0001", "CASE-0001", "CASE-0002")
        made = [ingested(self.site, folder / "in", n, case_id=case) for n, case in enumerate(cases, 1)]
        self.files = dict(made)
        for slide in self.files:
            moved(self.site, slide, "cold")

    def run(self, **parameters: Any) -> Any:
        return recall.fn(site=str(self.site.folder), **parameters)

    def write(self, text: str) -> str:
        (self.site.folder / "board.csv").write_text(text)
        return "board.csv"

    def facts(self) -> dict[str, Any]:
        last = last_run(self.site.folder, "recall")
        assert last is not None
        return dict(last.facts)

    @property
    def here(self) -> list[str]:
        return [slide for slide in self.files if "hot" in expiries(self.site, slide)]


@pytest.fixture
def board(tmp_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    made = Board(tmp_path, manual_clock)

    def late(*_: Any) -> Executor:
        return SerialExecutor()

    monkeypatch.setattr(ops, "open_site", lambda *_: reopened(made.site))
    monkeypatch.setattr(running, "late_executor", late)
    with made.site:
        yield made


def in_hours(board: Board, hours: float) -> datetime:
    return board.clock.now() + timedelta(hours=hours)


def test_a_list_is_asked_for_and_later_runs_bring_it(board: Board) -> None:
    begun = board.run(wanted=board.write("CASE-0001\n"), by=in_hours(board, 48), confirmed=True)

    assert begun.name == "Completed"
    assert board.facts() == {"on its way": 2, "recalls": 1}
    assert board.here == []
    board.clock.advance(24 * HOUR)
    later = board.run()
    assert later.name == "Completed"
    assert board.facts() == {"ready": 2, "recalls": 1}
    assert len(board.here) == 2
    assert all(restored(board.site, slide) == board.files[slide] for slide in board.here)
    assert board.run().name == "NothingToDo"


def test_the_same_list_again_asks_for_nothing_twice(board: Board) -> None:
    wanted, by = board.write("CASE-0001\nCASE-0002\n"), in_hours(board, 48)
    for _ in range(3):
        board.run(wanted=wanted, by=by, confirmed=True)

    assert len(ops.statuses(board.site)) == 1
    assert board.facts()["recalls"] == 1


def test_what_costs_too_much_waits_for_a_person(board: Board) -> None:
    wanted = board.write("CASE-0001\n")
    state = board.run(wanted=wanted, max_eur=0.0)

    assert state.name == "WaitingForConfirmation"
    assert "confirmed=true" in state.message
    assert ops.statuses(board.site) == []  # nothing was asked for
    assert board.run(wanted=wanted, max_eur=0.0, confirmed=True).name == "Completed"
    assert len(ops.statuses(board.site)) == 1


def test_what_cannot_be_here_in_time_is_said(board: Board) -> None:
    state = board.run(wanted=board.write("CASE-0002\n"), by=in_hours(board, 0.01), confirmed=True)

    assert state.name == "NotInTime"
    assert "1 late" in state.message


def test_a_line_that_means_nothing_is_counted_and_not_named(board: Board) -> None:
    state = board.run(wanted=board.write("CASE-0002\nPATIENT-0009\n"), by=in_hours(board, 48), confirmed=True)

    assert state.name == "DoneWithRefusals"
    assert "1 not found" in state.message
    assert "PATIENT" not in state.message
    assert "CASE" not in state.message


def test_artifacts_name_no_case(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(Shown, "table", lambda _self, *row: shown.append(row))
    board.run(wanted=board.write("CASE-0001\nPATIENT-0009\n"), by=in_hours(board, 48), confirmed=True)

    assert shown
    assert "CASE" not in repr(shown)
    assert "PATIENT" not in repr(shown)
    assert "slide-" not in repr(shown)


def test_a_list_that_is_not_there_is_told_without_its_name(board: Board) -> None:
    state = board.run(wanted="PATIENT-0001.csv")

    assert state.type.value == "FAILED"
    assert "The list cannot be read" in state.message
    assert "PATIENT" not in state.message
    assert board.run(wanted=board.write("\n")).type.value == "FAILED"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-12-01T08:00", 7), ("2026-07-01T08:00", 6), ("2026-07-01T08:00+00:00", 8)],
)
def test_a_moment_without_an_offset_is_the_hospitals(board: Board, text: str, expected: int) -> None:
    path = board.site.folder / "wsistore.toml"
    path.write_text(path.read_text() + '\n[flows]\ntime_zone = "Europe/Paris"\n')
    with ops.open_site() as site:
        run = running.Run("recall", site, Shown("site", "recall"), site.clock.now())
        assert module._moment(run, datetime.fromisoformat(text)).astimezone(UTC).hour == expected
