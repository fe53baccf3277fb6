"""What a unit of each kind of usage costs in a coming year: the reports' charges, at that year's prices and grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from wsistore.reports.forecast.equipment import decline_of, rise_of
from wsistore.reports.forecast.scenario import ForecastTier, PresetFigures, Scenario
from wsistore.reports.forecast.volumes import columns, power, sample_of
from wsistore.reports.models import Charge, TierCosts, charges
from wsistore.reports.periods import US_PER_YEAR, Month
from wsistore.reports.samples import Draws, Floats, Sample
from wsistore.reports.usage import Group, Usage, What
from wsistore.tiers.hardware import Hardware, storage_price
from wsistore.tiers.value_files import NOTHING

_STORAGE = ("storage_per_tb_month", "standard_per_tb_month")
_WHOLE = 10**18
"""Source bytes that a unit is reckoned of: so many that whole objects of them say nothing of rounding."""
_GB, _MICRO = 1e9, 1e6
_DAY_US = 86_400_000_000
PER_YEAR = frozenset({What.STORAGE, What.IDLE})
"""Whose energy and manufacture are by the time that passes, whose price is by the month."""


class CostsToCome(TierCosts):
    """Prices and coefficients of one tier in a coming year.

    Parameters
    ----------
    tier
        The tier, and how its prices go on.
    scenario
        Whose grid it is on.
    begins, year
        Calendar years of the forecast's begin, and of what is reckoned.
    level
        What own hardware that is there cost when it was bought, as part of today's price; (columns,).
    draws
        Where samples are from.

    """

    def __init__(
        self, tier: ForecastTier, scenario: Scenario, begins: int, year: int, level: Floats | None, draws: Draws
    ) -> None:
        super().__init__(tier.model, year, scenario.grid, draws)
        country, passed = tier.model.country, float(year - begins)
        self._falls = power(decline_of(tier, draws), passed)
        self._rises = power(-rise_of(tier, draws), passed)
        self._level, self._samples = level, draws
        first = scenario.grid.factor(country, begins)
        # Factors of one country err together, whatever year they are of.
        grid = columns(draws.of(f"grid.{country}.{first.year}", self.factor.total))
        decline = columns(draws.of(f"forecast.grid_decline.{country}", scenario.grid_decline.get(country, NOTHING)))
        self.grid = sample_of(grid * power(decline, float(year - min(year, max(begins, self.factor.year)))))

    def price(self, name: str) -> Sample:
        """Return a price of the tier's list as it will be."""
        hardware = self.prices.hardware
        if name == "storage_per_tb_month" and hardware is not None:
            return self._own(hardware)
        now = columns(super().price(name))
        return sample_of(now * (self._falls if name in _STORAGE else self._rises))

    def way(self, way: object, name: str) -> Sample:
        """Return a price of one way back as it will be."""
        return sample_of(columns(super().way(way, name)) * self._rises)  # type: ignore[arg-type]

    def _own(self, hardware: Hardware) -> Sample:
        """Return the price of own hardware: what is written off was paid then, what it takes to run rises."""
        nothing = replace(hardware, purchase=replace(hardware.purchase, low=0.0, central=0.0, high=0.0))
        bought = replace(hardware, **dict.fromkeys(_RUNNING, NOTHING))
        key, pue = f"{self.prices.name}.storage_per_tb_month", self.prices.energy.pue
        parts = (columns(self._samples.of(key, storage_price(one, pue))) for one in (bought, nothing))
        written_off, running = parts
        return sample_of(written_off * (1.0 if self._level is None else self._level) + running * self._rises)


_RUNNING = ("upkeep_per_year", "staff_per_year", "space_per_year", "watts", "per_kwh")


@dataclass(frozen=True, slots=True)
class Rate:
    """Of one source byte, or a source byte and month or year (`PER_YEAR`); each (columns,)."""

    eur: Floats
    kwh: Floats
    operational_g: Floats
    embodied_g: Floats


def rates(costs: CostsToCome, preset: PresetFigures, bytes_per_slide: float, year: int) -> Mapping[What, Rate]:
    """Return what a source byte costs in a tier and preset, by the kind of usage.

    Parameters
    ----------
    costs
        Of the tier in that year.
    preset
        How the copies are.
    bytes_per_slide
        Central, for how many objects there are.
    year
        For the length of a month only, which cancels out.

    """
    month = Month(year, 1)
    tier = costs.tier.name
    metered = {Group(tier, preset.name, None, False): _unit(preset, bytes_per_slide, month)}
    found = charges(metered, month, {tier: costs})
    part = month.length_us / US_PER_YEAR
    return {one.what: _rate(one, float(_WHOLE), part) for one in found if one.what is not What.IDLE}


def idle_rate(costs: CostsToCome, year: int) -> Rate | None:
    """Return what a TB costs of own hardware that nobody uses; None of another's."""
    hardware = costs.prices.hardware
    if hardware is None:
        return None
    month = Month(year, 1)
    found = [one for one in charges({}, month, {costs.tier.name: costs}) if one.what is What.IDLE]
    part = month.length_us / US_PER_YEAR
    return _rate(found[0], hardware.usable_tb.central, part) if found else None


def _unit(preset: PresetFigures, bytes_per_slide: float, month: Month) -> Usage:
    stored = round(_WHOLE * preset.ratio.central)
    slides = _WHOLE / bytes_per_slide
    objects, length = round(slides * preset.objects), month.length_us
    return Usage(
        byte_us=stored * length,
        logical_byte_us=_WHOLE * length,
        object_us=objects * length,
        copy_us=round(slides) * length,
        early_byte_us=stored * _DAY_US,
        puts=objects,
        gets=objects,
        bytes_read=stored,
        cpu_us=round(_WHOLE / _GB * preset.cpu_seconds_per_gb.central * _MICRO),
        restored={"": (stored, objects)},
    )


def _rate(charge: Charge, units: float, part_of_year: float) -> Rate:
    def per(sample: Sample) -> Floats:
        found: Floats = columns(sample) / units
        return found / part_of_year if charge.what in PER_YEAR else found

    eur: Floats = columns(charge.eur) / units
    return Rate(eur, per(charge.kwh), per(charge.operational_g), per(charge.embodied_g))


def scale_of(preset: PresetFigures, ratio: Floats, draws: Draws) -> Mapping[What, Floats]:
    """Return by what rates are multiplied, for copies are larger or smaller, and encoding slower, in each draw.

    Parameters
    ----------
    preset
        How the copies are.
    ratio
        Stored per source byte, (columns,).
    draws
        Where uncertainty is from.

    """
    cpu = columns(draws.of(f"forecast.{preset.name}.cpu", preset.cpu_seconds_per_gb))
    stored = ratio / preset.ratio.central
    central = preset.cpu_seconds_per_gb.central
    encoding = cpu / central if central else np.zeros(len(cpu))
    by_size = (What.STORAGE, What.EGRESS, What.RETRIEVAL, What.EARLY)
    return {**dict.fromkeys(by_size, stored), What.ENCODING: encoding}
