"""The monthly close: recompute, reconcile, match invoices, write; and what people are to be told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from wsistore.clock import Clock
from wsistore.ops.invoicing import Matched, match_invoices, missing_invoices
from wsistore.ops.pages_of_month import report_pages
from wsistore.ops.report_results import Report
from wsistore.ops.reporting import report_anyway
from wsistore.ops.site import Site
from wsistore.reports.matching import Status
from wsistore.reports.pages.texts import LANGUAGES
from wsistore.reports.periods import Month
from wsistore.reports.terms import read_settings


class NoticeCode(StrEnum):
    """What a notice is about. Members are added, never renamed."""

    CLOSED = "closed"
    NOT_CLOSED = "not-closed"
    CORRECTED = "corrected"
    VARIANCE = "variance"
    INVOICE_MISSING = "invoice-missing"
    UNASSIGNED = "unassigned"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that people are to be told; names nobody."""

    code: NoticeCode
    text: str
    needs_action: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"code": str(self.code), "text": self.text, "needs_action": self.needs_action}


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """What the close of a month came to."""

    report: Report
    matched: Matched
    notices: Sequence[Notice]
    """The gravest first."""
    pages: Sequence[str] = ()
    """Paths of what people read: a page of HTML and a workbook in each language."""

    @property
    def is_closed(self) -> bool:
        """Whether the month is closed now."""
        return self.report.closed_at is not None

    @property
    def needs_action(self) -> bool:
        """Whether somebody has to do something."""
        return any(notice.needs_action for notice in self.notices)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "month": self.report.month,
            "is_closed": self.is_closed,
            "needs_action": self.needs_action,
            "notices": [notice.to_json() for notice in self.notices],
            "report": self.report.to_json(),
            "matched": self.matched.to_json(),
            "pages": list(self.pages),
        }


def close_month(
    site: Site,
    month: str,
    out: Path,
    *,
    close: bool = True,
    look: bool = True,
    focus: str = "1.2",
    scheduler: str | None = None,
    workers: int | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> ClosedMonth:
    """Report a month, compare it with the tiers and with its invoices, and close it if it can be.

    A month that cannot be closed is no error here: its report is written as a draft, and a notice says why. Invoices
    that come later are compared when it is called again; a closed month itself stays as it is.

    Parameters
    ----------
    site
        An open site.
    month
        Such as ``2026-10``.
    out
        Folder of the sets.
    close
        Whether it is to be closed; without, all is written but it stays open.
    look, focus, scheduler, workers, seen
        As of `wsistore.ops.report`.

    Raises
    ------
    InputError
        If it is no month, or one that has not begun; if a closed month was altered.
    SiteError
        If prices, coefficients or reports.toml are wrong, or the catalogue fails.
    StorageError
        If a tier cannot be listed, or the files cannot be written.

    """
    made = report_anyway(
        site, month, out, close=close, look=look, focus=focus, scheduler=scheduler, workers=workers, seen=seen
    )
    matched = match_invoices(site, month, out)
    written = [report_pages(site, month, out, language=language) for language in LANGUAGES]
    pages = [str(path) for one in written for path in (one.html, one.xlsx)]
    return ClosedMonth(made, matched, _notices(made, matched, wanted=close), pages)


def month_before(site: Site, clock: Clock | None = None) -> str:
    """Return the month before the one that it is now in the site's time zone: the one to be closed."""
    zone = read_settings(site.folder).timezone
    return str(Month.of((clock or site.clock).now(), zone).before)


def _notices(made: Report, matched: Matched, *, wanted: bool) -> list[Notice]:
    found = []
    if wanted and made.why_open:
        text = f"The month {made.month} does not close: {made.why_open}"
        found.append(Notice(NoticeCode.NOT_CLOSED, text, needs_action=True))
    if made.corrections:
        text = f"{made.corrections} rows correct the closed month {made.month}."
        found.append(Notice(NoticeCode.CORRECTED, text, needs_action=True))
    for one in matched.alerts:
        if one.status in (Status.MATCHED, Status.NOT_METERED):
            part = "" if one.part is None else f" ({one.part:+.1%})"
            what = " ".join(word for word in (one.tier or one.issuer, one.meter) if word)
            text = f"{what}: {one.invoiced:.2f} EUR invoiced, {one.modelled:.2f} EUR modelled{part}."
            hint = f" It {one.hint}." if one.hint else ""
            found.append(Notice(NoticeCode.VARIANCE, text + hint, needs_action=True))
    for issuer in missing_invoices(matched):
        text = f"No invoice of {issuer} for {made.month} was imported."
        found.append(Notice(NoticeCode.INVOICE_MISSING, text, needs_action=True))
    loose = [one for one in matched.variances if one.status is Status.UNASSIGNED]
    for one in loose:
        text = f"{one.lines} lines of {one.issuer}, {one.invoiced:.2f} EUR, are of no known tier or kind of usage."
        found.append(Notice(NoticeCode.UNASSIGNED, f"{text} Say so by [[invoice]] in reports.toml.", needs_action=True))
    if made.closed_at is not None:
        text = f"The month {made.month} is closed since {made.closed_at[:16].replace('T', ' ')} UTC."
        found.append(Notice(NoticeCode.CLOSED, text, needs_action=False))
    return found
