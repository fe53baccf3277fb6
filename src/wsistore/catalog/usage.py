"""What lies in each tier, as far as the catalogue knows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from wsistore.catalog import schema
from wsistore.catalog.session import Session
from wsistore.model import CopyState

_GONE = (str(CopyState.DROPPED),)


@dataclass(frozen=True, slots=True)
class Usage:
    """The copies of one tier that take room: superseded ones, and those that are being written or dropped, too."""

    copies: int = 0
    bytes_stored: int = 0
    objects: int = 0


def usage_by_tier(catalog: Session) -> dict[str, Usage]:
    """Return what each tier holds, by name; tiers without copies are not in it.

    Raises
    ------
    SiteError, ConflictError
        As every method of `wsistore.catalog.Catalog`.

    """
    table = schema.copies
    query = (
        select(table.c.tier, func.count(), func.sum(table.c.bytes_stored), func.sum(table.c.objects))
        .where(table.c.state.not_in(_GONE))
        .group_by(table.c.tier)
    )
    with catalog._database.read() as connection:
        return {
            tier: Usage(copies, int(size), int(objects)) for tier, copies, size, objects in connection.execute(query)
        }
