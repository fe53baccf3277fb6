"""The catalogue's tables of identity keys, and of sealing that is under way."""

from __future__ import annotations

from sqlalchemy import Column, Table

from wsistore.catalog.schema import Plain, metadata

identity_keys = Table(
    "identity_keys",
    metadata,
    Column("id", Plain(64), primary_key=True),
    # Wrapped by the site key, as data keys lie on tiers: JSON.
    Column("wrapped", Plain(), nullable=False),
    Column("made_at", Plain(27), nullable=False),
)

# What is still to be done of sealing a catalogue that was in use before: 'catalog', and 'ledger' with a tier's id.
sealing = Table(
    "sealing",
    metadata,
    Column("what", Plain(96), primary_key=True),
    Column("begun_at", Plain(27), nullable=False),
)
