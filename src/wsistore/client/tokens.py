"""Where a gateway's token comes from: what `connect` was given, the environment, or a file only its owner can read.

What is sent to another process says where to look, never the token: a token in a task graph or a pickle ends up on
disks, in dashboards and in logs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from wsistore.errors import DeniedError, Kind, SiteError

VARIABLE = "WSISTORE_TOKEN"
FILE_VARIABLE = "WSISTORE_TOKEN_FILE"
DEFAULT_FILE = Path("~/.config/wsistore/token")

_given: dict[str, Callable[[], str]] = {}
_lock = Lock()


def give(url: str, find: Callable[[], str]) -> None:
    """Remember in this process how to get the token of a gateway."""
    with _lock:
        _given[url] = find


def forget(url: str) -> None:
    """Forget what `give` was told."""
    with _lock:
        _given.pop(url, None)


@dataclass(frozen=True, slots=True)
class Fixed:
    """A token that stays the same. Does not show."""

    _token: str

    def __call__(self) -> str:
        """Return it."""
        return self._token

    def __repr__(self) -> str:
        """Show nothing."""
        return "<a token>"


@dataclass(frozen=True, slots=True)
class Authorization:
    """The header for a gateway, found anew in every process.

    Raises
    ------
    DeniedError
        When it is called, if there is no token.
    SiteError
        When it is called, if the file can be read by others.

    """

    url: str
    file: str | None = None

    def __call__(self) -> str:
        """Return ``Bearer`` and the token."""
        return f"Bearer {self.token()}"

    def token(self) -> str:
        """Return the token."""
        with _lock:
            find = _given.get(self.url)
        if find is not None:
            return find()
        if self.file is None and (found := os.environ.get(VARIABLE, "").strip()):
            return checked(found, VARIABLE)
        named = self.file or os.environ.get(FILE_VARIABLE)
        path = Path(named).expanduser() if named else DEFAULT_FILE.expanduser()
        if named is None and not path.is_file():
            msg = f"There is no token for {self.url}."
            remedy = f"Give it to connect(), set {VARIABLE}, or put it into {DEFAULT_FILE} (mode 0600)."
            raise DeniedError(msg, kind=Kind.TOKEN_MISSING, remedy=remedy)
        return from_file(path)


def from_file(path: Path) -> str:
    """Return the token in a file that only its owner can read."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                msg = f"The token's file {path} can be read by others."
                raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"chmod 600 {path}, and renew the token.")
            text = file.read(8192).decode("ascii", "replace").strip()
    except OSError as error:
        msg = f"The token's file {path} cannot be read ({error.strerror})."
        raise DeniedError(msg, kind=Kind.TOKEN_MISSING, remedy="Put the token into it, mode 0600.") from error
    return checked(text, str(path))


def checked(token: str, where: str) -> str:
    """Return a token if it can stand in a header; `DeniedError` if not. The message never shows it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        msg = f"What {where} holds is no token."
        raise DeniedError(msg, kind=Kind.TOKEN_INVALID, remedy="Give the token as it was shown, in one line.")
    return token
