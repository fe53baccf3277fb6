"""Plans, who approved them, and what became of their rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "roster",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("statement", sa.String(), nullable=False),
        sa.Column("signer", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("countersigner", sa.String(length=64), nullable=False),
        sa.Column("countersignature", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_roster")),
    )
    op.create_table(
        "plans",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("made_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.Column("header", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.String(length=27), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("begun_at", sa.String(length=27), nullable=True),
        sa.Column("ended_at", sa.String(length=27), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_plans")),
    )
    op.create_index(op.f("ix_plans_state"), "plans", ["state"], unique=False)
    for name, second in (("approvals", "person"), ("visas", "role")):
        op.create_table(name, *_said(name, second))
    _plan_rows()


def _said(name: str, second: str) -> tuple[sa.Column[str] | sa.Constraint, ...]:
    person = sa.Column("person", sa.String(length=32), nullable=False)
    role = (sa.Column("role", sa.String(length=32), nullable=False),) if second == "role" else ()
    return (
        sa.Column("plan", sa.String(length=64), nullable=False),
        *role,
        person,
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("statement", sa.String(), nullable=False),
        sa.Column("signer", sa.String(length=64), nullable=False),
        sa.Column("proof", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("plan", second, name=op.f(f"pk_{name}")),
        sa.ForeignKeyConstraint(["plan"], ["plans.digest"], name=op.f(f"fk_{name}_plan")),
    )


def _plan_rows() -> None:
    op.create_table(
        "plan_rows",
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("lease_until", sa.String(length=27), nullable=True),
        sa.Column("begun_at", sa.String(length=27), nullable=True),
        sa.Column("ended_at", sa.String(length=27), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("plan", "slide", name=op.f("pk_plan_rows")),
        sa.ForeignKeyConstraint(["plan"], ["plans.digest"], name=op.f("fk_plan_rows_plan")),
    )
    op.create_index("ix_plan_rows_plan_state", "plan_rows", ["plan", "state", "number"], unique=False)
    deleting, detaching = sa.text("state = 'deleting'"), sa.text("kind = 'identity-detaching'")
    op.create_index("deleting_sources", "sources", ["slide"], sqlite_where=deleting, postgresql_where=deleting)
    op.create_index("detaching_events", "events", ["slide"], sqlite_where=detaching, postgresql_where=detaching)
