"""What a report reckons with at a site: time zone, countries, providers; `reports.toml` in its folder says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wsistore.reports.invoice_terms import InvoiceTerms, read_invoice_terms
from wsistore.reports.periods import zone_of
from wsistore.reports.samples import DRAWS, SEED
from wsistore.settings.values import did_you_mean
from wsistore.tiers.grid import Grid, load_grid
from wsistore.tiers.prices import Prices
from wsistore.tiers.value_files import Json, ValueReader, own_text, parsed

FILE_NAME = "reports.toml"
COUNTRY = "FR"
_TOP = ("version", "timezone", "country", "account", "seed", "draws", "grid", "tiers", "invoice", "rate", "savings")
_TIER = ("country", "provider", "region")
_REMEDY = "Mend the file; docs/reports.md lists its keys."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """What ``reports.toml`` says; all of it may be left out."""

    timezone: str = "UTC"
    """In which months begin and end."""
    country: str = COUNTRY
    """Whose electricity tiers take, unless they say otherwise."""
    account: str = ""
    """Whom the costs are charged to; by default the site's name."""
    seed: int = SEED
    draws: int = DRAWS
    countries: Mapping[str, str] = field(default_factory=dict)
    """By tier."""
    providers: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, str] = field(default_factory=dict)
    grid: Grid = field(default_factory=load_grid)
    invoices: InvoiceTerms = field(default_factory=InvoiceTerms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierModel:
    """What is known of one tier."""

    name: str
    id: str = ""
    prices: Prices
    country: str = COUNTRY
    provider: str = ""
    """Who charges for it; for hardware of its own the site itself."""
    region: str = ""
    bucket: str = ""
    """Of object storage: what invoices call it."""
    is_object_storage: bool = False
    is_archive: bool = False
    restore_days: float = 7.0
    """For which what was asked for stays readable."""
    least_days: float = 0.0
    """That are charged for a copy at least."""


def read_settings(folder: Path) -> ReportSettings:
    """Return what the ``reports.toml`` of a site says; the defaults if it has none.

    Raises
    ------
    SiteError
        If it is wrong; the message names the key.

    """
    path = folder / FILE_NAME
    if not path.exists():
        return ReportSettings()
    document = parsed(str(path), own_text(path, FILE_NAME))
    reader = ValueReader(str(path), {}, _REMEDY)
    reader.known(document, "", _TOP)
    if document.get("version", 1) != 1:
        raise reader.wrong(document["version"], "1, or upgrade wsistore", "version")
    timezone = _text(reader, document, "timezone", "UTC")
    zone_of(timezone)
    grid = load_grid(document.get("grid", []), str(path))
    tiers = document.get("tiers", {})
    if not isinstance(tiers, dict) or not all(isinstance(table, dict) for table in tiers.values()):
        raise reader.wrong(tiers, "tables, each written as [tiers.NAME]", "tiers")
    for name, table in tiers.items():
        reader.known(table, f"tiers.{name}", _TIER)

    def of_tiers(key: str) -> dict[str, str]:
        return {name: _text(reader, table, key, "") for name, table in tiers.items() if key in table}

    settings = ReportSettings(
        timezone=timezone,
        country=_text(reader, document, "country", COUNTRY),
        account=_text(reader, document, "account", ""),
        seed=_count(reader, document, "seed", SEED, 0, 2**63 - 1),
        draws=_count(reader, document, "draws", DRAWS, 200, 100_000),
        countries=of_tiers("country"),
        providers=of_tiers("provider"),
        regions=of_tiers("region"),
        grid=grid,
        invoices=read_invoice_terms(reader, document),
    )
    named = {"country": settings.country, **{f"tiers.{name}.country": c for name, c in settings.countries.items()}}
    for key, country in named.items():
        if country not in grid.countries():
            known = ", ".join(grid.countries())
            hint = did_you_mean(country, grid.countries())
            raise reader.wrong(country, f"one of {known}, or one that a [[grid]] gives a factor for{hint}", key)
    return settings


def _text(reader: ValueReader, table: Json, key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (key in table and not value.strip()):
        raise reader.wrong(value, "a text in double quotes that is not empty", key)
    return value


def _count(reader: ValueReader, table: Json, key: str, default: int, least: int, most: int) -> int:
    value = table.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise reader.wrong(value, f"a whole number from {least} to {most}", key)
    return value
