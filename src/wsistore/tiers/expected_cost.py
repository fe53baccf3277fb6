"""What keeping a slide in an encoding is expected to cost over the years, and which encoding costs least: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from wsistore.compress.tuning.measure import Measurement
from wsistore.tiers.prices import Prices, RetrievalPrice, Value, temperature

_TB, _GB = 1e12, 1e9
_SECONDS = 3600.0
_DAYS_PER_YEAR = 365.25

RESTORED_DAYS = 7.0
"""For which the copy of a recalled slide is kept, as tiers have it by default."""

TIE = 0.005
"""Part of the least cost: candidates this near to it are equally cheap. Measuring the CPU time of the same work twice
differs by several percent of a figure that is a few percent of the cost."""


@dataclass(frozen=True, slots=True)
class Range:
    """Low, central and high of one figure."""

    low: float = 0.0
    central: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, value: Value) -> Self:
        """Return the range of a price or coefficient."""
        return cls(value.low, value.central, value.high)

    def __add__(self, other: Range) -> Range:
        """Add low to low, central to central, high to high."""
        return Range(self.low + other.low, self.central + other.central, self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        """Multiply low by low, central by central, high by high; nothing here is negative."""
        by = other if isinstance(other, Range) else Range(other, other, other)
        return Range(self.low * by.low, self.central * by.central, self.high * by.high)


@dataclass(frozen=True, slots=True)
class Amount:
    """What something costs."""

    eur: Range = Range()
    kwh: Range = Range()
    gco2e: Range = Range()
    """Of use and, for storage, of manufacture."""

    def __add__(self, other: Amount) -> Amount:
        """Add each of the three."""
        return Amount(self.eur + other.eur, self.kwh + other.kwh, self.gco2e + other.gco2e)


@dataclass(frozen=True, slots=True)
class Access:
    """How often a slide is read in a year, as expected."""

    recalls: float
    """Whole-slide reads."""
    ranges: float
    """Reads of one tile, as viewers and programs that sample patches do."""


EXPECTED_ACCESS = {"hot": Access(4.0, 20_000.0), "warm": Access(0.5, 200.0), "cold": Access(0.05, 0.0)}
"""Assumed, by what a tier's name says it is; ours, for want of a source. A viewer asks for some hundred tiles each time
that somebody looks at a slide: in hot that is often, in warm every other year; from an archive a slide is recalled
first."""


def expected_access(tier: str) -> Access:
    """Return what is assumed of a tier whose access nobody stated."""
    return EXPECTED_ACCESS[temperature(tier)]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one slide over the horizon, by what for."""

    storage: Amount
    requests: Amount
    encoding: Amount
    recalls: Amount
    ranges: Amount

    @property
    def total(self) -> Amount:
        """The sum of all."""
        return self.storage + self.requests + self.encoding + self.recalls + self.ranges


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several candidates is taken."""

    index: int
    """Of the one that is taken."""
    least: int
    """Of the one with the least cost: the same, unless a tie was broken."""
    next_best: int | None
    """Of the cheapest other one."""


def expected_cost(
    measured: Measurement, prices: Prices, access: Access, horizon_years: float, *, packed: bool = False
) -> Cost:
    """Return what one slide costs over `horizon_years` if it is kept as `measured` says.

    Parameters
    ----------
    measured
        Bytes, objects and CPU seconds of the whole slide.
    prices, access
        Of the tier, and as expected in it.
    horizon_years
        How long it stays there.
    packed
        Whether store and companion are one object each.

    """
    objects = 2 if packed else measured.objects
    return Cost(
        storage=_storage(measured.bytes_stored, objects, prices, horizon_years),
        requests=_requests(objects, prices, access, horizon_years),
        encoding=_cpu(measured.encode_seconds, prices),
        recalls=_reads(measured.bytes_stored, measured.decode_seconds, prices, access.recalls * horizon_years)
        + _restores(measured.bytes_stored, objects, prices, access.recalls * horizon_years),
        ranges=_reads(
            measured.range_bytes, measured.range_seconds, prices, access.ranges * horizon_years, somebody_waits=True
        ),
    )


def _storage(bytes_stored: float, objects: int, prices: Prices, years: float) -> Amount:
    size, overhead, least = (
        Range(bytes_stored, bytes_stored, bytes_stored),
        Range.of(prices.overhead_bytes_per_object) * objects,
        Range.of(prices.least_object_bytes) * objects,
    )
    billed = _at_least(size + overhead, least) * (1 / _TB)
    days = prices.least_days
    months = Range(*(max(years, day / _DAYS_PER_YEAR) * 12 for day in (days.low, days.central, days.high)))
    falling = prices.storage_decline_per_year
    # what falls most costs least
    months = Range(
        _discounted(months.low, falling.high),
        _discounted(months.central, falling.central),
        _discounted(months.high, falling.low),
    )
    on_medium = size * (1 / _TB) * Range.of(prices.raw_per_usable) * years
    kwh = on_medium * Range.of(prices.energy.kwh_per_tb_year) * Range.of(prices.energy.pue)
    embodied = on_medium * Range.of(prices.energy.embodied_kg_per_tb_year) * 1000.0
    carbon = kwh * Range.of(prices.energy.grid_g_per_kwh) + embodied
    beside = Range.of(prices.overhead_standard_bytes_per_object) * (objects / _TB)
    eur = billed * Range.of(prices.storage_per_tb_month) + beside * Range.of(prices.standard_per_tb_month)
    return Amount(eur * months, kwh, carbon)


def _at_least(value: Range, least: Range) -> Range:
    return Range(max(value.low, least.low), max(value.central, least.central), max(value.high, least.high))


def _discounted(months: float, decline: float) -> float:
    """Return how many months at today's price `months` cost while the price falls by `decline` a year."""
    years, total, factor = months / 12, 0.0, 1.0
    while years > 0:
        total += min(1.0, years) * factor
        factor *= 1 - decline
        years -= 1
    return total * 12


def _requests(objects: int, prices: Prices, access: Access, years: float) -> Amount:
    gets = (access.recalls * objects + access.ranges) * years
    written = Range.of(prices.put_per_1000) + Range.of(prices.transition_per_1000)
    return Amount(written * (objects / 1000) + Range.of(prices.get_per_1000) * (gets / 1000))


def _cpu(seconds: float, prices: Prices) -> Amount:
    hours, energy = seconds / _SECONDS, prices.energy
    kwh = Range.of(energy.watts_per_core) * Range.of(energy.pue) * (hours / 1000)
    return Amount(Range.of(prices.cpu_per_core_hour) * hours, kwh, kwh * Range.of(energy.grid_g_per_kwh))


def _reads(bytes_read: float, seconds: float, prices: Prices, times: float, *, somebody_waits: bool = False) -> Amount:
    read = bytes_read * times / _GB
    fees = Range.of(prices.retrieval_per_gb) + Range.of(prices.egress_per_gb)
    kwh = Range.of(prices.energy.network_kwh_per_gb) * read
    found = Amount(fees * read, kwh, kwh * Range.of(prices.energy.grid_g_per_kwh)) + _cpu(seconds * times, prices)
    if somebody_waits:
        found += Amount(Range.of(prices.waiting_per_hour) * (seconds * times / _SECONDS))
    return found


def _restores(bytes_read: float, objects: int, prices: Prices, times: float) -> Amount:
    """Return what bringing a slide back costs by the cheapest way, as somebody who plans ahead does it."""
    ways = [restore_eur(way, prices, bytes_read, objects, RESTORED_DAYS) for way in prices.retrievals]
    return Amount(min(ways, key=lambda eur: eur.central) * times) if ways else Amount()


def restore_eur(way: RetrievalPrice, prices: Prices, size_bytes: float, objects: int, days: float) -> Range:
    """Return the fee for restoring objects of an archive class, and for keeping their copies for `days`.

    Parameters
    ----------
    way
        One of `Prices.retrievals`.
    prices
        Of the tier.
    size_bytes, objects
        Of all objects together.
    days
        For which the copies are kept.

    """
    months = days / _DAYS_PER_YEAR * 12
    fees = Range.of(way.per_gb) * (size_bytes / _GB) + Range.of(way.per_1000) * (objects / 1000)
    return fees + Range.of(prices.standard_per_tb_month) * (size_bytes / _TB * months)


def choose(costs: Sequence[Cost], fold_heights: Sequence[int], *, tie: float = TIE) -> Choice:
    """Return which candidate is taken: the cheapest by central estimate, and of those as cheap the lowest fold.

    Parameters
    ----------
    costs
        One per candidate, at least one.
    fold_heights
        Of the candidates: the tiles that reading one of them undoes. Of equally low ones the first is taken.
    tie
        Costs that differ from the least by this part of it, or less, are as cheap.

    """
    euros = [cost.total.eur.central for cost in costs]
    least = min(range(len(costs)), key=lambda n: (euros[n], fold_heights[n]))
    near = [n for n in range(len(costs)) if euros[n] <= euros[least] * (1 + tie)]
    taken = min(near, key=lambda n: (fold_heights[n], euros[n]))
    others = [n for n in range(len(costs)) if n != taken]
    return Choice(taken, least, min(others, key=lambda n: euros[n], default=None))
