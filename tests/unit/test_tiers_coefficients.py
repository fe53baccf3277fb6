"""Coefficients: units that are checked, dated rates, own hardware, lifetimes of media, electricity by country."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from wsistore.errors import SiteError
from wsistore.tiers.grid import SCOPE, load_grid
from wsistore.tiers.hardware import Hardware, kwh_per_usable_tb_year, storage_price
from wsistore.tiers.prices import load_prices
from wsistore.tiers.unit_texts import factor
from wsistore.tiers.value_files import Mark, Value

PRICE = "[storage_per_tb_month]\ncentral = 10\n"
HARDWARE = (
    "[hardware]\npurchase = {low = 50000, central = 60000, high = 90000, mark = 'seen'}\n"
    "lifetime_years = {low = 4, central = 5, high = 6, mark = 'seen'}\n"
    "usable_tb = {central = 100, mark = 'seen'}\n"
)


def loaded(folder: Path, text: str, **options: Any) -> Any:
    (folder / "own.toml").write_text(text)
    return load_prices("own.toml", folder, **options)


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted", "by"),
    [
        ("EUR/TB/month", "EUR/TB/month", 1.0),
        ("EUR/GB/month", "EUR/TB/month", 1000.0),
        ("EUR/GiB/month", "EUR/TB/month", 1e12 / 2**30),
        ("EUR/TiB/month", "EUR/TB/month", 1e12 / 2**40),
        ("EUR/GB/hour", "EUR/TB/month", 1000 * 730.5),
        ("EUR/TB/year", "EUR/TB/month", 1 / 12),
        ("EUR/request", "EUR/1000 requests", 1000.0),
        ("EUR/10000 requests", "EUR/1000 requests", 0.1),
        ("kgCO2e/MWh", "gCO2e/kWh", 1.0),
        ("Wh/TB/hour", "kWh/TB/year", 8.766),
        ("kW", "W", 1000.0),
        ("%", "1", 0.01),
        ("month", "year", 1 / 12),
    ],
)
def test_units_are_converted(given: str, wanted: str, by: float) -> None:
    assert factor(given, wanted) == pytest.approx(by, rel=1e-12)


@pytest.mark.parametrize("given", ["USD/TB/month", "EUR/TB", "kWh/TB/month", "EUR/Tb/month", "EUR/month/TB", "", "EUR"])
def test_units_of_another_kind_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="is not a unit like"):
        factor(given, "EUR/TB/month")


def test_gigabytes_are_not_gibibytes(tmp_path: Path) -> None:
    text = PRICE + "[egress_per_gb]\ncentral = 0.01\nunit = 'EUR/{}'\n"
    assert loaded(tmp_path, text.format("GB")).egress_per_gb.central == 0.01
    assert loaded(tmp_path, text.format("GiB")).egress_per_gb.central == pytest.approx(0.01 / 1.073741824)


def test_scaleways_price_by_the_hour(tmp_path: Path) -> None:
    """0.00000348 EUR per GB and hour is 2.54 EUR per TB and month."""
    text = "[storage_per_tb_month]\ncentral = 0.00000348\nunit = 'EUR/GB/hour'\n"
    assert loaded(tmp_path, text).storage_per_tb_month.central == pytest.approx(2.54, abs=0.005)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PRICE + "unit = 'USD/TB/month'", "storage_per_tb_month.unit' is 'USD/TB/month'; expected 'EUR/TB/month'"),
        (PRICE + "unit = 'kWh/TB/month'", "storage_per_tb_month.unit"),
        (PRICE + "unit = 3", "storage_per_tb_month.unit"),
        (PRICE.replace("10", "1e6"), "from 0 to 100000 of money/TB/month"),
        (PRICE + "[energy.pue]\ncentral = 0.9", "energy.pue"),
        (PRICE + "[energy.grid_g_per_kwh]\ncentral = 56000", "energy.grid_g_per_kwh"),
        (PRICE + "[raw_per_usable]\ncentral = 0.5", "raw_per_usable"),
        (PRICE + "[vat]\ncentral = 20", "vat"),
        (PRICE + "[energy.hdd_lifetime_years]\ncentral = 0", "energy.hdd_lifetime_years"),
        (
            PRICE + "[energy.hdd_lifetime_years]\ncentral = 5\n[energy.hdd_embodied_kg_per_tb_year]\ncentral = 1",
            "none beside 'hdd_lifetime_years', which it is made of",
        ),
        (HARDWARE + PRICE, "none beside [hardware]"),
        (HARDWARE.replace("purchase", "purchse"), "hardware.purchse"),
        (HARDWARE.replace("usable_tb = {central = 100, mark = 'seen'}", ""), "[hardware.usable_tb] is missing"),
        (HARDWARE.replace("central = 60000", "central = -1"), "hardware.purchase"),
        ("currency = 'USD'\n[[eur_per_unit]]\ncentral = 0.9\n" + PRICE, "key 'from' is None"),
        (
            "currency = 'USD'\n" + 2 * "[[eur_per_unit]]\nfrom = 2026-01-01\ncentral = 0.9\n" + PRICE,
            "each once",
        ),
    ],
)
def test_what_contradicts_or_is_absurd_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SiteError) as caught:
        loaded(tmp_path, text)
    assert said in str(caught.value)
    assert "own.toml" in str(caught.value)


def test_a_day_before_all_rates_has_none(tmp_path: Path) -> None:
    text = "currency = 'USD'\n[[eur_per_unit]]\nfrom = 2026-02-01\ncentral = 0.9\n" + PRICE
    assert loaded(tmp_path, text).storage_per_tb_month.central == 9
    with pytest.raises(SiteError, match="a rate that holds on 2026-01-31"):
        loaded(tmp_path, text, at=date(2026, 1, 31))


# --- own hardware -----------------------------------------------------------------------------------------------------


def test_hardware_is_reckoned_over_its_life(tmp_path: Path) -> None:
    running = "watts = {central = 500, unit = 'W', mark = 'seen'}\nper_kwh = {central = 0.2}\n"
    prices = loaded(tmp_path, HARDWARE + running + "[energy.pue]\ncentral = 1.5\n")
    power = 0.5 * 8766 * 1.5 * 0.2
    assert prices.storage_per_tb_month.central == pytest.approx((12_000 + power) / 100 / 12)
    assert prices.storage_per_tb_month.low == pytest.approx((50_000 / 6 + power) / 100 / 12)
    assert prices.storage_per_tb_month.high == pytest.approx((90_000 / 4 + power) / 100 / 12)
    assert prices.storage_per_tb_month.mark is Mark.SEEN


def test_energy_of_hardware_is_what_it_draws() -> None:
    def exactly(number: float) -> Value:
        return Value(number, number, number)

    own = Hardware(usable_tb=exactly(50), purchase=exactly(1), lifetime_years=exactly(5), watts=exactly(100))
    found = kwh_per_usable_tb_year(own)
    assert found is not None
    assert found.central == pytest.approx(876.6 / 50)
    assert storage_price(own, exactly(2)).central == pytest.approx(1 / 5 / 50 / 12)
    assert kwh_per_usable_tb_year(Hardware(exactly(50), exactly(1), exactly(5))) is None


# --- energy and electricity -------------------------------------------------------------------------------------------


def test_manufacture_is_spread_over_the_medium_s_life(tmp_path: Path) -> None:
    shipped = loaded(tmp_path, PRICE).energy.embodied_kg_per_tb_year
    assert (shipped.low, shipped.central, shipped.high) == (0.2, 0.4, 5.0)
    longer = loaded(tmp_path, PRICE + "[energy.hdd_lifetime_years]\ncentral = 8\n").energy.embodied_kg_per_tb_year
    assert longer.central == pytest.approx(2.0 / 8)
    own = loaded(tmp_path, PRICE + "[energy.hdd_embodied_kg_per_tb_year]\ncentral = 1.5\n").energy
    assert own.embodied_kg_per_tb_year.central == 1.5


def test_every_factor_of_electricity_is_of_one_scope_and_has_a_source() -> None:
    grid = load_grid()
    assert SCOPE == "life-cycle"
    assert {"FR", "GP", "MQ", "GF", "RE", "YT"} <= set(grid.countries())
    for one in grid.factors:
        assert one.total.source.strip()
        assert one.total.low <= one.total.central <= one.total.high
        if one.combustion is not None and one.upstream is not None:
            assert one.combustion.central + one.upstream.central == pytest.approx(one.total.central)


def test_the_year_is_the_nearest_one_before() -> None:
    grid = load_grid()
    assert [grid.factor("FR", year).year for year in (2000, 2023, 2024, 2030)] == [2023, 2023, 2024, 2024]
    with pytest.raises(SiteError, match="known for 'XX'"):
        grid.factor("XX", 2026)


def test_a_site_replaces_a_factor() -> None:
    own = [{"country": "FR", "year": 2024, "total": {"central": 44, "source": "ours", "mark": "seen"}}]
    assert load_grid(own).factor("FR", 2024).total.central == 44
    with pytest.raises(SiteError, match="two"):
        load_grid([*own, *own])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"year": 2024, "total": {"central": 1}}, "grid.country"),
        ({"country": "FR", "year": 24, "total": {"central": 1}}, "grid.year"),
        ({"country": "FR", "year": 2024, "total": {"central": 1}, "upstream": {"central": 1}}, "grid.total"),
        ({"country": "FR", "year": 2024, "total": {"central": 1, "unit": "kWh"}}, "grid.total.unit"),
        ({"country": "FR", "year": 2024, "totl": {"central": 1}}, "did you mean 'total'"),
        ({"country": "FR", "year": 2024}, "grid.combustion"),
    ],
)
def test_a_wrong_factor_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(SiteError) as caught:
        load_grid([table])
    assert said in str(caught.value)
