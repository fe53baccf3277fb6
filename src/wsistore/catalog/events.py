"""The chains of events in the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from wsistore.catalog import schema
from wsistore.catalog.records import SourceState
from wsistore.catalog.rows import reading
from wsistore.errors import Kind, MissingError
from wsistore.events import Event, EventKind, NewEvent, canonical_json, check_chain, next_event

_EVENTS = schema.events
_PATIENT = frozenset({EventKind.VERIFIED, EventKind.RESTORED, EventKind.EXPORTED})
"""Events that the tiers' ledgers may hear of later, with others: nothing is where it was not before."""


def append(connection: Connection, slide: str, new: NewEvent, at: datetime) -> Event:
    """Append to a slide's chain, within a writing transaction.

    Raises
    ------
    MissingError
        If there is no such slide.

    """
    # Holding the slide's row makes writers of one chain wait for each other where the database lets several write.
    held = connection.execute(
        select(schema.slides.c.slide).where(schema.slides.c.slide == slide).with_for_update()
    ).first()
    if held is None:
        msg = f"There is no slide {slide!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="'wsistore ls' lists the slides.")
    row = connection.execute(
        select(_EVENTS).where(_EVENTS.c.slide == slide).order_by(_EVENTS.c.number.desc()).limit(1)
    ).first()
    event = next_event(None if row is None else _event(row), slide, new, at)
    values = {name: getattr(event, name) for name in Event.__slots__}
    connection.execute(_EVENTS.insert(), values | {"detail": canonical_json(event.detail)})
    change = {"slide": slide, "event": event.number, "urgent": event.kind not in _PATIENT}
    connection.execute(schema.changes.insert(), change)
    return event


def of_slide(connection: Connection, slide: str) -> list[Event]:
    """Return a slide's chain."""
    rows = connection.execute(select(_EVENTS).where(_EVENTS.c.slide == slide).order_by(_EVENTS.c.number))
    return [_event(row) for row in rows]


def from_numbers(connection: Connection, first: Mapping[str, int]) -> list[Event]:
    """Return the events of slides from a number on, by slide and number."""
    found: list[Event] = []
    for slide, number in sorted(first.items()):
        found += [_event(row) for row in connection.execute(_FROM_NUMBER, {"slide_is": slide, "least": number})]
    return found


_FROM_NUMBER = (
    select(_EVENTS)
    .where(_EVENTS.c.slide == bindparam("slide_is"), _EVENTS.c.number >= bindparam("least"))
    .order_by(_EVENTS.c.number)
)
"""Made once: a ledger is told of thousands of slides."""


def latest(connection: Connection) -> list[Event]:
    """Return all events of all slides as they happened."""
    rows = connection.execute(select(_EVENTS).order_by(_EVENTS.c.at, _EVENTS.c.slide, _EVENTS.c.number))
    return [_event(row) for row in rows]


def problems(connection: Connection) -> list[str]:
    """Return what is wrong with any chain, in words. Holds one chain at a time in memory."""
    found: list[str] = []
    for _, chain in groupby(_all(connection), key=attrgetter("slide")):
        found += check_chain(chain)
    shown = (
        select(schema.sources.c.slide)
        .where(schema.sources.c.state == str(SourceState.CURRENT))
        .where(schema.sources.c.slide.not_in(select(_EVENTS.c.slide)))
        .order_by(schema.sources.c.slide)
    )
    found += [f"slide {slide}: has no events at all" for slide in connection.scalars(shown)]
    return found


def _all(connection: Connection) -> Iterator[Event]:
    rows = connection.execution_options(yield_per=1000).execute(
        select(_EVENTS).order_by(_EVENTS.c.slide, _EVENTS.c.number)
    )
    for row in rows:
        yield _event(row)


def _event(row: Row[Any]) -> Event:
    with reading("events"):
        return Event(
            slide=str(row.slide),
            number=int(row.number),
            at=str(row.at),
            kind=str(row.kind),
            actor=str(row.actor),
            detail=_detail(row.detail),
            previous=str(row.previous),
            hash=str(row.hash),
        )


def _detail(text: str) -> dict[str, Any]:
    """Parse a detail; one that is not exactly what was written becomes a value that no hash fits."""
    try:
        detail = json.loads(text)
        if isinstance(detail, dict) and canonical_json(detail) == text:
            return detail
    except (ValueError, TypeError, RecursionError):
        pass
    return {"unreadable": str(text)}
