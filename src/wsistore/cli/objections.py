"""Commands about patients of research projects: project object, project withdraw-objection, project pseudonyms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, say
from wsistore.cli.project import ProjectArgument

PatientsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[IPP...]", help="The hospital's numbers of patients.", show_default=False)
]
FileOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A list of numbers, CSV or text: its first column.", **ANY_PATH)
]


def object_to_research(
    context: typer.Context, patients: PatientsArgument = None, file: FileOption = None, as_json: JsonOption = False
) -> None:
    """Note that patients object: their slides are out of all projects from the next request on, also later ones.

    A list keeps numbers out of the shell's history. Numbers that the catalogue does not know count when they come.

    \b
      wsistore project object PATIENT-0001
      wsistore project object --file objections.csv
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            count = ops.object_to_research(site, _numbers(patients, file))
            total = ops.count_objections(site)
        if as_json:
            print_json({"new": count, "objections": total})
        else:
            say(f"Objections: {count} new, {total} in all.")


def withdraw_objection(
    context: typer.Context, patients: PatientsArgument = None, file: FileOption = None, as_json: JsonOption = False
) -> None:
    """Note that patients do not object any more.

    \b
      wsistore project withdraw-objection PATIENT-0001
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            count = ops.withdraw_objection(site, _numbers(patients, file))
            total = ops.count_objections(site)
        if as_json:
            print_json({"withdrawn": count, "objections": total})
        else:
            say(f"Objections: {count} withdrawn, {total} left.")


def pseudonyms(
    context: typer.Context,
    name: ProjectArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV: kind, ours, theirs.", **ANY_PATH)],
    as_json: JsonOption = False,
) -> None:
    """Let a project show pseudonyms that the site was given, such as those of a research data warehouse.

    \b
      wsistore project pseudonyms skin-2026 correspondence.csv
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            count = ops.import_correspondence(site, name, file)
        if as_json:
            print_json({"project": name, "pseudonyms": count})
        else:
            say(f"{name} shows {count} pseudonyms that were given; the file is not needed any more.")


def _numbers(patients: list[str] | None, file: Path | None) -> list[str]:
    return [*(patients or ()), *(ops.read_numbers(file) if file is not None else ())]
