"""What lies on the scanners' shares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "intake_files",
        sa.Column("share", sa.String(length=32), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("series", sa.String(), nullable=True),
        sa.Column("instance", sa.String(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("error", sa.String(length=32), nullable=False),
        sa.Column("first_at", sa.String(length=27), nullable=False),
        sa.Column("since", sa.String(length=27), nullable=False),
        sa.Column("state_at", sa.String(length=27), nullable=False),
        sa.Column("gone_at", sa.String(length=27), nullable=True),
        sa.Column("slide", sa.String(length=64), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again_at", sa.String(length=27), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("share", "path", name=op.f("pk_intake_files")),
    )
    op.create_index(op.f("ix_intake_files_slide"), "intake_files", ["slide"], unique=False)
