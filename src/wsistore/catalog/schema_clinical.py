"""The catalogue's tables for what the hospital says: patients, stays, recourses, departments, feeds; and labels.

What it says of cases stands in `wsistore.catalog.schema.cases`. A row's ``as_of`` is the moment of the feed that spoke
of it last; ``said`` names the columns of which an older feed spoke last, with its moment (empty: none ever did). So
feeds may come in any order: of each value the newest counts.

Who a patient is stands in ``patients.identity``, in ``cases.patient_id`` and in what the site says of slides, and
nowhere else; see `wsistore.catalog.clinical_identity`. Days are ISO 8601 texts.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, text

from wsistore.catalog.schema import Json, Plain, events, metadata

patients = Table(
    "patients",
    metadata,
    # A random key, not the hospital's number.
    Column("patient", Plain(64), primary_key=True),
    # What the hospital's number and the qualified INS are found by.
    Column("lookup", Plain(), nullable=False, unique=True),
    Column("ins_lookup", Plain(), nullable=True, index=True),
    Column("identity", Json, nullable=False),
    Column("identity_status", Plain(16), nullable=True),
    Column("birth_date", Plain(10), nullable=True),
    Column("death_date", Plain(10), nullable=True),
    # The key of the patient that this one turned out to be.
    Column("merged_into", Plain(64), nullable=True, index=True),
    Column("as_of", Plain(27), nullable=False),
    Column("said", Json, nullable=False),
)

encounters = Table(
    "encounters",
    metadata,
    Column("encounter", Plain(), primary_key=True),
    Column("patient", Plain(64), nullable=True, index=True),
    Column("kind", Plain(16), nullable=True),
    Column("state", Plain(16), nullable=True),
    Column("begins", Plain(10), nullable=True),
    Column("ends", Plain(10), nullable=True),
    Column("as_of", Plain(27), nullable=False),
    Column("said", Json, nullable=False),
)

recourses = Table(
    "recourses",
    metadata,
    Column("recourse", Plain(), primary_key=True),
    Column("patient", Plain(64), nullable=True, index=True),
    Column("state", Plain(16), nullable=True),
    Column("begins", Plain(10), nullable=True),
    Column("ends", Plain(10), nullable=True),
    Column("as_of", Plain(27), nullable=False),
    Column("said", Json, nullable=False),
)

# A code may be given to another unit later: its days of validity are part of what it is.
departments = Table(
    "departments",
    metadata,
    Column("department", Plain(), primary_key=True),
    Column("valid_from", Plain(10), primary_key=True),
    Column("valid_until", Plain(10), nullable=True),
    Column("kind", Plain(16), nullable=True),
    Column("name", Plain(), nullable=True),
    Column("parent", Plain(), nullable=True),
    Column("as_of", Plain(27), nullable=False),
    Column("said", Json, nullable=False),
)

# Until when each kind of data is known to be complete, and who said so.
feeds = Table(
    "feeds",
    metadata,
    Column("feed", Integer, primary_key=True, autoincrement=True),
    Column("kind", Plain(16), nullable=False, index=True),
    Column("as_of", Plain(27), nullable=False),
    Column("imported_at", Plain(27), nullable=False),
    Column("actor", Plain(), nullable=False),
    Column("rows", BigInteger, nullable=False),
    # SHA-256 of the file.
    Column("digest", Plain(64), nullable=False),
    sqlite_autoincrement=True,
)

# Days on which a case or a slide was used for care, elsewhere; nobody is named.
accesses = Table(
    "accesses",
    metadata,
    Column("subject", Plain(8), primary_key=True),
    Column("key", Plain(), primary_key=True),
    Column("day", Plain(10), primary_key=True),
)

# Collections and tags.
labels = Table(
    "labels",
    metadata,
    Column("kind", Plain(16), primary_key=True),
    Column("name", Plain(), primary_key=True),
    Column("slide", Plain(64), ForeignKey("slides.slide"), primary_key=True, index=True),
    Column("actor", Plain(), nullable=False),
    Column("at", Plain(27), nullable=False),
)

MARKING_EVENTS = "kind IN ('recall-begun', 'recalled', 'restored', 'identity-detached')"
"""Events that facts rest on: somebody wanted the slide for care; it was parted from its patient. SQL."""

# Of millions of events these are few.
Index(
    "marking_events",
    events.c.slide,
    events.c.at,
    sqlite_where=text(MARKING_EVENTS),
    postgresql_where=text(MARKING_EVENTS),
)
