"""Identities of patients, sealed: the keys, blind indexes of cases' patients, and what is still to be sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the column."""
    op.create_table(
        "identity_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("wrapped", sa.String(), nullable=False),
        sa.Column("made_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_keys")),
    )
    op.create_table(
        "sealing",
        sa.Column("what", sa.String(length=96), nullable=False),
        sa.Column("begun_at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_sealing")),
    )
    op.add_column("cases", sa.Column("patient_index", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_cases_patient_index"), "cases", ["patient_index"], unique=False)
