"""What a hospital says of patients and cases, taken in: all tables of one import in one transaction, or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, select

from wsistore.catalog import events, schema
from wsistore.catalog.clinical_cases import put_accesses, put_cases, put_departments, put_slides
from wsistore.catalog.clinical_dates import newest_feeds, roots
from wsistore.catalog.clinical_facts import unlinked_slides
from wsistore.catalog.clinical_identity import portions
from wsistore.catalog.clinical_people import (
    Happened,
    Who,
    put_encounters,
    put_merges,
    put_patients,
    put_recourses,
)
from wsistore.catalog.clinical_rows import Change, Said
from wsistore.catalog.records import SourceState
from wsistore.catalog.schema_clinical import feeds
from wsistore.catalog.session import Session
from wsistore.events import EventKind, NewEvent

_F, _K, _S, _V = feeds, schema.cases, schema.slides, schema.sources


@dataclass(frozen=True, slots=True)
class FeedFile:
    """One table of an import."""

    kind: str
    digest: str
    """SHA-256 of the file."""
    rows: Sequence[Said]


@dataclass(slots=True)
class Imported:
    """What an import has done."""

    as_of: str
    rows: dict[str, int] = field(default_factory=dict)
    """How many rows of each kind of table were read."""
    changed: dict[str, int] = field(default_factory=dict)
    """How many records of each kind are new, or not as they were."""
    provisional: int = 0
    """INS of identities that are not qualified: kept, but no data can be referenced by them."""
    unknown: list[str] = field(default_factory=list)
    """Places of rows that speak of no slide that is there."""
    slides: int = 0
    """In how many slides' chains there is an event of it."""


class Importing(Session):
    """Tables from the hospital."""

    def import_clinical(self, tables: Sequence[FeedFile], as_of: str, actor: str) -> Imported:
        """Take in tables, all or nothing; the same ones again change nothing.

        Parameters
        ----------
        tables
            In any order.
        as_of
            Up to which moment they are complete, ISO 8601 in UTC.
        actor
            Of the events.

        Raises
        ------
        InputError
            Where rows contradict each other or what is known, naming file, line and column.

        """
        done = Imported(as_of)
        with self._database.write() as connection:
            happened = Happened()
            changed, columns = _take_in(connection, tables, done, happened)
            for table in tables:
                _note_feed(connection, table, as_of, self._now(), actor)
            told = [(slide, NewEvent(EventKind.METADATA_CHANGED, actor, {"columns": columns})) for slide in changed]
            told += _events(connection, happened, as_of, actor)
            for slide, event in told:
                events.append(connection, slide, event, self._clock.now())
            done.slides = len({slide for slide, _ in told})
        return done

    def newest_feeds(self) -> dict[str, str]:
        """Return up to which moment the newest feed of each kind is complete."""
        with self._database.read() as connection:
            return newest_feeds(connection)


def _take_in(
    connection: Connection, tables: Sequence[FeedFile], done: Imported, happened: Happened
) -> tuple[list[str], list[str]]:
    """Write all down; return the slides whose metadata changed, and the columns that were spoken of."""
    rows: dict[str, list[Said]] = {}
    for table in tables:
        rows.setdefault(table.kind, []).extend(table.rows)
    done.rows = {kind: len(said) for kind, said in rows.items()}

    def of(*kinds: str) -> list[Said]:
        return [row for kind in kinds for row in rows.get(kind, ())]

    marked = [row for row in of("slides") if row.values.get("ins_matricule") is not None]
    named = of("patients", "merges", "encounters", "recourses", "cases") + marked
    who = Who(connection, named, of("encounters", "recourses", "cases") + marked)
    people, done.provisional = put_patients(connection, who, of("patients"), happened)
    merged = put_merges(connection, who, of("merges"), happened)
    counts = {
        "departments": _count(put_departments(connection, of("departments"))),
        "patients": _count(people),
        "merges": merged,
        "encounters": _count(put_encounters(connection, who, of("encounters"), happened)),
        "recourses": _count(put_recourses(connection, who, of("recourses"), happened)),
        "cases": _count(put_cases(connection, who, of("cases"), happened)),
    }
    newest = newest_feeds(connection).get("slides", "")
    changed, columns, unknown = put_slides(connection, who, of("slides"), newest)
    counts["slides"] = len(changed)
    counts["accesses"], nowhere = put_accesses(connection, of("accesses"))
    done.unknown = unknown + nowhere
    done.changed = {kind: counts[kind] for kind in done.rows}
    return changed, columns


def _count(changes: Iterable[Change]) -> int:
    return sum(change.differs for change in changes)


def _note_feed(connection: Connection, table: FeedFile, as_of: str, now: str, actor: str) -> None:
    same = (_F.c.kind == table.kind) & (_F.c.as_of == as_of) & (_F.c.digest == table.digest)
    if connection.execute(select(_F.c.feed).where(same)).first() is not None:
        return
    values = {"kind": table.kind, "as_of": as_of, "imported_at": now, "actor": actor}
    connection.execute(_F.insert(), values | {"rows": len(table.rows), "digest": table.digest})


# --- what is told in the chains of slides -----------------------------------------------------------------------------


def _events(connection: Connection, happened: Happened, as_of: str, actor: str) -> list[tuple[str, NewEvent]]:
    """Return the events of what happened to patients and cases, for every slide that it concerns."""
    of_patients = _slides_of_patients(connection, list(happened.patients)) if happened.patients else {}
    of_cases: dict[str, list[str]] = {}
    for some in portions(list(happened.cases)):
        for case, slide in connection.execute(_shown().where(_S.c.case_key.in_(some))):
            of_cases.setdefault(case, []).append(slide)
    found: dict[tuple[str, str], NewEvent] = {}
    for slides, where in ((of_patients, happened.patients), (of_cases, happened.cases)):
        for key, kinds in where.items():
            for kind, detail in kinds.items():
                event = NewEvent(kind, actor, {**detail, "as_of": as_of})
                found |= {(slide, str(kind)): event for slide in slides.get(key, ())}
    return [(slide, event) for (slide, _), event in sorted(found.items(), key=lambda pair: pair[0])]


def _shown() -> Select[Any]:
    query = select(_S.c.case_key, _S.c.slide).join(_V, _V.c.slide == _S.c.slide)
    return query.where(_V.c.state == str(SourceState.CURRENT)).order_by(_S.c.slide)


def _slides_of_patients(connection: Connection, keys: Sequence[str]) -> dict[str, list[str]]:
    """Return the slides of patients, by the patient's key; those of all records that are one with it."""
    ends = roots(connection, keys)
    mine: dict[str, list[str]] = {}
    for some in portions(list(ends)):
        query = select(_K.c.patient, _S.c.slide).join(_S, _S.c.case_key == _K.c.case_key).where(_K.c.patient.in_(some))
        for patient, slide in connection.execute(query.where(_S.c.slide.in_(_shown().with_only_columns(_S.c.slide)))):
            mine.setdefault(ends[patient], []).append(slide)
    for slide, patient in unlinked_slides(connection).items():
        if patient in ends:
            mine.setdefault(ends[patient], []).append(slide)
    return {key: mine.get(ends.get(key, key), []) for key in keys}
