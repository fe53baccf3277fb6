"""Forecasting: how long ten years take, and how wrong a forecast of a made-up past would have been.

Prints tables, and as its last line one JSON object. There is no peer that forecasts slides. Six scenarios over ten
years with 2000 draws are to take less than five seconds of the processor. The past is more irregular than any forecast
(`wsistore.testing.past`); what is forecast from its first year is compared with what reports say of the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.support.report import Report, show, stdout
from wsistore.reports.forecast.back_test import BackTest, back_test
from wsistore.reports.forecast.reading import read_scenario
from wsistore.reports.forecast.running import forecast
from wsistore.reports.forecast.scenario import Scenario
from wsistore.reports.forecast.shipped import shipped_scenarios
from wsistore.reports.happened import happened
from wsistore.reports.intervals import COPIES, intervals
from wsistore.reports.metering import Meter
from wsistore.reports.periods import US_PER_HOUR, Month, months_of_year
from wsistore.reports.samples import Draws
from wsistore.testing.past import Past, made_past

MOST_SECONDS = 5.0
YEARS, PAST_YEARS = 10, 6
_LEAST = {"cold": 180 * 24 * US_PER_HOUR}
_SCENARIO = """\
version: 1
slides:
  per_year: 1  # learnt from the first year
  growth_per_year: {low: 0, central: 0.05, high: 0.1}
  sizes: {all: {bytes: 1 GB}}
stages:
  - {tier: hot}
  - {after: 90 days, tier: warm, preset: fold}
  - {after: 2 years, tier: cold, preset: pack}
tiers:
  hot: {prices: hospital-disk}
  warm: {prices: ovh-standard}
  cold: {prices: ovh-cold-archive}
"""
_EXCEPTIONS = """\
paths:
  held: {part: 0.02, stages: [{tier: hot}]}
  teaching: {part: 0.01, stages: [{tier: hot}, {after: 90 days, tier: warm, preset: fold}]}
"""


def seconds_of_forecast() -> float:
    """Return the processor time of the scenarios that ship, files and draws included."""
    began = time.process_time()
    scenarios = [read_scenario(path) for path in shipped_scenarios().values()]
    forecast(scenarios, Month(2027, 1), YEARS, Draws())
    return time.process_time() - began


def metered_past(slides: int, seed: int) -> Meter:
    """Return what was used in a made-up past."""
    raw, known = made_past(Past(slides_first_year=slides, years=PAST_YEARS), seed)
    told = happened(raw)
    months = [month for year in range(2019, 2019 + PAST_YEARS) for month in months_of_year(year)]
    meter = Meter(months, _LEAST, until_us=months[-1].ends_us)
    meter.add(intervals(told, known, COPIES.empty_table()), told)
    return meter


def scenarios() -> tuple[Scenario, Scenario]:
    """Return what a hospital expects that knows the ages only, and one that knows of exceptions, too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ages.yaml"
        path.write_text(_SCENARIO, "utf-8")
        plain = read_scenario(path)
        path.write_text(_SCENARIO + _EXCEPTIONS, "utf-8")
        return plain, replace(read_scenario(path), name="exceptions")


def rows_of(found: BackTest) -> list[tuple[str, ...]]:
    """Return the errors of each year."""
    years = sorted({one.year for one in found.compared})
    by = {(one.year, one.figure): one for one in found.compared}
    names = ("slides", "bytes", "eur", "kwh", "gco2e")
    return [(str(year), *(f"{by[year, name].error:+.1%}" for name in names)) for year in years]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.forecast", description=__doc__)
    parser.add_argument("--slides", type=int, default=20_000, help="of the past's first year")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = Report("forecast", {"time_below_limit": 1.0})
    spent = seconds_of_forecast()
    report.add("time_below_limit", MOST_SECONDS / spent)
    show(stdout(), "Six scenarios, ten years, 2000 draws", ("", ">seconds"), [("processor time", f"{spent:.2f}")])
    meter = metered_past(options.slides, options.seed)
    for title, scenario in zip(("Knowing ages", "Knowing exceptions, too"), scenarios(), strict=True):
        found = back_test(scenario, meter.by_month, Draws())
        columns = ("year", ">slides", ">bytes", ">EUR", ">kWh", ">CO2e")
        show(stdout(), f"{title}: forecast from year 1, error of the central estimate", columns, rows_of(found))
        # One year ahead is what a budget is made of.
        error = next(one.error for one in found.compared if (one.year, one.figure) == (2, "eur"))
        report.add(f"exactness_next_year_{scenario.name}", 1.0 - abs(error))
    report.close(stdout())
    return 0


if __name__ == "__main__":
    sys.exit(main())
