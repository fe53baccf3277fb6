"""What people see of a run in Prefect: tables, text, charts and links. Outside Prefect nothing is shown.

An artifact's key is that of the last night's, so that Prefect shows one beside the other. Slides appear by their keys;
names of files, patients or cases never do.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

MOST_ROWS = 200
"""Of a table: more is nothing to read in a browser, and the receipt has all."""
_NOT_IN_KEYS = re.compile(r"[^a-z0-9]+")

_log = logging.getLogger(__name__)


class Shown:
    """The artifacts of one run.

    Parameters
    ----------
    site
        The site's name, with which keys begin.
    flow
        The flow's, which comes next.

    """

    def __init__(self, site: str, flow: str) -> None:
        self._prefix = f"{_key(site)}-{_key(flow)}"
        self._progress: UUID | None = None
        self._percent = -1

    @property
    def is_seen(self) -> bool:
        """Whether anybody sees them: what takes long to draw need not be drawn otherwise."""
        return FlowRunContext.get() is not None

    def table(self, what: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Show rows as a table, the first `MOST_ROWS` of them; `description` is the sentence above it."""
        if len(rows) > MOST_ROWS:
            description = f"{description} The first {MOST_ROWS} of {len(rows)} are shown."
        shown = [dict(row) for row in rows[:MOST_ROWS]]
        self._try(lambda: create_table_artifact(table=shown, key=self.key(what), description=description))

    def text(self, what: str, markdown: str, description: str = "") -> None:
        """Show a text."""
        self._try(lambda: create_markdown_artifact(markdown=markdown, key=self.key(what), description=description))

    def picture(self, what: str, png: bytes, description: str) -> None:
        """Show a picture: it is in the artifact itself, for a browser may read no file of this machine."""
        url = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
        self._try(lambda: create_image_artifact(image_url=url, key=self.key(what), description=description))

    def link(self, what: str, target: str | Path, text: str, description: str = "") -> None:
        """Show where something lies: an address, or a path of this machine."""
        address = target.as_uri() if isinstance(target, Path) else target
        self._try(
            lambda: create_link_artifact(link=address, link_text=text, key=self.key(what), description=description)
        )

    def progress(self, done: int, total: int, what: str) -> None:
        """Show how far the run is; whole percents only, each costs a request."""
        percent = 100 * done // total if total else 100
        if percent == self._percent:
            return
        self._percent = percent
        if self._progress is None:
            self._try(lambda: self._begin(percent, what))
        else:
            found = self._progress
            self._try(lambda: update_progress_artifact(found, progress=float(percent), description=what))

    def key(self, what: str) -> str:
        """Return the key of an artifact."""
        return f"{self._prefix}-{_key(what)}"

    def _begin(self, percent: int, what: str) -> None:
        made = create_progress_artifact(float(percent), key=self.key("progress"), description=what)
        self._progress = made if isinstance(made, UUID) else None  # a coroutine only where flows are asynchronous

    def _try(self, create: Callable[[], object]) -> None:
        """Show something; the work does not fail for what is only shown."""
        if not self.is_seen:
            return
        try:
            create()
        except (httpx.HTTPError, PrefectException, OSError) as error:
            _log.warning("Prefect's server did not take an artifact: %s", type(error).__name__)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> str:
    """Return a table in Markdown; `right` are the columns (from 0) that are aligned to the right."""
    marks = ["---:" if place in right else "---" for place in range(len(head))]
    lines = [head, marks, *rows]
    return "\n".join(f"| {' | '.join(cell(one) for one in line)} |" for line in lines)


def cell(value: object) -> str:
    """Return a value as it can stand in a cell of a table in Markdown."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _key(text: str) -> str:
    return _NOT_IN_KEYS.sub("-", text.lower()).strip("-") or "site"
