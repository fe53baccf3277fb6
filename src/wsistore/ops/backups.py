"""Backups of the catalogue: a copy of its file, and all tiers told what it knows."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from wsistore.catalog.sqlite import backup_file, database_path
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, SiteError, WsistoreError
from wsistore.ops.ledgers import Told, tell
from wsistore.ops.results import Failure
from wsistore.ops.site import Site

FOLDER = "backups"
"""Where backups lie unless told otherwise, in the site's folder."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made."""

    path: str
    bytes: int
    sha256: str
    slides: int
    ledgers: tuple[Told, ...]
    """Of the tiers that could be told."""
    untold: tuple[tuple[str, Failure], ...]
    """Tiers that could not, and why."""
    removed: tuple[str, ...] = ()
    """Old backups that were removed."""


def backup_catalog(site: Site, to: Path | None = None, *, keep: int = 0) -> Backup:
    """Copy the catalogue's file as it is at one moment, whoever works with it, and bring all tiers' ledgers up to date.

    Parameters
    ----------
    site
        Open for writing.
    to
        A new file; by default one in the site's folder ``backups``, named by the moment.
    keep
        How many backups that folder keeps; 0 for all. Only files that this function named are removed.

    Raises
    ------
    ConflictError
        If the file is there.
    SiteError
        If it cannot be written, or the copy is not whole.

    """
    path = _default(site) if to is None else to
    if os.path.lexists(path):
        msg = f"{path} is there already."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Name a new file.")
    _copy(database_path(site.settings.catalog_url), path)
    told: list[Told] = []
    untold: list[tuple[str, Failure]] = []
    for tier in site.settings.tiers:
        try:
            told.append(tell(site, tier.name, with_head=True))
        except WsistoreError as error:
            untold.append((tier.name, Failure.of(error)))
    removed = _thinned(site, keep) if to is None and keep else ()
    content = path.read_bytes()
    return Backup(
        path=str(path),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        slides=len(site.catalog.slides()),
        ledgers=tuple(told),
        untold=tuple(untold),
        removed=removed,
    )


def _default(site: Site) -> Path:
    folder = site.folder / FOLDER
    stamp = iso(site.clock.now()).replace(":", "").replace("-", "").replace(".", "")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder / f"catalog-{stamp}.db"


def _copy(source: Path, path: Path) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)
        backup_file(source, draft)
        _flush(draft)
        path.hardlink_to(draft)
        _flush(path.parent)
    except FileExistsError as error:
        msg = f"{path} is there already."
        raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Name a new file.") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _thinned(site: Site, keep: int) -> tuple[str, ...]:
    """Remove all but the newest backups."""
    found = sorted((site.folder / FOLDER).glob("catalog-*Z.db"))
    for path in found[:-keep]:
        path.unlink(missing_ok=True)
    return tuple(str(path) for path in found[:-keep])


def _unwritable(path: Path, error: OSError) -> SiteError:
    msg = f"{path} cannot be written ({error.strerror or error})."
    return SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Name a place with room that this user may write.")
