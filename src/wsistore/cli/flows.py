"""Commands about the nights: ``flows serve``, ``ls``, ``run``, ``pause``, ``resume``, ``history``."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from wsistore.cli.context import JsonOption, options, reported
from wsistore.cli.output import print_json, print_table, say, short
from wsistore.errors import Kind, SiteError

if TYPE_CHECKING:
    from wsistore_flows.serving import Serving
    from wsistore_flows.watching import NightRow, RunRow, Watch

_HELP = """Run the site's nights by Prefect: look after shares, plan and apply, scrub, back up, report.

docs/flows.md has what runs when, and how to change it. Prefect's pages in a browser show the same, with logs.

\b
  wsistore flows serve
  wsistore flows ls
"""
_FAILED = 1

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

FlowsArgument = Annotated[list[str], typer.Argument(metavar="FLOW...", help="Names, as 'flows ls' shows them.")]


@app.command("serve")
def serve(
    context: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of Prefect's server and pages; by default as before, at first 4200; 0: any."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the site's flows at their times, with a Prefect server of its own, until the command is ended.

    Runs that were missed while it was down are caught up, once each. One service per site; deploy/systemd has units.

    \b
      wsistore flows serve
      wsistore -C /srv/slides flows serve --port 4210
    """  # noqa: D301 - \b keeps typer from joining the lines
    with reported(as_json=as_json):
        _need_prefect()
        from wsistore_flows.serving import serve as serve_flows  # httpx, which other commands do not need

        serve_flows(options(context).folder, port=port, ready=lambda serving: _print_ready(serving, as_json=as_json))


def _print_ready(serving: Serving, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"site": serving.site, "ui": serving.ui_url, "api": serving.api_url, "said": list(serving.caught_up)}
        )
        return
    for sentence in serving.caught_up:
        say(sentence)
    say(f"The flows of {serving.site} are served. Prefect shows them at {serving.ui_url}; Ctrl-C ends the service.")


@app.command("ls")
def list_flows(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show what begins by itself: when, when next, and how the last run ended.

    \b
      wsistore flows ls
      wsistore flows ls --json
    """  # noqa: D301
    with reported(as_json=as_json), _watching(context) as flows:
        rows = flows.nights()
        if as_json:
            for row in rows:
                print_json(row.to_json())
            return
        _print_nights(rows, flows.time_zone)
        say(f"Prefect shows more at {flows.ui_url}")


def _print_nights(rows: list[NightRow], zone: str) -> None:
    columns = ("flow", "begins", "time zone", "next", "last", "ended", "why")
    print_table(
        columns,
        (
            (
                row.flow,
                row.cron,
                row.time_zone,
                "paused" if row.paused else _local(row.next, zone),
                _local(row.last.began, zone) if row.last else "",
                row.last.state if row.last else "",
                row.last.message if row.last else "",
            )
            for row in rows
        ),
    )


@app.command("run")
def run(
    context: typer.Context,
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="Its name, as 'flows ls' shows it.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; values as JSON, or plain text."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until it has ended; exit code 1 if it did not end well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a flow begin now, whatever its schedule says; one that is at work already is not doubled.

    \b
      wsistore flows run lifecycle --wait
      wsistore flows run catalog-backup --param keep=60
    """  # noqa: D301
    with reported(as_json=as_json), _watching(context) as flows:
        row = flows.run(flow, _parameters(parameter or []))
        if not as_json:
            say(f"{row.flow}: {row.run} begins ({row.url})")
        if wait:
            row = flows.wait(row, lambda found: None if as_json else say(_sentence(found)))
        if as_json:
            print_json(row.to_json())
        if row.ended_well is False:
            raise typer.Exit(_FAILED)


@app.command("pause")
def pause(context: typer.Context, flows: FlowsArgument, as_json: JsonOption = False) -> None:
    """Have flows begin no more by themselves, until they are resumed; a run that is at work goes on.

    \b
      wsistore flows pause scrub
    """  # noqa: D301
    with reported(as_json=as_json), _watching(context) as watched:
        watched.pause(flows)
        _print_paused(flows, paused=True, as_json=as_json)


@app.command("resume")
def resume(context: typer.Context, flows: FlowsArgument, as_json: JsonOption = False) -> None:
    """Have flows begin by themselves again, at their next time.

    \b
      wsistore flows resume scrub
    """  # noqa: D301
    with reported(as_json=as_json), _watching(context) as watched:
        watched.resume(flows)
        _print_paused(flows, paused=False, as_json=as_json)


def _print_paused(flows: list[str], *, paused: bool, as_json: bool) -> None:
    for name in flows:
        if as_json:
            print_json({"flow": name, "paused": paused})
        else:
            say(f"{name}: {'begins no more by itself' if paused else 'begins by itself again'}")


@app.command("history")
def history(
    context: typer.Context,
    flows: Annotated[
        list[str] | None, typer.Argument(metavar="[FLOW...]", help="Names; by default all that there are.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many runs.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the runs that are under way or have ended, the newest first, with what became of them.

    \b
      wsistore flows history
      wsistore flows history lifecycle --limit 100 --json
    """  # noqa: D301
    with reported(as_json=as_json), _watching(context) as watched:
        rows = watched.history(flows or [], limit=limit)
        if as_json:
            for row in rows:
                print_json(row.to_json())
            return
        print_table(
            ("began", "flow", "run", "ended", "seconds", "why"),
            (
                (_local(row.began, watched.time_zone), row.flow, row.run, row.state, f"{row.seconds:.0f}", row.message)
                for row in rows
            ),
            right=("seconds",),
        )


def _history_cells(row: RunRow, zone: str) -> tuple[str, ...]:
    return _local(row.began, zone), row.flow, row.run, row.state, f"{row.seconds:.0f}", row.message


@contextmanager
def _watching(context: typer.Context) -> Iterator[Watch]:
    _need_prefect()
    from wsistore_flows.watching import watch  # Prefect takes seconds, which no other command needs

    with watch(options(context).folder) as found:
        yield found


def _need_prefect() -> None:
    if importlib.util.find_spec("prefect") is None:
        msg = "Prefect is not installed, without which there are no flows."
        raise SiteError(msg, kind=Kind.DEPENDENCY_MISSING, remedy="Install it: pip install 'wsistore[flows]'.")


def _parameters(said: list[str]) -> dict[str, Any]:
    found = {}
    for one in said:
        name, equals, value = one.partition("=")
        if not equals or not name:
            msg = f"{one!r} is not NAME=VALUE."
            raise typer.BadParameter(msg, param_hint="--param")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _sentence(row: RunRow) -> str:
    return f"{row.flow}: {row.state}" + (f": {row.message}" if row.message else "")


def _local(moment: str | None, zone: str) -> str:
    """Return a moment as the site's clocks show it."""
    return "" if moment is None else short(datetime.fromisoformat(moment).astimezone(ZoneInfo(zone)).isoformat())
