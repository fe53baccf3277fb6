"""What a report reads at a site: its terms, and portions of the catalogue as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from wsistore.catalog.metering import read_chains
from wsistore.errors import Kind, SiteError
from wsistore.ops.early import minimum_storage_days
from wsistore.ops.site import Site
from wsistore.reports.happened import RAW, happened
from wsistore.reports.intervals import COPIES, SLIDES, intervals
from wsistore.reports.models import TierCosts
from wsistore.reports.periods import Month
from wsistore.reports.samples import Draws
from wsistore.reports.terms import ReportSettings, TierModel
from wsistore.settings import TierSettings
from wsistore.tiers.prices import default_prices, load_prices

_MOMENT = pa.timestamp("us", tz="UTC")
_COPIES = pa.schema(
    [
        *(field for field in COPIES if field.name != "since"),
        ("attempt", pa.string()),
        ("state", pa.string()),
        ("commit_bytes", pa.int64()),
        COPIES.field("since"),
    ]
)
"""Of the catalogue's copies, in the order in which it gives them."""
_PROVIDERS = {"ovh": "OVHcloud", "scaleway": "Scaleway", "aws": "AWS"}


@dataclass(frozen=True, slots=True)
class Read:
    """Some slides: what happened to them, and when their copies lay where."""

    told: pa.Table
    """Of `wsistore.reports.happened.HAPPENED`."""
    lying: pa.Table
    """Of `wsistore.reports.intervals.INTERVALS`."""
    copies: pa.Table
    """What the catalogue knows of copies that take room now, with ``attempt``, ``state`` and ``commit_bytes``."""
    slides: int
    """How many slides the catalogue knows."""


def read_portions(site: Site, *, after: str = "", until: str | None = None) -> Iterator[Read]:
    """Yield slides that ever were, by key, above `after` up to `until`.

    Raises
    ------
    SiteError
        If the catalogue fails, or holds what cannot be read (`Kind.CATALOG_FAILED`).

    """
    for portion in read_chains(site.catalog, after=after, until=until):
        try:
            told = happened(_table(portion.events, RAW))
            copies = _table(portion.copies, _COPIES)
            lying = intervals(told, _table(portion.slides, SLIDES), copies.select(COPIES.names))
            yield Read(told, lying, copies, len(portion.slides[0]) if portion.slides else 0)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            msg = f"The catalogue holds what this release cannot read: {error}."
            remedy = "Upgrade wsistore if a newer release has worked here; else put back the catalogue's last backup."
            raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy) from error


def _table(columns: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Return columns of a database as a table; moments are texts there."""
    found = columns or [()] * len(schema)
    arrays = [
        pa.array(values, pa.string()).cast(field.type) if field.type == _MOMENT else pa.array(values, field.type)
        for values, field in zip(found, schema, strict=True)
    ]
    return pa.table(arrays, schema)


# --- terms ------------------------------------------------------------------------------------------------------------


def tier_models(site: Site, settings: ReportSettings, month: Month) -> dict[str, TierModel]:
    """Return what is known of the site's tiers in a month; rates are those of its first day.

    Raises
    ------
    SiteError
        If a tier's prices are not there or wrong; if reports.toml names a tier that the site has not.

    """
    names = {tier.name for tier in site.settings.tiers}
    for name in sorted({*settings.countries, *settings.providers, *settings.regions} - names):
        msg = f"reports.toml speaks of the tier {name!r}, which the site has not."
        raise SiteError(msg, remedy=f"The site's tiers are: {', '.join(sorted(names))}.")
    return {tier.name: _model(site, tier, settings, month) for tier in site.settings.tiers}


def _model(site: Site, tier: TierSettings, settings: ReportSettings, month: Month) -> TierModel:
    day = month.begins.date()
    prices = load_prices(tier.prices or default_prices(tier.name), site.folder, energy=tier.energy, at=day)
    archive = tier.archive
    return TierModel(
        name=tier.name,
        id=tier.id,
        prices=prices,
        country=settings.countries.get(tier.name, _country(tier, settings)),
        provider=settings.providers.get(tier.name, _PROVIDERS.get(prices.name.partition("-")[0], "")),
        region=settings.regions.get(tier.name, tier.region),
        bucket=urlsplit(tier.url).netloc if tier.scheme == "s3" else "",
        is_object_storage=tier.scheme == "s3",
        is_archive=archive is not None,
        restore_days=7.0 if archive is None else float(archive.restore_days),
        least_days=minimum_storage_days(tier, prices),
    )


def _country(tier: TierSettings, settings: ReportSettings) -> str:
    """Return the tier's own location where that is the code of a country whose electricity is known."""
    return tier.location if tier.location in settings.grid.countries() else settings.country


def lost_tier(name: str, settings: ReportSettings) -> TierModel:
    """Return a tier that events tell of and the settings do not have any more: priced by its name."""
    return TierModel(name=name, prices=load_prices(default_prices(name)), country=settings.country)


def tier_costs(models: dict[str, TierModel], settings: ReportSettings, month: Month) -> dict[str, TierCosts]:
    """Return prices and coefficients of tiers in a month, as samples."""
    draws = Draws(settings.seed, settings.draws)
    return {name: TierCosts(model, month.year, settings.grid, draws) for name, model in models.items()}
