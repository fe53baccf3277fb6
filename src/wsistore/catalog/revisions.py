"""New catalogues, and old ones brought up to this release's schema. The only module that imports Alembic."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, func, select

from wsistore.catalog import schema, sqlite
from wsistore.catalog.engine import BUSY_TIMEOUT_SECONDS, Database, existing_path, open_database, schema_version
from wsistore.catalog.identities import CLEAR, Identities
from wsistore.errors import Kind, SiteError

_ALEMBIC = threading.Lock()
"""Alembic keeps the migration that is running in a module's globals."""


def create(url: str) -> None:
    """Make a new, empty catalogue.

    It appears whole or not at all. One that is there already and holds nothing is taken as it is, so that an
    interrupted ``wsistore init`` can be run again.

    Raises
    ------
    SiteError
        If there is one with content (`Kind.SITE_EXISTS`), or it cannot be written (`Kind.SITE_READ_ONLY`).

    """
    path = sqlite.database_path(url)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        if not path.exists():
            _build(draft)
            _publish(draft, path)
    except OSError as error:
        msg = f"The catalogue {path} cannot be made: {error.strerror or error}."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Choose a folder that can be written.") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    _check_empty(url)


def create_filled(
    url: str,
    fill: Callable[[Connection], None],
    *,
    make_way: Callable[[Path], None] | None = None,
    identities: Identities = CLEAR,
) -> None:
    """Make a catalogue that is filled before anybody sees it; before it gets its name, `make_way` may free that.

    `identities` is for the connection that `fill` gets.

    Raises
    ------
    SiteError
        If there is one (`Kind.SITE_EXISTS`), or it cannot be written.

    """
    path = sqlite.database_path(url)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _build(draft)
        engine = sqlite.open_engine(draft, read_only=False, busy_timeout_seconds=BUSY_TIMEOUT_SECONDS)
        database = Database(engine, str(draft), read_only=False, identities=identities)
        try:
            with database.write() as connection:
                fill(connection)
        finally:
            database.close()
        if make_way is not None:
            make_way(path)
        if not _publish(draft, path):
            msg = f"There is a catalogue already: {path}."
            raise SiteError(msg, kind=Kind.SITE_EXISTS, remedy="Somebody else has just made it: look at it.")
    except OSError as error:
        msg = f"The catalogue {path} cannot be made: {error.strerror or error}."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Choose a folder that can be written.") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def migrate(url: str) -> None:
    """Bring a catalogue up to this release's schema; does nothing if it is.

    All or nothing, in one transaction. Make a backup before.

    Raises
    ------
    SiteError
        If it is not there, not writable, no catalogue, or of a newer release.

    """
    path = existing_path(url)
    sqlite.check_writable(path)
    _upgrade(path, create=False)


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration for the revisions that this package ships."""
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _build(draft: Path) -> None:
    if not os.access(draft.parent, os.W_OK):
        raise sqlite.read_only_error(str(draft.parent))
    _upgrade(draft, create=True)


def _publish(draft: Path, path: Path) -> bool:
    """Give a new catalogue its name, for good; False if another process was faster."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        draft.rename(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


def _upgrade(path: Path, *, create: bool) -> None:
    engine = sqlite.open_engine(path, read_only=False, busy_timeout_seconds=BUSY_TIMEOUT_SECONDS, create=create)
    database = Database(engine, str(path), read_only=False)
    try:
        with _ALEMBIC, database.write() as connection:
            found = schema_version(connection)
            if found is None and not create:
                msg = f"{path} is no catalogue of wsistore."
                raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy="Look at 'catalog.url' in wsistore.toml.")
            command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        msg = f"The catalogue {path} was written by a newer release ({error})."
        raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy="Upgrade wsistore.") from error
    finally:
        database.close()


def _check_empty(url: str) -> None:
    database = open_database(url, read_only=False)
    try:
        with database.read() as connection:
            tables = (schema.slides, schema.attempts, schema.events)
            rows = sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
    finally:
        database.close()
    if rows:
        msg = f"There is a catalogue already: {database.place}."
        raise SiteError(msg, kind=Kind.SITE_EXISTS, remedy="Choose another folder, or use the site as it is.")
