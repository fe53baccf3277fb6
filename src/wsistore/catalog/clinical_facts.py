"""What rules may know of slides, read in bulk: all slides a portion at a time, each with its copies, case and patient.

Everything that is known of cases and patients is read once; of slides one portion is in memory.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Row, Select, String, and_, func, select, text, type_coerce

from wsistore.catalog import schema
from wsistore.catalog.clinical_dates import Dates, dates, feed_moment
from wsistore.catalog.clinical_identity import find, folded, portions
from wsistore.catalog.identities import of as identities_of
from wsistore.catalog.identities import open_metadata, open_patient
from wsistore.catalog.records import SourceState
from wsistore.catalog.rows import reading
from wsistore.catalog.schema_clinical import MARKING_EVENTS, accesses, departments, labels, patients
from wsistore.catalog.session import Session
from wsistore.events import EventKind
from wsistore.model import CopyState

AT_ONCE = 20_000
"""Slides of one portion."""

_C, _D, _E, _H, _K, _L, _S, _U, _V = (
    schema.copies,
    departments,
    schema.events,
    schema.holds,
    schema.cases,
    labels,
    schema.slides,
    accesses,
    schema.sources,
)
_METADATA = type_coerce(_S.c.metadata, String)
_COUNTED = (str(CopyState.COMMITTED), str(CopyState.SUSPECT))


class CopyFacts(NamedTuple):
    """One copy of a slide's current version."""

    attempt: str
    tier: str
    preset: str
    state: str
    bytes_stored: int
    objects: int
    created_at: str | None
    verified_at: str
    expires_at: str | None


class CaseFacts(NamedTuple):
    """What is known of a case; of a slide that has none, nothing."""

    patient: str | None = None
    received_on: str | None = None
    signed_out_at: str | None = None
    organ: str | None = None
    diagnoses: Sequence[str] | None = None
    department: str | None = None


@dataclass(slots=True)
class SlideFacts:
    """What is known of a slide."""

    row: Row[Any]
    """Columns of ``slides``, and ``version``."""
    metadata: dict[str, str]
    """Without what identifies the patient."""
    case: CaseFacts = field(default_factory=CaseFacts)
    patient: Dates | None = None
    last_access: str | None = None
    is_detached: bool = False
    copies: list[CopyFacts] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    """Their reasons."""
    collections: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Known:
    """What is known of all cases and patients that are asked about."""

    cases: dict[str, CaseFacts]
    dates: dict[str, Dates]
    case_access: dict[str, str]
    slide_access: dict[str, str]
    detached: set[str]
    patients: dict[str, str]
    """Keys of patients by the hospital's numbers, of slides without a case."""
    hides: Callable[[str], bool]
    """Whether metadata of this name identify a patient."""
    feed_as_of: str | None = None


def read_facts(catalog: Session, slides: Sequence[str] | None = None) -> Iterator[tuple[Known, list[SlideFacts]]]:
    """Yield what is known of slides, by key, a portion at a time; all in one transaction.

    Parameters
    ----------
    catalog
        An open catalogue.
    slides
        Keys: these, and all others of their cases. By default every slide.

    """
    with catalog._database.read() as connection:
        if slides is None:
            known = _known(connection, None)
            after = ""
            while rows := list(connection.execute(_shown().where(_S.c.slide > after).limit(AT_ONCE))):
                yield known, _portion(connection, known, rows, first=rows[0].slide)
                after = rows[-1].slide
            return
        rows = _with_cases(connection, slides)
        known = _known(connection, rows)
        for some in portions(rows):
            yield known, _portion(connection, known, some)


def _shown() -> Select[Any]:
    columns = [column for column in _S.columns if column.name != "metadata"]
    return (
        select(*columns, _METADATA.label("metadata"), _V.c.n.label("version"))
        .join(_V, _V.c.slide == _S.c.slide)
        .where(_V.c.state == str(SourceState.CURRENT))
        .order_by(_S.c.slide)
    )


def _with_cases(connection: Connection, slides: Sequence[str]) -> list[Row[Any]]:
    found: dict[str, Any] = {}
    for some in portions(list(dict.fromkeys(slides))):
        found |= {row.slide: row for row in connection.execute(_shown().where(_S.c.slide.in_(some)))}
    cases = list({row.case_key for row in found.values()} - {None})
    for some in portions(cases):
        found |= {row.slide: row for row in connection.execute(_shown().where(_S.c.case_key.in_(some)))}
    return [found[slide] for slide in sorted(found)]


# --- a portion of slides ----------------------------------------------------------------------------------------------


def _portion(
    connection: Connection, known: Known, rows: Sequence[Row[Any]], *, first: str | None = None
) -> list[SlideFacts]:
    """Return what is known of `rows`; which are all slides from `first` on, if it is given."""

    def mine(column: Column[Any]) -> Any:
        if first is None:
            return column.in_([row.slide for row in rows])
        return and_(column >= first, column <= rows[-1].slide)

    with reading("slides"):
        found = {row.slide: _slide(connection, known, row) for row in rows}
    for slide, *copy in connection.execute(_copies().where(mine(_C.c.slide))):
        if slide in found:
            found[slide].copies.append(CopyFacts(*copy))
    for row in connection.execute(select(_H.c.slide, _H.c.reason).where(mine(_H.c.slide)).order_by(_H.c.reason)):
        if row.slide in found:
            found[row.slide].holds.append(row.reason)
    query = select(_L.c.slide, _L.c.kind, _L.c.name).where(mine(_L.c.slide)).order_by(_L.c.name)
    for slide, kind, name in connection.execute(query):
        if slide in found:
            (found[slide].tags if kind == "tag" else found[slide].collections).append(name)
    return list(found.values())


def _copies() -> Select[Any]:
    columns = [_C.c[name] for name in CopyFacts._fields]
    return (
        select(_C.c.slide, *columns)
        .join(_V, (_V.c.slide == _C.c.slide) & (_V.c.n == _C.c.version))
        .where(_V.c.state == str(SourceState.CURRENT), _C.c.state.in_(_COUNTED))
        .order_by(_C.c.slide, _C.c.tier, _C.c.attempt)
    )


def _slide(connection: Connection, known: Known, row: Row[Any]) -> SlideFacts:
    metadata = _metadata(row)
    shown = {name: str(value) for name, value in metadata.items() if not known.hides(name)}
    if row.case_key is None:
        patient = known.patients.get(folded(patient_of(connection, row.slide, metadata) or ""))
        case, access = CaseFacts(patient), known.slide_access.get(row.slide)
    else:
        case, access = known.cases.get(row.case_key, CaseFacts()), known.case_access.get(row.case_key)
    patient = case.patient
    return SlideFacts(
        row,
        shown,
        case=case,
        patient=None if patient is None else known.dates.get(patient),
        last_access=access,
        is_detached=row.slide in known.detached,
    )


def _metadata(row: Any) -> dict[str, Any]:
    return dict(json.loads(row.metadata or "{}"))


def patient_of(connection: Connection, slide: str, metadata: Mapping[str, Any]) -> str | None:
    """Return the hospital's number of the patient that a slide's metadata name; None if none, or it is sealed."""
    said = metadata.get("patient_id")
    if not said:
        return None
    return open_metadata(connection, slide, {"patient_id": said}, strict=False).get("patient_id")


# --- cases and patients -----------------------------------------------------------------------------------------------


def _known(connection: Connection, rows: Sequence[Row[Any]] | None) -> Known:
    """Read what is known of cases and patients: of all, or those of `rows`."""
    keys = None if rows is None else sorted({row.case_key for row in rows} - {None})
    cases = cases_known(connection, keys)
    alone = _alone(connection, rows)
    numbers = find(connection, {number for number in alone.values() if number}) if alone else {}
    named = {case.patient for case in cases.values()} | set(numbers.values())
    case_access, slide_access, detached = _marks(connection, rows)
    _add_accesses(connection, case_access, slide_access, keys, rows)
    return Known(
        cases=cases,
        dates=dates(connection, None if rows is None else sorted(patient for patient in named if patient is not None)),
        case_access=case_access,
        slide_access=slide_access,
        detached=detached,
        patients={folded(number): patient for number, patient in numbers.items()},
        hides=cache(identities_of(connection).is_identity),
        feed_as_of=feed_moment(connection),
    )


def _alone(connection: Connection, rows: Sequence[Row[Any]] | None) -> dict[str, str | None]:
    """Return the patients that slides without a case name, by slide."""
    found: Sequence[Any] = (
        list(connection.execute(_shown().where(_S.c.case_key.is_(None), _METADATA.like('%"patient_id"%'))))
        if rows is None
        else [row for row in rows if row.case_key is None]
    )
    with reading("slides"):
        return {row.slide: patient_of(connection, row.slide, _metadata(row)) for row in found}


def cases_known(connection: Connection, keys: Sequence[str] | None = None) -> dict[str, CaseFacts]:
    """Return what is known of cases, by their keys; of all by default."""
    rows: list[Row[Any]] = []
    for some in [None] if keys is None else portions(keys):
        query = select(_K) if some is None else select(_K).where(_K.c.case_key.in_(some))
        rows += connection.execute(query)
    units = _Units(connection)
    patients_of = _patients_of(connection, rows)
    return {
        row.case_key: CaseFacts(
            patient=patients_of.get(row.case_key),
            received_on=row.received_on,
            signed_out_at=signed_out(row.signed_out_at, row.reopened_at),
            organ=row.organ,
            diagnoses=row.diagnoses,
            department=units.as_of(row.department, row.received_on),
        )
        for row in rows
    }


def signed_out(signed: str | None, reopened: str | None) -> str | None:
    """Return when a case's report was validated; None while it is open, or open again."""
    return None if signed is None or (reopened is not None and reopened > signed) else signed


def _patients_of(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, str]:
    """Return the patients of cases, by their keys: as the feed said, else as their slides say."""
    found = {row.case_key: row.patient for row in rows if row.patient is not None}
    others = [row for row in rows if row.patient is None and row.patient_id is not None]
    if not others or connection.execute(select(patients.c.patient).limit(1)).first() is None:
        return found
    numbers = {row.case_key: open_patient(connection, row.case_key, row.patient_id) for row in others}
    known = find(connection, {number for number in numbers.values() if number})
    by_number = {folded(number): patient for number, patient in known.items()}
    said = {case: by_number.get(folded(number)) for case, number in numbers.items() if number}
    return found | {case: patient for case, patient in said.items() if patient is not None}


def unlinked_slides(connection: Connection) -> dict[str, str]:
    """Return the patients, by their keys, of slides whose case has none by what the hospital said of it."""
    unlinked = _K.c.patient.is_(None) & _K.c.patient_id.is_not(None)
    by_case = _patients_of(connection, list(connection.execute(select(_K).where(unlinked))))
    found = {}
    for some in portions(list(by_case)):
        for row in connection.execute(_shown().where(_S.c.case_key.in_(some))):
            found[row.slide] = by_case[row.case_key]
    return found | patients_alone(connection)


def patients_alone(connection: Connection) -> dict[str, str]:
    """Return the patients, by their keys, that slides without a case name, by slide."""
    alone = _alone(connection, None)
    known = find(connection, {number for number in alone.values() if number}) if alone else {}
    return {slide: known[number] for slide, number in alone.items() if number in known}


class _Units:
    """Departments, and when their codes are valid; where no department was ever named every code counts."""

    def __init__(self, connection: Connection) -> None:
        self._spans: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
        for row in connection.execute(select(_D.c.department, _D.c.valid_from, _D.c.valid_until)):
            self._spans[row.department].append((row.valid_from, row.valid_until))

    def as_of(self, code: str | None, day: str | None) -> str | None:
        """Return the code if it stood for a department on that day; unknown days are in no span that begins or ends."""
        if code is None or not self._spans:
            return code
        for begins, ends in self._spans.get(code, ()):
            if (not begins and ends is None) or (day is not None and begins <= day and (ends is None or day <= ends)):
                return code
        return None


# --- accesses ---------------------------------------------------------------------------------------------------------


def _marks(connection: Connection, rows: Sequence[Row[Any]] | None) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Return the latest clinical events by case and by slide, and the slides that were parted from their patients."""
    case_access: dict[str, str] = {}
    slide_access: dict[str, str] = {}
    detached: set[str] = set()
    query = (
        select(_E.c.slide, _E.c.kind, _S.c.case_key, func.max(_E.c.at).label("at"))
        .join(_S, _S.c.slide == _E.c.slide)
        .where(text(f"events.{MARKING_EVENTS}"))
        .group_by(_E.c.slide, _E.c.kind, _S.c.case_key)
    )
    wanted = [None] if rows is None else portions([row.slide for row in rows])
    for some in wanted:
        for row in connection.execute(query if some is None else query.where(_E.c.slide.in_(some))):
            if row.kind == EventKind.IDENTITY_DETACHED:
                detached.add(row.slide)
                continue
            _later(slide_access, row.slide, row.at)
            if row.case_key is not None:
                _later(case_access, row.case_key, row.at)
    return case_access, slide_access, detached


def _add_accesses(
    connection: Connection,
    case_access: dict[str, str],
    slide_access: dict[str, str],
    keys: Sequence[str] | None,
    rows: Sequence[Row[Any]] | None,
) -> None:
    """Add days of access that the hospital told of: a day counts from its beginning."""
    latest = func.max(_U.c.day).label("day")
    cases = select(_U.c.key, latest).where(_U.c.subject == "case").group_by(_U.c.key)
    for some in [None] if keys is None else portions(keys):
        for row in connection.execute(cases if some is None else cases.where(_U.c.key.in_(some))):
            _later(case_access, row.key, _begin_of(row.day))
    joined = select(_U.c.key, _S.c.case_key, latest).join(_S, _S.c.slide == _U.c.key).where(_U.c.subject == "slide")
    slides = joined.group_by(_U.c.key, _S.c.case_key)
    for some in [None] if rows is None else portions([row.slide for row in rows]):
        for told in connection.execute(slides if some is None else slides.where(_U.c.key.in_(some))):
            _later(slide_access, told.key, _begin_of(told.day))
            if told.case_key is not None:
                _later(case_access, told.case_key, _begin_of(told.day))


def _begin_of(day: str) -> str:
    return f"{day}T00:00:00.000000Z"


def _later(found: dict[str, str], key: str, at: str) -> None:
    if at > found.get(key, ""):
        found[key] = at
