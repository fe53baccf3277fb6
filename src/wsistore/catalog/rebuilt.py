"""A catalogue made anew, row by row, from what the tiers know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table

from wsistore.catalog import schema, slides
from wsistore.catalog.changes import Cursor
from wsistore.catalog.identities import Identities
from wsistore.catalog.records import TierRecord
from wsistore.catalog.schema_clinical import labels
from wsistore.catalog.sealing import put_key
from wsistore.catalog.states import COPY_COLUMNS, State
from wsistore.errors import Kind, SiteError
from wsistore.events import Event, canonical_json

Rows = list[dict[str, Any]]

FENCE_GAP = 1 << 20
"""Fencing numbers that a lost catalogue may have given out after the last that is known: nobody's may be used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A slide as it is to be in the catalogue."""

    state: State
    """With the copies as they are to be; those that lie on a tier have their ``commit_body``."""
    events: Sequence[Event]
    """Its whole chain."""


def create(
    url: str,
    rebuilt: Iterable[Rebuilt],
    tiers: Sequence[TierRecord],
    cursors: Mapping[str, Cursor],
    *,
    first_change: int,
    make_way: Callable[[Path], None],
    keys: Mapping[str, str],
    identities: Identities,
) -> bool:
    """Make a catalogue that is filled before anybody sees it.

    Parameters
    ----------
    url
        Of the catalogue.
    rebuilt
        All slides.
    tiers
        That the site has.
    cursors
        Of the tiers' ledgers, by the tiers' ids.
    first_change
        Number of the first change in the new catalogue: greater than all that the ledgers know of. All slides are
        among the changes, so that every ledger hears what the others knew.
    make_way
        Sets aside what has the catalogue's name, when the new one is ready.
    keys
        Wrapped identity keys by their ids.
    identities
        What opens what is sealed.

    Returns
    -------
    bool
        Whether every case has its patient; False where identities are sealed by keys that are not at hand.

    Raises
    ------
    SiteError
        If there is a catalogue (`Kind.SITE_EXISTS`), or it cannot be written.

    """
    from wsistore.catalog import revisions

    settled: list[bool] = []

    def fill(connection: Connection) -> None:
        for name, wrapped in keys.items():
            put_key(connection, name, wrapped)
        settled.append(_fill(connection, rebuilt, tiers, cursors, first_change))

    revisions.create_filled(url, fill, make_way=make_way, identities=identities)
    return all(settled)


def _fill(
    connection: Connection,
    rebuilt: Iterable[Rebuilt],
    tiers: Sequence[TierRecord],
    cursors: Mapping[str, Cursor],
    first_change: int,
) -> bool:
    rows: dict[Table, Rows] = {table: [] for table in _ORDER}
    rows[schema.tiers] = [{"name": tier.name, "id": tier.id, "url": tier.url} for tier in tiers]
    rows[schema.ledgers] = [
        {"tier_id": tier_id, **{name: getattr(cursor, name) for name in Cursor.__slots__}}
        for tier_id, cursor in cursors.items()
    ]
    cases: set[str] = set()
    for seq, slide in enumerate(rebuilt, first_change):
        _add(rows, slide, seq)
        if len(rows[schema.slides]) == _AT_ONCE:
            _insert(connection, rows, cases)
    _insert(connection, rows, cases)
    try:
        for case in sorted(cases):
            slides.settle_case(connection, case)
    except SiteError as error:
        if error.kind is not Kind.KEY_MISSING:
            raise
        return False
    return True


def _insert(connection: Connection, rows: dict[Table, Rows], cases: set[str]) -> None:
    """Write down what was collected, and forget it; `cases` are those that were written so far."""
    new = {row["case_key"] for row in rows[schema.slides]} - cases - {None}
    cases |= new
    rows[schema.cases] = [{"case_key": case, "patient_id": None} for case in sorted(new)]
    for table in _ORDER:
        if rows[table]:
            connection.execute(table.insert(), rows[table])
            rows[table] = []


_AT_ONCE = 500
"""Slides whose rows are in memory at a time."""

_ORDER = (
    *(schema.tiers, schema.cases, schema.slides, schema.sources, schema.copies, schema.fences, schema.holds),
    *(labels, schema.events, schema.changes, schema.ledgers),
)
"""Tables, those first that others refer to."""


def _add(rows: Mapping[Table, Rows], rebuilt: Rebuilt, seq: int) -> None:
    state, slide = rebuilt.state, rebuilt.state["slide"]["slide"]
    rows[schema.slides].append(dict(state["slide"]))
    rows[schema.sources] += [dict(source) for source in state["sources"]]
    rows[schema.holds] += [dict(hold) for hold in state["holds"]]
    rows[labels] += [dict(label) for label in state.get("labels", ())]
    rows[schema.fences].append({"slide": slide, "last": state["fence"] + FENCE_GAP})
    for copy in state["copies"]:
        values = {name: copy.get(name) for name in COPY_COLUMNS}  # ledgers of older releases lack some
        rows[schema.copies].append(values | {"slide": slide, "commit_body": copy.get("commit_body", "")})
    for event in rebuilt.events:
        values = {name: getattr(event, name) for name in Event.__slots__}
        rows[schema.events].append(values | {"detail": canonical_json(event.detail)})
    rows[schema.changes].append({"seq": seq, "slide": slide, "event": 1, "urgent": True})
