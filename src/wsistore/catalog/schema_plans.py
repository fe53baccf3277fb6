"""The catalogue's tables of plans: who may approve, what was approved, and what became of each row."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table

from wsistore.catalog.schema import Json, Plain, metadata

# Who may approve, since when and by whose signature: a log that is only appended to. The statement's bytes are signed.
roster = Table(
    "roster",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Plain(27), nullable=False),
    Column("statement", Plain(), nullable=False),
    Column("signer", Plain(64), nullable=False),
    Column("signature", Plain(128), nullable=False),
    # Of the site's own key, where the log begins; else empty.
    Column("countersigner", Plain(64), nullable=False),
    Column("countersignature", Plain(128), nullable=False),
)

plans = Table(
    "plans",
    metadata,
    # SHA-256 of the plan's file.
    Column("digest", Plain(64), primary_key=True),
    Column("author", Plain(), nullable=False),
    Column("made_at", Plain(27), nullable=False),
    Column("expires_at", Plain(27), nullable=False),
    Column("header", Json, nullable=False),
    Column("noted_at", Plain(27), nullable=False),
    Column("state", Plain(16), nullable=False, index=True),
    # Who applies it.
    Column("actor", Plain(), nullable=False),
    Column("begun_at", Plain(27), nullable=True),
    Column("ended_at", Plain(27), nullable=True),
)

approvals = Table(
    "approvals",
    metadata,
    Column("plan", Plain(64), ForeignKey("plans.digest"), primary_key=True),
    # As the roster names them.
    Column("person", Plain(32), primary_key=True),
    Column("at", Plain(27), nullable=False),
    # What was signed, and how it is proven: by a signature, or by an identity provider's token.
    Column("statement", Plain(), nullable=False),
    Column("signer", Plain(64), nullable=False),
    Column("proof", Plain(), nullable=False),
)

visas = Table(
    "visas",
    metadata,
    Column("plan", Plain(64), ForeignKey("plans.digest"), primary_key=True),
    Column("role", Plain(32), primary_key=True),
    # Who recorded it, as the roster names them, and when.
    Column("person", Plain(32), nullable=False),
    Column("at", Plain(27), nullable=False),
    Column("statement", Plain(), nullable=False),
    Column("signer", Plain(64), nullable=False),
    Column("proof", Plain(), nullable=False),
)

plan_rows = Table(
    "plan_rows",
    metadata,
    Column("plan", Plain(64), ForeignKey("plans.digest"), primary_key=True),
    Column("slide", Plain(64), primary_key=True),
    # The order in which they are done.
    Column("number", BigInteger, nullable=False),
    Column("action", Plain(16), nullable=False),
    Column("state", Plain(16), nullable=False),
    Column("reason", Plain(), nullable=False),
    Column("owner", Plain(), nullable=False),
    Column("lease_until", Plain(27), nullable=True),
    Column("begun_at", Plain(27), nullable=True),
    Column("ended_at", Plain(27), nullable=True),
    Column("detail", Json, nullable=False),
    Index("ix_plan_rows_plan_state", "plan", "state", "number"),
)
