"""The flow that closes a month: recomputed, compared with the tiers and with invoices, written, and told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow

from wsistore.errors import ConflictError
from wsistore.ops.closing_month import ClosedMonth, close_month, month_before
from wsistore.ops.pages_of_month import report_pages
from wsistore.units import format_bytes
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import FLOW, Run, State, done, night
from wsistore_flows.states import NEEDS_ACTION, ended, failure

if TYPE_CHECKING:
    from wsistore.ops.report_results import Line

FOLDER = "reports"
"""In the site's folder."""


@flow(name="report", **FLOW, **HOOKS)
def report(
    site: str | None = None,
    month: str | None = None,
    out: str | None = None,
    close: bool = True,
    focus: str = "1.2",
    languages: list[Literal["en", "fr"]] | None = None,
) -> State:
    """Report a month, compare it with the tiers and with its invoices, and close it if it can be.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    month
        Such as ``2026-10``; by default the one that ended last, in the time zone of the site's reports.
    out
        Folder of the sets; by default ``reports`` in the site's folder.
    close
        Whether it is to be closed: then it is never written anew.
    focus
        Version of FOCUS: ``1.2`` or ``1.4``.
    languages
        Of the page of HTML and the workbook: ``en``, ``fr``, both, or none; by default ``en``.

    """
    wanted = ["en"] if languages is None else languages
    return night("report", site, partial(_report, month=month, out=out, close=close, focus=focus, languages=wanted))


def _report(run: Run, month: str | None, out: str | None, close: bool, focus: str, languages: Sequence[str]) -> State:
    wanted = month or month_before(run.site)
    folder = run.site.folder / Path(out or FOLDER).expanduser()
    closed = run.step(
        f"close {wanted}" if close else f"report {wanted}",
        lambda: close_month(run.site, wanted, folder, close=close, focus=focus),
    )
    for language in dict.fromkeys(languages):
        made = run.step(f"page in {language}", partial(report_pages, run.site, wanted, folder, language=language))
        run.shown.link(f"page {language}", made.html.absolute(), made.html.name, "On the flows' machine.")
    _show(run, closed)
    total = closed.report.total
    message = f"{closed.report.month}: {format_bytes(total.bytes_stored)}, {total.cost:.2f} EUR"
    message += f", {total.gco2e.central / 1000:.1f} kgCO2e"
    run.facts.update(
        month=closed.report.month, is_closed=closed.is_closed, notices=[notice.to_json() for notice in closed.notices]
    )
    todo = [notice.text for notice in closed.notices if notice.needs_action]
    said = " ".join([f"{message}.", *todo])
    if close and not closed.is_closed:
        return failure(said, ConflictError.exit_code)
    return done(said, name=NEEDS_ACTION) if todo else ended(message)


def _show(run: Run, closed: ClosedMonth) -> None:
    made = closed.report
    state = f"closed {made.closed_at[:16].replace('T', ' ')} UTC" if made.closed_at else "a draft, not closed"
    about = f"{made.month} ({made.timezone}), {state}."
    run.shown.table("tiers", _rows([*made.tiers, made.total]), about)
    run.shown.table("departments", _rows(made.departments), about)
    notices = [{"about": str(one.code), "what": one.text} for one in closed.notices]
    if notices:
        run.shown.table("notices", notices, "What is to be done, the gravest first.")
    for path in closed.pages:
        if path.endswith(".html"):
            name = Path(path).stem
            run.shown.link(name, Path(path).absolute(), f"{made.month}, to read: {name}", "On the flows' machine.")
    run.shown.link("folder", Path(made.folder).absolute(), f"{made.month} as Parquet", "On the flows' machine.")


def _rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [
        {
            "name": line.name or "all, or not known",
            "size": format_bytes(line.bytes_stored),
            "EUR": f"{line.cost:.2f}",
            "EUR, range": f"{line.eur.low:.2f}–{line.eur.high:.2f}",
            "kWh": f"{line.kwh.central:.1f}",
            "kgCO2e": f"{line.gco2e.central / 1000:.2f}",
            "kgCO2e, range": f"{line.gco2e.low / 1000:.2f}–{line.gco2e.high / 1000:.2f}",
        }
        for line in lines
    ]
