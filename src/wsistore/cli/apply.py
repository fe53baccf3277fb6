"""Commands that apply plans and tell what became of them: apply, receipt."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Lock
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, INTERRUPTED, JsonOption, exit_code, opened, reported
from wsistore.cli.moves import JobsOption, SchedulerOption
from wsistore.cli.output import print_json, print_table, say, tell, warn
from wsistore.cli.progress import Bar
from wsistore.errors import ConflictError
from wsistore.ops.watching import Planned, Watcher
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import Applied, Applying

_SHOWN = 40
"""Rows that are shown to people; the receipt has all."""

PlanArgument = Annotated[
    str, typer.Argument(metavar="PLAN", help="The plan's file; with --status also the beginning of its digest.")
]


class _Shown(Watcher):
    """Shows work to people on stderr; several slides share one bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._lock = Lock()

    def waiting(self, what: str) -> None:
        tell(what)

    def planned(self, plan: Planned) -> None:
        with self._lock:
            self._bar.expect(size_bytes=plan.bytes_stored + plan.bytes_source)

    def encoded(self, bytes_read: int, bytes_written: int) -> None:
        self._bar.move(bytes_read)

    def verified(self, bytes_rebuilt: int) -> None:
        self._bar.move(bytes_rebuilt)


def apply(
    context: typer.Context,
    plan: PlanArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done now, and what refused.")
    ] = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin nothing more from then on, such as '06:00'.")
    ] = None,
    anytime: Annotated[bool, typer.Option("--anytime", help="Also outside the hours of the rules' window.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show how far it is.")] = False,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="Give up what is left of it, for good; another plan may then be applied.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Do what an approved plan says, row by row, asking the rules again before each.

    Refused is a plan that was altered, has expired, was superseded, lacks approvals or was applied already; and every
    row whose slide has changed since, or of which the rules want something else by now. Ctrl-C, SIGTERM, --until and
    the rules' window stop it after the slides that are under way: the same command goes on. Nothing is done twice.

    \b
      wsistore apply plan.parquet --dry-run
      wsistore apply plan.parquet --until 06:00
      wsistore apply plan.parquet --status

    Exit code 0: all rows are done. 5: rows were refused, or are left for another time.
    """  # noqa: D301
    with reported(as_json=as_json):
        if status or give_up:
            _status(context, plan, give_up=give_up, as_json=as_json)
            return
        with opened(context, writing=not dry_run) as site, Bar("apply", shown=not as_json) as bar, _stopping() as stop:
            ends = None if until is None else ops.moment_of(until, site.clock.now())
            run = ops.apply_plan(
                site,
                Path(plan),
                jobs=jobs,
                scheduler=scheduler,
                until=ends,
                anytime=anytime,
                stop=stop,
                watcher=Watcher() if as_json else _Shown(bar),
                dry_run=dry_run,
            )
            with closing(run):
                rows = list(_told(run, as_json=as_json))
            missing = ops.standing(site, ops.read_plan(Path(plan))).missing if dry_run and not as_json else ()
        _print_end(run, rows, as_json=as_json)
        if missing:
            warn(f"Before it can be applied it lacks {'; '.join(missing)}.")
        raise typer.Exit(_exit_code(run, rows, stopped=stop.is_set()))


@contextmanager
def _stopping() -> Iterator[Event]:
    """Yield what is set by the first Ctrl-C or SIGTERM; the second one ends the command at once."""
    stop = Event()

    def asked(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        again = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        tell(f"stopping after the slides that are under way; {again} once more stops at once")

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(run: Applying, *, as_json: bool) -> Iterator[Applied]:
    for row in run:
        if as_json:
            print_json(row.to_json())
        yield row


def _print_end(run: Applying, rows: list[Applied], *, as_json: bool) -> None:
    states = Counter(str(row.state) for row in rows)
    if as_json:
        print_json(
            {
                "kind": "summary",
                "plan": run.digest,
                **{state: states[state] for state in ("done", "refused", "failed", "planned")},
                "left": run.left,
                "stopped": run.stopped,
                "bytes_moved": sum(row.bytes_moved for row in rows),
                "bytes_deleted": sum(row.bytes_deleted for row in rows),
                "receipt": run.receipt,
            }
        )
        return
    if rows:
        columns = ("slide", "action", "state", "steps", "moved", "seconds")
        print_table(columns, (_cells(row) for row in rows[:_SHOWN]), right=columns[4:])
    if len(rows) > _SHOWN:
        tell(f"{len(rows) - _SHOWN} more rows: see the receipt.")
    for row in rows:
        if row.reason and str(row.state) in ("refused", "failed"):
            warn(f"{row.slide}: {row.reason}")
    moved, deleted = (
        format_bytes(sum(getattr(row, name) for row in rows)) for name in ("bytes_moved", "bytes_deleted")
    )
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "nothing was left to do"
    say(f"{counts}; {moved} moved, {deleted} deleted.")
    if run.stopped:
        tell(f"{run.left} rows are left. {run.stopped}")
    if run.receipt:
        tell(f"The receipt is {run.receipt}.")


def _cells(row: Applied) -> tuple[str, ...]:
    return (
        row.slide,
        row.action,
        str(row.state),
        "; ".join(row.steps),
        format_bytes(row.bytes_moved) if row.bytes_moved else "",
        f"{row.seconds:.1f}",
    )


def _exit_code(run: Applying, rows: list[Applied], *, stopped: bool) -> int:
    codes = {row.exit_code or ConflictError.exit_code for row in rows if str(row.state) == "failed"}
    if run.failure is not None:
        codes.add(run.failure.exit_code)
    if not codes and stopped:
        return INTERRUPTED
    if not codes and (run.left or any(str(row.state) == "refused" for row in rows)):
        codes = {ConflictError.exit_code}
    return exit_code(codes)


# --- what became of it ------------------------------------------------------------------------------------------------


def receipt(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's file, or the beginning of its digest.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Write it there: JSON, or text if it ends in .txt.", **ANY_PATH
        ),
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the certificates of what was deleted there.", **ANY_PATH),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of a plan: what was done, refused and failed, and why; bytes moved against those planned.

    Certificates say of each slide that was deleted which plan allowed it, who approved that and what was deleted; the
    site signs them, and the ledgers of its tiers know them.

    \b
      wsistore receipt plan.parquet
      wsistore receipt 6df9231b --certificates certificates/
    """  # noqa: D301
    with reported(as_json=as_json), opened(context, writing=False) as site:
        digest = ops.find_plan(site, plan).digest
        if certificates is not None:
            count = ops.write_certificates(site, digest, certificates)
            tell(f"{count} certificates are in {certificates}.")
        found = ops.receipt(site, digest)
        if out is not None:
            ops.save_receipt(found, out)
            tell(f"The receipt is {out}.")
        elif as_json:
            print_json(found)
        else:
            _print_receipt(found)


def _status(context: typer.Context, plan: str, *, give_up: bool, as_json: bool) -> None:
    with opened(context, writing=give_up) as site:
        digest = ops.find_plan(site, plan).digest
        if give_up:
            ops.give_up_plan(site, digest)
        found = ops.receipt(site, digest)
    if as_json:
        print_json({**found["document"]["totals"], "plan": digest, "state": found["document"]["state"]})
    else:
        _print_receipt(found)


def _print_receipt(found: dict[str, Any]) -> None:
    for line in ops.receipt_text(found).splitlines():
        say(line)
