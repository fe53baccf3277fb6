"""All prices and coefficients that a report rests on, one by one: value, range, unit, source, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wsistore.reports.models import TierCosts
from wsistore.tiers.value_files import NOTHING, Value

_PRICES = {
    "storage_per_tb_month": "EUR/TB/month",
    "put_per_1000": "EUR/1000 requests",
    "get_per_1000": "EUR/1000 requests",
    "transition_per_1000": "EUR/1000 requests",
    "retrieval_per_gb": "EUR/GB",
    "egress_per_gb": "EUR/GB",
    "least_days": "days",
    "least_object_bytes": "bytes",
    "overhead_bytes_per_object": "bytes",
    "overhead_standard_bytes_per_object": "bytes",
    "standard_per_tb_month": "EUR/TB/month",
    "cpu_per_core_hour": "EUR/core/hour",
    "vat": "1",
    "raw_per_usable": "1",
}
_ENERGY = {
    "kwh_per_tb_year": "kWh/TB/year",
    "embodied_kg_per_tb_year": "kgCO2e/TB/year",
    "pue": "1",
    "watts_per_core": "W/core",
    "network_kwh_per_gb": "kWh/GB",
}
_HARDWARE = {
    "usable_tb": "TB",
    "purchase": "EUR",
    "lifetime_years": "years",
    "upkeep_per_year": "EUR/year",
    "staff_per_year": "EUR/year",
    "space_per_year": "EUR/year",
    "watts": "W",
    "per_kwh": "EUR/kWh",
}


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One value of one tier."""

    tier: str
    name: str
    """As in its file."""
    value: Value
    unit: str
    year: int | None = None
    """That it is of, where it is of one."""


def coefficients(costs: Mapping[str, TierCosts]) -> list[Coefficient]:
    """Return what figures of some tiers rest on, by tier; what a tier does not charge for is left out."""
    return [one for name in sorted(costs) for one in _of_tier(name, costs[name])]


def shared(found: Sequence[Coefficient]) -> list[tuple[Coefficient, list[str]]]:
    """Return each value once, with the tiers that take it."""
    tiers: dict[tuple[object, ...], tuple[Coefficient, list[str]]] = {}
    for one in found:
        tiers.setdefault((one.name, one.year, one.unit, one.value), (one, []))[1].append(one.tier)
    return list(tiers.values())


def _of_tier(tier: str, costs: TierCosts) -> Iterator[Coefficient]:
    prices = costs.prices
    values = [(name, getattr(prices, name), unit) for name, unit in _PRICES.items()]
    values += [(name, getattr(prices.energy, name), unit) for name, unit in _ENERGY.items()]
    if prices.hardware is not None:
        values += [(f"hardware.{name}", getattr(prices.hardware, name), unit) for name, unit in _HARDWARE.items()]
    for way in prices.retrievals:
        values.append((f"retrieval.{way.retrieval}.per_gb", way.per_gb, "EUR/GB"))
        values.append((f"retrieval.{way.retrieval}.per_1000", way.per_1000, "EUR/1000 requests"))
    for name, value, unit in values:
        if value != NOTHING:
            yield Coefficient(tier, name, value, unit)
    factor = costs.factor
    parts = {"total": factor.total, "combustion": factor.combustion, "upstream": factor.upstream}
    for name, one in parts.items():
        if one is not None:
            yield Coefficient(tier, f"grid.{factor.country}.{name}", one, "gCO2e/kWh", factor.year)
