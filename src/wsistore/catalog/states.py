"""All that the catalogue knows of a slide, as JSON values: what its ledgers keep, and what it is rebuilt from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select

from wsistore.catalog import schema
from wsistore.catalog.records import SourceState
from wsistore.catalog.schema_clinical import labels
from wsistore.model import CopyState

State = Mapping[str, Any]
"""``slide``: a row as a JSON object; ``sources``, ``copies``, ``holds``, ``labels``: rows; ``fence``: the last fencing
number. Ledgers of older releases have no labels.
Copies that were dropped are among them, for history and because the numbers of commits are never used again."""

ChainHead = tuple[str, int, str]
"""A slide, the number and the hash of the last event of its chain."""

SLIDE_COLUMNS = tuple(column.name for column in schema.slides.columns)
SOURCE_COLUMNS = tuple(column.name for column in schema.sources.columns)
HOLD_COLUMNS = tuple(column.name for column in schema.holds.columns)
LABEL_COLUMNS = tuple(column.name for column in labels.columns)
COPY_COLUMNS = tuple(column.name for column in schema.copies.columns if column.name not in {"slide", "commit_body"})
"""Without the commit itself: it lies on the tier."""

_AT_ONCE = 400
"""Values in one IN (…): databases have limits."""

_PASSING = [str(SourceState.CLAIMED), str(SourceState.REPAIRING)]


def all_slides(connection: Connection, after: str, limit: int) -> list[str]:
    """Return the keys of slides that follow `after`, in order, at most `limit`: all to which anything happened."""
    table = schema.events
    query = select(table.c.slide).where(table.c.slide > after).distinct().order_by(table.c.slide).limit(limit)
    return [str(slide) for slide in connection.scalars(query)]


def states(connection: Connection, slides: Sequence[str]) -> dict[str, State]:
    """Return the states of slides, by slide; of those that have a committed version."""
    found: dict[str, dict[str, Any]] = {}
    for some in _portions(slides):
        for row in _rows(connection, schema.slides, SLIDE_COLUMNS, some):
            found[row["slide"]] = {"slide": row, "sources": [], "copies": [], "holds": [], "labels": [], "fence": 0}
        _add_all(connection, some, found)
    return {slide: state for slide, state in sorted(found.items()) if state["sources"]}


def _add_all(connection: Connection, some: Sequence[str], found: dict[str, dict[str, Any]]) -> None:
    for row in _rows(connection, schema.sources, SOURCE_COLUMNS, some):
        if row["state"] not in _PASSING:
            found[row["slide"]]["sources"].append(row)
    for row in _rows(connection, schema.copies, ("slide", *COPY_COLUMNS), some):
        if row["state"] != CopyState.CLAIMED:
            found[row.pop("slide")]["copies"].append(row)
    for row in _rows(connection, schema.holds, HOLD_COLUMNS, some):
        found[row["slide"]]["holds"].append(row)
    for row in _rows(connection, labels, LABEL_COLUMNS, some):
        found[row["slide"]]["labels"].append(row)
    for row in _rows(connection, schema.fences, ("slide", "last"), some):
        if row["slide"] in found:
            found[row["slide"]]["fence"] = row["last"]


def _rows(
    connection: Connection, table: Table, columns: Iterable[str], slides: Sequence[str]
) -> Iterator[dict[str, Any]]:
    query = select(*(table.c[name] for name in columns)).where(table.c.slide.in_(slides))
    for row in connection.execute(query.order_by(*table.primary_key.columns)):
        yield dict(row._mapping)


def _portions(slides: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(slides), _AT_ONCE):
        yield slides[start : start + _AT_ONCE]


def chain_heads(connection: Connection) -> list[ChainHead]:
    """Return the last event of every slide's chain, by slide: slide, number, hash."""
    table = schema.events
    last = select(table.c.slide, func.max(table.c.number).label("number")).group_by(table.c.slide).subquery()
    query = (
        select(table.c.slide, table.c.number, table.c.hash)
        .join(last, (last.c.slide == table.c.slide) & (last.c.number == table.c.number))
        .order_by(table.c.slide)
    )
    return [(str(row.slide), int(row.number), str(row.hash)) for row in connection.execute(query)]
