"""Which slides changed since a tier's ledger was last told.

Every event leaves a row in ``changes``, in the transaction in which it is appended. A ledger's cursor says up to which
of them it has heard. What a segment says of a slide is its state when the segment is made, with all events from the
first that the ledger has not heard of; so what is told twice, after a crash, does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from wsistore.catalog import schema
from wsistore.catalog.events import from_numbers
from wsistore.catalog.states import ChainHead, State, all_slides, chain_heads, states
from wsistore.events import Event

SLIDES_PER_SEGMENT = 1000
"""A segment is a few MB at most, and is made in one piece of memory."""

_MANY = 1000
"""Changes that do not wait any longer, urgent or not."""

_X, _L = schema.changes, schema.ledgers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a tier's ledger has come."""

    number: int
    """Of its last segment, from 1."""
    digest: str
    """SHA-256 of that segment."""
    seq: int
    """Changes up to this one are told."""
    after: str | None = None
    """Not None while a ledger begins: the last slide that was told of all."""
    head_at: str = ""
    """When its last signed head was written; empty if none was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What a ledger's next segment is to say."""

    seen: Cursor | None
    """The ledger as it was when this was collected."""
    slides: Mapping[str, State]
    events: Sequence[Event] = field(default=())
    seq: int
    after: str | None
    """As in `Cursor`, when it is written."""


def cursor(connection: Connection, tier_id: str) -> Cursor | None:
    """Return how far a tier's ledger has come."""
    row = connection.execute(select(_L).where(_L.c.tier_id == tier_id)).first()
    if row is None:
        return None
    return Cursor(**{name: getattr(row, name) for name in Cursor.__slots__})


def is_due(connection: Connection, tier_id: str) -> bool:
    """Say whether a ledger should be told now."""
    seen = cursor(connection, tier_id)
    if seen is None or seen.after is not None:
        return last_seq(connection) > 0
    waiting = _X.c.seq > seen.seq
    if connection.execute(select(_X.c.seq).where(waiting, _X.c.urgent).limit(1)).first() is not None:
        return True
    return (connection.scalar(select(func.count()).where(waiting)) or 0) >= _MANY


def pending(connection: Connection, tier_id: str) -> Pending | None:
    """Return what a ledger's next segment is to say; None if it says all."""
    seen = cursor(connection, tier_id)
    if seen is None or seen.after is not None:
        return _beginning(connection, seen)
    seq = seen.seq
    query = select(_X.c.seq, _X.c.slide, _X.c.event).where(_X.c.seq > seq).order_by(_X.c.seq)
    first: dict[str, int] = {}
    for row in connection.execute(query):
        if row.slide not in first and len(first) == SLIDES_PER_SEGMENT:
            break
        first[row.slide] = min(row.event, first.get(row.slide, row.event))
        seq = row.seq
    if not first:
        return None
    found = states(connection, list(first))
    return Pending(seen=seen, slides=found, events=from_numbers(connection, first), seq=seq, after=None)


def _beginning(connection: Connection, seen: Cursor | None) -> Pending | None:
    """Return the next slides of a ledger that begins; None when all were told."""
    after = "" if seen is None else seen.after or ""
    slides = all_slides(connection, after, SLIDES_PER_SEGMENT)
    if not slides and seen is None:
        return None
    return Pending(
        seen=seen,
        slides=states(connection, slides),
        events=from_numbers(connection, dict.fromkeys(slides, 1)),
        # Changes from here on are told again: they may be of slides that were told before them.
        seq=last_seq(connection) if seen is None else seen.seq,
        after=slides[-1] if len(slides) == SLIDES_PER_SEGMENT else None,
    )


def forget(connection: Connection, tier_id: str, seen: Cursor) -> bool:
    """Forget how far a ledger has come, if it still is where it was seen."""
    if cursor(connection, tier_id) != seen:
        return False
    connection.execute(delete(_L).where(_L.c.tier_id == tier_id))
    return True


def heads(connection: Connection, tier_id: str) -> tuple[Cursor, list[ChainHead]] | None:
    """Return how far a ledger has come and the last event of all chains, if it knows all; else None."""
    seen = cursor(connection, tier_id)
    if seen is None or pending(connection, tier_id) is not None:
        return None
    return seen, chain_heads(connection)


def last_seq(connection: Connection) -> int:
    """Return the number of the last change; 0 if there was none."""
    return int(connection.scalar(select(func.max(_X.c.seq))) or 0)


def advance(connection: Connection, tier_id: str, seen: Cursor | None, new: Cursor) -> bool:
    """Move a ledger's cursor, if it still is where it was seen; forget the changes that all ledgers have heard of."""
    values: dict[str, Any] = {name: getattr(new, name) for name in Cursor.__slots__}
    if cursor(connection, tier_id) != seen:
        return False
    if seen is None:
        connection.execute(_L.insert(), values | {"tier_id": tier_id})
    else:
        connection.execute(update(_L).where(_L.c.tier_id == tier_id).values(values))
    heard = connection.scalar(select(func.min(_L.c.seq))) or 0
    # The last one stays: a row is cheaper than a counter that starts anew.
    connection.execute(delete(_X).where(_X.c.seq <= heard, _X.c.seq < last_seq(connection)))
    return True
