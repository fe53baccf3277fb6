"""The first schema: slides, sources, copies, attempts, cases, events, tiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _attempts()
    _cases()
    _events()
    _tiers()
    _slides()
    _sources()
    _copies()


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("attempt", sa.String(length=64), nullable=False),
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("lease_until", sa.String(length=27), nullable=False),
        sa.Column("started_at", sa.String(length=27), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("attempt", name="pk_attempts"),
    )
    op.create_index("ix_attempts_slide", "attempts", ["slide"], unique=False)
    op.create_index("ix_attempts_state", "attempts", ["state"], unique=False)


def _cases() -> None:
    op.create_table(
        "cases",
        sa.Column("case_key", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("case_key", name="pk_cases"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("slide", "number", name="pk_events"),
    )


def _tiers() -> None:
    op.create_table(
        "tiers",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tiers"),
        sa.UniqueConstraint("id", name="uq_tiers_id"),
    )


def _slides() -> None:
    op.create_table(
        "slides",
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("format", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("series", sa.String(), nullable=True),
        sa.Column("case_key", sa.String(), nullable=True),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("um_per_px_y", sa.Double(), nullable=True),
        sa.Column("um_per_px_x", sa.Double(), nullable=True),
        sa.Column("magnification", sa.Double(), nullable=True),
        sa.Column("bytes_source", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["case_key"], ["cases.case_key"], name="fk_slides_case_key"),
        sa.PrimaryKeyConstraint("slide", name="pk_slides"),
    )
    op.create_index("ix_slides_case_key", "slides", ["case_key"], unique=False)
    op.create_index("ix_slides_name", "slides", ["name"], unique=False)
    op.create_index("ix_slides_series", "slides", ["series"], unique=False)


def _sources() -> None:
    live = sa.text("state IN ('claimed', 'current')")
    op.create_table(
        "sources",
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.String(length=64), nullable=False),
        sa.Column("files", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["slide"], ["slides.slide"], name="fk_sources_slide"),
        sa.PrimaryKeyConstraint("slide", "n", name="pk_sources"),
        sa.UniqueConstraint("attempt", name="uq_sources_attempt"),
    )
    op.create_index(
        "live_fingerprint", "sources", ["fingerprint"], unique=True, sqlite_where=live, postgresql_where=live
    )


def _copies() -> None:
    op.create_table(
        "copies",
        sa.Column("attempt", sa.String(length=64), nullable=False),
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tier", sa.String(length=32), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("preset", sa.String(length=32), nullable=False),
        sa.Column("bytes_stored", sa.BigInteger(), nullable=False),
        sa.Column("objects", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.String(length=32), nullable=False),
        sa.Column("verified_at", sa.String(length=27), nullable=False),
        sa.Column("commit_key", sa.String(), nullable=False),
        sa.Column("commit_body", sa.String(), nullable=False),
        sa.Column("fallbacks", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["slide", "version"], ["sources.slide", "sources.n"], name="fk_copies_slide"),
        sa.PrimaryKeyConstraint("attempt", name="pk_copies"),
    )
    op.create_index("ix_copies_slide_version", "copies", ["slide", "version"], unique=False)
