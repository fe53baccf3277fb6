"""docs/reports.md lists the columns that there are; the worked examples of docs/method.md come out as they say."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from tests.report_kit import begun, costs, exactly, metered, model
from wsistore.reports.columns import EVENTS, INVENTORY, Column, usage_columns
from wsistore.reports.focus import rows_of
from wsistore.reports.models import METHOD, Quality, TierCosts, charges, totals
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.reports.terms import read_settings
from wsistore.tiers.grid import load_grid
from wsistore.tiers.prices import load_prices
from wsistore.tiers.value_files import Mark, Value

DOCS = Path(__file__).resolve().parents[2] / "docs"
REPORTS, METHODS = ((DOCS / name).read_text("utf-8") for name in ("reports.md", "method.md"))
OCTOBER = Month(2026, 10)


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", REPORTS, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def rows(text: str) -> list[tuple[str, ...]]:
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if line[:3] == "| `"
    ]


def told(column: Column) -> tuple[str, ...]:
    return (f"`{column.name}`", str(column.type), "yes" if column.nullable else "no", column.meaning)


@pytest.mark.parametrize(("title", "columns"), [("inventory", INVENTORY), ("events", EVENTS)])
def test_columns_are_told_one_by_one(title: str, columns: tuple[Column, ...]) -> None:
    assert rows(section(title)) == [told(column) for column in columns]


def test_columns_of_usage_in_both_versions() -> None:
    plain, _, newer = section("usage").partition("With FOCUS 1.4")
    assert rows(plain) == [told(column) for column in usage_columns("1.2")]
    older = usage_columns("1.2")
    assert rows(newer) == [told(column) for column in usage_columns("1.4") if column not in older]


def test_the_example_of_reports_toml_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", REPORTS, re.DOTALL)
    (tmp_path / "reports.toml").write_text(text)
    found = read_settings(tmp_path)
    assert (found.timezone, found.countries, found.grid.factor("FR", 2026).total.central) == (
        "Europe/Paris",
        {"cold": "RE"},
        50,
    )


# --- method -----------------------------------------------------------------------------------------------------------


def example(about: str) -> str:
    found = [text for text in re.findall(r"^Example: (.*?)\n\n", METHODS, re.MULTILINE | re.DOTALL) if about in text]
    assert len(found) == 1, about
    return " ".join(found[0].split())


def test_the_version_and_the_words_are_the_programs() -> None:
    assert f"Version {METHOD}," in METHODS
    assert re.findall(r"^\| `(\w+)` \|", METHODS, re.MULTILINE) == [str(quality) for quality in Quality]
    assert all(f"`{mark}`" in METHODS for mark in Mark)


def test_a_terabyte_and_its_tax() -> None:
    tiers = costs(model(vat=exactly(0.2)))
    found = charges(metered([begun("a", 1, "2026-01-01T00:00")], OCTOBER).by_month[OCTOBER], OCTOBER, tiers)
    amounts = [row["EffectiveCost"].quantize(Decimal("0.01")) for row in rows_of(found, OCTOBER, tiers, account="x")]
    text = example("1 TB in hot")
    assert all(f"{amount} EUR" in text for amount in amounts)
    assert sorted(amounts) == [4, 20]


def test_own_hardware(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        "[hardware]\npurchase = {central = 60000}\nlifetime_years = {central = 5}\nusable_tb = {central = 100}\n"
        "upkeep_per_year = {central = 5000}\nstaff_per_year = {central = 2000}\nspace_per_year = {central = 1000}\n"
    )
    price = load_prices("own.toml", tmp_path).storage_per_tb_month.central
    assert f"{price:.2f} EUR per TB and month" in example("60000 EUR")


def test_a_slide_of_twenty_years() -> None:
    disk = replace(model(), prices=load_prices("hospital-disk"))
    tiers = {"hot": TierCosts(disk, 2024, load_grid(), Draws())}
    month = Month(2024, 10)
    meter = metered([begun("a", 1, "2024-01-01T00:00", size=1_600_000_000)], month)
    total = totals(charges(meter.by_month[month], month, tiers), Draws())
    text, times = example("1.6 GB"), 20 * 365.25 / 31
    assert f"{total.kwh.central * times:.2f} kWh" in text
    assert f"{total.operational_g.central * times:.1f} g of use" in text
    assert f"{total.embodied_g.central * times:.1f} g of manufacture" in text


def test_bands() -> None:
    tiers = costs(model(storage_per_tb_month=Value(10.0, 20.0, 60.0)))
    one, two = (
        totals(charges(metered(events, OCTOBER).by_month[OCTOBER], OCTOBER, tiers), Draws())
        for events in ([begun("a", 1, "2026-01-01T00:00")], [begun("a", 1, "2026-01-01T00:00", size=2 * 10**12)])
    )
    band, more = one.eur.band, (two - one).eur.band
    assert f"1 TB costs {band.central:.0f} EUR, in a band of {band.low:.0f} to {band.high:.0f} EUR" in example(
        "10, 20 or 60"
    )
    assert more == pytest.approx(band)


def test_dated_rates(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", METHODS, re.DOTALL)
    assert tomllib.loads(text)["currency"] == "USD"
    (tmp_path / "own.toml").write_text(text + "[storage_per_tb_month]\ncentral = 100\n")
    found = {
        day: load_prices("own.toml", tmp_path, at=day).storage_per_tb_month.central
        for day in (date(2026, 1, 1), date(2026, 6, 30), date(2026, 7, 1))
    }
    assert list(found.values()) == pytest.approx([92, 92, 88])
