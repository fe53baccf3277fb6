"""Eight years of a small site; see `tests.stateful.decade`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stateful.decade import Decade


@pytest.mark.slow
def test_nothing_is_lost_in_eight_years(tmp_path: Path) -> None:
    counts = Decade(tmp_path, slides=8, years=8).run()
    assert counts["slides that came back"] == counts["slides"] == 8
    assert counts["lost tiers"] == counts["lost catalogues"] == 1
    assert counts["repaired copies"] == counts["rotten copies"] > 0
    assert counts["recalled slides"] >= counts["archived slides"] > 0
    assert counts["expired copies"] > 0
    assert counts["key rotations"] > 1
    assert counts["refused drops"] > 10
