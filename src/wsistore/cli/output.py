"""What commands print: tables for people, one JSON object per line for programs, errors with their remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsistore.errors import WsistoreError

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]


def print_json(document: Json) -> None:
    """Print one object on one line and flush, so that a reader sees it at once."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """Print a table; the columns named in `right` are aligned to the right."""
    from rich.table import Table  # a seventh of a second that --help and --json do not need

    table = Table(box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def console(*, stderr: bool = False) -> Console:
    """Return a console that breaks no lines where nobody looks: pipes and files get whole ones."""
    from rich.console import Console  # as above

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=None if stream.isatty() else 200)


def print_error(error: WsistoreError, *, as_json: bool) -> None:
    """Print an error for people on stderr, for programs on stdout."""
    if as_json:
        print_json({"error": {"kind": str(error.kind), "message": str(error)}})
        return
    shown = console(stderr=True)
    shown.print(f"[bold red]error[/]: {_plain(error.message)}")
    if error.remedy:
        shown.print(f"       {_plain(error.remedy)}")


def warn(message: str) -> None:
    """Print a warning on stderr."""
    console(stderr=True).print(f"[yellow]warning[/]: {_plain(message)}")


def _plain(text: str) -> str:
    """Keep rich from reading brackets in file names as markup."""
    return text.replace("[", "\\[")


def short(moment: str | None) -> str:
    """Return an ISO moment as people read it: ``2026-01-31 12:00``."""
    return "" if moment is None else moment[:16].replace("T", " ")
