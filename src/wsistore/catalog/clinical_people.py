"""Patients as the hospital knows them: who is meant, what is said of them, mergers, stays and recourses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection

from wsistore.catalog.clinical_dates import CANCELLED, roots
from wsistore.catalog.clinical_identity import (
    find,
    find_qualified,
    folded,
    lookup,
    lookups,
    read_identity,
    write_identity,
)
from wsistore.catalog.clinical_rows import Change, Kept, Row, Said, collapse, put, refused, rows_of
from wsistore.catalog.schema_clinical import encounters, patients, recourses
from wsistore.events import EventKind
from wsistore.model import random_key

QUALIFIED = "qualified"
TRAITS = ("birth_name", "first_names", "sex", "birth_place")
_INS = ("ins_matricule", "ins_oid")
_WHO = (*_INS, *TRAITS)
"""Kept in the identity."""
_DATES = ("birth_date", "death_date", "identity_status")

_Detail = dict[str, Any]


@dataclass(slots=True)
class Happened:
    """What is to be told in the chains of slides: by patient or case, then by kind."""

    patients: dict[str, dict[EventKind, _Detail]] = field(default_factory=lambda: defaultdict(dict))
    cases: dict[str, dict[EventKind, _Detail]] = field(default_factory=lambda: defaultdict(dict))

    def columns(
        self, where: dict[str, dict[EventKind, _Detail]], key: str, kind: EventKind, names: Iterable[str]
    ) -> None:
        """Note that what columns said was wrong."""
        detail = where[key].setdefault(kind, {"columns": []})
        detail["columns"] = sorted({*detail["columns"], *names})

    def count(self, patient: str, kind: EventKind, what: str) -> None:
        """Note that something happened to a patient once more."""
        detail = self.patients[patient].setdefault(kind, {})
        detail[what] = detail.get(what, 0) + 1


# --- who is meant -----------------------------------------------------------------------------------------------------


class Who:
    """Finds patients by what rows say of them, and makes a record of those that nobody spoke of before.

    Parameters
    ----------
    connection
        Of the transaction.
    rows
        All rows that speak of patients.
    references
        Those of them that name a patient whom another table describes.

    """

    def __init__(self, connection: Connection, rows: Iterable[Said], references: Iterable[Said]) -> None:
        self._connection = connection
        said = list(rows)
        columns = ("patient_id", "into_patient_id")
        numbers = {str(row.values[name]) for row in said for name in columns if row.values.get(name) is not None}
        found = find(connection, sorted(numbers))
        self.numbers = {folded(number): patient for number, patient in found.items()}
        by_folded = {folded(number): number for number in sorted(numbers, reverse=True)}
        self._make({text: number for text, number in by_folded.items() if text not in self.numbers})
        self._matricules = sorted(
            {row.values["ins_matricule"] for row in references if row.values.get("ins_matricule")}
        )
        self._qualified: dict[str, list[str]] | None = None

    def _make(self, new: Mapping[str, str]) -> None:
        """Make records of patients of whom nothing is known but that there are data about them."""
        rows = []
        for text, number in new.items():
            patient = random_key()
            self.numbers[text] = patient
            identity = write_identity(self._connection, patient, {"patient_id": number})
            kept = lookup(self._connection, number)
            rows.append({"patient": patient, "lookup": kept, "identity": identity, "as_of": "", "said": {}})
        if rows:
            self._connection.execute(patients.insert(), rows)

    def number(self, row: Said, column: str = "patient_id") -> str | None:
        """Return the key of the patient whom a column names; None if it names none."""
        said = row.values.get(column)
        return None if said is None else self.numbers[folded(said)]

    def of(self, row: Said) -> str | None:
        """Return the key of the patient whom a row is about, by number or qualified INS; None if it names none.

        Raises
        ------
        InputError
            If the INS is not that of a qualified identity, or both name different patients.

        """
        named, matricule = self.number(row), row.values.get("ins_matricule")
        if matricule is None:
            return named
        if self._qualified is None:  # after the patients of the same import were taken in
            self._qualified = find_qualified(self._connection, self._matricules)
        ends = roots(self._connection, self._qualified.get(matricule, []))
        meant = {ends[patient] for patient in self._qualified.get(matricule, [])}
        if not meant:
            raise refused(row, "ins_matricule", "this INS is no qualified identity's: it cannot reference data")
        if len(meant) > 1:
            raise refused(row, "ins_matricule", "several patients have this INS: merge them, or give patient_id")
        if named is not None and roots(self._connection, [named])[named] not in meant:
            raise refused(row, "ins_matricule", "is another patient's than patient_id")
        return named or self._qualified[matricule][0]


# --- what is said of them ---------------------------------------------------------------------------------------------


def _read_patient(connection: Connection, row: Row) -> dict[str, Any]:
    identity = read_identity(connection, row["patient"], row["identity"])
    return {**row, **{name: identity.get(name) for name in _WHO}, "patient_id": identity.get("patient_id")}


def _write_patient(connection: Connection, row: Row) -> dict[str, Any]:
    number, matricule = row["patient_id"], row["ins_matricule"]
    identity = {"patient_id": number} | {name: row[name] for name in _WHO if row[name] is not None}
    is_qualified = row["identity_status"] == QUALIFIED and matricule is not None
    return {
        "patient": row["patient"],
        "lookup": lookup(connection, number),
        "ins_lookup": lookup(connection, matricule) if is_qualified else None,
        "identity": write_identity(connection, row["patient"], identity),
        **{name: row[name] for name in _DATES},
    }


_PATIENTS = Kept(patients, ("patient",), (*_DATES, *_WHO), _read_patient, _write_patient)


def put_patients(
    connection: Connection, who: Who, rows: Sequence[Said], happened: Happened
) -> tuple[list[Change], int]:
    """Take in patients; return what became of them, and how many have an INS that is not qualified.

    Raises
    ------
    InputError
        If two rows differ, or an identity is said to be qualified that lacks what that takes.

    """
    said = collapse((who.number(row), row.only(_PATIENTS.columns)) for row in rows)
    changes = put(connection, _PATIENTS, said)
    provisional = 0
    for change in changes:
        row = said[change.key]
        _check_person(row, change.after)
        after = change.after
        provisional += after["ins_matricule"] is not None and after["identity_status"] != QUALIFIED
        if change.corrected:
            names = {"identity" if name in _WHO else name for name in change.corrected}
            happened.columns(happened.patients, change.key, EventKind.PATIENT_CORRECTED, names)
    return changes, provisional


def _check_person(row: Said, after: Row) -> None:
    if after["birth_date"] and after["death_date"] and after["death_date"] < after["birth_date"]:
        raise refused(row, "death_date", "is before birth_date")
    # The feed's moment is UTC: on the ground it may be the next day already.
    tomorrow = (date.fromisoformat(row.stamp[:10]) + timedelta(days=1)).isoformat()
    for name in ("birth_date", "death_date"):
        if (row.values.get(name) or "") > tomorrow:
            raise refused(row, name, "is after the moment of the feed")
    if after["identity_status"] == QUALIFIED and after["ins_matricule"] is not None:
        missing = [name for name in ("ins_oid", "birth_date", *TRAITS) if after[name] is None]
        if missing:
            raise refused(row, "identity_status", f"an identity is qualified only with {', '.join(missing)}")


# --- mergers ----------------------------------------------------------------------------------------------------------

_MERGED = Kept(
    patients,
    ("patient",),
    ("merged_into",),
    write=lambda _, row: {"patient": row["patient"], "merged_into": row["merged_into"]},
)


def put_merges(connection: Connection, who: Who, rows: Sequence[Said], happened: Happened) -> int:
    """Take in mergers and what takes them back, by their moments; return how many records changed.

    Raises
    ------
    InputError
        If a record would be merged into itself, or two rows of one moment differ.

    """
    if not rows:
        return 0
    last: dict[str, Said] = {}
    for row in sorted(rows, key=lambda row: row.stamp):
        patient, target = _merger(who, row)
        other = last.get(patient)
        if other is not None and other.stamp == row.stamp and other.values["merged_into"] != target:
            raise refused(row, "patient_id", f"says something else of the same moment than {other.place}")
        last[patient] = Said(row.place, {"merged_into": target}, row.stamp)
    before = roots(connection, list(last))
    changes = _put_mergers(connection, last)
    members = roots(connection, list(last))
    into = {row["patient"]: row["merged_into"] for row in rows_of(connection, patients, "patient", members)}
    for change in changes:
        _check_circle(last[change.key], change.key, into)
        if change.before != change.after:
            _tell_merger(happened, change, before)
    return sum(change.before != change.after for change in changes)


def _merger(who: Who, row: Said) -> tuple[str, str | None]:
    patient, into = who.number(row), who.number(row, "into_patient_id")
    if patient is None:
        raise refused(row, "patient_id", "is empty")
    if row.values.get("state") == "unmerged":
        return patient, None
    if into is None:
        raise refused(row, "into_patient_id", "is empty")
    if into == patient:
        raise refused(row, "into_patient_id", "is the same patient")
    return patient, into


def _put_mergers(connection: Connection, said: Mapping[str, Said]) -> list[Change]:
    """Set ``merged_into``, whose moment is kept among ``said`` whatever the row's other values are."""
    kept = {row["patient"]: row for row in rows_of(connection, patients, "patient", said)}
    changes, rows = [], []
    for patient, one in said.items():
        row = kept[patient]
        older = row["said"] or {}
        value = one.values["merged_into"]
        if one.stamp < older.get("merged_into", ""):
            value = row["merged_into"]
        else:
            rows.append((patient, value, {**older, "merged_into": one.stamp}))
        changes.append(Change(patient, {"merged_into": row["merged_into"]}, {"merged_into": value}, ()))
    for patient, value, stamps in rows:
        which = patients.c.patient == patient
        connection.execute(patients.update().where(which).values(merged_into=value, said=stamps))
    return changes


def _check_circle(row: Said, patient: str, into: Mapping[str, str | None]) -> None:
    seen, following = {patient}, into.get(patient)
    while following is not None:
        if following in seen:
            raise refused(row, "into_patient_id", "the records would be merged into each other in a circle")
        seen.add(following)
        following = into.get(following)


def _tell_merger(happened: Happened, change: Change, before: Mapping[str, str]) -> None:
    was, into = (change.before or {})["merged_into"], change.after["merged_into"]
    for patient in (change.key, before.get(change.key, change.key)):
        if was is not None:
            happened.patients[patient][EventKind.PATIENTS_UNMERGED] = {"patient": change.key, "from": was}
        if into is not None:
            happened.patients[patient][EventKind.PATIENTS_MERGED] = {"patient": change.key, "into": into}
    for other, kind, name in ((was, EventKind.PATIENTS_UNMERGED, "from"), (into, EventKind.PATIENTS_MERGED, "into")):
        if other is not None:
            happened.patients[other][kind] = {"patient": change.key, name: other}


# --- stays and recourses ----------------------------------------------------------------------------------------------

_SPAN = ("begins", "ends", "state", "patient")
_ENCOUNTERS = Kept(encounters, ("encounter",), ("kind", *_SPAN))
_RECOURSES = Kept(recourses, ("recourse",), _SPAN)


def put_encounters(connection: Connection, who: Who, rows: Sequence[Said], happened: Happened) -> list[Change]:
    """Take in stays and visits; raises `InputError` where a row contradicts another or itself."""
    changes = _put_spans(connection, _ENCOUNTERS, "encounter_id", who, rows)
    for change in changes:
        if change.before is None:
            continue
        was, now = change.before["state"] == CANCELLED, change.after["state"] == CANCELLED
        for patient in {change.before["patient"], change.after["patient"]} - {None}:
            if was != now:
                happened.count(patient, EventKind.ENCOUNTER_CANCELLED, "cancelled" if now else "reinstated")
            wrong = [f"encounters.{name}" for name in change.corrected if name in {"begins", "ends", "kind", "patient"}]
            if wrong:
                happened.columns(happened.patients, patient, EventKind.PATIENT_CORRECTED, wrong)
    return changes


def put_recourses(connection: Connection, who: Who, rows: Sequence[Said], happened: Happened) -> list[Change]:
    """Take in recourses; raises as `put_encounters`."""
    changes = _put_spans(connection, _RECOURSES, "recourse_id", who, rows)
    for change in changes:
        if change.differs:
            people = {(change.before or {}).get("patient"), change.after["patient"]} - {None}
            for patient in people:
                happened.count(patient, EventKind.RECOURSE_CHANGED, "new" if change.is_new else "changed")
    return changes


def _put_spans(connection: Connection, kept: Kept, column: str, who: Who, rows: Sequence[Said]) -> list[Change]:
    said = []
    numbers = _kept_numbers(connection, kept, {row.values[column] for row in rows})
    for row in rows:
        values = {name: value for name, value in row.values.items() if name in kept.columns}
        if {"patient_id", "ins_matricule"} & row.values.keys():
            values["patient"] = who.of(row)
        said.append((numbers[folded(row.values[column])], Said(row.place, values, row.stamp)))
    collapsed = collapse(said)
    changes = put(connection, kept, collapsed)
    for change in changes:
        row, after = collapsed[change.key], change.after
        if after["patient"] is None:
            raise refused(row, "patient_id", "says nothing, and nothing is known of whom this is")
        if after["begins"] is None:
            raise refused(row, "begins", "says nothing, and nothing is known of when this began")
        if after["ends"] is not None and after["ends"] < after["begins"]:
            raise refused(row, "ends", "is before begins")
    return changes


def _kept_numbers(connection: Connection, kept: Kept, numbers: Collection[str]) -> dict[str, str]:
    """Return what numbers of stays are kept as, by the folded number: they lead to a person as the patient's own does.

    One that was kept before it is sealed now, or by an older key, keeps its row.
    """
    may_be = lookups(connection, sorted(numbers))
    there = {row[kept.keys[0]] for row in rows_of(connection, kept.table, kept.keys[0], may_be)}
    found = {folded(number): lookup(connection, number) for number in numbers}
    return found | {folded(may_be[key]): key for key in there if key in may_be}
