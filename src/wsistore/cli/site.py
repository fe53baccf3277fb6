"""Commands about the site and what it holds: init, ls, show, events."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, SlideArgument, opened, reported
from wsistore.cli.output import print_json, print_table, say, short, warn
from wsistore.errors import IntegrityError, Kind, MissingError
from wsistore.events import Event
from wsistore.units import format_bytes

Json = dict[str, Any]


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or one that is no site yet.", **ANY_PATH)
    ],
    name: Annotated[str, typer.Option(help="The site's name for people; by default the folder's.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a site: wsistore.toml, the catalogue, and the tiers hot, warm and cold beside them.

    \b
      wsistore init /srv/slides
      export WSISTORE_HOME=/srv/slides
    """  # noqa: D301
    with reported(as_json=as_json):
        made = ops.init_site(folder, name=name)
        tiers = [(tier.name, str(tier.preset), tier.url) for tier in made.tiers]
        if as_json:
            print_json({"site": str(made.folder), "name": made.name, "tiers": [tier[0] for tier in tiers]})
            return
        print_table(("tier", "preset", "place"), tiers)
        say("")
        say(f"The site is {made.folder}; its settings are in wsistore.toml. Next:")
        say(f"  export WSISTORE_HOME={shlex.quote(str(made.folder))}")
        say("  wsistore ingest PATH...")


def ls(
    context: typer.Context,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only slides for which this condition is true; see below.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the slides.

    \b
      wsistore ls
      wsistore ls --where "format = 'dicom' and bytes_source > 1e9"
      wsistore ls --where "stain = 'HE' and verified_at < now - interval 30 day"

    A condition speaks of these columns: slide, name, format, mode, series, created_at, case_id, patient_id, block,
    stain, metadata, width, height, um_per_px, magnification, bytes_source, version, copies, tiers, bytes_stored,
    objects, verified_at; and of now.
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            rows = list(ops.list_slides(site, where))
        if not as_json:
            _print_slides(rows)
            return
        for row in rows:
            print_json(row)


def _print_slides(rows: Iterable[Json]) -> None:
    print_table(
        ("slide", "name", "format", "mode", "pixels", "µm/px", "source", "stored", "tiers", "verified"),
        (
            (
                row["slide"],
                row["name"],
                row["format"],
                row["mode"],
                f"{row['width']} × {row['height']}",
                f"{row['um_per_px'][0]:.4g}" if row["um_per_px"] else "",
                format_bytes(row["bytes_source"]),
                format_bytes(row["bytes_stored"]),
                " ".join(row["tiers"]),
                short(row["verified_at"]),
            )
            for row in rows
        ),
        right=("pixels", "µm/px", "source", "stored"),
    )


def show(context: typer.Context, slide: SlideArgument, as_json: JsonOption = False) -> None:
    """Show one slide: what it is, its files, every copy with its evidence, and its holds.

    \b
      wsistore show 4szq
      wsistore show CMU-1-Small-Region.svs --json
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            found = ops.show(site, slide)
        if as_json:
            print_json(found)
        else:
            _print_slide(found)


def _print_slide(found: Json) -> None:
    facts = [
        (key, _text(value))
        for key, value in found.items()
        if key not in {"copies", "files", "holds"} and value is not None
    ]
    print_table(("", found["name"]), facts)
    say("")
    files = [(f["name"], format_bytes(f["size_bytes"]), f["sha256"]) for f in found["files"]]
    print_table(("file", "size", "SHA-256"), files, right=("size",))
    say("")
    columns = (
        *("tier", "preset", "fold_height", "version", "state", "bytes_stored", "ratio", "objects"),
        *("evidence", "verified_at"),
    )
    copies = [copy | {"ratio": _ratio(copy["bytes_stored"], copy["bytes_source"])} for copy in found["copies"]]
    rows = [[_text(copy[column]) for column in columns] for copy in copies]
    print_table(columns, rows, right=("fold_height", "version", "bytes_stored", "ratio", "objects"))
    if found["holds"]:
        say("")
        holds = [(hold["reason"], hold["actor"], short(hold["placed_at"])) for hold in found["holds"]]
        print_table(("on hold because", "placed by", "since"), holds)
    if found["copies_good"] < found["copies_required"]:
        good, required = found["copies_good"], found["copies_required"]
        warn(f"it has good copies in {good} of {required} tiers required: 'wsistore copy' makes another")
    for copy in found["copies"]:
        for reason, count in sorted(copy["fallbacks"].items()):
            warn(f"in {copy['tier']}, {count} tiles are not encoded as the preset wants, but exactly: {reason}")


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def events(
    context: typer.Context,
    slide: Annotated[str | None, typer.Argument(metavar="[SLIDE]", help="Only this slide's.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Prove the hash chains instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the audit trail: what happened to which slide, when, and who did it.

    \b
      wsistore events 4szq
      wsistore events KEY            of a slide that was deleted, too, by its whole key
      wsistore events --check        proves that nothing in the chains was altered, left out or put in
    """  # noqa: D301
    if check and slide is not None:
        msg = "Chains are proven all together: leave SLIDE or --check out."
        raise typer.BadParameter(msg)
    with reported(as_json=as_json):
        with opened(context, writing=False) as site:
            if check:
                _check_events(ops.check_events(site), as_json=as_json)
                return
            found = site.catalog.events() if slide is None else _events_of(site, slide)
        if not as_json:
            _print_events(found)
            return
        for event in found:
            print_json(asdict(event))


def _events_of(site: ops.Site, slide: str) -> list[Event]:
    """Return a slide's events; of one that was deleted, too, which is known by its whole key alone."""
    try:
        return site.catalog.events(site.catalog.resolve(slide))
    except MissingError:
        found = site.catalog.events(slide)
        if not found:
            raise
        return found


def _check_events(problems: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"ok": not problems, "problems": problems})
    else:
        for problem in problems:
            warn(problem)
    if problems:
        msg = f"The audit trail has {len(problems)} faults."
        error = IntegrityError(msg, kind=Kind.CHAIN_BROKEN, remedy="Restore the catalogue from a backup.")
        if as_json:
            raise typer.Exit(error.exit_code)
        raise error
    if not as_json:
        say("The audit trail is whole.")


def _print_events(found: Iterable[Event]) -> None:
    columns = ("at", "slide", "no.", "what", "who", "detail")
    rows = [(short(e.at), e.slide, str(e.number), str(e.kind), e.actor, _text(dict(e.detail))) for e in found]
    print_table(columns, rows, right=("no.",))
