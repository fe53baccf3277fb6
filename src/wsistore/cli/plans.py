"""Commands about plans: plan, plan show, plan diff, plan explain, plan chart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, SlideArgument, opened, reported
from wsistore.cli.output import print_json, say
from wsistore.cli.plan_tables import (
    not_done,
    print_bars,
    print_changes,
    print_difference,
    print_header,
    print_rows,
    print_totals,
)

if TYPE_CHECKING:
    from wsistore.tiers.plans.header import Header

_HELP = """Plan what the rules would do to every slide, and what it would cost; look at plans.

\b
  wsistore plan
  wsistore plan --at 2030-01-01 -o in-some-years.parquet
  wsistore plan show
  wsistore plan explain slide.svs

A plan is a file. Nothing is done to a slide before people approve it (wsistore approve) and somebody applies it.
"""
_PLAN = Path("plan.parquet")
_MOST = 20

app = typer.Typer(help=_HELP, rich_markup_mode=None)

PlanArgument = Annotated[
    Path, typer.Argument(metavar="[PLAN]", help="The plan's file; by default plan.parquet.", **ANY_PATH)
]


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
            metavar="DATE",
            help="The rules' now, in UTC; by default the present.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where the plan is written.", **ANY_PATH)
    ] = _PLAN,
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Other rules than the site's rules.yaml.", **ANY_PATH)
    ] = None,
    valid_days: Annotated[int, typer.Option(min=1, max=90, help="For how long it may be applied.")] = 7,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a plan, unless a command follows."""
    if context.invoked_subcommand is not None:
        return
    with reported(as_json=as_json), opened(context, writing=True) as site:
        moment = None if at is None else at.replace(tzinfo=UTC)
        valid = timedelta(days=valid_days)
        made = ops.make_plan(site, rules, moment, out, valid=valid, replace_it=replace)
        if as_json:
            print_json({"path": str(made.path), **_header_json(made.header, made.digest)})
            return
        print_header(made.header, made.digest)
        say("")
        print_totals(made.header)
        say("")
        say(f"Written to {made.path}. Look at it: wsistore plan show {made.path}")


@app.command("show")
def show(
    path: PlanArgument = _PLAN,
    where: Annotated[str | None, typer.Option(metavar="CONDITION", help="Only rows for which this is true.")] = None,
    action: Annotated[list[str] | None, typer.Option(help="Only rows with this action; may be repeated.")] = None,
    most: Annotated[int, typer.Option(min=0, help="So many rows at most; 0 for none.")] = _MOST,
    as_json: JsonOption = False,
) -> None:
    """Print a plan: totals first, then its rows.

    \b
      wsistore plan show
      wsistore plan show plan.parquet --action delete --most 1000
      wsistore plan show --where "eur_early > 0 or 'held' in blocked"

    With --json all rows are printed, one object for each, after one for the plan.
    """  # noqa: D301
    with reported(as_json=as_json):
        found = ops.read_plan(path)
        asked = where is not None or bool(action)
        batches = ops.plan_rows(found, where=where, actions=action or (), doing=not asked and not as_json)
        if as_json:
            print_json({"kind": "plan", **_header_json(found.header, found.digest)})
            for batch in batches:
                for row in batch.to_pylist():
                    print_json({"kind": "row", **row})
            return
        rows = list(islice((row for batch in batches for row in batch.to_pylist()), most + 1))
        if not asked:
            print_header(found.header, found.digest)
            say("")
            print_totals(found.header)
            say("")
        if most and rows:
            print_rows(rows[:most])
        elif asked and not rows:
            say("No row.")
        if most and len(rows) > most:
            say(f"… and more: --most prints more than {most}, --json all.")


@app.command("diff")
def diff(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A plan's file.", **ANY_PATH)],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another one.", **ANY_PATH)],
    most: Annotated[int, typer.Option(min=0, help="So many slides at most; 0 for none.")] = _MOST,
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two plans, as a whole and slide by slide.

    \b
      wsistore plan diff yesterday.parquet plan.parquet

    Plans made of other rules show what a change of the rules would do.
    """  # noqa: D301
    with reported(as_json=as_json):
        one, other = ops.read_plan(first), ops.read_plan(second)
        found, changes = ops.plan_difference(one, other), ops.plan_changes(one, other)
        if as_json:
            print_json({"kind": "difference", **_difference_json(found)})
            for change in changes:
                print_json({"kind": "change", **change.to_json()})
            return
        print_difference(found)
        listed = list(islice(changes, most + 1))
        say("")
        if not listed:
            say("Both say the same of every slide.")
        if most and listed:
            print_changes(listed[:most])
        if most and len(listed) > most:
            say(f"… and more: --most prints more than {most}, --json all.")


@app.command("explain")
def explain(
    context: typer.Context,
    slide: SlideArgument,
    path: Annotated[
        Path, typer.Option("--plan", metavar="FILE", help="The plan's file; by default plan.parquet.", **ANY_PATH)
    ] = _PLAN,
    as_json: JsonOption = False,
) -> None:
    """Say in sentences what a plan does to a slide, what that costs, and which rules want it.

    \b
      wsistore plan explain 4szq
      wsistore plan explain slide.svs --plan in-some-years.parquet
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        found = ops.plan_of_site(site, path)
        sentences = ops.explain_row(site, found, slide)
        if as_json:
            print_json({"plan": found.digest, "slide": site.catalog.resolve(slide), "sentences": sentences})
            return
        _say_all(sentences)


@app.command("chart")
def chart(
    path: PlanArgument = _PLAN,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="PNG, SVG or HTML; by default bars are printed.", **ANY_PATH),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a plan: what lies in each tier now and afterwards, what it costs, what is done to how many slides.

    \b
      wsistore plan chart
      wsistore plan chart plan.parquet -o plan.html

    An HTML page has the totals as tables, too; it needs no other file and no network.
    """  # noqa: D301
    with reported(as_json=as_json):
        found = ops.read_plan(path)
        if out is not None:
            ops.draw_plan(found, out)
        if as_json:
            print_json({"plan": found.digest, "chart": None if out is None else str(out)})
        elif out is None:
            print_header(found.header, found.digest)
            say("")
            print_bars(found.header)
        else:
            say(f"Drawn in {out}.")


def _header_json(header: Header, digest: str) -> dict[str, Any]:
    return {"digest": digest, **header.to_json(), "not_done": list(not_done(header))}


def _difference_json(found: Any) -> dict[str, Any]:
    return {
        "same_rules": found.same_rules,
        "same_catalogue": found.same_catalogue,
        "same_coefficients": found.same_coefficients,
        "same_limits": found.same_limits,
        "first": found.before.to_json(),
        "second": found.after.to_json(),
        "grown": found.grown,
    }


def _say_all(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        say(sentence)
