"""Reports of a site: what is written, the same each time; that it agrees with the tiers; how a month closes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.site_kit import PATIENT, cli, tiny_svs
from wsistore import ops
from wsistore.catalog.metering import part_bounds
from wsistore.errors import ConflictError, InputError, SiteError
from wsistore.ops import report_parts
from wsistore.ops.reporting import report
from wsistore.reports.sets import ABOUT
from wsistore.testing.clock import ManualClock

DAY = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 9, 1, tzinfo=UTC))


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[ops.Site]:
    """Return a site with two slides since 1 September, one of which was copied to cold ten days later."""
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site", clock=clock) as opened:
        sources = [tiny_svs(tmp_path / f"{PATIENT}-{n}.svs", seed=n) for n in (1, 2)]
        made = list(ops.ingest(opened, sources))
        clock.sleep(10 * DAY)
        list(ops.copy(opened, [made[0].slide or ""], "cold", jobs=1))
        clock.sleep(22 * DAY)
        yield opened


def rows(out: Path, name: str = "usage") -> list[dict[str, Any]]:
    return [row for path in sorted((out / name).glob("*/*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]


def bytes_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def storage(out: Path, tier: str) -> dict[str, Any]:
    (row,) = [row for row in rows(out) if (row["SkuMeter"], row["ResourceName"]) == ("storage", tier)]
    return row


def test_a_month_is_metered_and_agrees_with_the_tiers(site: ops.Site, tmp_path: Path) -> None:
    made = report(site, "2026-09", tmp_path / "out")
    hot = sum(
        copy.bytes_stored for copies in site.catalog.current_copies().values() for copy in copies if copy.tier == "hot"
    )
    cold = next(c for copies in site.catalog.current_copies().values() for c in copies if c.tier == "cold")
    assert storage(tmp_path / "out", "hot")["x_BytesStored"] == pytest.approx(hot, rel=1e-6)
    assert storage(tmp_path / "out", "cold")["x_BytesStored"] == pytest.approx(cold.bytes_stored * 20 / 30, rel=1e-3)
    assert made.slides == pytest.approx(2, rel=1e-6)
    assert made.is_over
    assert {one.tier: one.unexplained_bytes for one in made.reconciled} == {"hot": 0, "warm": 0, "cold": 0}
    assert made.reconciled[0].metered_bytes == hot
    assert made.reconciled[0].listed_bytes == hot + made.reconciled[0].own_bytes


def test_the_inventory_is_what_lay_there_when_the_month_ended(site: ops.Site, tmp_path: Path) -> None:
    report(site, "2026-09", tmp_path / "out")
    found = rows(tmp_path / "out", "inventory")
    assert sorted(row["Bucket"] for row in found) == ["cold", "hot", "hot"]
    assert found == sorted(found, key=lambda row: (row["Slide"], row["Bucket"], row["Key"]))
    assert {row["Kind"] for row in rows(tmp_path / "out", "events")} == {"ingested", "copied"}


def test_the_same_report_is_the_same_bytes(site: ops.Site, tmp_path: Path) -> None:
    for name in ("one", "two"):
        report(site, "2026-09", tmp_path / name)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_parts_say_what_the_whole_says(site: ops.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = report(site, "2026-09", tmp_path / "whole")
    assert part_bounds(site.catalog, 2) == []
    monkeypatch.setattr(report_parts, "SLIDES_OF_PART", 1)
    assert len(part_bounds(site.catalog, 1)) == 1
    for name, workers in (("here", 1), ("processes", 2)):
        parts = report(site, "2026-09", tmp_path / name, workers=workers)
        assert parts.files == whole.files
        assert parts.reconciled == whole.reconciled


def test_nobody_is_named_in_it(site: ops.Site, tmp_path: Path) -> None:
    slide = site.catalog.slides()[0]
    site.catalog.put_metadata({slide.slide: {"patient_id": PATIENT, "case_id": "CASE-0001", "block": "BLOCK-0001"}})
    report(site, "2026-09", tmp_path / "out")
    everything = repr([rows(tmp_path / "out", name) for name in ("usage", "inventory", "events")])
    for secret in (PATIENT, "CASE-0001", "BLOCK-0001", site.actor, ".svs"):
        assert secret not in everything


def test_tools_of_finance_read_it(site: ops.Site, tmp_path: Path) -> None:
    report(site, "2026-09", tmp_path / "out")
    files = f"read_parquet('{tmp_path}/out/usage/*/*.parquet', hive_partitioning = true)"
    (cost, month) = duckdb.execute(f"select sum(EffectiveCost), min(month) from {files}").fetchall()[0]
    assert cost == sum(row["EffectiveCost"] for row in rows(tmp_path / "out"))
    assert str(month) == "2026-09"
    assert len(pq.read_table(tmp_path / "out" / "usage").to_pandas()) == len(rows(tmp_path / "out"))


# --- departments ------------------------------------------------------------------------------------------------------


def test_departments_add_up_to_the_total(site: ops.Site, tmp_path: Path) -> None:
    made = report(site, "2026-09", tmp_path / "out")
    assert sum((line.cost for line in made.departments), Decimal(0)) == made.total.cost
    assert sum((line.cost for line in made.tiers), Decimal(0)) == made.total.cost
    assert made.total.cost == sum(row["EffectiveCost"] for row in rows(tmp_path / "out"))


# --- closing ----------------------------------------------------------------------------------------------------------


def test_a_closed_month_stays_and_corrections_go_into_the_current_one(site: ops.Site, tmp_path: Path) -> None:
    out = tmp_path / "out"
    closed = report(site, "2026-09", out, close=True)
    assert closed.closed_at is not None
    before = bytes_of(out)
    again = report(site, "2026-09", out, close=True)
    assert (again.corrections, bytes_of(out)) == (0, before)

    (site.folder / "own.toml").write_text("[storage_per_tb_month]\ncentral = 40\nsource = 'invoice'\nmark = 'seen'\n")
    settings = site.folder / "wsistore.toml"
    settings.write_text(settings.read_text().replace("[tiers.hot]\n", '[tiers.hot]\nprices = "./own.toml"\n'))
    with ops.open_site(site.folder, clock=site.clock) as changed:
        made = report(changed, "2026-09", out)
        corrected = report(changed, "2026-09", out)
    assert made.corrections > 0
    assert corrected.corrections == 0  # what was corrected once is right
    new = {name: body for name, body in bytes_of(out).items() if name not in before}
    assert list(new) == ["usage/month=2026-10/corrections-2026-09-001.parquet"]
    assert {name: body for name, body in bytes_of(out).items() if name in before} == before
    lines = pq.ParquetFile(out / next(iter(new))).read().to_pylist()
    assert {row["ChargeClass"] for row in lines} == {"Correction"}
    assert {row["ChargePeriodStart"] for row in lines} == {datetime(2026, 9, 1, tzinfo=UTC)}
    assert {row["BillingPeriodStart"] for row in lines} == {datetime(2026, 10, 1, tzinfo=UTC)}
    total = sum(row["EffectiveCost"] for row in rows(out))
    assert total == pytest.approx(made.total.cost, rel=Decimal("1e-9"))


def test_a_month_that_is_not_over_does_not_close(site: ops.Site, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="2026-10 does not close: it is not over"):
        report(site, "2026-10", tmp_path / "out", close=True)
    draft = report(site, "2026-10", tmp_path / "out")
    assert (draft.closed_at, draft.is_over) == (None, False)
    assert draft.total.copies == pytest.approx(3 * 2 / 31, rel=1e-4)  # two days of 31, and no more


def test_bytes_that_nobody_explains_keep_a_month_open(site: ops.Site, tmp_path: Path) -> None:
    stray = next(iter(p for p in (tier.path for tier in site.settings.tiers if tier.name == "hot") if p is not None))
    (stray / "stray.bin").write_bytes(bytes(1000))
    with pytest.raises(ConflictError, match=r"not explained in hot \(1000 bytes"):
        report(site, "2026-09", tmp_path / "out", close=True)
    (stray / "stray.bin").unlink()
    victim = next(path for path in sorted((stray / "store").rglob("*")) if path.is_file() and path.stat().st_size > 100)
    size = victim.stat().st_size
    victim.unlink()
    made = report(site, "2026-09", tmp_path / "out")
    assert next(one for one in made.reconciled if one.tier == "hot").unexplained_bytes == size
    with pytest.raises(ConflictError, match="the tiers were not looked at"):
        report(site, "2026-09", tmp_path / "out", close=True, look=False)


def test_a_closed_month_that_was_altered_is_refused(site: ops.Site, tmp_path: Path) -> None:
    report(site, "2026-09", tmp_path / "out", close=True)
    part = tmp_path / "out" / "inventory" / "month=2026-09" / "part-0.parquet"
    part.write_bytes(part.read_bytes() + b" ")
    with pytest.raises(InputError, match="not what they were when it was closed"):
        report(site, "2026-09", tmp_path / "out")
    (tmp_path / "out" / "usage" / "month=2026-09" / ABOUT).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        report(site, "2026-09", tmp_path / "out")


# --- settings, versions, the command line -----------------------------------------------------------------------------


def test_months_are_those_of_the_sites_time_zone(site: ops.Site, tmp_path: Path) -> None:
    (site.folder / "reports.toml").write_text(
        'timezone = "Europe/Paris"\naccount = "CHU-01"\n[tiers.hot]\ncountry = "RE"\n'
    )
    made = report(site, "2026-09", tmp_path / "out")
    row = storage(tmp_path / "out", "hot")
    assert made.timezone == "Europe/Paris"
    assert row["ChargePeriodStart"] == datetime(2026, 8, 31, 22, tzinfo=UTC)
    assert (row["BillingAccountId"], row["RegionId"], row["x_GridGco2ePerKwh"]) == ("CHU-01", "RE", 764)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('timezone = "Paris"', "no time zone 'Paris'"),
        ('country = "XX"', "key 'country' is 'XX'"),
        ('[tiers.hott]\ncountry = "FR"', "'hott'"),
        ("draws = 3", "draws"),
        ("[[grid]]\ncountry = 'FR'\nyear = 2026\ntotal = {central = -1}", "grid.total"),
        ("[[grid]]\ncountry = 'FR'\nyear = 2026\ncombustion = {central = 1}", "grid.upstream"),
        ("timezon = 'UTC'", "did you mean 'timezone'"),
        ("a = [", "TOML"),
    ],
)
def test_wrong_settings_are_named(site: ops.Site, tmp_path: Path, text: str, said: str) -> None:
    (site.folder / "reports.toml").write_text(text)
    with pytest.raises(SiteError) as caught:
        report(site, "2026-09", tmp_path / "out")
    assert said in str(caught.value)


def test_another_version_of_focus(site: ops.Site, tmp_path: Path) -> None:
    report(site, "2026-09", tmp_path / "out", focus="1.4")
    about = json.loads((tmp_path / "out" / "usage" / "month=2026-09" / ABOUT).read_text())
    assert about["FocusVersion"] == "1.4"
    assert "HostProviderName" in rows(tmp_path / "out")[0]
    with pytest.raises(InputError, match="FOCUS '2' is not written"):
        report(site, "2026-09", tmp_path / "out", focus="2")


def test_a_month_to_come_has_no_report(site: ops.Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2026-11 has not begun"):
        report(site, "2026-11", tmp_path / "out")


def test_an_empty_site_has_an_empty_report(tmp_path: Path) -> None:
    ops.init_site(tmp_path / "empty")
    done = cli(tmp_path / "empty", "report", "--month", "2026-01", "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    (line,) = done.lines
    assert (line["rows"], line["sci_g_per_slide"], line["total"]["cost"]) == (0, None, "0")
    assert rows(tmp_path / "out") == []


def test_the_command_prints_a_summary(site: ops.Site, tmp_path: Path) -> None:
    done = cli(site.folder, "report", "--month", "2026-09", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    for word in ("hot", "cold", "all", "0.000% of", "not closed", "gCO2e per slide and month"):
        assert word in done.out
    refused = cli(site.folder, "report", "--month", "2026", "-o", tmp_path / "out", "--json")
    assert (refused.code, refused.error["kind"]) == (3, "condition-invalid")
