"""Who a patient is, in ``patients``: the one place that writes it, reads it, and finds patients by it.

A patient has a random key of the catalogue's own; every other table speaks of that. The hospital's number (IPP) and the
INS are found by ``lookup`` and ``ins_lookup``: blind indexes where the site seals identities, else the folded text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from wsistore.catalog.identities import identity_index, identity_indexes, open_identity, seal_identity
from wsistore.catalog.schema_clinical import patients

AT_ONCE = 400
"""Values in one IN (…): databases have limits."""

T = TypeVar("T")
Identity = Mapping[str, Any]
"""JSON values: ``patient_id``, ``ins``, ``traits``."""

_ALL = 20_000
"""From so many wanted patients on, all are read."""


def lookup(connection: Connection, text: str) -> str:
    """Return what a number is kept as, so that it is found again."""
    return identity_index(connection, text) or folded(text)


def lookups(connection: Connection, texts: Iterable[str]) -> dict[str, str]:
    """Return all that numbers may be kept as, each with its number."""
    wanted = list(texts)
    return {folded(text): text for text in wanted} | identity_indexes(connection, wanted)


def folded(text: str) -> str:
    """Return a number as it is compared: whatever its capitals."""
    return text.strip().casefold()


def find(connection: Connection, numbers: Iterable[str]) -> dict[str, str]:
    """Return the keys of patients by the hospital's numbers; those that are not known are left out."""
    may_be = lookups(connection, dict.fromkeys(numbers))
    columns = patients.c.lookup, patients.c.patient
    if len(may_be) > _ALL:
        rows = ((kept, patient) for kept, patient in connection.execute(select(*columns)) if kept in may_be)
        return {may_be[kept]: patient for kept, patient in rows}
    found: dict[str, str] = {}
    for some in portions(list(may_be)):
        for kept, patient in connection.execute(select(*columns).where(patients.c.lookup.in_(some))):
            found[may_be[kept]] = patient
    return found


def find_qualified(connection: Connection, numbers: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys of patients by their qualified INS; of a patient with several numbers, several."""
    may_be = lookups(connection, dict.fromkeys(numbers))
    found: dict[str, list[str]] = {}
    query = select(patients.c.ins_lookup, patients.c.patient).order_by(patients.c.patient)
    for some in portions(list(may_be)):
        for kept, patient in connection.execute(query.where(patients.c.ins_lookup.in_(some))):
            found.setdefault(may_be[kept], []).append(patient)
    return found


def write_identity(connection: Connection, patient: str, identity: Identity) -> Any:
    """Return an identity as it is kept in ``patients.identity``."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    sealed = seal_identity(connection, text, about=patient_about(patient))
    return dict(identity) if sealed == text else sealed


def read_identity(connection: Connection, patient: str, kept: Any) -> dict[str, Any]:
    """Return the identity that was kept; raises as `wsistore.catalog.identities.open_identity`."""
    if isinstance(kept, str):
        kept = json.loads(open_identity(connection, kept, about=patient_about(patient)))
    return dict(kept or {})


def portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield values a few at a time."""
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


def patient_about(patient: str) -> str:
    """Return what a patient's sealed identity is about."""
    return f"patient {patient}"
