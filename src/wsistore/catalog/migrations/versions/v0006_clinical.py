"""What the hospital says of patients and cases, and collections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MARKING_EVENTS = sa.text("kind IN ('recall-begun', 'recalled', 'restored', 'identity-detached')")


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column("copies", sa.Column("created_at", sa.String(length=27), nullable=True))
    # A copy's last verification may be years later than its commit, which tells its own moment.
    op.execute(
        "UPDATE copies SET created_at = json_extract(commit_body, '$.verified_at') WHERE json_valid(commit_body)"
    )
    _cases()
    _people()
    op.create_table(
        "departments",
        sa.Column("department", sa.String(), nullable=False),
        sa.Column("valid_from", sa.String(length=10), nullable=False),
        sa.Column("valid_until", sa.String(length=10), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("as_of", sa.String(length=27), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("department", "valid_from", name=op.f("pk_departments")),
    )
    op.create_table(
        "feeds",
        sa.Column("feed", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("as_of", sa.String(length=27), nullable=False),
        sa.Column("imported_at", sa.String(length=27), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("feed", name=op.f("pk_feeds")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_feeds_kind"), "feeds", ["kind"], unique=False)
    op.create_table(
        "accesses",
        sa.Column("subject", sa.String(length=8), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("subject", "key", "day", name=op.f("pk_accesses")),
    )
    op.create_table(
        "labels",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slide", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["slide"], ["slides.slide"], name=op.f("fk_labels_slide")),
        sa.PrimaryKeyConstraint("kind", "name", "slide", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_slide"), "labels", ["slide"], unique=False)
    op.create_index(
        "marking_events",
        "events",
        ["slide", "at"],
        unique=False,
        sqlite_where=_MARKING_EVENTS,
        postgresql_where=_MARKING_EVENTS,
    )


def _cases() -> None:
    op.add_column("cases", sa.Column("patient", sa.String(length=64), nullable=True))
    op.add_column("cases", sa.Column("received_on", sa.String(length=10), nullable=True))
    op.add_column("cases", sa.Column("signed_out_at", sa.String(length=27), nullable=True))
    op.add_column("cases", sa.Column("reopened_at", sa.String(length=27), nullable=True))
    op.add_column("cases", sa.Column("organ", sa.String(), nullable=True))
    op.add_column("cases", sa.Column("diagnoses", sa.Text(), nullable=True))
    op.add_column("cases", sa.Column("department", sa.String(), nullable=True))
    op.add_column("cases", sa.Column("as_of", sa.String(length=27), nullable=True))
    op.add_column("cases", sa.Column("said", sa.Text(), nullable=True))
    op.create_index("ix_cases_patient", "cases", ["patient"], unique=False)


def _people() -> None:
    op.create_table(
        "patients",
        sa.Column("patient", sa.String(length=64), nullable=False),
        sa.Column("lookup", sa.String(), nullable=False),
        sa.Column("ins_lookup", sa.String(), nullable=True),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("identity_status", sa.String(length=16), nullable=True),
        sa.Column("birth_date", sa.String(length=10), nullable=True),
        sa.Column("death_date", sa.String(length=10), nullable=True),
        sa.Column("merged_into", sa.String(length=64), nullable=True),
        sa.Column("as_of", sa.String(length=27), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("patient", name=op.f("pk_patients")),
        sa.UniqueConstraint("lookup", name=op.f("uq_patients_lookup")),
    )
    op.create_index(op.f("ix_patients_ins_lookup"), "patients", ["ins_lookup"], unique=False)
    op.create_index(op.f("ix_patients_merged_into"), "patients", ["merged_into"], unique=False)
    for table, key in (("encounters", "encounter"), ("recourses", "recourse")):
        kind = [sa.Column("kind", sa.String(length=16), nullable=True)] if table == "encounters" else []
        op.create_table(
            table,
            sa.Column(key, sa.String(), nullable=False),
            sa.Column("patient", sa.String(length=64), nullable=True),
            *kind,
            sa.Column("state", sa.String(length=16), nullable=True),
            sa.Column("begins", sa.String(length=10), nullable=True),
            sa.Column("ends", sa.String(length=10), nullable=True),
            sa.Column("as_of", sa.String(length=27), nullable=False),
            sa.Column("said", sa.Text(), nullable=False),
            sa.PrimaryKeyConstraint(key, name=op.f(f"pk_{table}")),
        )
        op.create_index(op.f(f"ix_{table}_patient"), table, ["patient"], unique=False)
