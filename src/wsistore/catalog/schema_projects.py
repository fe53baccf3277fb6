"""The catalogue's tables of research projects: who may see which slides. What was revoked stays, for it was once so."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, Table

from wsistore.catalog.schema import Json, Plain, metadata

projects = Table(
    "projects",
    metadata,
    Column("name", Plain(64), primary_key=True),
    Column("purpose", Plain(), nullable=False),
    # How days are told: see `wsistore.settings.serve.DATES`.
    Column("dates", Plain(16), nullable=False),
    Column("first_level", Integer, nullable=False),
    # Where the project has others than the site.
    Column("limits", Json, nullable=False),
    Column("created_at", Plain(27), nullable=False),
    Column("created_by", Plain(), nullable=False),
    Column("expires_at", Plain(27), nullable=True),
    Column("closed_at", Plain(27), nullable=True),
)

# The highest number holds. A condition is evaluated again and again; without one it is a list.
project_cohorts = Table(
    "project_cohorts",
    metadata,
    Column("project", Plain(64), ForeignKey("projects.name"), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("condition", Plain(), nullable=True),
    Column("at", Plain(27), nullable=False),
    Column("actor", Plain(), nullable=False),
)

# No foreign key to slides: one that is deleted for good leaves its key here, which says nothing.
project_members = Table(
    "project_members",
    metadata,
    Column("project", Plain(64), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("slide", Plain(64), primary_key=True),
)

grants = Table(
    "grants",
    metadata,
    Column("grant", Plain(32), primary_key=True),
    Column("project", Plain(64), ForeignKey("projects.name"), nullable=False, index=True),
    # "user" or "group", and its name.
    Column("kind", Plain(8), nullable=False),
    Column("subject", Plain(), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("bytes_quota", BigInteger, nullable=True),
    Column("granted_at", Plain(27), nullable=False),
    Column("granted_by", Plain(), nullable=False),
    Column("expires_at", Plain(27), nullable=True),
    Column("revoked_at", Plain(27), nullable=True),
    Column("revoked_by", Plain(), nullable=True),
)

# Bytes that were sent, by month (UTC, "2026-11") and by whoever used the grant.
grant_usage = Table(
    "grant_usage",
    metadata,
    Column("grant", Plain(32), primary_key=True),
    Column("user", Plain(), primary_key=True),
    Column("month", Plain(7), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token", Plain(32), primary_key=True),
    Column("user", Plain(), nullable=False, index=True),
    # SHA-256 of its secret part, which is random: 256 bits need no slow hash.
    Column("digest", Plain(64), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Plain(27), nullable=False),
    Column("created_by", Plain(), nullable=False),
    Column("expires_at", Plain(27), nullable=False),
    Column("revoked_at", Plain(27), nullable=True),
    Column("last_used_at", Plain(27), nullable=True),
)

objections = Table(
    "objections",
    metadata,
    Column("objection", Plain(32), primary_key=True),
    # What the hospital's number is found by, and the number, sealed where the site wants it.
    Column("lookup", Plain(), nullable=False, index=True),
    Column("identity", Plain(), nullable=False),
    Column("objected_at", Plain(27), nullable=False),
    Column("noted_by", Plain(), nullable=False),
    Column("withdrawn_at", Plain(27), nullable=True),
    Column("withdrawn_by", Plain(), nullable=True),
)

# Heights and widths of a slide's levels, read once from its copy: the catalogue knows those of level 0 only.
slide_levels = Table(
    "slide_levels",
    metadata,
    Column("slide", Plain(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("levels", Json, nullable=False),
)

# One row: a counter of changes of the tables above, so that a gateway sees at a glance that there was one.
research_state = Table(
    "research_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("changes", BigInteger, nullable=False),
)
