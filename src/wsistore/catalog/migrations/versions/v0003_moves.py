"""Moves between tiers: fencing numbers, what the proof of a drop rests on, holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the tables."""
    op.add_column("attempts", sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "fences",
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slide", name=op.f("pk_fences")),
    )
    op.create_table(
        "pins",
        sa.Column("dropping", sa.String(length=64), nullable=False),
        sa.Column("cited", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["dropping"], ["copies.attempt"], name=op.f("fk_pins_dropping")),
        sa.ForeignKeyConstraint(["cited"], ["copies.attempt"], name=op.f("fk_pins_cited")),
        sa.PrimaryKeyConstraint("dropping", "cited", name=op.f("pk_pins")),
    )
    op.create_index(op.f("ix_pins_cited"), "pins", ["cited"], unique=False)
    op.create_table(
        "holds",
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("placed_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["slide"], ["slides.slide"], name=op.f("fk_holds_slide")),
        sa.PrimaryKeyConstraint("slide", "reason", name=op.f("pk_holds")),
    )
