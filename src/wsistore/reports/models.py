"""From what was used to money, energy and carbon: small pure functions of usage, prices and coefficients.

The method is told in docs/method.md, whose worked examples are tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from wsistore.reports.periods import US_PER_HOUR, US_PER_YEAR, Month
from wsistore.reports.samples import Draws, Sample
from wsistore.reports.terms import TierModel
from wsistore.reports.usage import Group, Metered, Usage
from wsistore.reports.usage import What as What
from wsistore.storage.archive import Retrieval
from wsistore.tiers.grid import Grid, GridFactor
from wsistore.tiers.hardware import kwh_per_usable_tb_year
from wsistore.tiers.prices import RetrievalPrice
from wsistore.tiers.value_files import NOTHING, Mark, Value

METHOD = "1.0"
"""Of the method: changes when a figure would come out otherwise from the same usage."""
_TB, _GB = 1e12, 1e9
_KILO = 1000.0
_MONTH_US = US_PER_YEAR / 12
"""Of an average month: what remains of a least time is not in any one month."""
_UNSURE = (Mark.ASSUMED, Mark.UNVERIFIED)


class Quality(StrEnum):
    """Where a figure is from, the surest first."""

    MEASURED = "measured"
    METERED = "metered"
    ESTIMATED = "estimated"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Qualities:
    """Of a charge's figures."""

    usage: Quality
    cost: Quality
    energy: Quality
    embodied: Quality


@dataclass(frozen=True, slots=True)
class Charge:
    """One kind of usage of one group, with what it costs. Money is without tax."""

    what: What
    group: Group
    consumed: float
    consumed_unit: str
    quantity: float
    """As it is priced: with overheads and least sizes."""
    unit: str
    price: Sample
    """EUR per unit."""
    kwh: Sample
    embodied_g: Sample
    grid: Sample
    qualities: Qualities
    bytes_stored: float = 0.0
    """On average over the month."""
    bytes_logical: float = 0.0
    copies: float = 0.0
    objects: float = 0.0

    @property
    def eur(self) -> Sample:
        """Quantity times price."""
        return self.price * self.quantity

    @property
    def operational_g(self) -> Sample:
        """Of the electricity."""
        return self.kwh * self.grid


class TierCosts:
    """Prices and coefficients of one tier in one year, as samples.

    Parameters
    ----------
    tier
        The tier.
    year
        Whose electricity it takes.
    grid
        Factors of electricity.
    draws
        Where samples are from.

    """

    def __init__(self, tier: TierModel, year: int, grid: Grid, draws: Draws) -> None:
        self.tier, self.prices, self._draws = tier, tier.prices, draws
        energy = tier.prices.energy
        self.factor: GridFactor = grid.factor(tier.country, year)
        self.grid = draws.of(f"grid.{self.factor.country}.{self.factor.year}", self.factor.total)
        self.pue = self._coefficient("pue", energy.pue)
        self.raw = self._coefficient("raw_per_usable", self.prices.raw_per_usable)
        self.nothing = draws.exactly(0.0)
        owned = None if self.prices.hardware is None else kwh_per_usable_tb_year(self.prices.hardware)
        self._power = self.prices.energy.kwh_per_tb_year if owned is None else owned
        medium = f"{self.prices.medium}.kwh" if owned is None else f"{self.prices.name}.watts"
        at_drive = self._coefficient(medium, self._power)
        self.kwh_per_tb_year = (at_drive * self.raw if owned is None else at_drive) * self.pue
        self.is_measured = owned is not None and owned.mark is Mark.SEEN
        embodied = self._coefficient(f"{self.prices.medium}.embodied", energy.embodied_kg_per_tb_year)
        self.embodied_g_per_tb_year = embodied * self.raw * _KILO
        self.network_kwh_per_gb = self._coefficient("network", energy.network_kwh_per_gb)
        self.kwh_per_core_hour = self._coefficient("core", energy.watts_per_core) * self.pue * (1 / _KILO)

    def _coefficient(self, name: str, value: Value) -> Sample:
        # Tiers that take a coefficient from one source err together.
        return self._draws.of(f"{name}: {value.source}", value)

    def price(self, name: str) -> Sample:
        """Return a price of the tier's list."""
        return self._draws.of(f"{self.prices.name}.{name}", getattr(self.prices, name))

    def way(self, way: RetrievalPrice, name: str) -> Sample:
        """Return a price of one way back."""
        return self._draws.of(f"{self.prices.name}.{way.retrieval}.{name}", getattr(way, name))


def charges(metered: Metered, month: Month, costs: Mapping[str, TierCosts]) -> Iterator[Charge]:
    """Yield what a month's usage costs, by tier, department, preset and kind.

    Parameters
    ----------
    metered
        Of the month.
    month
        The month.
    costs
        Of all tiers that were used.

    """
    for group in sorted(metered, key=_order):
        yield from _of_group(group, metered[group], month, costs[group.tier])
    for name in sorted(costs):
        used = sum(usage.byte_us for group, usage in metered.items() if group.tier == name)
        yield from _idle(name, used / month.length_us, month, costs[name])


def _order(group: Group) -> tuple[str, str, str, str, bool]:
    return group.tier, group.department or "", group.preset, group.rule, group.estimated


def _of_group(group: Group, usage: Usage, month: Month, costs: TierCosts) -> Iterator[Charge]:
    yield from _storage(group, usage, month, costs)
    metered = Quality.METERED
    writes = costs.price("put_per_1000") + costs.price("transition_per_1000")
    yield from _charge(What.WRITES, group, usage.puts, "Requests", writes * (1 / _KILO), costs, metered)
    reads = costs.price("get_per_1000") * (1 / _KILO)
    yield from _charge(What.READS, group, usage.gets, "Requests", reads, costs, metered)
    fees = costs.price("retrieval_per_gb") + costs.price("egress_per_gb")
    kwh = costs.network_kwh_per_gb * (usage.bytes_read / _GB)
    yield from _charge(What.EGRESS, group, usage.bytes_read / _GB, "GB", fees, costs, metered, kwh)
    for way, (size, objects) in sorted(usage.restored.items()):
        yield from _retrieval(group, way, size, objects, costs)
    months = usage.early_byte_us / _GB / _MONTH_US
    early = costs.price("storage_per_tb_month") * (1 / _KILO)
    yield from _charge(What.EARLY, group, months, "GB-Months", early, costs, _usage_quality(group))
    hours = usage.cpu_us / US_PER_HOUR
    kwh = costs.kwh_per_core_hour * hours
    yield from _charge(What.ENCODING, group, hours, "Core-Hours", costs.price("cpu_per_core_hour"), costs, metered, kwh)


def _storage(group: Group, usage: Usage, month: Month, costs: TierCosts) -> Iterator[Charge]:
    if not usage.copy_us:
        return
    prices, length = costs.prices, month.length_us
    overhead, least = prices.overhead_bytes_per_object.central, prices.least_object_bytes.central
    billed = max(usage.byte_us + overhead * usage.object_us, least * usage.object_us)
    years = usage.byte_us / _TB / US_PER_YEAR
    yield Charge(
        what=What.STORAGE,
        group=group,
        consumed=usage.byte_us / _GB / US_PER_HOUR,
        consumed_unit="GB-Hours",
        quantity=billed / _GB / length,
        unit="GB-Months",
        price=costs.price("storage_per_tb_month") * (1 / _KILO),
        kwh=costs.kwh_per_tb_year * years,
        embodied_g=costs.embodied_g_per_tb_year * years,
        grid=costs.grid,
        qualities=_qualities(costs, _usage_quality(group), What.STORAGE),
        bytes_stored=usage.byte_us / length,
        bytes_logical=usage.logical_byte_us / length,
        copies=usage.copy_us / length,
        objects=usage.object_us / length,
    )
    beside = prices.overhead_standard_bytes_per_object.central * usage.object_us / _GB / length
    standard = costs.price("standard_per_tb_month") * (1 / _KILO)
    yield from _charge(What.OVERHEAD, group, beside, "GB-Months", standard, costs, _usage_quality(group))


def _retrieval(group: Group, way: str, size: int, objects: int, costs: TierCosts) -> Iterator[Charge]:
    ways = [one for one in costs.prices.retrievals if way in ("", one.retrieval)]
    if not ways:
        ways = [RetrievalPrice(Retrieval.STANDARD, NOTHING)]
    taken = min(ways, key=lambda one: one.per_gb.central * size / _GB + one.per_1000.central * objects / _KILO)
    months = costs.tier.restore_days * 24 * US_PER_HOUR / _MONTH_US
    kept = costs.price("standard_per_tb_month") * (months / _KILO)
    gigabytes = size / _GB
    per_gb = costs.way(taken, "per_gb") + kept
    if gigabytes:
        per_gb += costs.way(taken, "per_1000") * (objects / _KILO / gigabytes)
    yield from _charge(What.RETRIEVAL, group, gigabytes, "GB", per_gb, costs, Quality.METERED)


def _idle(tier: str, used_bytes: float, month: Month, costs: TierCosts) -> Iterator[Charge]:
    """Yield what own hardware costs that nobody used: what was bought is charged, used or not."""
    hardware = costs.prices.hardware
    if hardware is None:
        return
    idle = max(hardware.usable_tb.central - used_bytes / _TB, 0.0)
    years = idle * month.length_us / US_PER_YEAR
    kwh = costs.kwh_per_tb_year * (years if hardware.watts.high else 0.0)
    price = costs.price("storage_per_tb_month") * (1 / _KILO)
    group = Group(tier, "", None, False)
    found = _charge(What.IDLE, group, idle * _KILO, "GB-Months", price, costs, Quality.ESTIMATED, kwh)
    for charge in found:
        yield replace(charge, embodied_g=costs.embodied_g_per_tb_year * years)


def _charge(
    what: What,
    group: Group,
    quantity: float,
    unit: str,
    price: Sample,
    costs: TierCosts,
    usage: Quality,
    kwh: Sample | None = None,
) -> Iterator[Charge]:
    """Yield a charge; none where nothing was used."""
    if quantity:
        yield Charge(
            what=what,
            group=group,
            consumed=float(quantity),
            consumed_unit=unit,
            quantity=float(quantity),
            unit=unit,
            price=price,
            kwh=costs.nothing if kwh is None else kwh,
            embodied_g=costs.nothing,
            grid=costs.grid,
            qualities=_qualities(costs, usage, what),
        )


def _usage_quality(group: Group) -> Quality:
    return Quality.ESTIMATED if group.estimated else Quality.METERED


_PRICED_BY = {
    What.STORAGE: ("storage_per_tb_month",),
    What.OVERHEAD: ("standard_per_tb_month",),
    What.WRITES: ("put_per_1000", "transition_per_1000"),
    What.READS: ("get_per_1000",),
    What.EGRESS: ("retrieval_per_gb", "egress_per_gb"),
    What.RETRIEVAL: ("standard_per_tb_month",),
    What.EARLY: ("storage_per_tb_month",),
    What.ENCODING: ("cpu_per_core_hour",),
    What.IDLE: ("storage_per_tb_month",),
}


def _qualities(costs: TierCosts, usage: Quality, what: What) -> Qualities:
    """Return the quality of each figure: as sure as the least sure value that it rests on."""
    energy = costs.prices.energy
    prices = [getattr(costs.prices, name) for name in _PRICED_BY[what]]
    if what is What.RETRIEVAL:
        prices += [way.per_gb for way in costs.prices.retrievals]
    power = energy.watts_per_core if what is What.ENCODING else energy.kwh_per_tb_year
    power = energy.network_kwh_per_gb if what is What.EGRESS else power
    measured = Quality.MEASURED if costs.is_measured and what in (What.STORAGE, What.IDLE) else None
    return Qualities(
        usage=usage,
        cost=_of(*(price for price in prices if price != NOTHING)),
        energy=measured or _of(power, energy.pue),
        embodied=_of(energy.embodied_kg_per_tb_year, costs.prices.raw_per_usable),
    )


def _of(*values: Value) -> Quality:
    return Quality.ASSUMED if any(value.mark in _UNSURE for value in values) else Quality.ESTIMATED


# --- totals -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of charges."""

    eur: Sample
    """Without tax."""
    kwh: Sample
    operational_g: Sample
    embodied_g: Sample

    @property
    def gco2e(self) -> Sample:
        """Of use and of manufacture."""
        return self.operational_g + self.embodied_g

    def __add__(self, other: Totals) -> Totals:
        """Add each of the four."""
        return Totals(
            self.eur + other.eur,
            self.kwh + other.kwh,
            self.operational_g + other.operational_g,
            self.embodied_g + other.embodied_g,
        )

    def __sub__(self, other: Totals) -> Totals:
        """Subtract each of the four, draw by draw."""
        return Totals(
            self.eur - other.eur,
            self.kwh - other.kwh,
            self.operational_g - other.operational_g,
            self.embodied_g - other.embodied_g,
        )


def totals(found: Iterable[Charge], draws: Draws) -> Totals:
    """Return the sum of charges."""
    nothing = draws.exactly(0.0)
    summed = Totals(nothing, nothing, nothing, nothing)
    for one in found:
        summed += Totals(one.eur, one.kwh, one.operational_g, one.embodied_g)
    return summed


def sci(total: Totals, slides: float) -> Sample | None:
    """Return the SCI score: (O + M) per R, in gCO2e per slide kept over the period; None if none was.

    Parameters
    ----------
    total
        O is its operational, M its embodied carbon.
    slides
        R: slides that were kept, on average.

    """
    return total.gco2e * (1 / slides) if slides > 0 else None
