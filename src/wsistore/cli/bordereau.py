"""The command that writes a plan's elimination list: plan export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsistore import ops
from wsistore.cli.context import ANY_PATH, JsonOption, opened, reported
from wsistore.cli.output import print_json, say
from wsistore.units import format_bytes


def export(
    context: typer.Context,
    plan: Annotated[
        Path, typer.Argument(metavar="[PLAN]", help="The plan's file; by default plan.parquet.", **ANY_PATH)
    ] = Path("plan.parquet"),
    bordereau: Annotated[
        bool, typer.Option("--bordereau", help="The elimination list that French public archives require.")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE.xlsx", help="Where; by default beside the plan.", **ANY_PATH),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what a plan deletes for good as an elimination list, to be printed, signed and archived.

    \b
      wsistore plan export plan.parquet --bordereau
      wsistore plan export plan.parquet --bordereau --to bordereau.xlsx

    It names slides by their keys, and no patient. The visas on it are recorded by 'wsistore visa add'.
    """  # noqa: D301
    if not bordereau:
        msg = "Say what is to be written: --bordereau."
        raise typer.BadParameter(msg, param_hint="--bordereau")
    with reported(as_json=as_json), opened(context, writing=False) as site:
        read = ops.read_plan(plan)
        out = to or plan.with_name(f"bordereau-{read.digest[:12]}.xlsx")
        made = ops.write_bordereau(site, read, out, replace=replace)
        if as_json:
            print_json({"path": str(made.path), "slides": made.slides, "bytes": made.bytes, "groups": made.groups})
        else:
            say(f"{made.path}: {made.slides} slides, {format_bytes(made.bytes)}, in {made.groups} groups.")
