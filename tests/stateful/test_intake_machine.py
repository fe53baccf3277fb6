"""The machine of `tests.stateful.intake`, and a small replay of a day's arrivals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stateful.intake import arrivals, replay, run_machine


def test_share_under_scanner_people_and_dying_passes() -> None:
    run_machine(25, 12)


@pytest.mark.slow
def test_arrivals_of_a_day_are_all_kept_once(tmp_path: Path) -> None:
    found = replay(tmp_path, 24)
    assert found.problems == []
    assert found.passes > 4


def test_arrivals_follow_the_day() -> None:
    moments = arrivals(1400, 86400)
    assert moments == sorted(moments)
    night = sum(moment < 6 * 3600 for moment in moments)
    assert 0 < night < 140
