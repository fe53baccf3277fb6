"""A month's page and workbook, made of the Parquet sets that a report wrote, in one of two languages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wsistore.errors import InputError
from wsistore.ops.report_data import lost_tier, tier_costs, tier_models
from wsistore.ops.site import Site
from wsistore.reports.facts import Fact, read_facts
from wsistore.reports.kept import read_kept
from wsistore.reports.models import TierCosts
from wsistore.reports.pages.coefficients import coefficients
from wsistore.reports.pages.content import Content, content
from wsistore.reports.pages.month_page import month_page
from wsistore.reports.pages.naming import who_is, why
from wsistore.reports.pages.reading import read_about
from wsistore.reports.pages.texts import Texts, texts_of
from wsistore.reports.pages.workbook import workbook
from wsistore.reports.periods import Month
from wsistore.reports.row_samples import RowSamples
from wsistore.reports.samples import Draws
from wsistore.reports.savings import Saving, read_zarr_ratio, savings
from wsistore.reports.sets import translated
from wsistore.reports.terms import ReportSettings, read_settings

_TB = 1e12
_YEARS = 3
"""Of rows that are read: corrections may be of months long ago."""


@dataclass(frozen=True, slots=True)
class Pages:
    """What was written, and what it tells."""

    html: Path
    xlsx: Path
    content: Content

    def changes(self, most: int = 5) -> list[tuple[str, str, str, str]]:
        """Return the largest changes in English: department, tier, EUR, and why."""
        texts = texts_of("en")
        return [
            (who_is(texts, one.who), one.tier, f"{one.difference:+.2f}", why(texts, one))
            for one in self.content.changes[:most]
        ]

    def savings(self) -> list[str]:
        """Return what was saved, in English; the kinds are kept apart."""
        return [_saving(texts_of("en"), one) for one in self.content.savings]


def report_pages(site: Site, month: str, out: Path, *, language: str = "en") -> Pages:
    """Write ``report-MONTH-LANGUAGE.html`` and ``….xlsx`` beside the sets of a month that was reported.

    All figures are from the sets, corrections that were written since included; today's prices and coefficients give
    the bands.

    Parameters
    ----------
    site
        An open site.
    month
        Such as ``2026-10``.
    out
        Folder of the sets.
    language
        ``en`` or ``fr``.

    Raises
    ------
    InputError
        If the month was not reported into `out`, or a file there cannot be read; if the language is none of these.
    SiteError
        If prices, coefficients or reports.toml are wrong.
    StorageError
        If the files cannot be written.

    """
    texts, settings = texts_of(language), read_settings(site.folder)
    period = Month.parse(month, settings.timezone)
    about = read_about(out, period)
    facts = read_facts(out, Month(period.year - _YEARS, period.number, period.zone), period)
    costs = _costs(site, settings, period, facts)
    samples = RowSamples(costs, Draws(settings.seed, settings.draws))
    kept = read_kept(out, period, datetime.fromisoformat(about.created))
    first, ratio = site.settings.tiers[0].name, read_zarr_ratio(site.folder)
    mine = [fact for fact in facts if fact.month == period]
    saved = savings(mine, kept, period, samples, first, ratio)
    used = {fact.tier for fact in facts}
    told = content(
        facts, period, samples, kept, about, saved, coefficients({n: one for n, one in costs.items() if n in used})
    )
    page = month_page(texts, told, first_tier=first, zarr_ratio=ratio.central, draws=settings.draws)
    html, xlsx = (out / f"report-{period}-{language}.{ending}" for ending in ("html", "xlsx"))
    _write(html, page.encode("utf-8"))
    _write(xlsx, workbook(texts, told, facts, out))
    return Pages(html, xlsx, told)


def _saving(texts: Texts, one: Saving) -> str:
    against, band = texts(f"savings.{one.against}"), texts.band(one.allocated_eur, texts.rough)
    parts = [
        f"{texts.rough(one.allocated_eur.central)} allocated ({band})",
        f"{texts.rough(one.cash_eur.central)} cash avoided",
        f"{texts.bytes(one.purchase.tb * _TB)} of own room",
    ]
    return f"saved {against[0].lower()}{against[1:]}: {', '.join(parts)}; not to be added"


def _costs(site: Site, settings: ReportSettings, month: Month, facts: Sequence[Fact]) -> Mapping[str, TierCosts]:
    models = tier_models(site, settings, month)
    lost = {fact.tier for fact in facts} - set(models)
    models |= {name: lost_tier(name, settings) for name in sorted(lost)}
    return tier_costs(models, settings, month)


def _write(path: Path, body: bytes) -> None:
    """Write a file at once; `InputError` where its name is a folder's."""
    if path.is_dir():
        msg = f"{path}: is a folder."
        raise InputError(msg, remedy="Move it away, or report into another folder.")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with translated(path):
        draft.write_bytes(body)
        draft.replace(path)
