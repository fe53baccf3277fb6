"""The same notice again and again is not read: what goes on being so is told once, and once a day from then on."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from wsistore.clock import iso
from wsistore_flows.notes import FOLDER

_NAME = "notices"
REMIND = timedelta(days=1)


def is_news(site: Path, flow: str, said: str, now: datetime) -> bool:
    """Say whether people are to be told this of a flow; if so, note that they were.

    Parameters
    ----------
    site
        The site's folder. Where nothing can be noted in it, everything is news.
    flow
        Name.
    said
        State and message.
    now
        The time.

    """
    path = _path(site, flow)
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        before = json.loads(path.read_text("utf-8"))
        age = now - datetime.fromisoformat(before["at"])
        if before["said"] == said and timedelta(0) <= age < REMIND:
            return False
    with suppress(OSError):
        path.parent.mkdir(mode=0o750, exist_ok=True)
        path.write_text(json.dumps({"said": said, "at": iso(now)}), "utf-8")
    return True


def is_over(site: Path, flow: str) -> None:
    """Note that all is well with a flow again: what comes next is news."""
    with suppress(OSError):
        _path(site, flow).unlink(missing_ok=True)


def _path(site: Path, flow: str) -> Path:
    return site / FOLDER / f"{_NAME}-{flow}.json"
