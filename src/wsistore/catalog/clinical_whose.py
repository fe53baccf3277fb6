"""Whose a case is, as the hospital says, beside what its slides say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from wsistore.catalog.clinical_dates import roots
from wsistore.catalog.clinical_identity import find, folded, portions, read_identity
from wsistore.catalog.identities import case_about, identity_index, seal_identity
from wsistore.catalog.schema import cases
from wsistore.catalog.schema_clinical import patients
from wsistore.errors import InputError, Kind

PATIENT = "patient_id"


def check_patient(connection: Connection, case: str, numbers: Sequence[str]) -> str | None:
    """Return the patient's number as the hospital said of a case; None if it did not say.

    Raises
    ------
    InputError
        If the case's slides name another one (`Kind.METADATA_INVALID`).

    """
    patient = connection.scalar(select(cases.c.patient).where(cases.c.case_key == case))
    if patient is None:
        return None
    own = numbers_of(connection, [patient]).get(patient, "")
    if any(folded(number) != folded(own) and not is_one(connection, patient, number) for number in numbers):
        msg = f"Slides of case {case!r} would be of another patient than the hospital's table of cases names."
        remedy = "Mend case_id or patient_id, or import the table of cases anew."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=remedy)
    return own


def is_one(connection: Connection, patient: str, number: str) -> bool:
    """Say whether a number is that of a patient, or of a record that was merged with that patient's."""
    found = find(connection, [number])
    if not found:
        return False
    ends = roots(connection, [patient, *found.values()])
    return len({ends.get(one, one) for one in (patient, *found.values())}) == 1


def numbers_of(connection: Connection, keys: Iterable[str]) -> dict[str, str]:
    """Return the hospital's numbers of patients."""
    found = {}
    for some in portions(sorted(keys)):
        for row in connection.execute(select(patients).where(patients.c.patient.in_(some))):
            found[row.patient] = str(read_identity(connection, row.patient, row.identity)[PATIENT])
    return found


def put_patients(connection: Connection, numbers: Mapping[str, str]) -> None:
    """Say whose cases are, as `wsistore.catalog.identities.put_patient` does of one."""
    rows = [
        {
            "case": case,
            "sealed": seal_identity(connection, number, about=case_about(case)),
            "index": identity_index(connection, number),
        }
        for case, number in numbers.items()
    ]
    values: dict[str, Any] = {"patient_id": bindparam("sealed"), "patient_index": bindparam("index")}
    if rows:
        connection.execute(update(cases).where(cases.c.case_key == bindparam("case")).values(values), rows)
