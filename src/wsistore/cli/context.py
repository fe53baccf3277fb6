"""What every command shares: where the site is, how to print, how an error becomes an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsistore import ops
from wsistore.cli.output import print_error
from wsistore.errors import Kind, SiteError, WsistoreError

if TYPE_CHECKING:
    from wsistore.ops import Site

SEVERAL_REASONS = 9
"""Exit code where slides failed for reasons that have different exit codes."""
INTERRUPTED = 130
_REPORT = "Please report this, with what the same command says after 'wsistore --verbose'."

_log = logging.getLogger(__name__)

ANY_PATH: dict[str, Any] = {"readable": False}
"""Typer would call a path that cannot be read wrong usage, and refuse all others with it."""
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line instead of a table.")]
SlideArgument = Annotated[
    str, typer.Argument(metavar="SLIDE", help="A slide's key, at least 4 characters of its beginning, or its name.")
]


@dataclass(slots=True)
class Options:
    """The options before the command."""

    folder: Path | None = None


def options(context: typer.Context) -> Options:
    """Return the options before the command."""
    found: Options = context.obj
    return found


@contextmanager
def opened(context: typer.Context, *, writing: bool) -> Iterator[Site]:
    """Yield the site; where it only has to be read, one that cannot be written will do."""
    folder = options(context).folder
    try:
        site = ops.open_site(folder)
    except SiteError as error:
        if writing or error.kind is not Kind.SITE_READ_ONLY:
            raise
        site = ops.open_site(folder, read_only=True)
    with site:
        yield site


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Turn what goes wrong into a message and an exit code."""
    try:
        yield
    except WsistoreError as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output has gone: nobody is left to be told, not even by the last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except typer.Exit:
        raise
    except Exception as error:
        _log.debug("unexpected", exc_info=True)
        unknown = WsistoreError(f"Something went wrong that wsistore does not know: {error!r}.", remedy=_REPORT)
        print_error(unknown, as_json=as_json)
        raise typer.Exit(unknown.exit_code) from error


def exit_code(codes: set[int]) -> int:
    """Return the exit code of a command over many slides from those of the failures among them."""
    if len(codes) > 1:
        return SEVERAL_REASONS
    return next(iter(codes), 0)


def set_up_output(*, verbose: bool) -> None:
    """Send the log to stderr: warnings, or everything that wsistore says; print what the locale lacks as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("wsistore").setLevel(logging.DEBUG if verbose else logging.WARNING)
    # Vendors' files break DICOM's rules all the time; what matters of it, the readers say themselves.
    for name in ("pydicom", "tifffile"):
        logging.getLogger(name).propagate = verbose
        logging.getLogger(name).addHandler(logging.NullHandler())
