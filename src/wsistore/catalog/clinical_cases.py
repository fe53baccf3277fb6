"""Cases, slides, departments and accesses as the hospital knows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, select

from wsistore.catalog import schema, slides
from wsistore.catalog.clinical_facts import signed_out
from wsistore.catalog.clinical_identity import portions
from wsistore.catalog.clinical_people import Happened, Who
from wsistore.catalog.clinical_rows import Change, Kept, Said, collapse, put, refused
from wsistore.catalog.clinical_whose import PATIENT, is_one, numbers_of, put_patients
from wsistore.catalog.identities import open_metadata
from wsistore.catalog.records import SourceState
from wsistore.catalog.schema_clinical import accesses, departments
from wsistore.errors import InputError
from wsistore.events import EventKind

_K, _S, _V = schema.cases, schema.slides, schema.sources

_DEPARTMENTS = Kept(departments, ("department", "valid_from"), ("valid_until", "kind", "name", "parent"))
_OF_CASE = ("patient", "received_on", "signed_out_at", "reopened_at", "organ", "diagnoses", "department")
_CASES = Kept(
    _K,
    ("case_key",),
    _OF_CASE,
    read=lambda _, row: {name: row[name] for name in ("case_key", *_OF_CASE, "as_of", "said")},
)


def put_departments(connection: Connection, rows: Sequence[Said]) -> list[Change]:
    """Take in departments; raises `InputError` where two spans of one code overlap, or one ends before it begins."""
    keys = [(row.values["department"], row.values.get("valid_from") or "") for row in rows]
    said = collapse(zip(keys, (row.only(_DEPARTMENTS.columns) for row in rows), strict=True))
    changes = put(connection, _DEPARTMENTS, said)
    codes = {code for code, _ in said}
    table = departments
    for some in portions(sorted(codes)):
        query = select(table).where(table.c.department.in_(some)).order_by(table.c.department, table.c.valid_from)
        before: Any = None
        for row in connection.execute(query):
            place = said.get((row.department, row.valid_from)) or next(iter(said.values()))
            if row.valid_until is not None and row.valid_until < row.valid_from:
                raise refused(place, "valid_until", "is before valid_from")
            is_same = before is not None and before.department == row.department
            if is_same and (before.valid_until is None or before.valid_until >= row.valid_from):
                what = f"the code {row.department!r} is valid twice from {row.valid_from} on"
                raise refused(place, "valid_from", what)
            before = row
    return changes


# --- cases ------------------------------------------------------------------------------------------------------------


def put_cases(connection: Connection, who: Who, rows: Sequence[Said], happened: Happened) -> list[Change]:
    """Take in cases. Where the patient of a case is corrected, what its slides say of the patient is corrected too.

    Raises
    ------
    InputError
        Where rows contradict each other.

    """
    said = []
    for row in rows:
        values = {name: value for name, value in row.values.items() if name in _CASES.columns}
        if {PATIENT, "ins_matricule"} & row.values.keys():
            values["patient"] = who.of(row)
        said.append((row.values["case_id"], Said(row.place, values, row.stamp)))
    changes = put(connection, _CASES, collapse(said))
    _tell_patients(connection, [change for change in changes if change.after["patient"] is not None])
    for change in changes:
        if change.before is None:
            continue
        wrong = set(change.corrected) - {"signed_out_at", "reopened_at"}
        if wrong:
            happened.columns(happened.cases, change.key, EventKind.CASE_CORRECTED, sorted(wrong))
        was, now = (signed_out(row["signed_out_at"], row["reopened_at"]) for row in (change.before, change.after))
        if was is not None and now is None:
            happened.cases[change.key][EventKind.CASE_REOPENED] = {"reopened_at": change.after["reopened_at"]}
    return changes


def _tell_patients(connection: Connection, changes: Sequence[Change]) -> None:
    """Make ``cases.patient_id`` and the slides' metadata say who a case's patient is."""
    moved = {
        change.key: change.after["patient"]
        for change in changes
        if change.before is None or change.before["patient"] != change.after["patient"]
    }
    numbers = numbers_of(connection, set(moved.values()))
    for some in portions(list(moved)):
        query = select(_S.c.slide, _S.c.case_key, _S.c.metadata).where(_S.c.case_key.in_(some))
        for slide, case, kept in connection.execute(query).all():
            metadata = open_metadata(connection, slide, kept)
            named = metadata.get(PATIENT)
            if named and not is_one(connection, moved[case], named):
                slides.set_metadata(connection, slide, {**metadata, PATIENT: numbers[moved[case]]})
    put_patients(connection, {case: numbers[patient] for case, patient in moved.items()})


# --- slides -----------------------------------------------------------------------------------------------------------


def put_slides(
    connection: Connection, who: Who, rows: Sequence[Said], newest: str
) -> tuple[list[str], list[str], list[str]]:
    """Take in what is said of slides; an empty cell says nothing, and an older feed only what was not known.

    Parameters
    ----------
    connection, who, rows
        As elsewhere.
    newest
        Moment of the newest feed of slides so far.

    Returns
    -------
    changed, named, unknown
        Keys of the slides that are no longer as they were, the columns that were spoken of, and places of rows that
        speak of no slide that is there.

    Raises
    ------
    InputError
        If a row may mean several slides, or a case would have two patients.

    """
    said: list[tuple[Any, Said]] = []
    unknown = []
    found = _Named(connection, rows)
    for row in rows:
        slide = found.slide(row)
        if slide is None:
            unknown.append(row.place)
            continue
        values = {name: value for name, value in row.values.items() if name not in {"slide", "file", "ins_matricule"}}
        if row.values.get("ins_matricule") is not None:
            patient = who.of(row)
            values[PATIENT] = numbers_of(connection, [patient])[patient] if patient else None
        said.append((slide, Said(row.place, {name: value for name, value in values.items() if value}, row.stamp)))
    changes = {slide: dict(row.values) for slide, row in collapse(said).items()}
    stamp = rows[0].stamp if rows else ""
    if stamp < newest:
        changes = {slide: _unsaid(connection, slide, values) for slide, values in changes.items()}
    try:
        changed = slides.put_metadata(connection, changes)
    except InputError as error:
        where = rows[0].place.rpartition(", ")[0]
        msg = f"{where}: {error.message}"
        raise InputError(msg, kind=error.kind, remedy=error.remedy) from error
    return changed, sorted({name for values in changes.values() for name in values}), unknown


def _unsaid(connection: Connection, slide: str, values: dict[str, Any]) -> dict[str, Any]:
    known = slides.one(connection, slide).metadata
    return {name: value for name, value in values.items() if name not in known}


class _Named:
    """Slides by what rows call them: a key; or a file, by its name or as much of its path as is needed."""

    def __init__(self, connection: Connection, rows: Sequence[Said]) -> None:
        keys = {row.values["slide"] for row in rows if row.values.get("slide")}
        names = {PurePath(row.values["file"]).name for row in rows if row.values.get("file")}
        shown = select(_S.c.slide, _S.c.name, _V.c.path).join(_V, _V.c.slide == _S.c.slide)
        shown = shown.where(_V.c.state == str(SourceState.CURRENT)).order_by(_S.c.slide)
        self._keys: set[str] = set()
        self._names: dict[str, list[tuple[str, str]]] = {}
        for some in portions(sorted(keys)):
            self._keys |= {row.slide for row in connection.execute(shown.where(_S.c.slide.in_(some)))}
        for some in portions(sorted(names)):
            for row in connection.execute(shown.where(_S.c.name.in_(some))):
                self._names.setdefault(row.name, []).append((row.slide, row.path))

    def slide(self, row: Said) -> str | None:
        """Return the key of the slide that a row speaks of; None if it is not there.

        Raises
        ------
        InputError
            If it may be one of several.

        """
        if row.values.get("slide"):
            return row.values["slide"] if row.values["slide"] in self._keys else None
        file = PurePath(row.values["file"])
        meant = self._names.get(file.name, [])
        if len(file.parts) > 1 or len(meant) > 1:
            ending = [slide for slide, path in meant if PurePath(path).parts[-len(file.parts) :] == file.parts]
            if len(ending) > 1 or (len(meant) > 1 and len(file.parts) == 1):
                raise refused(
                    row, "file", f"{str(file)!r} may be one of {len(meant)} slides: give the key, or more of the path"
                )
            return ending[0] if ending else None
        return meant[0][0] if meant else None


# --- accesses ---------------------------------------------------------------------------------------------------------


def put_accesses(connection: Connection, rows: Sequence[Said]) -> tuple[int, list[str]]:
    """Take in days of access; return how many are new, and places of rows that speak of no slide that is there."""
    wanted: dict[tuple[str, str, str], str] = {}
    for row in rows:
        subject = "case" if row.values.get("case_id") is not None else "slide"
        key = row.values["case_id"] if subject == "case" else row.values["slide"]
        wanted[subject, key, row.values["day"]] = row.place
    there: set[str] = set()
    known: set[tuple[str, str, str]] = set()
    keys = sorted({key for _, key, _ in wanted})
    for some in portions(keys):
        there |= set(connection.scalars(select(_S.c.slide).where(_S.c.slide.in_(some))))
        for subject, key, day in connection.execute(select(accesses).where(accesses.c.key.in_(some))):
            known.add((subject, key, day))
    unknown = [place for (subject, key, _), place in wanted.items() if subject == "slide" and key not in there]
    new = [one for one in wanted if one not in known and (one[0] == "case" or one[1] in there)]
    if new:
        connection.execute(accesses.insert(), [dict(zip(("subject", "key", "day"), one, strict=True)) for one in new])
    return len(new), unknown
