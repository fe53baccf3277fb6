"""The tiers of a site: where they are, what they hold, what they cost, and whether they may be given more."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from wsistore.catalog.shortage import short_of_copies
from wsistore.catalog.usage import Usage, usage_by_tier
from wsistore.ops.drop_rules import attested_from
from wsistore.ops.early import minimum_storage_days, prices_of
from wsistore.ops.site import Site
from wsistore.settings import TierSettings

Json = dict[str, Any]


class TierState(StrEnum):
    """Whether a tier may be given more."""

    OPEN = "open"
    ABOVE_WATERMARK = "above-watermark"
    """It takes more, but is to be relieved."""
    FULL = "full"
    """It holds its capacity or more."""
    CLOSED = "closed"
    """Its certificate has ended, or its settings close it."""


def list_tiers(site: Site) -> Iterator[Json]:
    """Yield the tiers of a site in the order of its settings; no tier is asked anything.

    Raises
    ------
    SiteError
        If prices that a tier names are not there, or the catalogue fails.

    """
    usage = usage_by_tier(site.catalog)
    required = {tier.name: tier.required_copies for tier in site.settings.tiers}
    short = short_of_copies(site.catalog, required, attested_from(site))
    return (_tier(site, tier, usage.get(tier.name, Usage()), short.get(tier.name, 0)) for tier in site.settings.tiers)


def _tier(site: Site, tier: TierSettings, usage: Usage, short: int) -> Json:
    today = site.clock.now().date()
    fill = None if tier.capacity_bytes is None else usage.bytes_stored / tier.capacity_bytes
    prices = prices_of(site, tier)
    certificate = tier.certificate
    return {
        "tier": tier.name,
        "id": tier.id,
        "url": tier.url,
        "endpoint": tier.endpoint or None,
        "preset": str(tier.preset),
        "prices": prices.name,
        "eur_per_tb_month": prices.storage_per_tb_month.central,
        "copies": usage.copies,
        "objects": usage.objects,
        "bytes_stored": usage.bytes_stored,
        "capacity_bytes": tier.capacity_bytes,
        "fill": fill,
        "high_watermark": tier.high_watermark,
        "low_watermark": tier.low_watermark,
        "above_watermark": fill is not None and fill > tier.high_watermark,
        "required_copies": tier.required_copies,
        "minimum_storage_days": minimum_storage_days(tier, prices),
        "location": tier.location or None,
        "certificate": None if certificate is None else certificate.number,
        "certificate_until": None if certificate is None else certificate.valid_until.isoformat(),
        "certificate_state": str(tier.certificate_state(today)),
        "why_closed": tier.why_closed(today) or None,
        "state": str(_state(fill, tier.high_watermark, tier.why_closed(today))),
        "slides_short_of_copies": short,
    }


def _state(fill: float | None, high: float, why_closed: str) -> TierState:
    if why_closed:
        return TierState.CLOSED
    if fill is None or fill <= high:
        return TierState.OPEN
    return TierState.FULL if fill >= 1 else TierState.ABOVE_WATERMARK
