"""The folder in which a site's keys lie: readable by its owner only, each file written whole or not at all.

::

    keys/                       0700
      signing.key               0600   the private signing key (`wsistore.keys.signing`)
      public/<key id>.pem              its public half, and those of all keys that were in use before
      site-key-0001.key         0600   one file per version of the site key (`wsistore.keys.site_keys`)
      sheet.json                0600   what the last recovery sheets hold, without any secret
      rotation.json             0600   while a rotation of the site key is under way
      .lock                            held by whoever rewraps or destroys data keys

The folder is never part of a tier, of the catalogue or of a task that is sent to a worker.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsistore.errors import Kind, SiteError

FORMAT = 1
"""Of the files in the folder."""
_CHECK_REMEDY = "Restore the folder of keys from its backup, or from the recovery sheets: wsistore keys recover."
_MOST_BYTES = 1 << 16
"""No file of the folder is larger."""


def make_folder(folder: Path) -> None:
    """Make the folder of keys, which only its owner may enter. May be repeated.

    Raises
    ------
    SiteError
        If it cannot be made, or others may enter it.

    """
    with _translated(folder, "made"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)


def check_private(path: Path) -> None:
    """Refuse a file or folder of keys that others than its owner may read.

    Raises
    ------
    SiteError
        If it is not there (`Kind.KEY_MISSING`), or its mode lets others in (`Kind.SETTINGS_INVALID`).

    """
    with _translated(path, "read"):
        mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        right = 0o700 if path.is_dir() else 0o600
        msg = f"{path} may be read by others (mode {mode:04o})."
        raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"Run: chmod {right:o} {path}")


def write_new(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Write a file that must not be there yet, for good; say whether this call wrote it.

    Raises
    ------
    SiteError
        If it cannot be written.

    """
    with _translated(path, "written"):
        draft = _draft(path, content, mode)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        _flush(path.parent)
    return True


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file, or put it in the place of the one that is there, for good.

    Raises
    ------
    SiteError
        If it cannot be written.

    """
    with _translated(path, "written"):
        draft = _draft(path, content, mode)
        try:
            draft.replace(path)
        except OSError:
            draft.unlink()
            raise
        _flush(path.parent)


def remove(path: Path) -> None:
    """Remove a file for good. May be repeated; raises as `replace`."""
    with _translated(path, "removed"):
        path.unlink(missing_ok=True)
        _flush(path.parent)


def read(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is none.

    Raises
    ------
    SiteError
        If it is there and cannot be read.

    """
    with _translated(path, "read"), suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(_MOST_BYTES)
    return None


def encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return a file's content: JSON that says what it is."""
    return json.dumps({"format": FORMAT, "kind": kind, **fields}, indent=2).encode() + b"\n"


def decode(path: Path, content: bytes, kind: str) -> dict[str, Any]:
    """Return the fields of a file of this kind.

    Raises
    ------
    SiteError
        If it is damaged, of another kind or of a newer format.

    """
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise damaged(path)
    if document.get("format") != FORMAT:
        msg = f"{path} has format {document.get('format')!r:.20}; this wsistore reads format {FORMAT}."
        raise SiteError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Use a newer wsistore.")
    return document


def damaged(path: Path) -> SiteError:
    """Return the error that says that a file of keys cannot be understood."""
    return SiteError(f"{path} is damaged.", kind=Kind.KEY_MISSING, remedy=_CHECK_REMEDY)


@contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keep others that hold this lock out; by default the one for rewrapping and destroying data keys.

    Raises
    ------
    SiteError
        If the folder is not there or cannot be written.

    """
    with _translated(folder, "locked"):
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _draft(path: Path, content: bytes, mode: int) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError | NotADirectoryError)
        msg = f"{path}, of the site's keys, cannot be {done} ({error.strerror or error})."
        kind = Kind.KEY_MISSING if is_gone else Kind.SETTINGS_INVALID
        raise SiteError(msg, kind=kind, remedy=_CHECK_REMEDY if is_gone else "Mend its permissions.") from error
