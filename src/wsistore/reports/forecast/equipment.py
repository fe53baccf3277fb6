"""Hardware of the hospital's own: systems are bought when they are needed, and again when they are worn out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsistore.reports.forecast.scenario import MONTHS_PER_YEAR, ForecastTier
from wsistore.reports.forecast.volumes import columns, power
from wsistore.reports.samples import Draws, Floats
from wsistore.tiers.hardware import Hardware

_MONTHS = 12
_TB = 1e12
_NEARLY = 1e-9
"""Of a system: what does not fit by less is of the arithmetic."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """Systems of one tier; each (years, columns)."""

    systems: Floats
    """There at the end of the year."""
    bought: Floats
    tb_months: Floats
    """That the systems can hold, used or not, times months."""
    tb_years: Floats
    """The same in years of 365.25 days."""
    price_level: Floats
    """What the systems cost when they were bought, as part of today's price; mean of those that are there."""
    spent: Floats
    """EUR paid for systems in the year."""


def equipment(tier: ForecastTier, hardware: Hardware, stored: Floats, lengths: Floats, draws: Draws) -> Equipment:
    """Return the systems that a tier needs.

    Parameters
    ----------
    tier
        The tier.
    hardware
        One system.
    stored
        Bytes that lie there when each month ends, (months, columns).
    lengths
        Of the months in years, (months, 1).
    draws
        Where uncertainty is from. A system holds, and lasts, what its central estimates say.

    """
    life = max(1, round(hardware.lifetime_years.central * MONTHS_PER_YEAR))
    need = np.ceil(stored / (_TB * hardware.usable_tb.central) - _NEARLY)
    level = _levels(tier, len(stored), draws)
    # Systems that were there before lie in the months before the first.
    bought = np.zeros((life + len(stored), stored.shape[1]))
    age = round(tier.owned_years * MONTHS_PER_YEAR)
    if tier.owned_systems and age < life:
        bought[life - max(age, 1)] = tier.owned_systems
    levels = np.concatenate((np.ones((life, stored.shape[1])), level))
    alive, worth = np.zeros_like(stored), np.zeros_like(stored)
    for month in range(len(stored)):
        window = slice(month + 1, month + life)  # what was bought `life` months ago is worn out
        there = bought[window].sum(axis=0)
        bought[month + life] = np.maximum(need[month] - there, 0.0)
        alive[month] = there + bought[month + life]
        worth[month] = (bought[window] * levels[window]).sum(axis=0) + bought[month + life] * level[month]
    price = columns(draws.of(f"{tier.model.prices.name}.storage_per_tb_month", hardware.purchase))
    new, usable = bought[life:], hardware.usable_tb.central
    total = _yearly(alive)
    return Equipment(
        systems=alive[_MONTHS - 1 :: _MONTHS],
        bought=_yearly(new),
        tb_months=total * usable,
        tb_years=_yearly(alive * lengths) * usable,
        price_level=np.divide(_yearly(worth), total, out=np.ones_like(total), where=total > 0),
        spent=_yearly(new * level) * price,
    )


def _levels(tier: ForecastTier, months: int, draws: Draws) -> Floats:
    """Return what a new system costs in each month, as part of today's price; (months, columns)."""
    decline = decline_of(tier, draws)
    years = np.repeat(np.arange(months // _MONTHS), _MONTHS)
    return np.array([power(decline, float(year)) for year in years])


def decline_of(tier: ForecastTier, draws: Draws) -> Floats:
    """Return the part by which a tier's price of storage falls each year, (columns,)."""
    return columns(draws.of(f"forecast.{tier.model.prices.name}.storage_decline", tier.storage_decline))


def rise_of(tier: ForecastTier, draws: Draws) -> Floats:
    """Return the part by which a tier's other prices rise each year, (columns,)."""
    return columns(draws.of(f"forecast.{tier.model.prices.name}.fees_rise", tier.fees_rise))


def _yearly(monthly: Floats) -> Floats:
    found: Floats = monthly.reshape(-1, _MONTHS, monthly.shape[1]).sum(axis=1)
    return found
