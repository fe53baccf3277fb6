"""Notices of flows: people are told when somebody is needed, once, and again only when it is news."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Completed, Failed

from tests.flows_kit import hospital
from wsistore.testing.clock import ManualClock
from wsistore_flows import hooks
from wsistore_flows.repeats import is_news, is_over


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manual_clock: ManualClock) -> Any:
    site = hospital(tmp_path / "site")
    notices: list[hooks.Notice] = []
    monkeypatch.setattr(hooks, "deliver", lambda _, notice: notices.append(notice))
    monkeypatch.setattr(hooks, "SystemClock", lambda: manual_clock)

    def end(state: Any, name: str = "ingest") -> int:
        """End a run; return of how many people have been told by then."""
        flow = SimpleNamespace(name=name)
        run = SimpleNamespace(name="red-fox", id="1", parameters={"site": str(site)})
        hook = hooks.notify if state.is_failed() else hooks.notify_waiting
        hook(flow, run, state)
        return len(notices)

    return end


def gone(share: str = "1") -> Any:
    return Failed(name="TierFailed", message=f"Share scanner-{share} is not there.")


def test_a_share_that_stays_away_is_told_once_and_once_a_day(told: Any, manual_clock: ManualClock) -> None:
    assert [told(gone()) for _ in range(5)] == [1] * 5
    manual_clock.advance(23 * 3600)
    assert told(gone()) == 1
    manual_clock.advance(3600)
    assert [told(gone()), told(gone())] == [2, 2]


def test_another_message_another_flow_and_a_relapse_are_news(told: Any) -> None:
    assert [told(gone("1")), told(gone("2")), told(gone("2"), "scrub")] == [1, 2, 3]
    told(Completed(name="Skipped", message="Another one is at work."))
    assert told(gone("2")) == 3
    told(Completed(message="1 share: 3 ingested."))
    assert told(gone("2")) == 4


@pytest.mark.parametrize(
    ("state", "people"),
    [
        ("WaitingForApproval", 1),
        ("WaitingForConfirmation", 1),
        ("NotInTime", 1),
        ("NeedsAction", 1),
        ("Completed", 0),
        ("NothingToDo", 0),
        ("Skipped", 0),
    ],
)
def test_who_is_needed_is_told(told: Any, state: str, people: int) -> None:
    assert told(Completed(name=state, message="It is so.")) == people


def test_where_nothing_can_be_noted_everything_is_news(tmp_path: Path, manual_clock: ManualClock) -> None:
    site, now = tmp_path / "nowhere", manual_clock.now()
    assert is_news(site, "scrub", "it", now)
    assert is_news(site, "scrub", "it", now)
    is_over(site, "scrub")
    (tmp_path / "flows").mkdir()
    for garbage in ("", "[]", '{"at": 3, "said": "it"}', '{"at": "2026-01-01", "said": "it"}'):
        (tmp_path / "flows" / "notices-scrub.json").write_text(garbage)
        assert is_news(tmp_path, "scrub", "it", now)
        assert not is_news(tmp_path, "scrub", "it", now)
    assert is_news(tmp_path, "scrub", "it", now - timedelta(hours=1))  # the clock was set back
