"""The command report: what a month of storage cost in money, energy and carbon."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, tell
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops.pages_of_month import Pages
    from wsistore.ops.report_results import Line, Report
    from wsistore.reports.samples import Band

_COLUMNS = ("bytes", "copies", "EUR", "EUR range", "kWh", "kgCO2e", "kgCO2e range")


class Language(StrEnum):
    """Of page and workbook."""

    EN = "en"
    FR = "fr"


def report(
    context: typer.Context,
    month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="Which month; of the current one, so far.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the sets go.", **ANY_PATH)],
    close: Annotated[bool, typer.Option("--close", help="Close the month: it is never written anew.")] = False,
    look: Annotated[
        bool, typer.Option("--reconcile/--no-reconcile", help="List the tiers and compare; a close needs it.")
    ] = True,
    focus: Annotated[str, typer.Option(metavar="VERSION", help="Of FOCUS: 1.2 or 1.4.")] = "1.2",
    lang: Annotated[Language, typer.Option("--lang", help="Of page and workbook.")] = Language.EN,
    pages: Annotated[bool, typer.Option("--pages/--no-pages", help="Write a page of HTML and a workbook, too.")] = True,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A Dask scheduler, for a large site; by default processes of this machine."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes to start; by default one per processor.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Report what a month's storage cost in money, energy and carbon: Parquet, a page of HTML, a workbook.

    \b
      wsistore report --month 2026-10 -o reports
      wsistore report --month 2026-10 -o reports --lang fr
      wsistore report --month 2026-10 -o reports --close

    Bytes and hours are metered from what happened to each slide; prices and coefficients have ranges and sources.
    What comes out otherwise after a month was closed goes into rows of correction.
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        made = ops.report(site, month, output, close=close, look=look, focus=focus, scheduler=scheduler, workers=jobs)
        shown = ops.report_pages(site, month, output, language=lang.value) if pages else None
        if as_json:
            files = None if shown is None else {"html": str(shown.html), "xlsx": str(shown.xlsx)}
            print_json({**made.to_json(), "pages": files})
        else:
            _print(made)
            if shown is not None:
                _print_pages(shown)


def _print(made: Report) -> None:
    cents = dict(zip((line.name for line in made.departments), made.cents_of_departments, strict=True))
    print_table(("tier", *_COLUMNS), [_cells(line) for line in [*made.tiers, made.total]], right=_COLUMNS)
    if len(cents) > 1:
        rows = [
            (
                line.name or "(not known, or not used)",
                f"{cents[line.name] / 100:.2f}",
                f"{line.gco2e.central / 1000:.2f}",
            )
            for line in sorted(made.departments, key=lambda line: (-line.cost, line.name))
        ]
        print_table(("department", "EUR", "kgCO2e"), rows, right=("EUR", "kgCO2e"))
    if made.sci is not None:
        say(f"{_range(made.sci, 2)} gCO2e per slide and month ({made.slides:.0f} slides; SCI)")
    for one in made.reconciled:
        say(f"{one.tier}: {one.part:.3%} of {format_bytes(one.metered_bytes)} unexplained")
    if made.corrections:
        say(f"{made.corrections} rows correct the closed month {made.month}")
    state = f"closed {made.closed_at[:16].replace('T', ' ')}" if made.closed_at else "not closed"
    say(f"{made.month} ({made.timezone}, {state}): {made.folder}")
    if not made.is_over:
        tell("The month is not over: this is what was used so far.")


def _print_pages(shown: Pages) -> None:
    """Print what changed, what was saved, and where to read it."""
    changes = shown.changes()
    if changes:
        print_table(("largest changes", "tier", "EUR", "why"), changes, right=("EUR",))
    for sentence in shown.savings():
        say(sentence)
    say(f"page:     {shown.html}")
    say(f"workbook: {shown.xlsx}")


def _cells(line: Line) -> tuple[str, ...]:
    carbon = [grams / 1000 for grams in line.gco2e]
    return (
        line.name or "all",
        format_bytes(line.bytes_stored),
        f"{line.copies:.0f}",
        f"{line.cost:.2f}",
        f"{line.eur.low:.2f}–{line.eur.high:.2f}",
        f"{line.kwh.central:.1f}",
        f"{carbon[1]:.2f}",
        f"{carbon[0]:.2f}–{carbon[2]:.2f}",
    )


def _range(band: Band, places: int) -> str:
    return f"{band.central:.{places}f} ({band.low:.{places}f}–{band.high:.{places}f})"
