"""The command ``wsistore``: options before the command, and the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsistore import __version__
from wsistore.cli import (
    apply,
    approvals,
    approvers,
    bordereau,
    catalog,
    flows,
    forecast,
    holds,
    intake,
    invoices,
    keys,
    metadata,
    moves,
    objections,
    plans,
    project,
    recalls,
    reencode,
    report,
    rules,
    scrub,
    serve,
    site,
    slides,
    tier,
    token,
    tune,
)
from wsistore.cli.context import ANY_PATH, Options, set_up_output

app = typer.Typer(
    name="wsistore",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog="Exit codes: 0 all well, 2 usage, 3 the source cannot be taken, 4 not there, 5 busy or changed, try again, "
    "6 a tier fails, 7 stored bytes are not what they were, 8 the site needs mending, 9 several of these, "
    "10 the workers fail, 11 no token in force, 1 anything else. docs/command-line.md tells more.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"wsistore {__version__}")
        raise typer.Exit


@app.callback()
def wsistore(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Option(
            "-C", metavar="DIR", help="The site; by default WSISTORE_HOME, or the current folder's.", **ANY_PATH
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Keep whole slide images: one copy that is the vendor's file and OME-Zarr at once, byte for byte."""
    set_up_output(verbose=verbose)
    context.obj = Options(folder)


for command in (
    site.init,
    slides.ingest,
    site.ls,
    site.show,
    reencode.reencode,
    moves.copy,
    moves.move,
    moves.drop,
    approvals.approve,
    apply.apply,
    apply.receipt,
    recalls.recall,
    moves.recover,
    scrub.scrub,
    slides.verify,
    slides.restore,
    slides.export,
    tune.tune,
    report.report,
    serve.serve,
    site.events,
):
    app.command()(command)
app.add_typer(tier.app, name="tier")
app.add_typer(catalog.app, name="catalog")
app.add_typer(flows.app, name="flows")
app.add_typer(intake.app, name="intake")
app.add_typer(invoices.app, name="invoice")
app.add_typer(keys.app, name="keys")
app.add_typer(metadata.app, name="metadata")
app.add_typer(metadata.collection, name="collection")
app.add_typer(metadata.tag, name="tag")
app.add_typer(holds.app, name="hold")
plans.app.command("export")(bordereau.export)
app.add_typer(rules.app, name="rules")
app.add_typer(plans.app, name="plan")
app.add_typer(forecast.app, name="forecast")
app.add_typer(approvers.app, name="approver")
app.add_typer(approvals.visa, name="visa")
project.app.command("object")(objections.object_to_research)
project.app.command("withdraw-objection")(objections.withdraw_objection)
project.app.command("pseudonyms")(objections.pseudonyms)
app.add_typer(project.app, name="project")
app.add_typer(token.app, name="token")


def main() -> None:
    """Run the command line."""
    app()
