"""The catalogue's database: opening, transactions, and foreign errors turned into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from wsistore.catalog import sqlite
from wsistore.catalog.identities import CLEAR, OPTION, Identities
from wsistore.catalog.schema import HEAD
from wsistore.errors import ConflictError, Kind, SiteError, WsistoreError

BUSY_TIMEOUT_SECONDS = 30.0
"""How long a write waits for other writers. Each holds the lock for milliseconds; whoever holds it longer hangs."""


class Database:
    """An open database. May be used from several threads at once.

    Parameters
    ----------
    engine
        Where to connect.
    place
        The database by name, for messages.
    read_only
        Refuse to write.
    identities
        What is done with identities of patients.

    """

    def __init__(self, engine: Engine, place: str, *, read_only: bool, identities: Identities = CLEAR) -> None:
        self._engine = engine
        self.identities = identities
        self.place = place
        self.read_only = read_only
        self._turn = Lock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that sees the database as it was at its first statement.

        Raises
        ------
        WsistoreError
            `ConflictError` (`Kind.BUSY`) or `SiteError`: what the database's error means.

        """
        with self._translated(), self._engine.connect() as bare:
            connection = bare.execution_options(**{OPTION: self.identities})
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction that alone may write; it is durable when the block has been left without an error.

        Raises
        ------
        WsistoreError
            `ConflictError` (`Kind.BUSY`) if others wrote for too long, `SiteError` if it cannot be written.

        """
        if self.read_only:
            raise sqlite.read_only_error(self.place)
        with self._in_turn(), self._translated(), self._engine.connect() as bare:
            connection = bare.execution_options(**{sqlite.WRITE_OPTION: True, OPTION: self.identities})
            with connection.begin():
                yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait for this process's other threads, so that the database is waited for by one of them only.

        SQLite looks again after ever longer pauses: of many that wait, most would sleep while nobody writes.
        """
        is_mine = self._turn.acquire(timeout=BUSY_TIMEOUT_SECONDS)  # after that the database says what is wrong
        try:
            yield
        finally:
            if is_mine:
                self._turn.release()

    def close(self) -> None:
        """Close idle connections; the last one merges SQLite's log into the file."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            msg = f"The catalogue {self.place} refused a change that contradicts what others wrote."
            raise ConflictError(msg, remedy="Try again.") from error
        except DBAPIError as error:
            raise sqlite.translate(error.orig or error, self.place) from error
        except (SQLAlchemyError, OverflowError, RecursionError) as error:
            msg = f"The catalogue {self.place} failed: {error}."
            raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy="Please report it.") from error


def open_database(
    url: str,
    *,
    read_only: bool,
    busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
    identities: Identities = CLEAR,
) -> Database:
    """Open an existing catalogue of this release's schema.

    Raises
    ------
    SiteError
        If it is not there, damaged, of another schema (`Kind.CATALOG_FAILED`), or cannot be written though
        `read_only` was not asked for (`Kind.SITE_READ_ONLY`).

    """
    path = existing_path(url)
    if not read_only:
        sqlite.check_writable(path)
    # First for reading: what turns out to be no catalogue of ours stays as it is.
    reader = _database(path, True, busy_timeout_seconds, identities)
    try:
        _check_schema(reader)
    except WsistoreError:
        reader.close()
        raise
    if read_only:
        return reader
    reader.close()
    return _database(path, False, busy_timeout_seconds, identities)


def _database(path: Path, read_only: bool, busy_timeout_seconds: float, identities: Identities) -> Database:
    engine = sqlite.open_engine(path, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds)
    return Database(engine, str(path), read_only=read_only, identities=identities)


def existing_path(url: str) -> Path:
    """Return the file of a catalogue that is there, or raise `SiteError`."""
    path = sqlite.database_path(url)
    try:
        there = path.is_file()
    except OSError as error:
        raise _missing(path, f"cannot be reached ({error.strerror})") from error
    if not there:
        raise _missing(path, "is not there")
    return path


def _missing(path: Path, how: str) -> SiteError:
    remedy = (
        "'wsistore catalog rebuild' makes it anew from the tiers; or put back a backup, or mend 'catalog.url' in "
        "wsistore.toml. 'wsistore init' makes a new site."
    )
    return SiteError(f"The catalogue {path} {how}.", kind=Kind.CATALOG_FAILED, remedy=remedy)


def _check_schema(database: Database) -> None:
    with database.read() as connection:
        found = schema_version(connection)
    if found == HEAD:
        return
    if found is None:
        msg, remedy = f"{database.place} is no catalogue of wsistore.", "Look at 'catalog.url' in wsistore.toml."
    elif found > HEAD:
        msg = f"The catalogue {database.place} was written by a newer release (schema {found}; this one knows {HEAD})."
        remedy = "Upgrade wsistore."
    else:
        msg = f"The catalogue {database.place} was written by an older release (schema {found}; this one needs {HEAD})."
        remedy = "Make a backup of the file, then call wsistore.catalog.migrate on it."
    raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy)


def schema_version(connection: Connection) -> str | None:
    """Return the schema's revision, or None if this is no catalogue."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
