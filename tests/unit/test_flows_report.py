"""The flow that closes a month, without Prefect: what it writes, and what people are told of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.site_kit import PATIENT, tiny_svs
from wsistore import ops
from wsistore.testing.clock import ManualClock
from wsistore_flows.artifacts import Shown
from wsistore_flows.notes import last_run
from wsistore_flows.report import report

DAY = 86_400
REAL_OPEN = ops.open_site


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 9, 1, tzinfo=UTC))


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a site with two slides since 1 September; it is the 2nd of October."""
    folder = tmp_path / "site"
    ops.init_site(folder)
    with ops.open_site(folder, clock=clock) as opened:
        assert all(
            done.slide for done in ops.ingest(opened, [tiny_svs(tmp_path / f"{PATIENT}-{n}.svs", n) for n in (1, 2)])
        )
    clock.sleep(31.3 * DAY)
    monkeypatch.setattr(ops, "open_site", lambda *_: REAL_OPEN(folder, clock=clock))
    return folder


def test_the_month_that_is_over_is_closed(site: Path) -> None:
    state = report.fn(site=str(site))

    assert str(state.message).startswith("2026-09: ")
    assert state.is_completed()
    last = last_run(site, "report")
    assert last is not None
    assert (last.facts["month"], last.facts["is_closed"]) == ("2026-09", True)
    assert sorted(path.parent.name for path in (site / "reports" / "usage").glob("*/*.parquet")) == ["month=2026-09"]


def test_people_get_pages_in_their_languages(site: Path) -> None:
    assert report.fn(site=str(site), languages=["en", "fr"]).is_completed()
    pages = sorted(path.name for path in (site / "reports").iterdir() if path.is_file())
    assert pages == [f"report-2026-09-{name}" for name in ("en.html", "en.xlsx", "fr.html", "fr.xlsx")]


def test_twice_is_once(site: Path) -> None:
    report.fn(site=str(site))
    before = {path: path.read_bytes() for path in (site / "reports" / "usage").rglob("*") if path.is_file()}
    report.fn(site=str(site))

    assert {path: path.read_bytes() for path in (site / "reports" / "usage").rglob("*") if path.is_file()} == before


def test_what_lies_unexplained_keeps_the_month_open_and_is_told(site: Path) -> None:
    stray = site / "tiers" / "hot" / "store" / "stray"
    stray.write_bytes(bytes(10**6))
    state = report.fn(site=str(site))

    assert (state.type.value, state.name) == ("FAILED", "Conflict")
    assert "does not close" in str(state.message)
    assert "hot" in str(state.message)
    stray.unlink()
    assert report.fn(site=str(site)).is_completed()


def test_a_draft_of_this_month_and_a_month_to_come(site: Path) -> None:
    draft = report.fn(site=str(site), month="2026-10", close=False)
    assert str(draft.message).startswith("2026-10: ")
    assert draft.is_completed()
    assert report.fn(site=str(site), month="2027-01").name == "InputNotInOrder"
    assert report.fn(site=str(site), month="soon").name == "InputNotInOrder"


def test_its_artifacts_name_no_file(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    for what in ("table", "link", "text"):
        monkeypatch.setattr(Shown, what, lambda _self, *row: shown.append(row))
    report.fn(site=str(site))

    assert {row[0] for row in shown} >= {"tiers", "departments", "folder"}
    assert PATIENT not in repr(shown)
