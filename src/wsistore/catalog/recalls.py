"""What was asked back from archives, and the slides that people mean: functions over an open catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, func, or_, select, update

from wsistore.catalog import identities, schema
from wsistore.catalog.records import SourceState
from wsistore.catalog.session import Session
from wsistore.errors import Kind, SiteError
from wsistore.model import CopyState, Evidence

_C, _K, _R, _S, _T, _V = (
    schema.copies,
    schema.cases,
    schema.recalled,
    schema.slides,
    schema.recalls,
    schema.sources,
)
_AT_ONCE = 200
"""Values in one IN (…), of which a statement has several: databases have limits."""

T = TypeVar("T")


class RecallState(StrEnum):
    """How far a slide of a recall is."""

    PLANNED = "planned"
    """To be asked for; or asked for in part."""
    CONFIRM = "confirm"
    """Asking again would cost more than was agreed."""
    ASKED = "asked"
    READY = "ready"
    EXPIRED = "expired"
    """It was ready; its temporary copy is gone."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A slide that is there."""

    slide: str
    name: str
    case: str | None
    patient: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLine:
    """What a recall wants to know of a copy; without its commit, for there may be thousands."""

    slide: str
    attempt: str
    tier: str
    evidence: Evidence
    objects: int
    bytes_stored: int
    expires_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallRow:
    """One recall."""

    name: str
    digest: str
    asked_at: str
    actor: str
    by: str | None
    tier: str
    keep_seconds: int
    max_eur: float | None
    """What it may cost; None if that was confirmed, or nobody cares."""
    eur: float
    """What it was to cost at most, as far as it was asked for."""
    lines: list[dict[str, Any]]
    """What was asked for: ``text``, ``slides``, and ``problem`` where nothing was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRecall:
    """A slide of a recall."""

    recall: str
    slide: str
    state: RecallState
    tier: str = ""
    attempt: str = ""
    """The copy that is asked for."""
    retrieval: str = ""
    asked_at: str | None = None
    expected_at: str | None = None
    """By when it is to be there at the latest."""
    error: str = ""


# --- who is meant -----------------------------------------------------------------------------------------------------


def slides_meant(catalog: Session, words: Iterable[str]) -> dict[str, dict[str, list[Found]]]:
    """Return the slides that words mean: by word, then by ``slide``, ``case`` or ``patient``.

    A word is a slide's key or name, the number of a case, or that of a patient: exactly; if nothing has it so, in
    capitals or small letters.
    """
    wanted = list(dict.fromkeys(words))
    with catalog._database.read() as connection:
        found = _meant(connection, wanted, lambda text: text)
        others = [word for word in wanted if word not in found]
        if others:
            found |= _meant(connection, others, str.casefold)
    return found


def _meant(connection: Connection, words: Sequence[str], fold: Callable[[str], str]) -> dict[str, Any]:
    by_text: dict[str, list[str]] = {}
    for word in words:
        by_text.setdefault(fold(word), []).append(word)
    found: dict[str, dict[str, list[Found]]] = {}
    columns = {"slide": (_S.c.slide, _S.c.name), "case": (_S.c.case_key,), "patient": (_K.c.patient_id,)}
    for texts in _portions(list(by_text)):
        for kind, some in columns.items():
            for column in some:
                value = column if fold("A") == "A" else func.lower(column)
                for row in connection.execute(_shown().where(value.in_(texts))):
                    _note(connection, found, by_text, kind, fold(str(row._mapping[column])), row)
    _sealed(connection, found, by_text, fold)
    _caseless(connection, found, by_text, fold)
    return found


def _sealed(
    connection: Connection, found: dict[str, Any], by_text: Mapping[str, list[str]], fold: Callable[[str], str]
) -> None:
    """Add slides of cases whose patients are sealed.

    Raises
    ------
    SiteError
        If the keys are not at hand, and words are left that mean nothing without them (`Kind.KEY_MISSING`).

    """
    try:
        indexes = identities.identity_indexes(connection, by_text)
    except SiteError as error:
        if error.kind is Kind.KEY_MISSING and all(word in found for words in by_text.values() for word in words):
            return
        raise
    for some in _portions(list(indexes)):
        for row in connection.execute(_shown().where(_K.c.patient_index.in_(some))):
            # The index is the same for capitals and small letters.
            patient = identities.open_identity(connection, row.patient_id, about=identities.case_about(row.case_key))
            _note(connection, found, by_text, "patient", fold(patient), row, patient)


def _caseless(
    connection: Connection, found: dict[str, Any], by_text: Mapping[str, list[str]], fold: Callable[[str], str]
) -> None:
    """Add slides without a case whose metadata name a patient; only where words are left that mean nothing."""
    if all(word in found for words in by_text.values() for word in words):
        return
    query = _shown().add_columns(_S.c.metadata).where(_S.c.case_key.is_(None))
    for row in connection.execute(query):
        patient = identities.open_metadata(connection, row.slide, row.metadata).get("patient_id")
        if patient:
            _note(connection, found, by_text, "patient", fold(patient), row, patient)


def _note(
    connection: Connection,
    found: dict[str, Any],
    by_text: Mapping[str, list[str]],
    kind: str,
    text: str,
    row: Row[Any],
    patient: str | None = None,
) -> None:
    words = by_text.get(text, ())
    if not words:
        return
    one = _found(connection, row, patient)
    for word in words:
        slides = found.setdefault(word, {}).setdefault(kind, [])
        if one not in slides:
            slides.append(one)


def _found(connection: Connection, row: Row[Any], patient: str | None = None) -> Found:
    known = patient or identities.open_patient(connection, row.case_key, row.patient_id)
    return Found(slide=row.slide, name=row.name, case=row.case_key, patient=known)


def _shown() -> Select[Any]:
    joined = _S.join(_V, _S.c.slide == _V.c.slide).outerjoin(_K, _S.c.case_key == _K.c.case_key)
    return (
        select(_S.c.slide, _S.c.name, _S.c.case_key, _K.c.patient_id)
        .select_from(joined)
        .where(_V.c.state == str(SourceState.CURRENT))
        .order_by(_S.c.created_at, _S.c.slide)
    )


def found_slides(catalog: Session, slides: Sequence[str]) -> dict[str, Found]:
    """Return slides by their keys."""
    found: dict[str, Found] = {}
    with catalog._database.read() as connection:
        for some in _portions(slides):
            for row in connection.execute(_shown().where(_S.c.slide.in_(some))):
                found[row.slide] = _found(connection, row)
    return found


def copies_of(catalog: Session, slides: Sequence[str]) -> dict[str, list[CopyLine]]:
    """Return the good copies of the current versions of slides, by slide."""
    columns = [_C.c[field.name] for field in fields(CopyLine)]
    query = select(*columns).join(_V, (_V.c.slide == _C.c.slide) & (_V.c.n == _C.c.version))
    query = query.where(_V.c.state == str(SourceState.CURRENT), _C.c.state == str(CopyState.COMMITTED))
    found: dict[str, list[CopyLine]] = {}
    with catalog._database.read() as connection:
        for some in _portions(slides):
            for row in connection.execute(query.where(_C.c.slide.in_(some)).order_by(_C.c.tier, _C.c.n)):
                copy = CopyLine(**{**row._mapping, "evidence": Evidence(row.evidence)})
                found.setdefault(row.slide, []).append(copy)
    return found


# --- what was asked for -----------------------------------------------------------------------------------------------


def same(catalog: Session, digest: str) -> RecallRow | None:
    """Return the recall that asked for the same and of which something is left, if there is one."""
    going = select(_R.c.recall).where(_R.c.state != str(RecallState.EXPIRED))
    query = select(_T).where(_T.c.digest == digest, _T.c.name.in_(going)).order_by(_T.c.asked_at)
    with catalog._database.read() as connection:
        row = connection.execute(query).first()
        return None if row is None else _recall_row(connection, row)


_WAITING = (RecallState.ASKED, RecallState.CONFIRM)


def begin(catalog: Session, recall: RecallRow, slides: Iterable[SlideRecall]) -> None:
    """Write down a recall before anything is asked for."""
    rows = [{field.name: getattr(one, field.name) for field in fields(SlideRecall)} for one in slides]
    with catalog._database.write() as connection:
        values = {field.name: getattr(recall, field.name) for field in fields(RecallRow)}
        connection.execute(_T.insert(), values | {"lines": seal_lines(connection, recall.name, recall.lines)})
        if rows:
            connection.execute(_R.insert(), [row | {"state": str(row["state"])} for row in rows])


_SAID = ("text", "problem")


def seal_lines(connection: Connection, recall: str, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines of a recall as they are kept: what people pasted is sealed, for it is patients' numbers."""

    def sealed(line: Mapping[str, Any], name: str) -> str:
        return identities.seal_identity(connection, line[name], about=_about(recall, name))

    return [{**line, **{name: sealed(line, name) for name in _SAID if line.get(name)}} for line in lines]


def said_in(recall: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what people pasted, each with what it is about."""
    for line in lines:
        yield from ((_about(recall, name), line[name]) for name in _SAID if line.get(name))


def _recall_row(connection: Connection, row: Row[Any]) -> RecallRow:
    def opened(line: Mapping[str, Any], name: str) -> str:
        try:
            return identities.open_identity(connection, line[name], about=_about(row.name, name))
        except SiteError as error:
            if error.kind is not Kind.KEY_MISSING:
                raise
            return "(sealed)"  # the recall goes on without it

    lines = [{**line, **{name: opened(line, name) for name in _SAID if line.get(name)}} for line in row.lines]
    return RecallRow(**{**row._mapping, "lines": lines})


def _about(recall: str, name: str) -> str:
    return f"recall {recall} {name}"


def confirm(catalog: Session, name: str) -> None:
    """Let a recall cost what it takes, and ask for what waited for that."""
    with catalog._database.write() as connection:
        connection.execute(update(_T).where(_T.c.name == name).values(max_eur=None))
        waiting = (_R.c.recall == name) & (_R.c.state == str(RecallState.CONFIRM))
        connection.execute(update(_R).where(waiting).values(state=str(RecallState.PLANNED), error=""))


def note(catalog: Session, one: SlideRecall, *, eur: float = 0.0) -> None:
    """Write down how far a slide of a recall is, and what asking for it was to cost."""
    values = {name: getattr(one, name) for name in ("tier", "attempt", "retrieval", "asked_at", "expected_at", "error")}
    with catalog._database.write() as connection:
        which = (_R.c.recall == one.recall) & (_R.c.slide == one.slide)
        connection.execute(update(_R).where(which).values(state=str(one.state), **values))
        if eur:
            connection.execute(update(_T).where(_T.c.name == one.recall).values(eur=_T.c.eur + eur))


def note_error(catalog: Session, one: SlideRecall, error: str) -> None:
    """Write down why a slide of a recall could not go on just now; it stays as far as it is."""
    with catalog._database.write() as connection:
        which = (_R.c.recall == one.recall) & (_R.c.slide == one.slide)
        connection.execute(update(_R).where(which).values(error=error))


def ended(catalog: Session, slide: str) -> None:
    """Note that a slide's temporary copy is gone."""
    with catalog._database.write() as connection:
        which = (_R.c.slide == slide) & (_R.c.state == str(RecallState.READY))
        connection.execute(update(_R).where(which).values(state=str(RecallState.EXPIRED)))


def recalls(catalog: Session, names: Sequence[str] = (), *, going: bool = False) -> list[RecallRow]:
    """Return recalls by name, or all that have not expired, the oldest first; with `going` those that still wait."""
    states = [RecallState.PLANNED, *_WAITING] + ([] if going else [RecallState.READY, RecallState.FAILED])
    some = select(_R.c.recall).where(_R.c.state.in_([str(state) for state in states]))
    query = select(_T).where(_T.c.name.in_(list(names)) if names else or_(_T.c.name.in_(some)))
    with catalog._database.read() as connection:
        rows = connection.execute(query.order_by(_T.c.asked_at, _T.c.name))
        return [_recall_row(connection, row) for row in rows.all()]


def slides_of(catalog: Session, name: str) -> list[SlideRecall]:
    """Return the slides of a recall."""
    with catalog._database.read() as connection:
        rows = connection.execute(select(_R).where(_R.c.recall == name).order_by(_R.c.slide))
        return [SlideRecall(**{**row._mapping, "state": RecallState(row.state)}) for row in rows]


def asked_before(catalog: Session, attempt: str) -> SlideRecall | None:
    """Return the last recall that asked for a copy (named by its attempt) and has not got it."""
    query = select(_R).where(_R.c.attempt == attempt, _R.c.state == str(RecallState.ASKED))
    with catalog._database.read() as connection:
        row = connection.execute(query.order_by(_R.c.asked_at.desc())).first()
    return None if row is None else SlideRecall(**{**row._mapping, "state": RecallState(row.state)})


def _portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]
