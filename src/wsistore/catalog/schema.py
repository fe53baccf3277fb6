"""The catalogue's tables, in SQL that SQLite and PostgreSQL share.

Moments are ISO 8601 texts in UTC with microseconds and ``Z``, so that they sort as they follow one another. JSON is
kept as text: its bytes must come back as they were.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

from wsistore.errors import Kind, SiteError

HEAD = "0001"
"""The newest revision in ``migrations/``: the schema that this release reads and writes. Revisions count up."""


class Plain(TypeDecorator[str]):
    r"""Text that UTF-8 can carry: undecodable bytes of file names are kept as escapes such as ``\udcff``."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Make every text storable."""
        return None if value is None else str(value).encode("utf-8", "backslashreplace").decode("utf-8")


class Json(TypeDecorator[Any]):
    """JSON values as text. Escaped to ASCII, so that undecodable file names come back exactly as they were."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Write JSON."""
        return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read JSON."""
        try:
            return json.loads(value or "null")
        except (ValueError, TypeError, RecursionError) as error:
            msg = f"The catalogue holds a value that is no JSON: {str(value)[:80]!r}."
            remedy = "The catalogue was altered or damaged: put back its last backup."
            raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy) from error


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tiers = Table(
    "tiers",
    metadata,
    Column("name", Plain(32), primary_key=True),
    Column("id", Plain(64), nullable=False, unique=True),
    Column("url", Plain(), nullable=False),
)

cases = Table(
    "cases",
    metadata,
    Column("case_key", Plain(), primary_key=True),
    Column("patient_id", Plain(), nullable=True),
)

slides = Table(
    "slides",
    metadata,
    Column("slide", Plain(64), primary_key=True),
    Column("name", Plain(), nullable=False, index=True),
    Column("format", Plain(64), nullable=False),
    Column("mode", Plain(16), nullable=False),
    Column("series", Plain(), nullable=True, index=True),
    Column("case_key", Plain(), ForeignKey("cases.case_key"), nullable=True, index=True),
    Column("width", BigInteger, nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("um_per_px_y", Double, nullable=True),
    Column("um_per_px_x", Double, nullable=True),
    Column("magnification", Double, nullable=True),
    Column("bytes_source", BigInteger, nullable=False),
    Column("created_at", Plain(27), nullable=False),
    Column("metadata", Json, nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("slide", Plain(64), ForeignKey("slides.slide"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("fingerprint", Plain(64), nullable=False),
    Column("state", Plain(16), nullable=False),
    Column("attempt", Plain(64), nullable=False, unique=True),
    Column("files", Json, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("path", Plain(), nullable=False),
    # What the version says of the slide: it becomes the slide's row when the version becomes current.
    Column("record", Json, nullable=False),
    Column("created_at", Plain(27), nullable=False),
)

_LIVE = text("state IN ('claimed', 'current')")

# The guard against keeping one content twice: of many claims at once, one gets in.
Index("live_fingerprint", sources.c.fingerprint, unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE)

copies = Table(
    "copies",
    metadata,
    Column("attempt", Plain(64), primary_key=True),
    Column("slide", Plain(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("tier", Plain(32), nullable=False),
    Column("n", Integer, nullable=False),
    Column("state", Plain(16), nullable=False),
    Column("preset", Plain(32), nullable=False),
    Column("bytes_stored", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("evidence", Plain(32), nullable=False),
    Column("verified_at", Plain(27), nullable=False),
    Column("commit_key", Plain(), nullable=False),
    Column("commit_body", Plain(), nullable=False),
    Column("fallbacks", Json, nullable=False),
    ForeignKeyConstraint(["slide", "version"], ["sources.slide", "sources.n"]),
    Index("ix_copies_slide_version", "slide", "version"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt", Plain(64), primary_key=True),
    Column("slide", Plain(64), nullable=False, index=True),
    Column("tier", Plain(32), nullable=False),
    Column("state", Plain(16), nullable=False, index=True),
    Column("owner", Plain(), nullable=False),
    Column("lease_until", Plain(27), nullable=False),
    Column("started_at", Plain(27), nullable=False),
    Column("fingerprint", Plain(64), nullable=True),
    Column("error", Plain(), nullable=False),
)

# No foreign key: a chain outlives what it tells of.
events = Table(
    "events",
    metadata,
    Column("slide", Plain(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Plain(27), nullable=False),
    Column("kind", Plain(32), nullable=False),
    Column("actor", Plain(), nullable=False),
    Column("detail", Plain(), nullable=False),
    Column("previous", Plain(64), nullable=False),
    Column("hash", Plain(64), nullable=False),
)
