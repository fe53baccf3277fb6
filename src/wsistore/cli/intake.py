"""Commands about the scanners' shares that are watched: ``intake run``, ``intake ls``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, exit_code, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, warn
from wsistore.cli.progress import Bar
from wsistore.ops.intake_results import IntakeReport, IntakeRow, IntakeStatus
from wsistore.units import format_bytes

_HELP = """Watch scanners' shares: take slides in by themselves, and let go the originals of those that are safely kept.

The shares are named in wsistore.toml, in tables [intake.NAME]; docs/intake.md tells how, and what happens when.

\b
  wsistore intake run
  wsistore intake ls --status waiting
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

ShareArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[SHARE...]", help="Names of shares; by default all that are watched.")
]
_QUIET = frozenset({"kept", "foreign", "metadata"})
"""What a pass tells of by numbers only."""


@app.command("run")
def run(
    context: typer.Context,
    shares: ShareArgument = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what was refused, or waits for its next try.")
    ] = False,
    retry_path: Annotated[
        list[Path] | None,
        typer.Option("--retry-path", metavar="PATH", help="The same, of one slide or folder on the share.", **ANY_PATH),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Slides at a time; by default as the settings say.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at shares once: take in what has stopped changing, release originals that are safely kept.

    To be called every few minutes. May be interrupted at any moment; a second pass over a share does nothing.

    \b
      wsistore intake run
      wsistore intake run scanner-1 --retry-path 2026-11-22/a.svs
    """  # noqa: D301 - \b keeps typer from joining the lines
    reports: list[IntakeReport] = []
    with reported(as_json=as_json):
        with opened(context, writing=True) as site, Bar("intake", shown=not as_json) as bar:
            again = [""] if retry else [path.as_posix() for path in retry_path or ()]
            for report in ops.intake(
                site,
                shares or None,
                jobs=jobs,
                retry=again,
                progress=lambda _phase, done, size, name: bar.move(done, of=name, total_bytes=2 * size),
            ):
                reports.append(report)
                if as_json:
                    _print_pass_json(report)
        if not as_json:
            for report in reports:
                _print_pass(report)
            if not reports:
                say("No share is watched: docs/intake.md tells how.")
        raise typer.Exit(exit_code({report.exit_code for report in reports if report.exit_code}))


def _print_pass_json(report: IntakeReport) -> None:
    for row in report.rows:
        if str(row.status) not in _QUIET:
            print_json(row.to_json())
    print_json(report.to_json())


def _print_pass(report: IntakeReport) -> None:
    if report.busy:
        say(f"{report.share}: another pass is at work.")
        return
    _print_rows([row for row in report.rows if str(row.status) not in _QUIET])
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
    say(f"{report.share}: {counts or 'nothing'} ({report.seconds:.1f} s)")
    for remark in report.remarks:
        warn(f"{report.share}: {remark}")
    if report.problem:
        warn(f"{report.share}: {report.problem}")


def _print_rows(rows: list[IntakeRow]) -> None:
    if rows:
        print_table(
            ("share", "slide or file", "status", "since", "files", "size", "slide", "why"),
            (
                (
                    row.share,
                    row.path,
                    str(row.status),
                    short(row.since),
                    str(row.files),
                    format_bytes(row.bytes_source),
                    row.slide or "",
                    row.reason,
                )
                for row in rows
            ),
            right=("files", "size"),
        )


@app.command("ls")
def list_intake(
    context: typer.Context,
    shares: ShareArgument = None,
    status: Annotated[
        IntakeStatus | None, typer.Option(help="Only what is in this state.", case_sensitive=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that is on the shares, as the last pass found it: what is kept, waits or was refused, and why.

    \b
      wsistore intake ls
      wsistore intake ls scanner-1 --status refused --json
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            rows = [row for row in ops.intake_state(site, shares or None) if status in (None, row.status)]
        if as_json:
            for row in rows:
                print_json(row.to_json())
            return
        _print_rows(rows)
        if not rows:
            say("Nothing is on the shares.")
