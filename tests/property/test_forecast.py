"""Forecasts: proportional to slides, never less at higher prices, bands in order, nothing from nothing, true sums."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forecast_kit import BEGINS, GB, PRESETS, ran, scenario, slides, tier
from tests.report_kit import exactly
from wsistore.reports.forecast.running import Amounts, Forecast, bands, cumulative, forecast
from wsistore.reports.forecast.scenario import CopyAt, Path, ReadsAt, Scenario, Stage
from wsistore.reports.samples import Draws
from wsistore.storage.archive import Retrieval
from wsistore.tiers.prices import RetrievalPrice
from wsistore.tiers.value_files import Value

YEARS = 3
DRAWS = 200
MOST = settings(max_examples=25, deadline=None)
PRICES = ("storage_per_tb_month", "put_per_1000", "get_per_1000", "egress_per_gb", "cpu_per_core_hour")


def values(most: float) -> st.SearchStrategy[Value]:
    three = st.lists(st.floats(0.0, most, allow_subnormal=False), min_size=3, max_size=3)
    return three.map(sorted).map(lambda found: Value(found[0], found[1], found[2]))


def tiers(name: str) -> st.SearchStrategy[Any]:
    way = values(1.0).map(lambda price: (RetrievalPrice(Retrieval.STANDARD, exactly(5.0), price),))
    prices = st.fixed_dictionaries(
        {one: values(50.0) for one in PRICES}, optional={"retrievals": way, "raw_per_usable": st.just(exactly(1.5))}
    )
    return st.builds(
        lambda prices, least, falls, rises, days: tier(
            name, prices=prices, least_days=least, storage_decline=falls, fees_rise=rises, verify_every_days=days
        ),
        prices,
        st.sampled_from([0.0, 90.0, 365.0]),
        values(0.5),
        values(0.5),
        st.sampled_from([0.0, 30.0, 365.0]),
    )


@st.composite
def scenarios(draw: st.DrawFn, per_year: float | None = None) -> Scenario:
    names = ("hot", "cold")
    found = [draw(tiers(name)) for name in names]
    copies = st.builds(CopyAt, st.sampled_from(names), st.sampled_from(["keep", "half"]))
    ages = [0.0, *sorted(draw(st.sets(st.floats(0.5, 30.0), max_size=2)))]
    stages = tuple(Stage(age, tuple(draw(st.lists(copies, min_size=1, max_size=2, unique=True)))) for age in ages)
    part = draw(st.sampled_from([1.0, 0.25]))
    paths = [Path("some", part, stages, draw(st.sampled_from([None, 31.0])))]
    if part < 1:
        paths.append(Path("all", 1.0 - part, (Stage(0.0, (CopyAt("hot", "keep"),)),)))
    count = exactly(per_year) if per_year is not None else draw(values(1e6))
    half = replace(PRESETS["half"], ratio=Value(0.4, 0.5, 0.9), cpu_seconds_per_gb=draw(values(900.0)))
    return scenario(
        *found,
        slides=slides(count, Value(0.5 * GB, GB, 3 * GB), growth_per_year=draw(values(0.3)), ramp_up=(0.5,)),
        paths=tuple(paths),
        presets={**PRESETS, "half": half},
        reads=(ReadsAt(0.0, draw(values(10.0))), ReadsAt(6.0, draw(values(1.0)))),
    )


def run(one: Scenario) -> Forecast:
    return ran(one, YEARS, Draws(count=DRAWS))


def amounts(found: Amounts) -> list[Any]:
    return [getattr(found, one.name) for one in fields(found)]


def near(one: Any, other: Any) -> bool:
    scale = max(float(np.abs(one).max()), float(np.abs(other).max()), 1e-9)
    return bool(np.allclose(one, other, rtol=1e-9, atol=1e-9 * scale))


@MOST
@given(scenarios())
def test_twice_the_slides_cost_twice_as_much_in_every_draw(one: Scenario) -> None:
    mine = one.slides.per_year
    double = replace(one, slides=replace(one.slides, per_year=Value(2 * mine.low, 2 * mine.central, 2 * mine.high)))
    for single, twice in zip(amounts(run(one).total), amounts(run(double).total), strict=True):
        assert near(single * 2, twice)


@MOST
@given(scenarios(), st.sampled_from(PRICES), st.sampled_from(["hot", "cold"]), st.floats(1.0, 3.0))
def test_a_higher_price_never_costs_less_nor_changes_energy(one: Scenario, price: str, name: str, times: float) -> None:
    mine = one.tiers[name]
    old = getattr(mine.model.prices, price)
    change: dict[str, Any] = {price: Value(old.low * times, old.central * times, old.high * times)}
    dearer = replace(mine.model.prices, **change)
    changed = replace(mine, model=replace(mine.model, prices=dearer))
    before, after = run(one).total, run(replace(one, tiers={**one.tiers, name: changed})).total
    assert (after.eur >= before.eur * (1 - 1e-12)).all()
    assert near(before.kwh, after.kwh)
    assert near(before.gco2e, after.gco2e)


@MOST
@given(scenarios())
def test_bands_are_in_order_and_hold_the_central_estimate(one: Scenario) -> None:
    found = run(one)
    for rows in (
        *amounts(found.total),
        found.total.gco2e,
        found.all_bytes,
        found.slides_kept,
        cumulative(found.total.eur),
    ):
        for band, row in zip(bands(rows), rows, strict=True):
            assert 0 <= band.low <= band.central <= band.high
            assert row[1:].min() <= band.high
            assert band.low <= row[1:].max()


@MOST
@given(scenarios(per_year=0.0))
def test_no_slides_cost_nothing_in_tiers_that_are_paid_by_use(one: Scenario) -> None:
    found = run(one)
    assert not found.parts
    assert all(not rows.any() for rows in (*amounts(found.total), found.all_bytes, found.slides_new, found.spent))


@MOST
@given(scenarios())
def test_parts_add_up_to_the_total_and_years_to_the_sum(one: Scenario) -> None:
    found = run(one)
    for number, whole in enumerate(amounts(found.total)):
        parts = [amounts(part)[number] for part in found.parts.values()]
        assert near(np.sum(parts, axis=0) if parts else whole * 0, whole)
        assert near(cumulative(whole)[-1], whole.sum(axis=0))
    assert near(np.cumsum(found.slides_new, axis=0)[-1], found.slides_kept[-1]) or any(
        path.keep_months for path in one.paths
    )


@MOST
@given(scenarios(), scenarios())
def test_differences_are_paired_and_a_scenario_differs_from_itself_by_nothing(one: Scenario, other: Scenario) -> None:
    draws = Draws(count=DRAWS)
    first, second, again = forecast([one, other, one], BEGINS, YEARS, draws)
    assert not (again.total.eur - first.total.eur).any()
    alone = forecast([other], BEGINS, YEARS, Draws(count=DRAWS))[0]  # whatever else was forecast before
    assert near(alone.total.eur, second.total.eur)
    more, back = (bands(cumulative(a.total.eur - b.total.eur)) for a, b in ((first, second), (second, first)))
    for there, here in zip(more, back, strict=True):
        assert near(np.array(there), -np.array(here)[::-1])


@MOST
@given(scenarios(), st.integers(1, YEARS))
def test_a_longer_forecast_begins_with_the_shorter_one(one: Scenario, years: int) -> None:
    long, short = run(one), ran(one, years, Draws(count=DRAWS))
    for whole, begin in zip(amounts(long.total), amounts(short.total), strict=True):
        assert near(whole[:years], begin)
