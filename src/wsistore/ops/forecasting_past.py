"""Would a forecast have been right? The site's first year tells, its other years are forecast, and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wsistore.errors import InputError, Kind
from wsistore.ops.report_data import lost_tier, read_portions, tier_models
from wsistore.ops.site import Site
from wsistore.reports.forecast.back_test import BackTest, back_test
from wsistore.reports.forecast.reading import Around, read_scenario
from wsistore.reports.forecast.shipped import scenario_path
from wsistore.reports.metering import Meter
from wsistore.reports.periods import US_PER_HOUR, Month, micros
from wsistore.reports.samples import Draws
from wsistore.reports.terms import read_settings

_MONTHS = 12


@dataclass(frozen=True, slots=True)
class TriedOnPast:
    """A forecast of what has been."""

    begins: str
    years: int
    found: BackTest

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        learned = self.found.learned
        return {
            "scenario": learned.name,
            "begins": self.begins,
            "years": self.years,
            "slides_first_year": learned.slides.per_year.central,
            "bytes_per_slide": learned.slides.kinds[0].bytes.central,
            "compared": [one.to_json() for one in self.found.compared],
        }


def try_on_past(site: Site, scenario: str, begins: str, years: int | None = None) -> TriedOnPast:
    """Forecast the site's past from its first year, and compare it with what was metered.

    Parameters
    ----------
    site
        An open site.
    scenario
        File or shipped name: where copies lie at which age, growth, and what else a year cannot tell.
    begins
        First month of the year to learn from, in the time zone of reports.toml.
    years
        Whole years from then on; by default all that are over.

    Raises
    ------
    InputError
        If there are fewer than two whole years, or the scenario does not fit.
    SiteError
        If prices or reports.toml are wrong, or the catalogue fails.

    """
    settings = read_settings(site.folder)
    first = Month.parse(begins, settings.timezone)
    now = site.clock.now()
    months = [first]
    while months[-1].next.ends <= now and (years is None or len(months) < years * _MONTHS):
        months.append(months[-1].next)
    whole = len(months) // _MONTHS if first.ends <= now else 0
    if whole < 2 or (years is not None and whole < years):
        msg = f"From {first} on {whole} whole years are over."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="At least two are needed: one to learn from.")
    months = months[: whole * _MONTHS]
    models = tier_models(site, settings, first)
    least = {name: round(model.least_days * 24 * US_PER_HOUR) for name, model in models.items()}
    meter = Meter(months, {name: left for name, left in least.items() if left}, until_us=micros(now))
    for read in read_portions(site):
        meter.add(read.lying, read.told)
    for metered in meter.by_month.values():
        for group in metered:
            models.setdefault(group.tier, lost_tier(group.tier, settings))
    around = Around(grid=settings.grid, country=settings.country, tiers=models, at=first.begins.date())
    read_in = read_scenario(scenario_path(scenario), around)
    draws = Draws(settings.seed, settings.draws)
    return TriedOnPast(str(first), whole, back_test(read_in, meter.by_month, draws))
