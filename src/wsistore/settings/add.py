"""One more tier in an existing ``wsistore.toml``, whose comments and order stay as people left them."""

from __future__ import annotations

import fcntl
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsistore.errors import ConflictError, Kind, SiteError
from wsistore.settings.read import Reader, load
from wsistore.settings.read_tier import TierReader
from wsistore.settings.tiers import TierSettings
from wsistore.settings.values import FILE_NAME, Settings, absolute


@dataclass(frozen=True, slots=True)
class Change:
    """A settings file as it is and as it is to be. Nothing is written until `write`."""

    path: Path
    before: bytes
    after: bytes
    settings: Settings
    """What the file says afterwards."""
    added: str
    """The lines that are new."""

    def write(self) -> None:
        """Replace the file: whole or not at all, even when the power fails.

        Raises
        ------
        ConflictError
            If somebody changed it meanwhile (`Kind.BUSY`).
        SiteError
            If it cannot be written (`Kind.SITE_READ_ONLY`).

        """
        self._replace(self.before, self.after)

    def undo(self) -> None:
        """Put the file back as it was before `write`; raises as that does."""
        self._replace(self.after, self.before)

    def _replace(self, old: bytes, new: bytes) -> None:
        try:
            with _locked(self.path.parent):
                if self.path.read_bytes() != old:
                    msg = f"{self.path} was changed by somebody else meanwhile."
                    raise ConflictError(msg, remedy="Run the command again.")
                _write(self.path, new)
        except OSError as error:
            msg = f"{self.path}: cannot be written ({error.strerror or error})."
            raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the site's folder writable.") from error


def tier_of(settings: Settings, name: str, values: Mapping[str, Any]) -> TierSettings:
    """Return the tier that `values` make in the site of `settings`; nothing is compared with its other tiers.

    Raises
    ------
    SiteError
        If a value is not allowed.

    """
    reader = TierReader(settings.folder / FILE_NAME)
    return reader.tier(settings.folder, {name: values}, name, required_copies=settings.required_copies)


def with_tier(folder: Path, name: str, values: Mapping[str, Any]) -> Change:
    """Return the change that adds the table ``[tiers.NAME]`` with `values` to the settings of the site in `folder`.

    Raises
    ------
    SiteError
        If the settings are not in order, there is a tier of this name already, or a value is not allowed.

    """
    current = load(folder)
    path = folder / FILE_NAME
    if any(tier.name == name for tier in current.tiers):
        msg = f"{path}: there is a tier {name!r} already."
        raise SiteError(msg, remedy="Give the new one another name, or edit the file.")
    before = path.read_bytes()
    added = _lines(name, values)
    text = before.decode("utf-8")
    gap = "" if text.endswith("\n") else "\n"
    after = f"{text}{gap}\n{added}"
    try:
        settings = Reader(path).settings(absolute(folder), tomllib.loads(after))
    except tomllib.TOMLDecodeError as error:
        # An inline table tiers = {…} cannot be added to by lines at the end.
        msg = f"{path}: the tier cannot be added by lines at the end: {error}."
        raise SiteError(msg, remedy="Write each tier as a table [tiers.NAME] of its own.") from error
    return Change(path, before, after.encode("utf-8"), settings, added)


def _lines(name: str, values: Mapping[str, Any]) -> str:
    import tomlkit  # only needed here, and slower to load than all the settings are to read

    table = tomlkit.table()
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = tomlkit.inline_table()
            inner.update(value)
            table.add(key, inner)
        else:
            table.add(key, value)
    document = tomlkit.document()
    tiers = tomlkit.table(is_super_table=True)
    tiers.add(name, table)
    document.add("tiers", tiers)
    return tomlkit.dumps(document)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes that change the settings out; where locks are not to be had, go on without."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have none
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
