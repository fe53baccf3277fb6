"""A report says which placement rule wanted the copies that it charges for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from tests.move_kit import in_process, tiered_site
from tests.plan_kit import TO_WARM, applied, planned, slides_in
from tests.report_kit import begun, metered
from wsistore.ops.reporting import report
from wsistore.reports.periods import Month
from wsistore.reports.usage import Group
from wsistore.testing.clock import ManualClock


def test_the_rule_of_an_applied_plan_is_in_the_report(tmp_path: Path) -> None:
    with in_process(), tiered_site(tmp_path / "site", clock=ManualClock(datetime(2026, 10, 5, tzinfo=UTC))) as site:
        slides_in(site, tmp_path / "in", 2)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        assert {str(row.state) for row in applied(site, made.path).values()} == {"done"}
        slide = site.catalog.slides()[0].slide
        assert [event.detail["rule"] for event in site.catalog.events(slide) if event.kind == "copied"] == ["archive"]
        site.clock.sleep(3600)
        report(site, "2026-10", tmp_path / "out")
        rows = pq.read_table(next((tmp_path / "out" / "usage").rglob("*.parquet")), partitioning=None).to_pylist()
    rules = {row["ResourceName"]: row["x_Rule"] for row in rows if row["SkuMeter"] == "storage"}
    assert rules["warm"] == "archive"
    assert rules.get("hot") is None  # as it was taken in
    assert {row["x_Rule"] for row in rows if row["SkuMeter"] == "write-requests"} == {None, "archive"}


def test_copies_of_two_rules_are_two_groups() -> None:
    month = Month(2026, 10)
    events = [begun("a", 1, "2026-10-01T00:00", rule="old"), begun("b", 1, "2026-10-01T00:00", rule="research")]
    found = metered(events, month).by_month[month]
    assert set(found) == {Group("hot", "keep", None, False, "old"), Group("hot", "keep", None, False, "research")}
