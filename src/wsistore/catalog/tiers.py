"""The tiers that the catalogue knows: a name and an id stay together for ever."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from wsistore.catalog import schema
from wsistore.catalog.records import TierRecord
from wsistore.catalog.rows import tier_row
from wsistore.errors import SiteError

_T = schema.tiers


def put(connection: Connection, tier: TierRecord) -> None:
    """Note a tier's identity, or its new URL; `SiteError` if its name or id belongs to another tier."""
    for row in connection.execute(select(_T).where((_T.c.name == tier.name) | (_T.c.id == tier.id))):
        if (row.name, row.id) != (tier.name, tier.id):
            msg = f"Tier {tier.name!r} has the id {tier.id}, but the catalogue knows {row.name!r} with the id {row.id}."
            remedy = "Put the tier's old name and id back in wsistore.toml; a new place needs a new name and a new id."
            raise SiteError(msg, remedy=remedy)
        connection.execute(update(_T).where(_T.c.name == tier.name).values(url=tier.url))
        return
    connection.execute(_T.insert(), {"name": tier.name, "id": tier.id, "url": tier.url})


def every(connection: Connection) -> list[TierRecord]:
    """Return the tiers that were ever noted, by name."""
    return [tier_row(row) for row in connection.execute(select(_T).order_by(_T.c.name))]
