"""Scenarios side by side: money, energy, carbon and bytes of each coming year, draw by draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsistore.reports.forecast.costs import CostsToCome, Rate, idle_rate, rates, scale_of
from wsistore.reports.forecast.doing import Activity, Done, activity
from wsistore.reports.forecast.equipment import Equipment, equipment
from wsistore.reports.forecast.scenario import CopyAt, Scenario, Slides
from wsistore.reports.forecast.volumes import Arrivals
from wsistore.reports.periods import US_PER_YEAR, Month
from wsistore.reports.samples import HIGH, LOW, Band, Draws, Floats
from wsistore.reports.usage import What

_MONTHS = 12
_TB = 1e12

Key = tuple[str, What]
"""A tier and a kind of usage."""


@dataclass(slots=True)
class Amounts:
    """Of each year; each (years, columns). Money is without tax."""

    eur: Floats
    kwh: Floats
    operational_g: Floats
    embodied_g: Floats

    @classmethod
    def nothing(cls, years: int, width: int) -> Amounts:
        """Return none."""
        return cls(*(np.zeros((years, width)) for _ in range(4)))

    @property
    def gco2e(self) -> Floats:
        """Of use and of manufacture."""
        return self.operational_g + self.embodied_g

    @property
    def is_any(self) -> bool:
        """Whether there is any of them."""
        return any(one.any() for one in (self.eur, self.kwh, self.embodied_g))

    def add(self, other: Amounts) -> None:
        """Add another's amounts to these."""
        self.eur = self.eur + other.eur
        self.kwh = self.kwh + other.kwh
        self.operational_g = self.operational_g + other.operational_g
        self.embodied_g = self.embodied_g + other.embodied_g


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one scenario comes to."""

    scenario: Scenario
    begins: Month
    years: int
    parts: Mapping[Key, Amounts]
    total: Amounts
    slides_new: Floats
    """(years, columns)."""
    slides_kept: Floats
    """At the year's end."""
    bytes_stored: Mapping[str, Floats]
    """By tier, at the year's end; each (years, columns)."""
    equipment: Mapping[str, Equipment]
    """Of tiers of own hardware."""

    @property
    def all_bytes(self) -> Floats:
        """In all tiers at the year's end, (years, columns)."""
        found: Floats = np.sum(list(self.bytes_stored.values()), axis=0)
        return found

    @property
    def spent(self) -> Floats:
        """EUR paid for own hardware, (years, columns): cash, where `total` has it written off over its life."""
        found = [one.spent for one in self.equipment.values()]
        spent: Floats = np.sum(found, axis=0) if found else np.zeros_like(self.total.eur)
        return spent


def forecast(scenarios: Sequence[Scenario], begins: Month, years: int, draws: Draws) -> list[Forecast]:
    """Forecast scenarios, with the same draws for the same figures.

    Parameters
    ----------
    scenarios
        Each by itself.
    begins
        The first month.
    years
        How many, of twelve months each.
    draws
        Of all of them: the band of a difference is made of the differences of these.

    """
    known: dict[Slides, Arrivals] = {}
    return [forecast_of(one, activity(one, begins, years, draws, known), draws) for one in scenarios]


def forecast_of(scenario: Scenario, found: Activity, draws: Draws) -> Forecast:
    """Forecast what a scenario's tiers have to do.

    Parameters
    ----------
    scenario
        Its tiers, presets and grid.
    found
        What they have to do.
    draws
        Where uncertainty is from.

    """
    begins, years = found.months[0], len(found.slides_new)
    stored = _stored(found)
    lengths = np.array([month.length_us / US_PER_YEAR for month in found.months])[:, None]
    none = np.zeros((len(lengths), 1 + draws.count))
    own = {
        name: equipment(tier, hardware, stored.get(name, none), lengths, draws)
        for name, tier in scenario.tiers.items()
        if (hardware := tier.model.prices.hardware) is not None
    }
    parts = _parts(scenario, found, own, draws)
    total = Amounts.nothing(years, 1 + draws.count)
    for amounts in parts.values():
        total.add(amounts)
    return Forecast(
        scenario=scenario,
        begins=begins,
        years=years,
        parts=parts,
        total=total,
        slides_new=found.slides_new,
        slides_kept=np.broadcast_to(found.slides_kept, found.slides_new.shape),
        bytes_stored={name: ends[_MONTHS - 1 :: _MONTHS] for name, ends in sorted(stored.items())},
        equipment=own,
    )


def _stored(found: Activity) -> dict[str, Floats]:
    """Return bytes by tier when each month ends, (months, columns)."""
    stored: dict[str, Floats] = {}
    for copy, done in found.done.items():
        mine = done.at_ends * found.ratios[copy]
        stored[copy.tier] = stored[copy.tier] + mine if copy.tier in stored else mine
    return stored


def _parts(scenario: Scenario, found: Activity, own: Mapping[str, Equipment], draws: Draws) -> dict[Key, Amounts]:
    years, width = found.slides_new.shape
    parts: dict[Key, Amounts] = {}
    for name in sorted({*(copy.tier for copy in found.done), *own}):
        mine = [copy for copy in found.done if copy.tier == name]
        for year in range(years):
            level = own[name].price_level[year] if name in own else None
            calendar = found.months[year * _MONTHS].year
            costs = CostsToCome(scenario.tiers[name], scenario, found.months[0].year, calendar, level, draws)
            for copy in mine:
                for what, amounts in _of_copy(copy, found, costs, scenario, year, calendar, draws):
                    _put(parts, (name, what), year, years, width, amounts)
            idle = idle_rate(costs, calendar)
            if idle is not None:
                _put(parts, (name, What.IDLE), year, years, width, _idle(own[name], found, mine, idle, year))
    return {key: amounts for key, amounts in parts.items() if amounts.is_any}


def _put(parts: dict[Key, Amounts], key: Key, year: int, years: int, width: int, amounts: tuple[Floats, ...]) -> None:
    into = parts.setdefault(key, Amounts.nothing(years, width))
    for whole, row in zip((into.eur, into.kwh, into.operational_g, into.embodied_g), amounts, strict=True):
        whole[year] += row


def _of_copy(
    copy: CopyAt, found: Activity, costs: CostsToCome, scenario: Scenario, year: int, calendar: int, draws: Draws
) -> list[tuple[What, tuple[Floats, ...]]]:
    preset, done = scenario.presets[copy.preset], found.done[copy]
    scale = scale_of(preset, found.ratios[copy], draws)
    units = _units(done, year)
    amounts = []
    for what, rate in rates(costs, preset, float(found.bytes_per_slide[0]), calendar).items():
        used, passed = units[what]
        factor = scale.get(what, np.ones(1))
        amounts.append((what, _times(rate, used * factor, passed * factor)))
    return amounts


def _units(done: Done, year: int) -> dict[What, tuple[Floats, Floats]]:
    """Return what a year's usage is multiplied by rates with: for money, and for energy and carbon."""
    months, years = done.byte_months[year], done.byte_years[year]
    return {
        What.STORAGE: (months, years),
        What.OVERHEAD: (months, months),
        What.WRITES: (done.written[year],) * 2,
        What.READS: (done.read[year],) * 2,
        What.EGRESS: (done.read[year],) * 2,
        What.RETRIEVAL: (done.recalled[year],) * 2,
        What.EARLY: (done.early_days[year],) * 2,
        What.ENCODING: (done.encoded[year],) * 2,
    }


def _times(rate: Rate, used: Floats, passed: Floats) -> tuple[Floats, ...]:
    return rate.eur * used, rate.kwh * passed, rate.operational_g * passed, rate.embodied_g * passed


def _idle(own: Equipment, found: Activity, mine: Sequence[CopyAt], rate: Rate, year: int) -> tuple[Floats, ...]:
    months = sum((found.done[copy].byte_months[year] * found.ratios[copy] for copy in mine), np.zeros(1)) / _TB
    years = sum((found.done[copy].byte_years[year] * found.ratios[copy] for copy in mine), np.zeros(1)) / _TB
    return _times(rate, np.maximum(own.tb_months[year] - months, 0.0), np.maximum(own.tb_years[year] - years, 0.0))


# --- bands ------------------------------------------------------------------------------------------------------------


def bands(rows: Floats) -> list[Band]:
    """Return the band of each row of (rows, columns): from the 5th to the 95th percentile, the central one within."""
    low, high = np.percentile(rows[:, 1:], (LOW, HIGH), axis=1)
    central = rows[:, 0]
    ends = zip(np.minimum(low, central).tolist(), central.tolist(), np.maximum(high, central).tolist(), strict=True)
    return [Band(*one) for one in ends]


def cumulative(rows: Floats) -> Floats:
    """Return sums over the years so far, (years, columns)."""
    return np.cumsum(rows, axis=0)
