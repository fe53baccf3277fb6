"""What commands print: tables for people, one JSON object per line for programs, errors with their remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsistore.errors import WsistoreError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Json = Mapping[str, Any]

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
"""A file name may hold what moves the cursor or recolours the terminal."""
_NO_WIDTH = 100_000
"""Characters: so wide that no table of ours is ever folded."""


def print_json(document: Json) -> None:
    """Print one object on one line and flush, so that a reader sees it at once.

    What the stream cannot carry (undecodable bytes of file names, or letters where the locale is old) becomes JSON's
    own escapes.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(document, ensure_ascii=encoding != "utf8", default=str)
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """Print a table; the columns named in `right` are aligned to the right."""
    from rich.table import Table  # a seventh of a second that --help and --json do not need
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column in columns:
        header = Text(plain(column), style="bold")
        table.add_column(header, justify="right" if column in aligned else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console().print(table)


def console(*, stderr: bool = False) -> Console:
    """Return a console that breaks no lines where nobody looks: pipes and files get whole ones."""
    from rich.console import Console  # as above

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _NO_WIDTH
    return Plain(file=stream, highlight=False, soft_wrap=width is not None, width=width)


def fits(characters: int) -> bool:
    """Return whether lines of so many characters fit on the terminal; into pipes and files all do."""
    return console().width >= characters


def print_error(error: WsistoreError, *, as_json: bool) -> None:
    """Print an error for people on stderr, for programs on stdout."""
    if as_json:
        print_json({"error": {"kind": str(error.kind), "message": str(error)}})
        return
    first, *more = error.message.split("\n")
    _print_label("error", "bold red", first)
    for line in more:  # indented, so that no name with a line feed in it looks like another message
        console(stderr=True).print(_text(f"       {line}"))
    if error.remedy:
        console(stderr=True).print(_text(f"       {error.remedy}"))


def warn(message: str) -> None:
    """Print a warning on stderr."""
    _print_label("warning", "yellow", message)


def tell(message: str) -> None:
    """Print a line for people on stderr, where it is not taken for the answer."""
    console(stderr=True).print(_text(message))


def say(message: str) -> None:
    """Print a line for people on stdout."""
    console().print(_text(message))


def _print_label(label: str, style: str, message: str) -> None:
    from rich.text import Text  # as above

    console(stderr=True).print(Text.assemble((label, style), ": ", plain(message)))


def _text(message: str) -> Text:
    from rich.text import Text  # as above

    return Text(plain(message))


def plain(text: str) -> str:
    """Return `text` as a terminal may see it: control characters and undecodable bytes of file names as escapes."""
    shown = text.translate(_CONTROLS)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def short(moment: str | None) -> str:
    """Return an ISO moment as people read it: ``2026-01-31 12:00``."""
    return "" if moment is None else moment[:16].replace("T", " ")
