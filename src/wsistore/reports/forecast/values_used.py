"""All values that a scenario rests on, each with its range, source and mark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from wsistore.reports.forecast.scenario import DAYS_PER_MONTH, CopyAt, ForecastTier, Scenario, lies_of
from wsistore.tiers.energy import Energy
from wsistore.tiers.hardware import HARDWARE_KINDS, Hardware
from wsistore.tiers.prices import Prices
from wsistore.tiers.value_files import NOTHING, Value

_UNITS = {
    "storage_per_tb_month": "EUR/TB/month",
    "standard_per_tb_month": "EUR/TB/month",
    "put_per_1000": "EUR/1000 requests",
    "get_per_1000": "EUR/1000 requests",
    "transition_per_1000": "EUR/1000 requests",
    "retrieval_per_gb": "EUR/GB",
    "egress_per_gb": "EUR/GB",
    "least_days": "day",
    "least_object_bytes": "B",
    "overhead_bytes_per_object": "B",
    "overhead_standard_bytes_per_object": "B",
    "cpu_per_core_hour": "EUR/core/hour",
    "kwh_per_tb_year": "kWh/TB/year",
    "embodied_kg_per_tb_year": "kgCO2e/TB/year",
    "watts_per_core": "W/core",
    "network_kwh_per_gb": "kWh/GB",
}
_NOT_USED = frozenset({"waiting_per_hour", "vat", "grid_g_per_kwh", "storage_decline_per_year"})
"""Of price lists: what a forecast does not reckon with."""


@dataclass(frozen=True, slots=True)
class Used:
    """One value."""

    key: str
    value: Value
    unit: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return it as a row of the set ``values``."""
        one = self.value
        return {
            "Key": self.key,
            "Low": one.low,
            "Central": one.central,
            "High": one.high,
            "Unit": self.unit,
            "Source": one.source,
            "Mark": str(one.mark),
        }


def values_used(scenario: Scenario) -> list[Used]:
    """Return what a scenario rests on; what is nothing is left out."""
    return [used for used in _all(scenario) if used.value != NOTHING]


def _all(scenario: Scenario) -> Iterator[Used]:
    slides = scenario.slides
    yield Used("slides.per_year", slides.per_year, "slides/year")
    yield Used("slides.growth_per_year", slides.growth_per_year)
    for kind in slides.kinds:
        yield Used(f"slides.sizes.{kind.name}", kind.bytes, "B")
    for read in scenario.reads:
        days = read.after_months * DAYS_PER_MONTH
        yield Used(f"reads from {days:.0f} days on", read.per_year, "1/year")
    copies = {lies.copy for lies in lies_of(scenario)} or {
        CopyAt(tier, preset) for tier in scenario.tiers for preset in scenario.presets
    }
    for name in sorted({copy.preset for copy in copies}):
        preset = scenario.presets[name]
        yield Used(f"presets.{name}.ratio", preset.ratio)
        if name != "keep":
            yield Used(f"presets.{name}.cpu_seconds_per_gb", preset.cpu_seconds_per_gb, "s/GB")
    for name in sorted({copy.tier for copy in copies}):
        yield from _of_tier(scenario.tiers[name], scenario)


def _of_tier(tier: ForecastTier, scenario: Scenario) -> Iterator[Used]:
    key, prices = f"tiers.{tier.name}", tier.model.prices
    for name in (one.name for one in fields(Prices)):
        value = getattr(prices, name)
        if isinstance(value, Value) and name not in _NOT_USED:
            yield Used(f"{key}.{name}", value, _UNITS.get(name, ""))
    for way in prices.retrievals:
        yield Used(f"{key}.retrieval.{way.retrieval}.per_gb", way.per_gb, "EUR/GB")
        yield Used(f"{key}.retrieval.{way.retrieval}.per_1000", way.per_1000, "EUR/1000 requests")
    if prices.hardware is not None:
        for one in fields(Hardware):
            unit = HARDWARE_KINDS[one.name].unit.replace("money", "EUR")
            yield Used(f"{key}.hardware.{one.name}", getattr(prices.hardware, one.name), unit)
    for energy in fields(Energy):
        if energy.name not in _NOT_USED:
            yield Used(f"{key}.energy.{energy.name}", getattr(prices.energy, energy.name), _UNITS.get(energy.name, ""))
    yield Used(f"{key}.storage_decline_per_year", tier.storage_decline)
    yield Used(f"{key}.fees_rise_per_year", tier.fees_rise)
    country = tier.model.country
    for factor in scenario.grid.factors:
        if factor.country == country:
            yield Used(f"{key}.grid.{country}.{factor.year}", factor.total, "gCO2e/kWh")
    yield Used(f"{key}.grid_decline_per_year", scenario.grid_decline.get(country, NOTHING))
