"""What plans reckon with: prices and coefficients of all tiers side by side, as arrays that rows are looked up in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.events import canonical_json
from wsistore.model import Preset
from wsistore.tiers.expected_cost import RESTORED_DAYS
from wsistore.tiers.plans.sizes import Sizes
from wsistore.tiers.plans.speeds import Speeds
from wsistore.tiers.prices import NOTHING, Prices, Value

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Json = dict[str, Any]

TB, GB = 1e12, 1e9
DAYS_PER_YEAR = 365.25
MONTHS = 12.0
SECONDS = 3600.0
PRESETS = tuple(str(preset) for preset in Preset)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierTerms:
    """What a plan has to know of one tier."""

    name: str
    prices: Prices
    is_archive: bool = False
    """Whether copies have to be asked for before they can be read."""
    retrieval: str = ""
    """The way back that its settings name; nothing: the cheapest."""
    restore_days: float = RESTORED_DAYS
    """For which what was asked for stays readable."""
    service: tuple[str, ...] = ()
    """Scheme, endpoint and region: bytes leave a service only for another one."""
    capacity_bytes: int | None = None
    used_bytes: int = 0
    """By all that lies there, superseded versions included."""
    high_watermark: float = 0.85
    """Part of the capacity to which a plan may fill it."""
    is_of_site: bool = True
    """Whether the site's settings have it; a tier that they lost is priced by its name."""

    def to_json(self) -> Json:
        """Return JSON values: what differs from nothing."""
        figures = {name: value for name, value in asdict(self.prices).items() if name not in _NAMES}
        nothing = asdict(NOTHING)
        return {
            "tier": self.name,
            "prices": self.prices.name,
            "title": self.prices.title,
            "medium": str(self.prices.medium),
            "is_archive": self.is_archive,
            "retrieval": self.retrieval,
            "restore_days": self.restore_days,
            "capacity_bytes": self.capacity_bytes,
            "used_bytes": self.used_bytes,
            "high_watermark": self.high_watermark,
            "is_of_site": self.is_of_site,
            "values": {name: value for name, value in figures.items() if value not in (nothing, (), None)},
        }


_NAMES = frozenset({"name", "title", "medium"})


@dataclass(frozen=True)
class Coefficients:
    """All that turns bytes into money, energy and time. Arrays have one element per tier, in the order of `tiers`."""

    tiers: Sequence[TierTerms]
    sizes: Sizes = field(default_factory=Sizes)
    speeds: Speeds = field(default_factory=Speeds)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tiers."""
        return tuple(tier.name for tier in self.tiers)

    def to_json(self) -> Json:
        """Return JSON values: what a reader of the plan needs to reckon again."""
        return {
            "tiers": [tier.to_json() for tier in self.tiers],
            "sizes": self.sizes.to_json(),
            "speeds": self.speeds.to_json(),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`, hexadecimal."""
        return digest_of(self.to_json())

    def central(self, name: str) -> Floats:
        """Return the central estimate of a field of `Prices`, one per tier."""
        return self._column([getattr(tier.prices, name) for tier in self.tiers])

    def energy(self, name: str) -> Floats:
        """Return the central estimate of a field of `Energy`, one per tier."""
        return self._column([getattr(tier.prices.energy, name) for tier in self.tiers])

    def _column(self, values: Sequence[Value]) -> Floats:
        return np.array([value.central for value in values], np.float64)

    @cached_property
    def leaves(self) -> Flags:
        """Whether bytes leave their service on the way from a tier (row) to another (column); (tiers, tiers)."""
        return np.array(
            [[one.name != other.name and one.service != other.service for other in self.tiers] for one in self.tiers],
            np.bool_,
        ).reshape(len(self.tiers), len(self.tiers))

    @cached_property
    def read_rank(self) -> Integers:
        """Which tier is best to read from: 0 for the best. None that has to wait comes before one that has not."""
        fees = self.central("retrieval_per_gb") + self.central("egress_per_gb")
        order = sorted(range(len(self.tiers)), key=lambda n: (self.tiers[n].is_archive, fees[n], self.tiers[n].name))
        return np.argsort(np.array(order, np.int64), kind="stable")


# --- what a year of keeping costs -------------------------------------------------------------------------------------


def storage_per_year(terms: Coefficients, tier: Integers, size: Floats, objects: Floats) -> tuple[Floats, ...]:
    """Return what keeping copies costs in a year.

    Parameters
    ----------
    terms
        Prices and coefficients.
    tier
        Of each copy, as a number of its place in `Coefficients.tiers`; (copies,).
    size, objects
        Bytes and objects of each copy; (copies,).

    Returns
    -------
    tuple
        EUR, kWh and gCO2e (of use and of the medium's manufacture) of each copy, each (copies,).

    """
    billed = np.maximum(
        size + terms.central("overhead_bytes_per_object")[tier] * objects,
        terms.central("least_object_bytes")[tier] * objects,
    )
    beside = terms.central("overhead_standard_bytes_per_object")[tier] * objects
    eur = billed * terms.central("storage_per_tb_month")[tier] + beside * terms.central("standard_per_tb_month")[tier]
    on_medium = size / TB * terms.central("raw_per_usable")[tier]
    kwh = on_medium * terms.energy("kwh_per_tb_year")[tier] * terms.energy("pue")[tier]
    embodied = on_medium * terms.energy("embodied_kg_per_tb_year")[tier] * 1000.0
    return eur / TB * MONTHS, kwh, kwh * terms.energy("grid_g_per_kwh")[tier] + embodied


def early_end(terms: Coefficients, tier: Integers, size: Floats, days: Floats) -> Floats:
    """Return what tiers still bill for copies that go `days` before they are paid for; EUR, (copies,)."""
    return terms.central("storage_per_tb_month")[tier] * size / TB * np.maximum(days, 0.0) / (DAYS_PER_YEAR / MONTHS)


def retrieval(terms: Coefficients, source: Integers, target: Integers, size: Floats, objects: Floats) -> Floats:
    """Return the fees for reading copies out of the tier that they lie in; EUR, (copies,).

    Parameters
    ----------
    terms
        Prices and coefficients.
    source, target
        Tiers that are read and written, as numbers; (copies,).
    size, objects
        Bytes and objects of what is read; (copies,).

    """
    gigabytes = size / GB
    away = terms.leaves[source, target]
    fees = (terms.central("retrieval_per_gb")[source] + terms.central("egress_per_gb")[source] * away) * gigabytes
    for n, tier in enumerate(terms.tiers):
        mine = source == n
        if tier.is_archive and tier.prices.retrievals and mine.any():
            fees[mine] += _restore(tier, gigabytes[mine], objects[mine])
    return fees


def _restore(tier: TierTerms, gigabytes: Floats, objects: Floats) -> Floats:
    """Return the fee by the way that the tier's settings name, else by the cheapest for each copy."""
    prices = tier.prices
    named = [way for way in prices.retrievals if str(way.retrieval) == tier.retrieval]
    readable = np.maximum(objects - 1.0, 1.0)  # the commit never goes to sleep
    months = tier.restore_days / DAYS_PER_YEAR * MONTHS
    kept = prices.standard_per_tb_month.central * gigabytes * GB / TB * months
    ways = [
        way.per_gb.central * gigabytes + way.per_1000.central * readable / 1000.0 + kept
        for way in named or prices.retrievals
    ]
    found: Floats = np.minimum.reduce(ways)
    return found


def digest_of(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values in their canonical form, hexadecimal."""
    return hashlib.sha256(canonical_json(document).encode("utf-8")).hexdigest()
