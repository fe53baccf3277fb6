"""What the site's folder knows of runs, whatever became of Prefect's database: locks, and the last run of each flow."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from wsistore.clock import iso
from wsistore.errors import Kind, SiteError

FOLDER = "flows"
"""In the site's folder."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of a flow that came to its end."""

    began: datetime
    ended: datetime
    state: str
    message: str
    facts: Mapping[str, Any]


def ensure_folder(site: Path) -> Path:
    """Return the folder of notes, made if need be; raises `SiteError` if it cannot be."""
    folder = site / FOLDER
    try:
        folder.mkdir(mode=0o750, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def lock_path(site: Path, name: str) -> Path:
    """Return the file whose lock a kind of run holds while it works."""
    return site / FOLDER / f"{name}.lock"


def last_run(site: Path, name: str) -> LastRun | None:
    """Return the last run of a flow; None if there was none, or its note cannot be read."""
    try:
        found = json.loads((site / FOLDER / f"{name}.json").read_text("utf-8"))
        began, ended = (datetime.fromisoformat(found[key]) for key in ("began", "ended"))
        if began.tzinfo is None or ended.tzinfo is None:
            return None
        return LastRun(began, ended, str(found["state"]), str(found["message"]), dict(found["facts"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # the work is done once more, and there is nothing left to do


def note_run(
    site: Path, name: str, began: datetime, ended: datetime, state: State[Any], facts: Mapping[str, Any]
) -> None:
    """Note that a run came to its end.

    Raises
    ------
    SiteError
        If the site's folder cannot be written.

    """
    path = ensure_folder(site) / f"{name}.json"
    said = {"state": state.name, "message": state.message or "", "facts": dict(facts)}
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            json.dump({"began": iso(began), "ended": iso(ended), **said}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> SiteError:
    msg = f"{path} cannot be written ({error.strerror or error})."
    return SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the site's folder writable for the flows' account.")
