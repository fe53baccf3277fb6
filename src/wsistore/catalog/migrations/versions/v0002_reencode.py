"""Copies in several encodings: what an attempt is for, how a copy is encoded; sources are found by their size."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. All copies and attempts that are there are of ingests, which keep tiles as they are."""
    # Not in batch mode, which would copy the tables: SQLite adds columns with defaults in place.
    op.add_column("attempts", sa.Column("kind", sa.String(length=16), server_default="ingest", nullable=False))
    op.add_column("attempts", sa.Column("job", sa.Text(), server_default="{}", nullable=False))
    op.add_column("copies", sa.Column("encoding", sa.Text(), server_default="{}", nullable=False))
    op.create_index("ix_sources_bytes", "sources", ["bytes"], unique=False)
