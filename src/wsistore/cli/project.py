"""Commands about research projects: project create, ls, show, cohort, grant, revoke, close, rotate-keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, warn
from wsistore.cli.token import ScopeOption
from wsistore.errors import InputError, Kind
from wsistore.units import format_bytes, parse_bytes

_HELP = """Research projects: which slides the gateway shows, to whom, and under which pseudonyms.

\b
  wsistore project create skin-2026 --purpose "Protocol 2026-017" --until 2027-12-31
  wsistore project cohort skin-2026 --where "organ = 'ADICAP:OP' and stain = 'HES'"
  wsistore project grant skin-2026 alice
  wsistore project show skin-2026
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="The project's name.")]
UntilOption = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="Last day, UTC, such as 2027-12-31; by default none."),
]
GroupOption = Annotated[
    bool, typer.Option("--group", help="WHO is a group of the identity provider (OpenID Connect), not a user.")
]
WhoArgument = Annotated[str, typer.Argument(metavar="WHO", help="A user as in tokens and sign-ins, or a group.")]


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PROJECT", help="Small letters, digits and hyphens.")],
    purpose: Annotated[str, typer.Option(metavar="TEXT", help="What for, with the reference of its approval.")],
    until: UntilOption = None,
    dates: Annotated[
        str, typer.Option(metavar="HOW", help="How days are told: shifted, month, year or none; else as the site says.")
    ] = "",
    first_level: Annotated[
        int, typer.Option(metavar="N", min=0, max=16, help="Levels below it are not shown; 0 shows all.")
    ] = 0,
    requests: Annotated[
        float | None, typer.Option(metavar="N", min=0.01, help="Requests per second of one token.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bytes per second of one token, as '50 MB/s'.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(metavar="N", min=1, help="Requests of one token at a time.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project. It shows nothing to nobody until it has a cohort and grants.

    \b
      wsistore project create skin-2026 --purpose "Protocol 2026-017" --until 2027-12-31
    """  # noqa: D301
    with reported(as_json=as_json):
        limits = {
            "requests_per_second": requests,
            "bytes_per_second": None if rate is None else _bytes(rate, per_second=True),
            "concurrent": concurrent,
        }
        with opened(context, writing=True) as site:
            ops.create_project(
                site,
                name,
                purpose=purpose,
                expires_at=_end(until),
                dates=dates,
                first_level=first_level,
                limits=limits,
            )
            shown = ops.show_project(site, name)
        if as_json:
            print_json(shown.to_json())
        else:
            say(f"Project {name} is made. Next: 'wsistore project cohort {name}', 'wsistore project grant {name}'.")


@app.command("ls")
def ls(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all projects, also those that are over.

    \b
      wsistore project ls
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            found = ops.list_projects(site)
        if as_json:
            for one in found:
                print_json(one.to_json())
        elif found:
            rows = [
                (
                    one.row.name,
                    one.state,
                    short(one.row.expires_at)[:10],
                    str(len(one.grants)),
                    "" if one.cohort is None else one.cohort.condition or "list",
                    one.row.purpose,
                )
                for one in found
            ]
            print_table(("project", "state", "until", "grants", "cohort", "purpose"), rows, right=("grants",))
        else:
            say("There are no projects.")


@app.command("show")
def show(context: typer.Context, name: ProjectArgument, as_json: JsonOption = False) -> None:
    """Show a project: its cohort, how many slides it shows now, and to whom.

    \b
      wsistore project show skin-2026
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            one = ops.show_project(site, name)
        if as_json:
            print_json(one.to_json())
            return
        cohort = "none yet" if one.cohort is None else one.cohort.condition or "a list"
        say(f"{name} ({one.state}): {one.row.purpose}")
        say(f"cohort: {cohort}")
        say(f"slides: {'unknown' if one.slides is None else one.slides}")
        _print_grants(one)
        _warn(one)


def _print_grants(one: ops.ShownProject) -> None:
    rows = [
        (
            grant.kind,
            grant.subject,
            ", ".join(grant.scopes),
            short(grant.expires_at)[:10],
            format_bytes(one.spent.get(grant.grant, 0)),
            "" if grant.bytes_quota is None else format_bytes(grant.bytes_quota),
        )
        for grant in one.grants
    ]
    if rows:
        print_table(
            ("granted to", "name", "scopes", "until", "this month", "quota"), rows, right=("this month", "quota")
        )


def _warn(one: ops.ShownProject) -> None:
    if one.problem:
        warn(one.problem)
    if one.unknown:
        warn(
            f"{one.unknown} slides that the condition chooses are left out: nobody knows whose they are, so that an "
            "objection could not reach them."
        )


@app.command("cohort")
def cohort(
    context: typer.Context,
    name: ProjectArgument,
    where: Annotated[str, typer.Option(metavar="SQL", help="A condition: the slides for which it is true.")] = "",
    file: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="A list of slides, one per line.", **ANY_PATH)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which slides a project shows, by a condition or a list, in the place of what was said before.

    A condition may name organ, diagnoses, stain, block, age_at, received_month, received_year, magnification,
    um_per_px, width, height, format, mode, collections and tags. It is evaluated again as slides come in.

    \b
      wsistore project cohort skin-2026 --where "organ = 'ADICAP:OP' and received_year >= 2020"
      wsistore project cohort skin-2026 --list slides.txt
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            slides = [] if file is None else ops.read_numbers(file)
            ops.set_cohort(site, name, where=where, slides=slides)
            one = ops.show_project(site, name)
        if as_json:
            print_json(one.to_json())
            return
        say(f"{name} shows {'an unknown number of' if one.slides is None else one.slides} slides.")
        _warn(one)


@app.command("grant")
def grant(
    context: typer.Context,
    name: ProjectArgument,
    who: WhoArgument,
    group: GroupOption = False,
    scope: ScopeOption = None,
    until: UntilOption = None,
    quota: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes per calendar month, as '500 GB'; by default no end.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let somebody see a project, in the place of what they were granted before.

    \b
      wsistore project grant skin-2026 alice --until 2027-06-30 --quota "500 GB"
      wsistore project grant skin-2026 pathology-research --group --scope recall
    """  # noqa: D301
    with reported(as_json=as_json):
        size = None if quota is None else _bytes(quota)
        with opened(context, writing=True) as site:
            row = ops.grant_project(
                site, name, who, group=group, scopes=scope or (), expires_at=_end(until), bytes_quota=size
            )
        if as_json:
            scopes = list(row.scopes)
            fields = {"project": row.project, "kind": row.kind, "who": row.subject, "scopes": scopes}
            print_json(fields | {"expires_at": row.expires_at, "quota_bytes": row.bytes_quota})
        else:
            say(f"The {row.kind} {row.subject} may see {row.project} ({', '.join(row.scopes)}).")


@app.command("revoke")
def revoke(
    context: typer.Context,
    name: ProjectArgument,
    who: WhoArgument,
    group: GroupOption = False,
    as_json: JsonOption = False,
) -> None:
    """End what somebody was granted, from the next request on.

    \b
      wsistore project revoke skin-2026 alice
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            count = ops.revoke_grant(site, name, who, group=group)
        if as_json:
            print_json({"project": name, "who": who, "revoked": count})
        else:
            say(f"{who} may not see {name} any more." if count else f"{who} was not granted {name}.")


@app.command("close")
def close(context: typer.Context, name: ProjectArgument, as_json: JsonOption = False) -> None:
    """Close a project for good, from the next request on. Its keys stay.

    \b
      wsistore project close skin-2026
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            row = ops.close_project(site, name)
        if as_json:
            print_json({"project": row.name, "closed_at": row.closed_at})
        else:
            say(f"Project {row.name} is closed since {short(row.closed_at)}.")


@app.command("rotate-keys")
def rotate_keys(
    context: typer.Context,
    name: ProjectArgument,
    retire: Annotated[
        bool, typer.Option("--retire", help="Make none, but let the pseudonyms of older keys answer no more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a project new pseudonyms; the old ones of slides answer until they are retired.

    \b
      wsistore project rotate-keys skin-2026
      wsistore project rotate-keys skin-2026 --retire
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            count = ops.rotate_project_keys(site, name, retire=retire)
        if as_json:
            print_json({"project": name, "generations": count})
        else:
            say(f"Pseudonyms of {count} generation{'s' if count > 1 else ''} of {name} answer.")


def _end(day: datetime | None) -> datetime | None:
    """Return the last moment of a day, UTC."""
    return None if day is None else day.replace(tzinfo=UTC) + timedelta(days=1, microseconds=-1)


def _bytes(text: str, *, per_second: bool = False) -> int:
    try:
        size = parse_bytes(text, per_second=per_second)
    except ValueError:
        size = 0
    if size < 1:
        msg = f"{text!r:.60} is no {'rate' if per_second else 'size'}."
        remedy = "Write it as '50 MB/s'." if per_second else "Write it as '500 GB'."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=remedy)
    return size
