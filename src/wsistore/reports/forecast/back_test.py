"""Trying forecasts on the past: what the first year tells, forecast on, beside what reports say of the other years."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wsistore.errors import InputError, Kind
from wsistore.reports.forecast.costs import CostsToCome
from wsistore.reports.forecast.doing import Activity, activity
from wsistore.reports.forecast.running import bands, forecast_of
from wsistore.reports.forecast.scenario import CopyAt, PresetFigures, Scenario, SizeKind, Slides
from wsistore.reports.models import charges
from wsistore.reports.periods import US_PER_YEAR, Month
from wsistore.reports.samples import Band, Draws, Floats, Sample
from wsistore.reports.usage import Metered, Usage, What
from wsistore.tiers.value_files import Mark, Value

_MONTHS = 12
_GB = 1e9
_MICRO = 1e6
FIGURES = ("slides", "bytes", "eur", "kwh", "gco2e")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one year."""

    year: int
    """Of the past, from 1; the first is what was learnt from."""
    figure: str
    """One of `FIGURES`: slides that came, bytes stored on average, and what that cost."""
    actual: float
    forecast: Band

    @property
    def error(self) -> float:
        """Of the central estimate, as part of what was; 0 where there was nothing and nothing was forecast."""
        if not self.actual:
            return 0.0 if not self.forecast.central else float("inf")
        return self.forecast.central / self.actual - 1.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "year": self.year,
            "figure": self.figure,
            "actual": self.actual,
            "forecast": self.forecast._asdict(),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class BackTest:
    """What came of it."""

    learned: Scenario
    """The scenario with what the first year told in the place of what it assumed."""
    compared: list[Compared]

    def worst(self, figure: str) -> float:
        """Return the largest error of a figure in the years that were forecast, whatever its sign."""
        return max((abs(one.error) for one in self.compared if one.figure == figure and one.year > 1), default=0.0)


def back_test(scenario: Scenario, by_month: Mapping[Month, Metered], draws: Draws) -> BackTest:
    """Learn from the first twelve months, forecast them and those after, and compare.

    Usage is what is tried: both sides have the same prices and coefficients, in each draw. Idle capacity is in neither.

    Parameters
    ----------
    scenario
        Where copies lie at which age, growth, and whatever else the first year cannot tell.
    by_month
        What was metered; months one after the other, whole years of them.
    draws
        Where uncertainty is from.

    Raises
    ------
    InputError
        If it is less than two years, or no slide came in the first.

    """
    months = sorted(by_month, key=lambda month: month.begins_us)
    years = len(months) // _MONTHS
    if years < 2:
        msg = f"{len(months)} months are too few to try a forecast on."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Two years are the least: one to learn from.")
    learned = learn(scenario, [by_month[month] for month in months[:_MONTHS]])
    found = activity(learned, months[0], years, draws)
    forecast = forecast_of(learned, found, draws)
    amounts = [one for (_, what), one in forecast.parts.items() if what is not What.IDLE]
    stored, none = _stored(found), found.slides_new * 0.0
    totals = {name: sum((getattr(one, name) for one in amounts), none) for name in ("eur", "kwh", "gco2e")}
    compared = []
    for year in range(years):
        mine = months[year * _MONTHS : (year + 1) * _MONTHS]
        actual = _actual(learned, [(month, by_month[month]) for month in mine], months[0].year, draws)
        told = {
            "slides": bands(found.slides_new[year : year + 1])[0],
            "bytes": bands(stored[year : year + 1])[0],
            "eur": bands(totals["eur"][year : year + 1])[0],
            "kwh": bands(totals["kwh"][year : year + 1])[0],
            "gco2e": bands(totals["gco2e"][year : year + 1])[0],
        }
        compared += [Compared(year + 1, name, actual[name], told[name]) for name in FIGURES]
    return BackTest(learned, compared)


def _stored(found: Activity) -> Floats:
    """Return bytes that lie there on average over each year, (years, columns)."""
    lengths = np.array([month.length_us / US_PER_YEAR for month in found.months]).reshape(-1, _MONTHS).sum(axis=1)
    byte_years = sum((done.byte_years * found.ratios[copy] for copy, done in found.done.items()), np.zeros(1))
    stored: Floats = byte_years / lengths[:, None]
    return stored


def _first_copy(scenario: Scenario) -> CopyAt:
    return scenario.paths[-1].stages[0].copies[0]


def _actual(scenario: Scenario, months: Sequence[tuple[Month, Metered]], begins: int, draws: Draws) -> dict[str, float]:
    """Return a year's figures as the reports would tell them; central estimates."""
    first, nothing = _first_copy(scenario), draws.exactly(0.0)
    found = dict.fromkeys(FIGURES, 0.0)
    byte_us, length_us = 0, 0
    money, energy, carbon = nothing, nothing, nothing
    for month, metered in months:
        costs = {
            name: CostsToCome(tier, scenario, begins, month.year, None, draws) for name, tier in scenario.tiers.items()
        }
        length_us += month.length_us
        for group, usage in metered.items():
            byte_us += usage.byte_us
            if (group.tier, group.preset) == (first.tier, first.preset):
                found["slides"] += usage.copies_made
        for charge in charges(metered, month, costs):
            if charge.what is not What.IDLE:
                money, energy = money + charge.eur, energy + charge.kwh
                carbon = carbon + charge.operational_g + charge.embodied_g
    sums: dict[str, Sample] = {"eur": money, "kwh": energy, "gco2e": carbon}
    return found | {"bytes": byte_us / length_us} | {name: one.central for name, one in sums.items()}


# --- what the first year tells ----------------------------------------------------------------------------------------


def learn(scenario: Scenario, first: Sequence[Metered]) -> Scenario:
    """Return a scenario with what a year told: how many slides came, how large they are, and their copies.

    Parameters
    ----------
    scenario
        What is expected otherwise.
    first
        Twelve months.

    Raises
    ------
    InputError
        If no slide came, or it tells of tiers that the scenario has not.

    """
    sums: dict[CopyAt, Usage] = {}
    for metered in first:
        for group, usage in metered.items():
            if group.tier not in scenario.tiers:
                msg = f"The past has a tier {group.tier!r}, which {scenario.file} has not."
                raise InputError(msg, kind=Kind.SCENARIO_INVALID, remedy="Add it to the scenario's tiers.")
            sums.setdefault(CopyAt(group.tier, group.preset), Usage()).add(usage)
    came = sums.get(_first_copy(scenario), Usage())
    if not came.copies_made or not came.copy_us:
        copy = _first_copy(scenario)
        msg = f"In the first year no slide came to {copy.tier} as {copy.preset}."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Begin with a year in which slides came.")
    size = came.logical_byte_us / came.copy_us
    kinds = (SizeKind(name="learned", part=1.0, bytes=_exactly(size)),)
    slides = Slides(
        per_year=_exactly(float(came.copies_made)), kinds=kinds, growth_per_year=scenario.slides.growth_per_year
    )
    presets = {name: _preset(one, sums, size) for name, one in scenario.presets.items()}
    return replace(scenario, slides=slides, presets=presets)


def _preset(known: PresetFigures, sums: Mapping[CopyAt, Usage], size: float) -> PresetFigures:
    """Return how copies in a preset were; as the scenario says where there were none."""
    mine = Usage()
    for copy, usage in sums.items():
        if copy.preset == known.name:
            mine.add(usage)
    if not mine.logical_byte_us or not mine.copy_us or not mine.byte_us:
        return known
    made = mine.copies_made * size / _GB
    cpu = mine.cpu_us / _MICRO / made if made else known.cpu_seconds_per_gb.central
    return PresetFigures(
        name=known.name,
        ratio=_exactly(mine.byte_us / mine.logical_byte_us),
        objects=mine.object_us / mine.copy_us,
        cpu_seconds_per_gb=_exactly(cpu) if known.name != "keep" else known.cpu_seconds_per_gb,
    )


def _exactly(number: float) -> Value:
    return Value(number, number, number, "the first year", Mark.DERIVED)
