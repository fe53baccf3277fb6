"""The command that brings slides back from archives by a time."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, exit_code, opened, reported
from wsistore.cli.output import print_json, print_table, say, tell, warn
from wsistore.cli.progress import Bar
from wsistore.errors import ConflictError, InputError, Kind, MissingError, StorageError
from wsistore.ops.recall_lists import MOST_BYTES, Line, decode, lines_of, parse
from wsistore.ops.recall_times import local, moment_of, span_of
from wsistore.ops.watching import Watcher
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import Expired, RecallStatus, Site


def recall(
    context: typer.Context,
    wanted: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SLIDE|CASE...]", help="Slides, numbers of cases or patients; with --status names of recalls."
        ),
    ] = None,
    from_list: Annotated[
        Path | None,
        typer.Option(
            "--list", metavar="FILE", help="CSV or pasted text of patients, cases or slides; - is stdin.", **ANY_PATH
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="DATETIME", help="When they are needed: '2026-12-01 08:00', or '08:00'.")
    ] = None,
    tier: Annotated[
        str | None, typer.Option(metavar="TIER", help="Where they are to come; by default the first tier.")
    ] = None,
    keep: Annotated[
        str, typer.Option("--for", metavar="SPAN", help="How long they stay after that: 12h, 14d, 2w.")
    ] = "14d",
    max_cost: Annotated[
        float | None,
        typer.Option(metavar="EUR", min=0, help="What it may cost; by default 'max_eur' of [recall] in wsistore.toml."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="It may cost more than that.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, by when, and the price.")] = (
        False
    ),
    status: Annotated[bool, typer.Option("--status", help="Ask how recalls stand, and move them on.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all is there, or the time has come.")] = False,
    expire: Annotated[bool, typer.Option("--expire", help="Drop the temporary copies whose time is over.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring slides back from an archive, by a time: asked for at once, waited for in other calls.

    Says the price and the expected time first. The cheapest way that is fast enough is taken. What can be read at once
    anywhere costs nothing and stays where it is; what comes is temporary.

    \b
      wsistore recall CASE-0001 CASE-0002 --by "2026-12-01 08:00" --dry-run
      wsistore recall --list tumour-board.csv --by "2026-12-01 08:00" --for 7d
      wsistore recall --status
      wsistore recall --wait
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=not dry_run) as site, Bar("recall", shown=not as_json):
            if expire:
                _print_expired(list(ops.expire(site)), as_json=as_json)
                return
            if status or (wait and not wanted and from_list is None):
                found = _moved_on(site, wanted or [], waiting=wait)
            else:
                lines = _lines(wanted or [], from_list)
                moment = None if by is None else moment_of(by, site.clock.now())
                found = [
                    _begun(
                        site, lines, moment, tier, keep, max_cost, yes=yes, dry_run=dry_run, wait=wait, as_json=as_json
                    )
                ]
            now = site.clock.now()
        for one in found:
            _print(one, now, as_json=as_json)
        if not found and not as_json:
            say("Nothing is recalled.")
        raise typer.Exit(exit_code({code for one in found for code in _codes(one)}))


def _lines(wanted: list[str], from_list: Path | None) -> list[Line]:
    if from_list is None:
        return lines_of(wanted)
    try:
        if str(from_list) == "-":
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with from_list.open("rb") as handle:
                data = handle.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"{from_list} cannot be read ({error.strerror or error})."
        raise InputError(msg, kind=Kind.SOURCE_UNREADABLE, remedy="Check the path of the list.") from error
    return [*lines_of(wanted), *parse(decode(data))]


def _begun(
    site: Site,
    lines: list[Line],
    by: datetime | None,
    tier: str | None,
    keep: str,
    max_cost: float | None,
    *,
    yes: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> RecallStatus:
    """Say what it costs and when it comes, then begin."""

    def asked(*, only_asked: bool, confirmed: bool) -> RecallStatus:
        return ops.recall(
            site,
            lines,
            by=by,
            tier=tier,
            keep=span_of(keep),
            max_eur=max_cost,
            confirmed=confirmed,
            dry_run=only_asked,
        )

    planned = asked(only_asked=True, confirmed=yes)
    if not as_json:
        for sentence in _sentences(planned, site.clock.now()):
            tell(sentence)
    if dry_run:
        return planned
    if planned.needs_confirmation and not yes:
        if as_json or not (sys.stdin.isatty() and typer.confirm("Recall it all the same?", err=True)):
            return planned
        yes = True
    begun = asked(only_asked=False, confirmed=yes)
    if begun.name and wait:
        return ops.wait(site, [begun.name])[0]
    return begun


def _moved_on(site: Site, names: list[str], *, waiting: bool) -> list[RecallStatus]:
    found = ops.statuses(site, names)
    going = [one.name for one in found if not one.is_done or one.needs_confirmation]
    if waiting and going:
        ops.wait(site, going)
    elif going:
        ops.advance(site, going, watcher=Watcher())
    return ops.statuses(site, [one.name for one in found]) if found else []


def _sentences(planned: RecallStatus, now: datetime) -> list[str]:
    slides = [slide for case in planned.cases for slide in case.slides]
    ready = sum(case.ready for case in planned.cases)
    said = [f"{len(slides)} slides of {len(planned.cases)} cases; {ready} can be read at once."]
    if planned.ways:
        price = f"{planned.eur:.2f} EUR" + (
            "" if planned.eur_high == planned.eur else f" (at most {planned.eur_high:.2f})"
        )
        until = local(None if planned.expected_at is None else datetime.fromisoformat(planned.expected_at), now)
        said.append(f"{format_bytes(planned.bytes_asked)} come back ({', '.join(planned.ways)}): {price}, by {until}.")
    late = sum(str(slide.state) == "late" for slide in slides)
    if late:
        said.append(f"{late} of them cannot be here in time: nothing is faster.")
    if planned.needs_confirmation:
        limit = "nothing" if planned.max_eur is None else f"{planned.max_eur:.2f} EUR"
        said.append(f"It may cost {limit} without being confirmed: say --yes, or a higher --max-cost.")
    return said


def _print(one: RecallStatus, now: datetime, *, as_json: bool) -> None:
    if as_json:
        print_json(one.to_json())
        return
    if one.name:
        moment = local(None if one.by is None else datetime.fromisoformat(one.by), now)
        say(f"Recall {one.name} to tier {one.tier}" + (f", needed by {moment}" if moment else ""))
    rows = []
    for case in one.cases:
        state = str(case.state)
        if case.expected_at is not None and state in {"on its way", "late"}:
            state += f", expected at {local(datetime.fromisoformat(case.expected_at), now)}"
        count = f"{case.ready} of {len(case.slides)}" if case.slides else ""
        rows.append((case.case, case.patient or "", state, count, case.reason))
    print_table(("case", "patient", "state", "ready", "remark"), rows, right=("ready",))


def _codes(one: RecallStatus) -> set[int]:
    found: set[int] = set()
    for case in one.cases:
        match str(case.state):
            case "not found":
                found.add(MissingError.exit_code)
            case "failed":
                found.add(StorageError.exit_code)
            case "needs confirmation of cost":
                found.add(ConflictError.exit_code)
            case _:
                pass
    return found


def _print_expired(rows: list[Expired], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            error = None if row.error is None else {"kind": row.error.kind, "message": row.error.message}
            document = {"slide": row.slide, "tier": row.tier, "expires_at": row.expires_at, "dropped": row.is_dropped}
            print_json(document | {"error": error})
        elif row.is_dropped:
            say(f"{row.slide}: the temporary copy in tier {row.tier} is dropped.")
        else:
            warn(f"{row.slide}: the temporary copy in tier {row.tier} stays: {row.error.message if row.error else ''}")
    if not rows and not as_json:
        say("No temporary copy is over its time.")
