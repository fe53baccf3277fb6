"""The command ``wsistore``: options before the command, and the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsistore import __version__
from wsistore.cli import site, slides
from wsistore.cli.context import ANY_PATH, Options, set_up_output

app = typer.Typer(
    name="wsistore",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog="Exit codes: 0 all well, 2 usage, 3 the source cannot be taken, 4 not there, 5 busy or changed, try again, "
    "6 a tier fails, 7 stored bytes are not what they were, 8 the site needs mending, 9 several of these, 1 anything "
    "else. docs/command-line.md tells more.",
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
    slides.verify,
    slides.restore,
    slides.export,
    site.events,
):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app()
