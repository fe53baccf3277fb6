"""Research projects, who may see them, and who objected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _text(name: str, length: int | None = None, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def upgrade() -> None:
    """Add the tables."""
    _projects()
    _grants()
    op.create_table(
        "objections",
        _text("objection", 32),
        _text("lookup"),
        _text("identity"),
        _text("objected_at", 27),
        _text("noted_by"),
        _text("withdrawn_at", 27, nullable=True),
        _text("withdrawn_by", nullable=True),
        sa.PrimaryKeyConstraint("objection", name=op.f("pk_objections")),
    )
    op.create_index(op.f("ix_objections_lookup"), "objections", ["lookup"], unique=False)
    op.create_table(
        "slide_levels",
        _text("slide", 64),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("levels", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("slide", "version", name=op.f("pk_slide_levels")),
    )
    op.create_table(
        "research_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_research_state")),
    )


def _projects() -> None:
    op.create_table(
        "projects",
        _text("name", 64),
        _text("purpose"),
        _text("dates", 16),
        sa.Column("first_level", sa.Integer(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        _text("created_at", 27),
        _text("created_by"),
        _text("expires_at", 27, nullable=True),
        _text("closed_at", 27, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projects")),
    )
    op.create_table(
        "project_cohorts",
        _text("project", 64),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        _text("condition", nullable=True),
        _text("at", 27),
        _text("actor"),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_project_cohorts_project")),
        sa.PrimaryKeyConstraint("project", "n", name=op.f("pk_project_cohorts")),
    )
    op.create_table(
        "project_members",
        _text("project", 64),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        _text("slide", 64),
        sa.PrimaryKeyConstraint("project", "n", "slide", name=op.f("pk_project_members")),
    )


def _grants() -> None:
    op.create_table(
        "grants",
        _text("grant", 32),
        _text("project", 64),
        _text("kind", 8),
        _text("subject"),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("bytes_quota", sa.BigInteger(), nullable=True),
        _text("granted_at", 27),
        _text("granted_by"),
        _text("expires_at", 27, nullable=True),
        _text("revoked_at", 27, nullable=True),
        _text("revoked_by", nullable=True),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_grants_project")),
        sa.PrimaryKeyConstraint("grant", name=op.f("pk_grants")),
    )
    op.create_index(op.f("ix_grants_project"), "grants", ["project"], unique=False)
    op.create_table(
        "grant_usage",
        _text("grant", 32),
        _text("user"),
        _text("month", 7),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("grant", "user", "month", name=op.f("pk_grant_usage")),
    )
    op.create_table(
        "tokens",
        _text("token", 32),
        _text("user"),
        _text("digest", 64),
        sa.Column("scopes", sa.Text(), nullable=False),
        _text("created_at", 27),
        _text("created_by"),
        _text("expires_at", 27),
        _text("revoked_at", 27, nullable=True),
        _text("last_used_at", 27, nullable=True),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_user"), "tokens", ["user"], unique=False)
