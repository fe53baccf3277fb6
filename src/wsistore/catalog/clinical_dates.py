"""What the hospital's dates say of patients, in bulk: the dates of all records that turned out to be one patient's.

Of records that were merged the later dates win. They stay apart in the tables, so that a merger can be undone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, or_, select

from wsistore.catalog.clinical_identity import portions
from wsistore.catalog.schema_clinical import encounters, feeds, patients, recourses

_E, _F, _P, _R = encounters, feeds, patients, recourses
CANCELLED = "cancelled"
OPEN = "open"
COMPLETE = ("patients", "encounters", "recourses")
"""Kinds of feeds without which nothing is known to be complete."""
_STATUSES = ("provisional", "retrieved", "validated", "qualified")


@dataclass(frozen=True, slots=True)
class Dates:
    """What is known of one patient. Days are ISO 8601."""

    patient: str
    """Key of the record that the others were merged into."""
    birth_date: str | None
    death_date: str | None
    last_encounter: str | None
    is_staying: bool
    """Whether a stay goes on; `last_encounter` is not before the day of the feed then."""
    identity_status: str | None
    """The weakest of the records'."""
    recourses: tuple[tuple[str | None, str | None], ...]
    """First and last day of each."""


def feed_moment(connection: Connection) -> str | None:
    """Return until when the dates are known to be complete: the oldest of the newest feeds; None if one is missing."""
    newest = newest_feeds(connection)
    return min(newest[kind] for kind in COMPLETE) if newest.keys() >= set(COMPLETE) else None


def newest_feeds(connection: Connection) -> dict[str, str]:
    """Return the moment of the newest feed of each kind."""
    rows = connection.execute(select(_F.c.kind, func.max(_F.c.as_of).label("as_of")).group_by(_F.c.kind))
    return {row.kind: row.as_of for row in rows}


def roots(connection: Connection, wanted: Collection[str] | None = None) -> dict[str, str]:
    """Return for each record the one that it was merged into in the end; itself if it was not.

    With `wanted`, only for these records and those that are one with them.
    """
    into = dict(_mergers(connection, wanted))
    return {patient: root_of(patient, into) for patient in into}


def root_of(patient: str, into: Mapping[str, str | None]) -> str:
    """Follow mergers to their end. In a circle, which no import lets in, all records have the same end."""
    seen = [patient]
    while (following := into.get(seen[-1])) is not None:
        if following in seen:
            return min(seen[seen.index(following) :])
        seen.append(following)
    return seen[-1]


def _mergers(connection: Connection, wanted: Collection[str] | None) -> Iterator[tuple[str, str | None]]:
    query = select(_P.c.patient, _P.c.merged_into)
    if wanted is None:
        yield from ((row.patient, row.merged_into) for row in connection.execute(query))
        return
    known: set[str] = set()
    waiting = list(dict.fromkeys(wanted))
    while waiting:
        some, waiting = waiting[:200], waiting[200:]
        for row in connection.execute(query.where(or_(_P.c.patient.in_(some), _P.c.merged_into.in_(some)))):
            if row.patient not in known:
                known.add(row.patient)
                waiting += [row.patient] + ([row.merged_into] if row.merged_into is not None else [])
                yield row.patient, row.merged_into


def dates(connection: Connection, wanted: Collection[str] | None = None) -> dict[str, Dates]:
    """Return what is known of patients, by the key of every record of theirs; of all, or of those `wanted`."""
    ends = roots(connection, wanted)
    keys = None if wanted is None else list(ends)
    members: dict[str, list[str]] = {}
    for patient, root in ends.items():
        members.setdefault(root, []).append(patient)
    said = {row.patient: row for row in _rows(connection, _people(), _P.c.patient, keys)}
    moment = newest_feeds(connection).get("encounters", "")
    stays = {row.patient: row for row in _rows(connection, _encounters(), _E.c.patient, keys)}
    suits: dict[str, list[tuple[str | None, str | None]]] = {}
    for row in _rows(connection, _recourses(), _R.c.patient, keys):
        suits.setdefault(row.patient, []).append((row.begins, row.ends))
    found: dict[str, Dates] = {}
    for root, records in members.items():
        one = _together(root, records, said, stays, suits, moment[:10])
        found |= dict.fromkeys(records, one)
    return found


def _together(
    root: str,
    records: Sequence[str],
    said: Mapping[str, Any],
    stays: Mapping[str, Any],
    suits: Mapping[str, list[tuple[str | None, str | None]]],
    today: str,
) -> Dates:
    mine = [stays[patient] for patient in records if patient in stays]
    is_staying = any(row.staying for row in mine)
    last = _latest([row.last for row in mine] + ([today or None] if is_staying else []))
    if any(row.dateless for row in mine):
        last = None  # it may be later than all that are known
    death = _latest(said[patient].death_date for patient in records)
    if death is not None and last is not None and death < last:
        death = None  # one of the two is wrong: what shortens the time does not count
    statuses = [said[patient].identity_status for patient in records]
    known = [status for status in statuses if status in _STATUSES]
    weakest = min(known, key=_STATUSES.index) if known and len(known) == len(statuses) else None
    return Dates(
        patient=root,
        birth_date=_latest(said[patient].birth_date for patient in records),
        death_date=death,
        last_encounter=last,
        is_staying=is_staying,
        identity_status=weakest,
        recourses=tuple(sorted({suit for patient in records for suit in suits.get(patient, ())}, key=repr)),
    )


def _latest(days: Iterable[str | None]) -> str | None:
    return max((day for day in days if day is not None), default=None)


def _people() -> Select[Any]:
    return select(_P.c.patient, _P.c.birth_date, _P.c.death_date, _P.c.identity_status)


def _encounters() -> Select[Any]:
    """Ask for the last day of each patient's stays and visits, and whether one goes on; but for cancelled ones."""
    # Where it is not said that it is a visit, it may be a stay.
    is_stay = or_(_E.c.kind.is_(None), _E.c.kind != "visit")
    endless = and_(is_stay, _E.c.ends.is_(None), or_(_E.c.state.is_(None), _E.c.state != "planned"))
    # One that is open goes on, whatever was said before of its end.
    staying = case((or_(_E.c.state == OPEN, endless), 1), else_=0)
    return (
        select(
            _E.c.patient,
            func.max(func.coalesce(_E.c.ends, _E.c.begins)).label("last"),
            func.max(staying).label("staying"),
            func.max(case((func.coalesce(_E.c.ends, _E.c.begins).is_(None), 1), else_=0)).label("dateless"),
        )
        .where(or_(_E.c.state.is_(None), _E.c.state != CANCELLED))
        .group_by(_E.c.patient)
    )


def _recourses() -> Select[Any]:
    # One that is open, or open again, goes on, whatever was said before of its end.
    ends = case((_R.c.state == OPEN, None), else_=_R.c.ends).label("ends")
    return select(_R.c.patient, _R.c.begins, ends).where(or_(_R.c.state.is_(None), _R.c.state != CANCELLED))


def _rows(connection: Connection, query: Select[Any], column: Any, keys: Sequence[str] | None) -> Iterator[Any]:
    if keys is None:
        yield from connection.execute(query)
        return
    for some in portions(keys):
        yield from connection.execute(query.where(column.in_(some)))
