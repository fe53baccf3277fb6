"""How a gateway sees at a glance that something about projects, grants, tokens or objections changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from threading import Lock

from sqlalchemy import Connection, func, select, update

from wsistore.catalog.schema import changes
from wsistore.catalog.schema_clinical import feeds
from wsistore.catalog.schema_projects import research_state
from wsistore.catalog.session import Session
from wsistore.catalog.sqlite import open_for_looking, translate

_COUNTER = "SELECT changes FROM research_state WHERE id = 1"


def bump(connection: Connection) -> None:
    """Count a change; to be called in the transaction that makes it."""
    changed = connection.execute(update(research_state).values(changes=research_state.c.changes + 1))
    if not changed.rowcount:
        connection.execute(research_state.insert(), {"id": 1, "changes": 1})


def counter(connection: Connection) -> int:
    """Return how many changes there were."""
    return int(connection.scalar(select(research_state.c.changes)) or 0)


def count_change(catalog: Session) -> None:
    """Count a change that lies elsewhere, such as in the folder of keys."""
    with catalog._database.write() as connection:
        bump(connection)


def data_mark(catalog: Session) -> tuple[int, int]:
    """Return what is another value whenever something was said of slides, cases or patients."""
    with catalog._database.read() as connection:
        seq = connection.scalar(select(func.max(changes.c.seq)))
        feed = connection.scalar(select(func.max(feeds.c.feed)))
        return int(seq or 0), int(feed or 0)


class Watch:
    """Looks at a catalogue again and again. Thread-safe.

    A look is a call into SQLite that reads the head of its log; only where anybody wrote is the counter read.

    Parameters
    ----------
    catalog
        An open catalogue.

    """

    def __init__(self, catalog: Session) -> None:
        self._place = catalog._database.place
        self._read_only = catalog.read_only
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._seen = -1
        self._counter = 0

    def look(self) -> int:
        """Return how many changes there were.

        Raises
        ------
        WsistoreError
            If the catalogue cannot be read.

        """
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = open_for_looking(self._place, read_only=self._read_only)
                    self._seen = -1
                (version,) = self._connection.execute("PRAGMA data_version").fetchone()
                if version != self._seen:
                    row = self._connection.execute(_COUNTER).fetchone()
                    self._counter, self._seen = (0 if row is None else int(row[0])), version
            except sqlite3.Error as error:
                self._drop()
                raise translate(error, self._place) from error
            return self._counter

    def close(self) -> None:
        """Close it; it may be used again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with closing(self._connection):
                self._connection = None
