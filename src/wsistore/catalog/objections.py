"""Objections: patients who do not want their slides used for research. Functions over an open catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from wsistore.catalog.clinical_dates import roots
from wsistore.catalog.clinical_identity import find, folded, lookup, lookups, portions
from wsistore.catalog.identities import SEALED, open_identity, seal_identity
from wsistore.catalog.projects_state import bump
from wsistore.catalog.schema_projects import objections
from wsistore.catalog.session import Session
from wsistore.model import random_key

_O = objections


@dataclass(frozen=True, slots=True)
class Objected:
    """Everybody who objects now."""

    numbers: frozenset[str]
    """The hospital's numbers, folded."""
    patients: frozenset[str]
    """The catalogue's own keys of these patients: of the records that theirs were merged into."""

    def __contains__(self, person: object) -> bool:
        patient, number = getattr(person, "patient", None), getattr(person, "number", None)
        return (patient is not None and patient in self.patients) or (number is not None and number in self.numbers)


def object_for(catalog: Session, numbers: Iterable[str], actor: str) -> int:
    """Note that patients object, by the hospital's numbers; return how many did not before.

    Raises
    ------
    SiteError
        If their numbers are to be sealed, and the keys are not at hand (`Kind.KEY_MISSING`).

    """
    with catalog._database.write() as connection:
        wanted = {folded(number): number.strip() for number in numbers if number.strip()}
        there = set(_in_force(connection, wanted.values()).values())
        rows = [_new(connection, number, catalog._now(), actor) for text, number in wanted.items() if text not in there]
        if rows:
            connection.execute(_O.insert(), rows)
            bump(connection)
        return len(rows)


def withdraw(catalog: Session, numbers: Iterable[str], actor: str) -> int:
    """Note that patients do not object any more; return how many did."""
    with catalog._database.write() as connection:
        found = _in_force(connection, [number.strip() for number in numbers if number.strip()])
        for some in portions(list(found)):
            values = {"withdrawn_at": catalog._now(), "withdrawn_by": actor}
            connection.execute(update(_O).where(_O.c.objection.in_(some)).values(values))
        if found:
            bump(connection)
        return len(set(found.values()))


def objected(connection: Connection) -> Objected:
    """Return everybody who objects.

    Raises
    ------
    SiteError
        If a number is sealed, and the keys are not at hand: who objects is not known then, and nothing may be shown.

    """
    rows = connection.execute(select(_O.c.objection, _O.c.identity).where(_O.c.withdrawn_at.is_(None)))
    numbers = {open_identity(connection, row.identity, about=about_of(row.objection)) for row in rows}
    patients = set(find(connection, numbers).values())
    ends = roots(connection, patients) if patients else {}
    every_end = patients | {ends.get(patient, patient) for patient in patients}
    return Objected(frozenset(map(folded, numbers)), frozenset(every_end))


def count(catalog: Session) -> int:
    """Return how many patients object."""
    with catalog._database.read() as connection:
        return len(connection.execute(select(_O.c.objection).where(_O.c.withdrawn_at.is_(None))).all())


def identities(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield all numbers as they are kept, each with what it is about."""
    for row in connection.execute(select(_O.c.objection, _O.c.identity)):
        yield about_of(row.objection), row.identity


def seal_numbers(connection: Connection) -> int:
    """Seal the numbers that are not; return how many were. May be repeated."""
    changed = 0
    for row in connection.execute(select(_O.c.objection, _O.c.identity)).all():
        if row.identity.startswith(SEALED):
            continue
        values = {
            "identity": seal_identity(connection, row.identity, about=about_of(row.objection)),
            "lookup": lookup(connection, row.identity),
        }
        if values["identity"] != row.identity:
            connection.execute(update(_O).where(_O.c.objection == row.objection).values(values))
            changed += 1
    return changed


def about_of(objection: str) -> str:
    """Return what a sealed number is about."""
    return f"objection {objection}"


def _in_force(connection: Connection, numbers: Iterable[str]) -> Mapping[str, str]:
    """Return the objections of these patients that last, each with the number, folded."""
    may_be = lookups(connection, numbers)
    found: dict[str, str] = {}
    query = select(_O.c.objection, _O.c.lookup).where(_O.c.withdrawn_at.is_(None))
    for some in portions(list(may_be)):
        for row in connection.execute(query.where(_O.c.lookup.in_(some))):
            found[row.objection] = folded(may_be[row.lookup])
    return found


def _new(connection: Connection, number: str, now: str, actor: str) -> dict[str, Any]:
    name = random_key()
    return {
        "objection": name,
        "lookup": lookup(connection, number),
        "identity": seal_identity(connection, number, about=about_of(name)),
        "objected_at": now,
        "noted_by": actor,
    }
