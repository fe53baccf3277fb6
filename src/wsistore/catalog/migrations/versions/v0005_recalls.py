"""Archives: what was asked back, which copies are temporary, and when an archive last said what it holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column("copies", sa.Column("seen_at", sa.String(length=27), nullable=True))
    op.add_column("copies", sa.Column("expires_at", sa.String(length=27), nullable=True))
    op.create_table(
        "recalls",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.String(length=27), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("by", sa.String(length=27), nullable=True),
        sa.Column("tier", sa.String(length=32), nullable=False),
        sa.Column("keep_seconds", sa.BigInteger(), nullable=False),
        sa.Column("max_eur", sa.Double(), nullable=True),
        sa.Column("eur", sa.Double(), nullable=False),
        sa.Column("lines", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_recalls")),
    )
    op.create_index(op.f("ix_recalls_digest"), "recalls", ["digest"], unique=False)
    op.create_table(
        "recalled",
        sa.Column("recall", sa.String(length=64), nullable=False),
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tier", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.String(length=64), nullable=False),
        sa.Column("retrieval", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.String(length=27), nullable=True),
        sa.Column("expected_at", sa.String(length=27), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["recall"], ["recalls.name"], name=op.f("fk_recalled_recall")),
        sa.PrimaryKeyConstraint("recall", "slide", name=op.f("pk_recalled")),
    )
    op.create_index(op.f("ix_recalled_slide"), "recalled", ["slide"], unique=False)
    op.create_index(op.f("ix_recalled_state"), "recalled", ["state"], unique=False)
