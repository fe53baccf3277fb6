"""Copies that go before their tier's minimum storage days: what is still billed for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from wsistore.catalog.records import CopyRow
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of
from wsistore.settings import TierSettings
from wsistore.tiers.prices import Prices, default_prices, load_prices

_TB = 1e12
_DAYS_PER_MONTH = 365.25 / 12
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class EarlyEnd:
    """What a tier still bills for a copy after it is gone."""

    tier: str
    days_left: float
    eur_low: float
    """Of storage at the tier's price list, for the days that are left."""
    eur: float
    eur_high: float
    prices: str
    """Name of the price list."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        money = {"low": self.eur_low, "central": self.eur, "high": self.eur_high}
        return {
            "tier": self.tier,
            "days_left": round(self.days_left, 2),
            "eur": {name: round(value, 6) for name, value in money.items()},
            "prices": self.prices,
        }

    def __str__(self) -> str:
        """Say it to a person."""
        money = f"{self.eur:.2f} EUR" if self.eur >= 0.01 else "less than 0.01 EUR"
        return f"The copy in tier {self.tier} is billed for {self.days_left:.0f} more days ({money}, {self.prices})."


def early_ends(site: Site, copies: Iterable[CopyRow]) -> tuple[EarlyEnd, ...]:
    """Return what would still be billed for `copies` if they went now; those that have been there long enough are not.

    Raises
    ------
    SiteError
        If the prices that a tier names are not there.

    """
    now = site.clock.now()
    known = {tier.name: tier for tier in site.settings.tiers}
    found = (_early(site, copy, known[copy.tier], now) for copy in copies if copy.tier in known)
    return tuple(sorted((end for end in found if end is not None), key=lambda end: end.tier))


def prices_of(site: Site, tier: TierSettings) -> Prices:
    """Return what a tier costs: the prices that it names, or those that its name suggests.

    Raises
    ------
    SiteError
        If there are no such prices.

    """
    return load_prices(tier.prices or default_prices(tier.name), site.folder, energy=tier.energy)


def minimum_storage_days(tier: TierSettings, prices: Prices) -> float:
    """Return the days that are billed at least: what the tier says, else what its price list says."""
    return prices.least_days.central if tier.minimum_storage_days is None else float(tier.minimum_storage_days)


def _early(site: Site, copy: CopyRow, tier: TierSettings, now: datetime) -> EarlyEnd | None:
    prices = prices_of(site, tier)
    # The commit's own moment, for the copy's is that of its last verification; one in the future is a wrong clock's.
    written = min(datetime.fromisoformat(commit_of(copy).verified_at), now)
    left = minimum_storage_days(tier, prices) - (now - written) / _DAY
    if left <= 0:
        return None
    price, amount = prices.storage_per_tb_month, copy.bytes_stored / _TB * left / _DAYS_PER_MONTH
    return EarlyEnd(
        tier=tier.name,
        days_left=left,
        eur_low=price.low * amount,
        eur=price.central * amount,
        eur_high=price.high * amount,
        prices=prices.name,
    )
