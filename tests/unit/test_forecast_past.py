"""Forecasts tried on the past: what one year tells, what it cannot tell, and how wrong the rest was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from tests.forecast_kit import PRESETS, scenario, slides, stages, tier
from tests.plan_kit import memory_tiers
from tests.report_kit import exactly
from tests.site_kit import Json, cli, ingest, tiny_tiff
from wsistore import ops
from wsistore.errors import InputError, Kind
from wsistore.ops.forecasting_past import try_on_past
from wsistore.reports.forecast.back_test import BackTest, back_test
from wsistore.reports.forecast.scenario import Path as Way
from wsistore.reports.forecast.scenario import PresetFigures, ReadsAt, Scenario
from wsistore.reports.happened import happened
from wsistore.reports.intervals import COPIES, intervals
from wsistore.reports.metering import Meter
from wsistore.reports.periods import months_of_year
from wsistore.reports.samples import Draws
from wsistore.testing.clock import ManualClock
from wsistore.testing.past import Past, made_past

AGES = stages((0, "hot", "keep"), (90 / (365.25 / 12), "warm", "fold"), (24, "cold", "pack"))
FIGURES = {
    name: PresetFigures(name=name, ratio=exactly(ratio), objects=3.0)
    for name, ratio in (("keep", 1.0), ("fold", 1.0), ("pack", 0.73))
}
"""Those of fold are learnt; none is packed in the first year."""
REGULAR = Past(
    years=4, slides_first_year=2000, growth=0.0, larger_each_year=0.0, late_days=0.0, held=0.0, teaching=0.0,
    reads=((0.0, 0.0),),
)  # fmt: skip


def expected(**more: object) -> Scenario:
    tiers = (tier(), tier("warm", prices={"egress_per_gb": exactly(0.01)}), tier("cold"))
    return scenario(*tiers, presets=FIGURES, stages=AGES, **more)


@cache
def meter_of(past: Past) -> Meter:
    raw, known = made_past(past, seed=3)
    told = happened(raw)
    months = [month for year in range(2019, 2019 + past.years) for month in months_of_year(year)]
    meter = Meter(months, until_us=months[-1].ends_us)
    meter.add(intervals(told, known, COPIES.empty_table()), told)
    return meter


def tried(past: Past, one: Scenario) -> BackTest:
    return back_test(one, meter_of(past).by_month, Draws(count=200))


def test_a_past_that_went_as_expected_is_forecast_almost_exactly() -> None:
    """What is left: that slides come by chance, that some are larger, and that years are not alike in length."""
    found = tried(REGULAR, expected())
    assert found.worst("slides") < 0.03
    assert found.worst("bytes") < 0.04
    assert found.worst("eur") < 0.05
    assert {one.year for one in found.compared} == {1, 2, 3, 4}


def test_the_first_year_tells_slides_sizes_and_presets() -> None:
    found = tried(REGULAR, expected()).learned
    assert found.slides.per_year.central == pytest.approx(2000, rel=0.05)
    assert found.slides.kinds[0].bytes.central == pytest.approx(1.6e9, rel=0.05)
    assert found.presets["fold"].ratio.central == pytest.approx(0.76, abs=0.01)
    assert found.presets["fold"].cpu_seconds_per_gb.central == pytest.approx(580, rel=0.05)
    assert found.presets["pack"] == FIGURES["pack"]  # nothing was so old yet
    assert found.presets["fold"].objects == pytest.approx(40)


def test_what_was_not_expected_shows_as_an_error() -> None:
    grown = replace(REGULAR, growth=0.3)
    unexpected = tried(grown, expected())
    assert unexpected.worst("slides") > 0.3
    said = slides(1.0, growth_per_year=exactly(0.3))
    assert tried(grown, expected(slides=said)).worst("slides") < 0.05
    held = replace(REGULAR, held=0.1)
    assert tried(held, expected()).worst("eur") > 0.05
    ways = (Way("held", 0.1, AGES[:1]), Way("all", 0.9, AGES))
    assert tried(held, expected(paths=ways)).worst("eur") < 0.05


def test_what_people_read_is_compared_too() -> None:
    reading = replace(REGULAR, reads=((0.0, 20.0),))
    often = expected(reads=(ReadsAt(0.0, exactly(20.0)),))
    assert tried(reading, often).worst("eur") < 0.05
    assert tried(reading, expected()).worst("eur") > tried(reading, often).worst("eur")


def test_too_little_past() -> None:
    months = dict(list(meter_of(REGULAR).by_month.items())[:23])
    with pytest.raises(InputError, match="23 months are too few"):
        back_test(expected(), months, Draws(count=200))
    with pytest.raises(InputError, match="no slide came"):
        back_test(expected(), {month: {} for month in meter_of(REGULAR).by_month}, Draws(count=200))
    other = scenario(tier(), presets={**PRESETS, **FIGURES})
    with pytest.raises(InputError, match="a tier 'warm', which") as caught:
        back_test(other, meter_of(REGULAR).by_month, Draws(count=200))
    assert caught.value.kind is Kind.SCENARIO_INVALID


# --- of a site --------------------------------------------------------------------------------------------------------

SCENARIO = """\
version: 1
slides: {per_year: 1, sizes: {all: {bytes: 1 GB}}}
stages: [{tier: hot}]
tiers: {hot: {}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    """Return a site in which a slide came every other month of two years."""
    clock = ManualClock(datetime(2024, 1, 20, tzinfo=UTC))
    with memory_tiers(tmp_path / "site", clock) as opened:
        for number in range(12):
            ingest(opened, tiny_tiff(tmp_path / f"slide-{number}.tiff", number + 1))
            clock.sleep(timedelta(days=61).total_seconds())
        (tmp_path / "s.yaml").write_text(SCENARIO)
        yield opened


def test_a_sites_own_past(site: ops.Site, tmp_path: Path) -> None:
    found = try_on_past(site, str(tmp_path / "s.yaml"), "2024-01")
    assert (found.begins, found.years) == ("2024-01", 2)
    document: Json = found.to_json()
    came = {one["year"]: one for one in document["compared"] if one["figure"] == "slides"}
    assert came[1]["actual"] == came[2]["actual"] == 6
    assert came[1]["error"] == pytest.approx(0.0)
    stored = [one for one in found.found.compared if one.figure == "bytes"]
    assert all(abs(one.error) < 0.5 for one in stored)  # six slides a year do not come evenly


@pytest.mark.parametrize(("begins", "years"), [("2025-06", None), ("2024-01", 3), ("2030-01", None)])
def test_years_that_are_not_over(site: ops.Site, tmp_path: Path, begins: str, years: int | None) -> None:
    with pytest.raises(InputError, match="whole years are over"):
        try_on_past(site, str(tmp_path / "s.yaml"), begins, years)


def test_a_site_without_slides_says_so_on_the_command_line(tmp_path: Path) -> None:
    assert cli(None, "init", tmp_path / "site").code == 0
    done = cli(tmp_path / "site", "forecast", "back-test", "--from", "2020-01", "--years", "2", "--json")
    assert done.code == 3
    assert "no slide came" in done.error["message"]
