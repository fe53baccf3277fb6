"""Commands that keep slides from being dropped or deleted: hold add, hold release, hold ls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, opened, reported
from wsistore.cli.moves import SlidesArgument
from wsistore.cli.output import print_json, print_table, say, short

if TYPE_CHECKING:
    from wsistore.catalog import Hold

_HELP = """Keep slides from being dropped, moved away or deleted, for a reason, until somebody releases them.

A hold stands above all rules and plans: whatever wants a slide's copies gone is refused while it lasts.

\b
  wsistore hold add 4szq --reason "court case 12/2026"
  wsistore hold ls
  wsistore hold release 4szq --reason "court case 12/2026"
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command("add")
def add(
    context: typer.Context,
    slides: SlidesArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; several holds of a slide differ by it.")],
    as_json: JsonOption = False,
) -> None:
    """Keep all copies of slides from being dropped, until they are released.

    \b
      wsistore hold add 4szq --reason "court case 12/2026"
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            rows = ops.hold(site, slides, reason)
        if as_json:
            _print_lines(rows)
        for row in [] if as_json else rows:
            say(f"{row.slide} is on hold since {short(row.placed_at)} ({row.reason}).")


@app.command("release")
def release(
    context: typer.Context,
    slides: SlidesArgument,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Which hold; by default all of them.")] = None,
    as_json: JsonOption = False,
) -> None:
    """End the holds of slides.

    \b
      wsistore hold release 4szq --reason "court case 12/2026"
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            rows = ops.release(site, slides, reason)
        if as_json:
            _print_lines(rows)
            return
        for row in rows:
            say(f"{row.slide} is released ({row.reason}).")
        if not rows:
            say("Nothing was on hold.")


@app.command("ls")
def ls(
    context: typer.Context,
    slides: Annotated[
        list[str] | None, typer.Argument(metavar="[SLIDE...]", help="Only of these slides; by default of all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the holds that last, the oldest first.

    \b
      wsistore hold ls
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            rows = ops.list_holds(site, slides or None)
        if as_json:
            _print_lines(rows)
        elif rows:
            shown = [(row.slide, row.reason, row.actor, short(row.placed_at)) for row in rows]
            print_table(("slide", "on hold because", "placed by", "since"), shown)
        else:
            say("Nothing is on hold.")


def _print_lines(rows: Iterable[Hold]) -> None:
    for row in rows:
        print_json({"slide": row.slide, "reason": row.reason, "actor": row.actor, "placed_at": row.placed_at})
