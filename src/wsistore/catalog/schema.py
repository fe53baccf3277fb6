"""The catalogue's tables, in SQL that SQLite and PostgreSQL share.

Moments are ISO 8601 texts in UTC with microseconds and ``Z``, so that they sort as they follow one another. JSON is
kept as text: its bytes must come back as they were.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
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

HEAD = "0010"
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
    # Sealed where the site wants it; see `wsistore.catalog.identities`.
    Column("patient_id", Plain(), nullable=True),
    # What the hospital says of it; see `wsistore.catalog.schema_clinical`. The patient by the catalogue's own key.
    Column("patient", Plain(64), nullable=True),
    Column("received_on", Plain(10), nullable=True),
    Column("signed_out_at", Plain(27), nullable=True),
    Column("reopened_at", Plain(27), nullable=True),
    Column("organ", Plain(), nullable=True),
    Column("diagnoses", Json, nullable=True),
    Column("department", Plain(), nullable=True),
    # Null where only slides speak of it.
    Column("as_of", Plain(27), nullable=True),
    Column("said", Json, nullable=True),
    # What a sealed patient_id is looked up by.
    Column("patient_index", Plain(64), nullable=True, index=True),
    Index("ix_cases_patient", "patient"),
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
    Index("ix_sources_bytes", "bytes"),
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
    Column("encoding", Json, nullable=False, server_default="{}"),
    # When an archive last said that the copy is as it was when it was read back.
    Column("seen_at", Plain(27), nullable=True),
    # Of a temporary copy: when it may go.
    Column("expires_at", Plain(27), nullable=True),
    # When it was committed.
    Column("created_at", Plain(27), nullable=True),
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
    Column("kind", Plain(16), nullable=False, server_default="ingest"),
    Column("job", Json, nullable=False, server_default="{}"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
)

# One row per slide whose copies were ever written anew: the last fencing number that was given out.
fences = Table(
    "fences",
    metadata,
    Column("slide", Plain(64), primary_key=True),
    Column("last", BigInteger, nullable=False),
)

# A copy that is cited by the proof of a drop stays until that drop has ended.
pins = Table(
    "pins",
    metadata,
    Column("dropping", Plain(64), ForeignKey("copies.attempt"), primary_key=True),
    Column("cited", Plain(64), ForeignKey("copies.attempt"), primary_key=True, index=True),
)

holds = Table(
    "holds",
    metadata,
    Column("slide", Plain(64), ForeignKey("slides.slide"), primary_key=True),
    Column("reason", Plain(), primary_key=True),
    Column("actor", Plain(), nullable=False),
    Column("placed_at", Plain(27), nullable=False),
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

# Which slides changed, in the order of the changes: what the ledgers on the tiers do not say yet.
changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("slide", Plain(64), nullable=False),
    # The event that tells of it.
    Column("event", Integer, nullable=False),
    # Whether it should not wait for others.
    Column("urgent", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

# How far each tier's ledger has come.
ledgers = Table(
    "ledgers",
    metadata,
    Column("tier_id", Plain(64), primary_key=True),
    # The last segment that was written, and its SHA-256.
    Column("number", Integer, nullable=False),
    Column("digest", Plain(64), nullable=False),
    # All changes up to this one are in it, …
    Column("seq", Integer, nullable=False),
    # … but, where the ledger was begun anew, those of slides after this one are still to come.
    Column("after", Plain(64), nullable=True),
    Column("head_at", Plain(27), nullable=False),
)

# What was asked back from archives. What has to outlive a lost catalogue is in the copies.
recalls = Table(
    "recalls",
    metadata,
    Column("name", Plain(64), primary_key=True),
    Column("digest", Plain(64), nullable=False, index=True),
    Column("asked_at", Plain(27), nullable=False),
    Column("actor", Plain(), nullable=False),
    Column("by", Plain(27), nullable=True),
    Column("tier", Plain(32), nullable=False),
    Column("keep_seconds", BigInteger, nullable=False),
    Column("max_eur", Double, nullable=True),
    Column("eur", Double, nullable=False),
    Column("lines", Json, nullable=False),
)

recalled = Table(
    "recalled",
    metadata,
    Column("recall", Plain(64), ForeignKey("recalls.name"), primary_key=True),
    Column("slide", Plain(64), primary_key=True, index=True),
    Column("state", Plain(16), nullable=False, index=True),
    # The copy that is asked for, and how.
    Column("tier", Plain(32), nullable=False),
    Column("attempt", Plain(64), nullable=False),
    Column("retrieval", Plain(16), nullable=False),
    Column("asked_at", Plain(27), nullable=True),
    Column("expected_at", Plain(27), nullable=True),
    Column("error", Plain(), nullable=False),
)
