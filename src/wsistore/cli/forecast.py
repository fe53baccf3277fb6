"""Commands about the years to come: forecast, forecast what-if, back-test, scenarios, copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, options, reported
from wsistore.cli.output import print_json, print_table, say, tell
from wsistore.errors import InputError, Kind, SiteError
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import Forecasted, Outcome, Site
    from wsistore.reports.forecast.back_test import Compared
    from wsistore.reports.samples import Band

_HELP = """Forecast what storage will cost in the coming years, in scenarios side by side, by the reports' own models.

\b
  wsistore forecast --years 10 -o forecast
  wsistore forecast --scenario all-hot --scenario ./our-hospital.yaml -o forecast
  wsistore forecast copy scenarios

A scenario says how many slides come, where their copies lie at which age, and how prices and the grid go on. Without
--scenario those that ship are compared. No site is needed; of one that is there, prices and reports.toml hold.
"""
_COLUMNS = ("slides", "stored", "EUR", "EUR range", "against", "against range", "tCO2e", "tCO2e range")

app = typer.Typer(help=_HELP, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def forecast(
    context: typer.Context,
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", metavar="NAME|FILE", help="One that ships, or a file; may be repeated."),
    ] = None,
    years: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 10,
    begins: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM", help="First month; by default of the next year.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the others are compared with; by default the first.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the Parquet sets and the page go.", **ANY_PATH),
    ] = None,
    language: Annotated[str, typer.Option("--lang", metavar="en|fr", help="Of the page.")] = "en",
    as_json: JsonOption = False,
) -> None:
    """Forecast, unless a command follows."""
    if context.invoked_subcommand is not None:
        return
    with reported(as_json=as_json), _site(context) as site:
        found = ops.forecast_scenarios(
            scenario or [], site=site, years=years, begins=begins, against=against, out=output, language=language
        )
        if as_json:
            print_json(found.to_json())
        else:
            _print(found)


@app.command("what-if")
def what_if(
    context: typer.Context,
    age: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE=AGE", help="Another age, such as 'archive=5 years'; may be repeated."),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with these rules; --age changes them.", **ANY_PATH)
    ] = None,
    years: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the Parquet sets and the page go.", **ANY_PATH),
    ] = None,
    language: Annotated[str, typer.Option("--lang", metavar="en|fr", help="Of the page.")] = "en",
    as_json: JsonOption = False,
) -> None:
    """Compare the site's rules with the same rules with other ages, over the slides that it has.

    \b
      wsistore forecast what-if --age "recent-priors=5 years"
      wsistore forecast what-if --rules stricter.yaml -o what-if

    No slide comes, and nobody looks at one: it tells what the rules make of what is there. Nothing is changed.
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        ages = dict(_age(one) for one in age or [])
        found = ops.what_if(site, ages, other=rules, years=years, out=output, language=language)
        if as_json:
            print_json(found.to_json())
        else:
            _print(found)


@app.command("back-test")
def back_test(
    context: typer.Context,
    begins: Annotated[str, typer.Option("--from", metavar="YYYY-MM", help="First month of the year to learn from.")],
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME|FILE", help="Where copies lie at which age, and growth.")
    ] = "ours",
    years: Annotated[int | None, typer.Option(min=2, max=50, help="How many; by default all that are over.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast the site's own past from its first year, and say how wrong that would have been.

    \b
      wsistore forecast back-test --from 2024-01 --scenario ./our-hospital.yaml

    How many slides came, how large they are and what presets make of them is learnt from the first year; all else
    is the scenario's. Both sides have the same prices, so that the error is that of the usage.
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        tried = ops.try_on_past(site, scenario, begins, years)
        if as_json:
            print_json(tried.to_json())
            return
        print_table(_COMPARED, [_compared(one) for one in tried.found.compared], right=_COMPARED[2:])
        say(f"{tried.years} years from {tried.begins}; year 1 is what was learnt from")


_COMPARED = ("year", "figure", "was", "forecast", "range", "error")


def _compared(one: Compared) -> tuple[str, ...]:
    low, central, high = one.forecast
    figures = (f"{one.actual:,.4g}", f"{central:,.4g}", f"{low:,.4g}–{high:,.4g}")
    return (str(one.year), one.figure, *figures, f"{one.error:+.1%}")


def _age(text: str) -> tuple[str, str]:
    name, sign, age = text.partition("=")
    if not sign or not name.strip() or not age.strip():
        msg = f"{text!r} is no rule with an age."
        raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Write it as --age 'archive=5 years'.")
    return name.strip(), age.strip()


@app.command("scenarios")
def scenarios(as_json: JsonOption = False) -> None:
    """List the scenarios that come with wsistore.

    \b
      wsistore forecast scenarios
    """  # noqa: D301
    with reported(as_json=as_json):
        for name, path in ops.scenario_files().items():
            if as_json:
                print_json({"scenario": name, "file": str(path)})
            else:
                say(f"{name}  {path}")


@app.command("copy")
def copy(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where they go.", **ANY_PATH)],
    as_json: JsonOption = False,
) -> None:
    """Copy the scenarios that ship, to be changed: hospital.yaml first, on which all of them rest.

    \b
      wsistore forecast copy scenarios
      wsistore forecast --scenario scenarios/all-hot.yaml --scenario scenarios/ours.yaml -o forecast
    """  # noqa: D301
    with reported(as_json=as_json):
        for path in ops.copy_scenarios(folder):
            if as_json:
                print_json({"file": str(path)})
            else:
                say(str(path))


@contextmanager
def _site(context: typer.Context) -> Iterator[Site | None]:
    """Yield the site; None where there is none and none was named: scenarios need none."""
    try:
        with opened(context, writing=False) as site:
            yield site
    except SiteError as error:
        if error.kind is not Kind.SITE_MISSING or options(context).folder is not None:
            raise
        yield None


def _print(found: Forecasted) -> None:
    rows = [_cells(one, is_against=one.name == found.against) for one in found.outcomes]
    print_table(("scenario", *_COLUMNS), rows, right=_COLUMNS)
    for one in found.outcomes:
        if one.spent.high:
            say(f"{one.name}: {_money(one.spent)} EUR paid for hardware of its own, written off in the costs above")
    say(f"{found.years} years from {found.begins}, without tax, compared with {found.against}")
    if found.folder is not None:
        say(f"Written to {found.folder}: {', '.join(found.files)}")
    else:
        tell("With -o DIR the years, their parts and all values they rest on are written as Parquet and as a page.")


def _cells(one: Outcome, *, is_against: bool) -> tuple[str, ...]:
    carbon = [grams / 1e6 for grams in one.gco2e]
    return (
        one.name,
        f"{one.slides.central:,.0f}",
        format_bytes(round(one.bytes_stored.central)),
        f"{one.eur.central:,.0f}",
        f"{one.eur.low:,.0f}–{one.eur.high:,.0f}",
        "" if is_against else f"{one.more_eur.central:+,.0f}",
        "" if is_against else f"{one.more_eur.low:+,.0f} to {one.more_eur.high:+,.0f}",
        f"{carbon[1]:.1f}",
        f"{carbon[0]:.1f}–{carbon[2]:.1f}",
    )


def _money(band: Band) -> str:
    return f"{band.central:,.0f} ({band.low:,.0f}–{band.high:,.0f})"
