"""Commands about what is known of slides: tables from the hospital, collections, tags."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, warn
from wsistore.errors import InputError, Kind
from wsistore.model import LabelKind

_HELP = """Take in what the hospital knows of patients, cases and slides, and see how fresh that is.

Retention rules live on it: last stay, birth, death, recourses, validation of reports. docs/metadata.md describes the
tables.

\b
  wsistore metadata import patients.csv encounters.csv cases.csv --as-of 2026-11-22T02:00
  wsistore metadata status
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

_SHOWN = 10
"""Places that people are shown; --json has all."""


@app.command("import")
def import_(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tables, CSV or Parquet.", **ANY_PATH)],
    as_of: Annotated[
        str, typer.Option("--as-of", metavar="MOMENT", help="Up to when they are complete: '2026-11-22T02:00'.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Take in tables of the hospital: all of them, or nothing.

    \b
      wsistore metadata import feed/*.csv --as-of 2026-11-22T02:00
      wsistore metadata import patients.parquet encounters.parquet --as-of 2026-11-22

    Which table a file is, its name or its columns tell. The same tables again change nothing, and their order does not
    matter: of each value the newest counts. What was corrected is told in the events of the slides that it concerns.
    """  # noqa: D301 - \b keeps typer from joining the lines
    with reported(as_json=as_json):
        moment = _moment(as_of)
        with opened(context, writing=True) as site:
            done = ops.import_metadata(site, files, moment)
        if as_json:
            print_json(asdict(done))
        else:
            rows = [(kind, str(count), str(done.changed[kind])) for kind, count in done.rows.items()]
            print_table(("table", "rows", "new or changed"), rows, right=("rows", "new or changed"))
            say(f"Told in the events of {done.slides} slides.")
        if done.provisional:
            warn(f"{done.provisional} INS are not qualified: they are kept as provisional, and reference no data.")
        for place in done.unknown[:_SHOWN]:
            warn(f"{place} speaks of a slide that is not there; it was passed over.")
        if len(done.unknown) > _SHOWN:
            warn(f"{len(done.unknown) - _SHOWN} more rows speak of slides that are not there.")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        msg = f"{text!r} is no moment."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Write --as-of 2026-11-22T02:00.") from error


@app.command("status")
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show up to when each kind of table is complete; deletions are refused where that is too long ago.

    \b
      wsistore metadata status
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            rows = ops.feed_status(site)
        if as_json:
            for row in rows:
                print_json(asdict(row))
            return
        print_table(
            ("table", "complete up to", "needed for deleting"),
            ((row.kind, short(row.as_of) or "never imported", "yes" if row.needed else "") for row in rows),
        )
        missing = [row.kind for row in rows if row.needed and row.as_of is None]
        if missing:
            warn(f"Nothing can be deleted: {', '.join(missing)} were never imported.")


# --- collections and tags ---------------------------------------------------------------------------------------------

_Slides = Annotated[list[str] | None, typer.Argument(metavar="SLIDE...", help="Keys, their beginnings, names.")]
_Cases = Annotated[list[str] | None, typer.Option("--case", metavar="CASE", help="All slides of a case; repeat.")]
_All = Annotated[bool, typer.Option("--all", help="From all slides: the name is gone then.")]

_HELP_COLLECTION = """Keep slides together by a name that retention rules can speak of: teaching, a national platform.

\b
  wsistore collection add teaching 4szq CMU-1-Small-Region.svs
  wsistore collection add national-platform --case CASE-0001
  wsistore collection ls
"""
_HELP_TAG = """Mark slides by a word that rules can speak of: a pathologist's slides of interest.

\b
  wsistore tag add of-interest 4szq
  wsistore tag ls of-interest
"""

collection = typer.Typer(help=_HELP_COLLECTION, no_args_is_help=True, rich_markup_mode=None)
tag = typer.Typer(help=_HELP_TAG, no_args_is_help=True, rich_markup_mode=None)


@collection.command("add")
def collection_add(
    context: typer.Context, name: str, slides: _Slides = None, cases: _Cases = None, as_json: JsonOption = False
) -> None:
    """Put slides into a collection; a new name makes a new one.

    \b
      wsistore collection add teaching 4szq CMU-1-Small-Region.svs
      wsistore collection add teaching --case CASE-0001
    """  # noqa: D301
    _add(context, LabelKind.COLLECTION, name, slides, cases, as_json=as_json)


@collection.command("remove")
def collection_remove(
    context: typer.Context,
    name: str,
    slides: _Slides = None,
    cases: _Cases = None,
    every: _All = False,
    as_json: JsonOption = False,
) -> None:
    """Take slides out of a collection.

    \b
      wsistore collection remove teaching 4szq
      wsistore collection remove teaching --all
    """  # noqa: D301
    _remove(context, LabelKind.COLLECTION, name, slides, cases, every=every, as_json=as_json)


@collection.command("ls")
def collection_ls(
    context: typer.Context, name: Annotated[str | None, typer.Argument()] = None, as_json: JsonOption = False
) -> None:
    """List the collections, or the slides of one.

    \b
      wsistore collection ls
      wsistore collection ls teaching
    """  # noqa: D301
    _list(context, LabelKind.COLLECTION, name, as_json=as_json)


@tag.command("add")
def tag_add(
    context: typer.Context, name: str, slides: _Slides = None, cases: _Cases = None, as_json: JsonOption = False
) -> None:
    """Give slides a tag.

    \b
      wsistore tag add of-interest 4szq
      wsistore tag add rare --case CASE-0001
    """  # noqa: D301
    _add(context, LabelKind.TAG, name, slides, cases, as_json=as_json)


@tag.command("remove")
def tag_remove(
    context: typer.Context,
    name: str,
    slides: _Slides = None,
    cases: _Cases = None,
    every: _All = False,
    as_json: JsonOption = False,
) -> None:
    """Take a tag from slides.

    \b
      wsistore tag remove of-interest 4szq
      wsistore tag remove of-interest --all
    """  # noqa: D301
    _remove(context, LabelKind.TAG, name, slides, cases, every=every, as_json=as_json)


@tag.command("ls")
def tag_ls(
    context: typer.Context, name: Annotated[str | None, typer.Argument()] = None, as_json: JsonOption = False
) -> None:
    """List the tags, or the slides that have one.

    \b
      wsistore tag ls
      wsistore tag ls of-interest
    """  # noqa: D301
    _list(context, LabelKind.TAG, name, as_json=as_json)


def _add(
    context: typer.Context,
    kind: LabelKind,
    name: str,
    slides: list[str] | None,
    cases: list[str] | None,
    *,
    as_json: bool,
) -> None:
    if not slides and not cases:
        msg = "Name slides, or cases with --case."
        raise typer.BadParameter(msg)
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            changed = ops.label(site, kind, name, slides or [], cases=cases or [])
        _print_changed(kind, name, changed, "added", as_json=as_json)


def _remove(
    context: typer.Context,
    kind: LabelKind,
    name: str,
    slides: list[str] | None,
    cases: list[str] | None,
    *,
    every: bool,
    as_json: bool,
) -> None:
    if bool(slides or cases) == every:
        msg = "Name slides or cases, or give --all, not both."
        raise typer.BadParameter(msg)
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            changed = ops.unlabel(site, kind, name, None if every else slides or [], cases=cases or [])
        _print_changed(kind, name, changed, "removed", as_json=as_json)


def _print_changed(kind: LabelKind, name: str, changed: list[str], what: str, *, as_json: bool) -> None:
    if as_json:
        for slide in changed:
            print_json({str(kind): name, "slide": slide, "status": what})
    else:
        say(f"{kind} {name}: {len(changed)} slides {what}.")


def _list(context: typer.Context, kind: LabelKind, name: str | None, *, as_json: bool) -> None:
    with reported(as_json=as_json), opened(context, writing=False) as site:
        if name is None:
            counts = site.catalog.label_counts(kind)
            if as_json:
                for label, slides, last in counts:
                    print_json({str(kind): label, "slides": slides, "last_added_at": last})
            else:
                rows = [(label, str(slides), short(last)) for label, slides, last in counts]
                print_table((str(kind), "slides", "last added"), rows, right=("slides",))
            return
        found = ops.list_labels(site, kind, name)
        if as_json:
            for one in found:
                print_json({str(kind): name, "slide": one.slide, "actor": one.actor, "at": one.at})
        else:
            print_table(("slide", "by", "at"), ((one.slide, one.actor, short(one.at)) for one in found))
