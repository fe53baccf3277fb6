"""Holds: reasons why nothing of a slide may be dropped."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from wsistore.catalog import schema
from wsistore.catalog.records import Hold
from wsistore.catalog.rows import hold_row

_H = schema.holds


def place(connection: Connection, hold: Hold) -> bool:
    """Place a hold; False if it is there already."""
    if any(other.reason == hold.reason for other in of_slide(connection, hold.slide)):
        return False
    values = {name: getattr(hold, name) for name in Hold.__slots__}
    connection.execute(_H.insert(), values)
    return True


def release(connection: Connection, slide: str, reason: str | None) -> list[Hold]:
    """End a slide's hold for a reason, or all of them; return those that were there."""
    ended = [hold for hold in of_slide(connection, slide) if reason in (None, hold.reason)]
    for hold in ended:
        connection.execute(delete(_H).where(_H.c.slide == slide, _H.c.reason == hold.reason))
    return ended


def of_slide(connection: Connection, slide: str) -> list[Hold]:
    """Return a slide's holds, oldest first."""
    query = select(_H).where(_H.c.slide == slide).order_by(_H.c.placed_at, _H.c.reason)
    return [hold_row(row) for row in connection.execute(query)]


def every(connection: Connection) -> list[Hold]:
    """Return all holds, oldest first."""
    query = select(_H).order_by(_H.c.placed_at, _H.c.slide, _H.c.reason)
    return [hold_row(row) for row in connection.execute(query)]
