"""Commands on what providers invoice: invoice import, invoice ls, invoice match."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, tell

if TYPE_CHECKING:
    from wsistore.reports.matching import Variance

_HELP = """Take in what providers invoice, and compare it with what was metered, SKU by SKU.

Invoices are a data set of their own beside the report's: what was invoiced and what is modelled are never added.

\b
  wsistore invoice import october.csv -o reports
  wsistore invoice match --month 2026-10 -o reports
  wsistore invoice ls -o reports
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the report's sets.", **ANY_PATH)
]
_COLUMNS = ("tier", "usage", "invoiced EUR", "modelled EUR", "variance", "of quantity", "of price", "")
_RIGHT = _COLUMNS[2:7]


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet.", **ANY_PATH)],
    output: OutputOption,
    issuer: Annotated[str, typer.Option(metavar="NAME", help="Who invoices, where the file does not say it.")] = "",
    currency: Annotated[str, typer.Option(metavar="CODE", help="Of a typed table; by default EUR.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of earlier lines of the same invoices.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take in an invoice: an export in FOCUS (OVHcloud, Scaleway, AWS, others), or a table that was typed.

    \b
      wsistore invoice import october.csv -o reports
      wsistore invoice import typed.csv --issuer OVHcloud -o reports
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        made = ops.import_invoice(site, file, output, issuer=issuer, currency=currency, replace=replace)
        if as_json:
            print_json(made.to_json())
            return
        say(f"{made.lines} lines of {', '.join(made.issuers)}: {made.eur:.2f} EUR, tax {made.tax:.2f} EUR")
        if made.replaced:
            say(f"{made.replaced} earlier lines were replaced.")
        if made.unassigned:
            tell(f"{made.unassigned:.2f} EUR are of no known tier or kind of usage: docs/invoices.md, [[invoice]].")


@app.command("ls")
def ls(context: typer.Context, output: OutputOption, as_json: JsonOption = False) -> None:
    """List the invoices that were taken in.

    \b
      wsistore invoice ls -o reports
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        found = ops.list_invoices(site, output)
        if as_json:
            for one in found:
                print_json(one.to_json())
            return
        rows = [(o.month, o.issuer, o.invoice or "-", str(o.lines), f"{o.eur:.2f}", f"{o.tax:.2f}") for o in found]
        print_table(("billed", "issuer", "invoice", "lines", "EUR", "tax"), rows, right=("lines", "EUR", "tax"))


@app.command("match")
def match(
    context: typer.Context,
    month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="Which month; its report must be there.")],
    output: OutputOption,
    as_json: JsonOption = False,
) -> None:
    """Compare a month's invoices with what was metered; a variance above 2 % is an alert.

    \b
      wsistore invoice match --month 2026-10 -o reports
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        made = ops.match_invoices(site, month, output)
        if as_json:
            print_json(made.to_json())
            return
        print_table(_COLUMNS, [_cells(one) for one in made.variances], right=_RIGHT)
        whole = "" if made.part is None else f" ({made.part:+.2%})"
        say(f"{made.month}: {made.invoiced:.2f} EUR invoiced, {made.modelled:.2f} EUR modelled{whole}: {made.file}")
        for issuer in ops.missing_invoices(made):
            tell(f"No invoice of {issuer} was imported.")
        if made.alerts:
            tell(f"{len(made.alerts)} variances are above 2 %.")


def _cells(one: Variance) -> tuple[str, ...]:
    effects = ("", "") if one.effects is None else tuple(f"{amount:.2f}" for amount in one.effects)
    said = [str(one.status)] if one.status != "matched" else []
    said += ["ALERT"] if one.is_alert else []
    said += [one.hint] if one.hint else []
    return (
        one.tier or one.issuer,
        one.meter or "(not recognised)",
        _money(one.invoiced),
        _money(one.modelled),
        "" if one.part is None else f"{one.part:+.2%}",
        *effects,
        ", ".join(said),
    )


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"
