"""Whose slides are: what pseudonyms are made of, and objections are compared with. It never leaves the site."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, String, select, type_coerce

from wsistore.catalog import schema
from wsistore.catalog.clinical_dates import roots
from wsistore.catalog.clinical_identity import find, folded, portions, read_identity
from wsistore.catalog.identities import PATIENT, case_about, open_identity, open_metadata
from wsistore.catalog.rows import reading
from wsistore.catalog.schema_clinical import patients
from wsistore.catalog.schema_projects import slide_levels
from wsistore.catalog.session import Session

_K, _L, _P, _S = schema.cases, slide_levels, patients, schema.slides
_METADATA = type_coerce(_S.c.metadata, String)
Levels = tuple[tuple[int, int], ...]
"""Height and width of each level."""


@dataclass(frozen=True, slots=True)
class Person:
    """A patient."""

    patient: str | None
    """The catalogue's own key of the record that all others were merged into; None: the hospital's tables lack them."""
    number: str
    """The hospital's number of that record, folded."""


def people(catalog: Session, slides: Sequence[str]) -> dict[str, Person]:
    """Return whose slides are, by slide; those of which it is not known are left out.

    Raises
    ------
    SiteError
        If a number is sealed, and the keys are not at hand.

    """
    with catalog._database.read() as connection, reading("slides"):
        said = _said(connection, slides)
        numbers = {who for kind, who in said.values() if kind == "number"}
        keys = find(connection, numbers)
        by_text = {folded(number): patient for number, patient in keys.items()}
        patient_of = {
            slide: who if kind == "patient" else by_text.get(folded(who)) for slide, (kind, who) in said.items()
        }
        known = {patient for patient in patient_of.values() if patient is not None}
        ends = roots(connection, known) if known else {}
        found: dict[str, Person] = {}
        number_of = _numbers(connection, sorted({ends.get(patient, patient) for patient in known}))
        for slide, (kind, who) in said.items():
            patient = patient_of[slide]
            if patient is not None:
                root = ends.get(patient, patient)
                number = number_of.get(root) or (folded(who) if kind == "number" else f"{root}")
                found[slide] = Person(root, number)
            else:
                found[slide] = Person(None, folded(who))
    return found


def _said(connection: Connection, slides: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return by slide ``patient`` and the catalogue's key, or ``number`` and the hospital's number."""
    rows = [row for some in portions(list(slides)) for row in connection.execute(_query().where(_S.c.slide.in_(some)))]
    found: dict[str, tuple[str, str]] = {}
    cases: dict[str, str] = {}
    for row in rows:
        if row.patient is not None:
            found[row.slide] = ("patient", row.patient)
            continue
        number = None
        if row.patient_id is not None:
            number = cases.get(row.case_key)
            if number is None:
                number = open_identity(connection, row.patient_id, about=case_about(row.case_key))
                cases[row.case_key] = number
        number = number or _named(connection, row.slide, row.metadata)
        if number and number.strip():
            found[row.slide] = ("number", number)
    return found


def _query() -> Any:
    columns = (_S.c.slide, _S.c.case_key, _METADATA.label("metadata"), _K.c.patient, _K.c.patient_id)
    return select(*columns).join(_K, _K.c.case_key == _S.c.case_key, isouter=True)


def _named(connection: Connection, slide: str, text: str | None) -> str | None:
    value = json.loads(text or "{}").get(PATIENT)
    return open_metadata(connection, slide, {PATIENT: str(value)})[PATIENT] if value else None


def _numbers(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    found = {}
    for some in portions(keys):
        for row in connection.execute(select(_P.c.patient, _P.c.identity).where(_P.c.patient.in_(some))):
            number = read_identity(connection, row.patient, row.identity).get(PATIENT)
            if number:
                found[row.patient] = folded(str(number))
    return found


# --- levels -----------------------------------------------------------------------------------------------------------


def levels(catalog: Session, slides: Sequence[str]) -> dict[tuple[str, int], Levels]:
    """Return what is known of levels, by slide and version."""
    found: dict[tuple[str, int], Levels] = {}
    with catalog._database.read() as connection, reading("levels"):
        for some in portions(list(slides)):
            for row in connection.execute(select(_L).where(_L.c.slide.in_(some))):
                found[row.slide, row.version] = tuple((int(height), int(width)) for height, width in row.levels)
    return found


def put_levels(catalog: Session, found: Mapping[tuple[str, int], Levels]) -> None:
    """Note levels, which of a version never change."""
    with catalog._database.write() as connection:
        for (slide, version), shapes in found.items():
            which = (_L.c.slide == slide, _L.c.version == version)
            if connection.execute(select(_L.c.slide).where(*which)).first() is None:
                connection.execute(_L.insert(), {"slide": slide, "version": version, "levels": list(map(list, shapes))})
