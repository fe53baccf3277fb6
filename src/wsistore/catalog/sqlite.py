"""All that is peculiar to SQLite: how to connect, how to begin, what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool
from sqlalchemy.util import LRUCache

from wsistore.errors import ConflictError, Kind, SiteError, WsistoreError

PREFIX = "sqlite:///"
WRITE_OPTION = "wsistore_write"
"""Execution option of connections whose transactions write: they take the write lock when they begin."""

_STATEMENTS = 500
_compiled: LRUCache[Any, Any] = LRUCache(_STATEMENTS)
"""Statements that were compiled, for all databases; see `_model`."""

_RESTORE = "Put back the last backup of the file."
_READ_ONLY_CODES = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


def database_path(url: str) -> Path:
    """Return the file that a ``sqlite:///`` URL names, to the letter: nothing in it is decoded.

    Raises
    ------
    SiteError
        If the URL names no file.

    """
    name = url.removeprefix(PREFIX)
    if not url.startswith(PREFIX) or not name or name == ":memory:" or "\x00" in name:
        msg = f"The catalogue's URL {url!r} is not of the form sqlite:///FILE."
        raise SiteError(msg, remedy="Name a file in wsistore.toml, key 'catalog.url'.")
    return Path(name)


def open_engine(path: Path, *, read_only: bool, busy_timeout_seconds: float, create: bool = False) -> Engine:
    """Return an engine over an existing file (or a new one, with `create`); nothing is opened yet.

    One connection belongs to one transaction at a time, whatever its thread; idle ones are kept. A child process that
    was forked never uses its parent's connections: SQLite forbids it.
    """
    address = _address(path, read_only=read_only, create=create)

    def connect() -> Any:
        return sqlite3.connect(
            address,
            uri=True,
            timeout=busy_timeout_seconds,
            isolation_level=None,  # the driver's own idea of when to begin would defeat BEGIN IMMEDIATE
            check_same_thread=False,  # the pool hands a connection to one thread at a time
        )

    model = _model()
    pool = QueuePool(connect, pool_size=8, max_overflow=-1, dialect=model.dialect)
    engine = Engine(pool, model.dialect, model.url, execution_options={"compiled_cache": _compiled})
    event.listen(engine, "connect", _prepare_read_only if read_only else _prepare)
    event.listen(engine, "checkout", _refuse_after_fork)
    event.listen(engine, "begin", _begin)
    return engine


@cache
def _model() -> Engine:
    """Return the engine, of an empty database, whose dialect all others share.

    What SQLAlchemy compiles, it compiles for one dialect object: an engine with its own would compile all statements
    anew, a millisecond each, in every process that opens sites one after the other.
    """
    model = create_engine("sqlite://", poolclass=NullPool)
    with model.connect():
        pass  # the first connection completes the dialect
    return model


def check_writable(path: Path) -> None:
    """Raise unless the file and its folder (where SQLite puts its log) can be written."""
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise read_only_error(str(path))


def read_only_error(place: str) -> SiteError:
    """Return the error of a write to a catalogue that cannot be written."""
    msg = f"The catalogue {place} is read-only."
    remedy = "Give this user the right to write the file and its folder, or work where the site can be written."
    return SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy=remedy)


def translate(error: BaseException, place: str) -> WsistoreError:
    """Return what an error of the driver means to the caller."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        msg = f"The catalogue {place} is locked by another process."
        return ConflictError(msg, kind=Kind.BUSY, remedy="Try again when that process has ended.")
    if code in _READ_ONLY_CODES:
        return read_only_error(place)
    if code == sqlite3.SQLITE_FULL:
        msg, remedy = f"No space is left for the catalogue {place}.", "Free some space on its disk."
    elif code == sqlite3.SQLITE_CANTOPEN:
        msg, remedy = f"The catalogue {place} cannot be opened.", "Look whether the file and its folder are there."
    elif code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        msg, remedy = f"The catalogue {place} is damaged: {error}.", _RESTORE
    else:
        msg, remedy = f"The catalogue {place} failed: {error}.", "Look at the file and its disk."
    return SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy)


def _address(path: Path, *, read_only: bool, create: bool) -> str:
    name = quote(os.fsencode(os.path.abspath(path)))  # noqa: PTH100 - resolve() would follow symbolic links
    mode = "ro" if read_only else "rwc" if create else "rw"
    return f"file:{name}?mode={mode}" + ("&immutable=1" if read_only and _is_frozen(path) else "")


def _is_frozen(path: Path) -> bool:
    """Say whether nobody can be writing: SQLite may then read the file alone, without its log.

    Its log (WAL) needs a shared-memory file, which cannot be made in a folder that cannot be written.
    """
    log, shared = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if os.access(path.parent, os.W_OK) or (shared.exists() and log.exists()):
        return False
    if log.exists() and log.stat().st_size > 0:
        msg = f"The catalogue {path} has a log that was not merged ({log.name}), and its folder is read-only."
        remedy = "Run any wsistore command once where the folder can be written."
        raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy)
    return True


def _prepare_read_only(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    record.info["pid"] = os.getpid()


def _prepare(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    record.info["pid"] = os.getpid()
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
    finally:
        cursor.close()


_inherited: list[Any] = []
"""Connections that a forked process got from its parent: kept open, since closing them touches the parent's log."""


def _refuse_after_fork(connection: Any, record: Any, proxy: Any) -> None:
    if record.info["pid"] != os.getpid():
        _inherited.append(connection)
        record.dbapi_connection = proxy.dbapi_connection = None
        msg = "The connection belongs to another process."
        raise DisconnectionError(msg)


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def open_for_looking(place: str, *, read_only: bool) -> sqlite3.Connection:
    """Return a connection of its own that only reads; threads may take turns with it."""
    address = _address(Path(place), read_only=read_only, create=False)
    connection = sqlite3.connect(address, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def compact_file(place: str) -> None:
    """Write a database anew, without a byte of what was deleted or overwritten, and empty its log.

    Raises
    ------
    WsistoreError
        What an error of the driver means; `ConflictError` (`Kind.BUSY`) if others have it open and are at work.

    """
    path = Path(place)
    try:
        with closing(sqlite3.connect(_address(path, read_only=False, create=False), uri=True, timeout=5.0)) as database:
            database.execute("PRAGMA secure_delete = ON")
            database.execute("VACUUM")
            (busy, _, _) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise translate(error, place) from error
    if busy:
        msg = f"The catalogue {place} is read by another process, so that its log cannot be emptied."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Try again when that process has ended.")


def backup_file(source: Path, copy: Path) -> None:
    """Copy a database into an empty file, as it is at one moment, and check the copy.

    Raises
    ------
    WsistoreError
        What an error of the driver means; `SiteError` if the copy is not whole.

    """
    try:
        address = _address(source, read_only=True, create=False)
        with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(copy)) as new:
            old.backup(new)
            # A copy is one file: nothing of it waits in a log.
            new.execute("PRAGMA journal_mode = DELETE")
            found = new.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise translate(error, str(source)) from error
    if found != ("ok",):
        msg = f"The catalogue {source} is damaged: {found[0] if found else 'no answer'}."
        raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=_RESTORE)
