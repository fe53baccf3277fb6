"""How a passphrase comes in: typed, from a file descriptor, or from the environment."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from wsistore.errors import InputError, Kind

VARIABLE = "WSISTORE_PASSPHRASE"
_MOST_BYTES = 4096

FdOption = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd", metavar="N", min=0, help="Read the passphrase from this file descriptor, not the terminal."
    ),
]


def passphrase(fd: int | None, *, for_what: str, twice: bool = False) -> str:
    """Return the passphrase: from a file descriptor, else from ``$WSISTORE_PASSPHRASE``, else typed.

    Parameters
    ----------
    fd
        The descriptor; its first line counts.
    for_what
        Whose, for the question.
    twice
        Whether it is typed again, as where a key is made.

    Raises
    ------
    InputError
        If there is none, and nobody to ask.

    """
    if fd is not None:
        return _read(fd)
    found = os.environ.get(VARIABLE)
    if found:
        return found
    if not sys.stdin.isatty():
        msg = f"There is nobody to ask for the passphrase of {for_what}."
        remedy = f"Run it on a terminal, or give --passphrase-fd N or ${VARIABLE}."
        raise InputError(msg, kind=Kind.PASSPHRASE_WRONG, remedy=remedy)
    typed: str = typer.prompt(f"Passphrase of {for_what}", hide_input=True, confirmation_prompt=twice, err=True)
    return typed


def _read(fd: int) -> str:
    try:
        content = os.read(fd, _MOST_BYTES)
        return content.partition(b"\n")[0].decode("utf-8").rstrip("\r")
    except (OSError, ValueError, OverflowError) as error:
        msg = f"The passphrase cannot be read from file descriptor {fd} ({error})."
        raise InputError(msg, kind=Kind.PASSPHRASE_WRONG, remedy="Open it before: … 3< file.") from error
