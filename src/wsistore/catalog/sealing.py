"""Identity keys, and sealing what a catalogue held in the clear: functions over an open catalogue.

Sealing is done some slides at a time, and may be repeated: what is sealed stays as it is. What is still to be done
stands in the table ``sealing`` until it is done, so that the next run goes on where one was killed: the file, of which
no old byte may remain, and each tier's ledger, which told of the slides before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, select, update

from wsistore.catalog import objections, recalls, schema
from wsistore.catalog.clinical_identity import lookup, patient_about, write_identity
from wsistore.catalog.identities import (
    SEALED,
    about_of,
    case_about,
    of,
    open_identity,
    open_metadata,
    put_patient,
    seal_metadata,
    wrapped_keys,
)
from wsistore.catalog.schema_clinical import patients
from wsistore.catalog.schema_identities import identity_keys, sealing
from wsistore.catalog.session import Session
from wsistore.catalog.sqlite import compact_file
from wsistore.errors import WsistoreError

FILE = "catalog"
"""What is to be done: the catalogue's file is to be written anew."""
_LEDGER = "ledger "
_AT_ONCE = 500
_SAID_OF_PATIENTS = "of several patients: "
_A, _K, _P, _S, _T, _V = schema.attempts, schema.cases, patients, schema.slides, schema.recalls, schema.sources


# --- keys -------------------------------------------------------------------------------------------------------------


def put_key(connection: Connection, name: str, wrapped: str, made_at: str = "") -> None:
    """Note an identity key, or that it is wrapped anew."""
    changed = connection.execute(update(identity_keys).where(identity_keys.c.id == name).values(wrapped=wrapped))
    if not changed.rowcount:
        connection.execute(identity_keys.insert(), {"id": name, "wrapped": wrapped, "made_at": made_at})


def keys(catalog: Session) -> dict[str, str]:
    """Return the wrapped identity keys by their ids, oldest first."""
    with catalog._database.read() as connection:
        return wrapped_keys(connection)


def note_keys(catalog: Session, wrapped: Mapping[str, str], *, if_none: bool = False) -> None:
    """Note identity keys; with `if_none` only if there is none: of two that are made at once one is enough."""
    with catalog._database.write() as connection:
        if not (if_none and wrapped_keys(connection)):
            for name, text in wrapped.items():
                put_key(connection, name, text, catalog._now())
    catalog._database.identities.forget()


# --- what there is ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Counted:
    """The identities in a catalogue."""

    sealed: Counter[str] = field(default_factory=Counter)
    """How many are sealed, by the ids of their keys."""
    plain: int = 0
    wrong: list[str] = field(default_factory=list)
    """What is wrong with those that cannot be opened."""


def count(catalog: Session) -> Counted:
    """Count the identities in the catalogue, and open each that is sealed."""
    found = Counted()
    with catalog._database.read() as connection:
        for values in (_metadata, _records, _patients, _people, _lines, objections.identities):
            for about, value in values(connection):
                if not value.startswith(SEALED):
                    found.plain += 1
                    continue
                found.sealed["".join(value.removeprefix(SEALED).split(":")[1:2])] += 1
                try:
                    open_identity(connection, value, about=about)
                except WsistoreError as error:
                    found.wrong.append(error.message)
    return found


def _metadata(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(_S.c.slide, _S.c.metadata)):
        yield from _identities(connection, row.slide, row.metadata)


def _records(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(_V.c.slide, _V.c.record)):
        yield from _identities(connection, row.slide, row.record.get("metadata") or {})


def _identities(connection: Connection, slide: str, metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    identities = of(connection)
    for name, value in metadata.items():
        if value.startswith(SEALED) or identities.is_identity(name):
            yield about_of(slide, name), value


def _patients(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(_K.c.case_key, _K.c.patient_id).where(_K.c.patient_id.is_not(None))):
        yield case_about(row.case_key), row.patient_id


def _people(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(_P.c.patient, _P.c.identity)):
        if row.identity:
            yield (
                patient_about(row.patient),
                row.identity if isinstance(row.identity, str) else json.dumps(row.identity),
            )


def _lines(connection: Connection) -> Iterator[tuple[str, str]]:
    for row in connection.execute(select(_T.c.name, _T.c.lines)):
        yield from recalls.said_in(row.name, row.lines)


# --- what is to be done -----------------------------------------------------------------------------------------------


def begin(catalog: Session, tier_ids: Iterable[str]) -> None:
    """Note what has to be done once everything is sealed: the file, and the ledgers of tiers."""
    with catalog._database.write() as connection:
        there = set(connection.scalars(select(sealing.c.what)))
        wanted = [FILE, *(f"{_LEDGER}{tier_id}" for tier_id in tier_ids)]
        rows = [{"what": what, "begun_at": catalog._now()} for what in wanted if what not in there]
        if rows:
            connection.execute(sealing.insert(), rows)


def pending(catalog: Session) -> tuple[bool, tuple[str, ...]]:
    """Return whether the file, and the ids of tiers whose ledgers, still may hold what was sealed since."""
    with catalog._database.read() as connection:
        there = sorted(connection.scalars(select(sealing.c.what)))
    return FILE in there, tuple(what.removeprefix(_LEDGER) for what in there if what.startswith(_LEDGER))


def done(catalog: Session, *, ledger: str = "") -> None:
    """Note that the file is done, or the ledger of a tier."""
    what = f"{_LEDGER}{ledger}" if ledger else FILE
    with catalog._database.write() as connection:
        connection.execute(delete(sealing).where(sealing.c.what == what))


def compact(catalog: Session) -> None:
    """Write the catalogue's file anew, without a byte of what was there before.

    Raises
    ------
    ConflictError
        If others read or write just now (`Kind.BUSY`).

    """
    catalog._database.close()  # idle connections of this process would be such others
    compact_file(catalog._database.place)


# --- sealing ----------------------------------------------------------------------------------------------------------


def seal_all(catalog: Session) -> int:
    """Seal all identities in the catalogue that are not; return how many rows were changed. May be repeated."""
    changed, after = 0, ""
    while True:
        with catalog._database.write() as connection:
            query = select(_S.c.slide, _S.c.metadata).where(_S.c.slide > after).order_by(_S.c.slide).limit(_AT_ONCE)
            rows = connection.execute(query).all()
            changed += sum(_seal_slide(connection, row.slide, row.metadata) for row in rows)
        if not rows:
            break
        after = rows[-1].slide
    for seal in (_seal_cases, _seal_people, _seal_recalls, _cut_errors, objections.seal_numbers):
        with catalog._database.write() as connection:
            changed += seal(connection)
    return changed


def _seal_slide(connection: Connection, slide: str, metadata: Mapping[str, str]) -> int:
    changed = 0
    sealed = _sealed(connection, slide, metadata)
    if sealed != metadata:
        connection.execute(update(_S).where(_S.c.slide == slide).values(metadata=sealed))
        changed += 1
    for row in connection.execute(select(_V.c.n, _V.c.record).where(_V.c.slide == slide)).all():
        said = row.record.get("metadata") or {}
        sealed = _sealed(connection, slide, said)
        if sealed != said:
            record = {**row.record, "metadata": sealed}
            connection.execute(update(_V).where(_V.c.slide == slide, _V.c.n == row.n).values(record=record))
            changed += 1
    return changed


def _sealed(connection: Connection, slide: str, metadata: Mapping[str, str]) -> dict[str, str]:
    plain = {name: value for name, value in metadata.items() if not value.startswith(SEALED)}
    return {**metadata, **seal_metadata(connection, slide, plain)}


def _seal_cases(connection: Connection) -> int:
    """Seal the patients of cases, with their blind indexes; find patients that a rebuild could not tell."""
    changed = 0
    for row in connection.execute(select(_K.c.case_key, _K.c.patient_id, _K.c.patient_index)).all():
        if row.patient_id is None:
            changed += settle(connection, row.case_key)
        elif not row.patient_id.startswith(SEALED) or row.patient_index is None:
            about = case_about(row.case_key)
            plain = open_identity(connection, row.patient_id, about=about)
            put_patient(connection, row.case_key, plain)
            changed += 1
    return changed


def settle(connection: Connection, case: str) -> bool:
    """Give a case the patient that its slides name, if they all name one; say whether there was any."""
    query = select(_S.c.slide, _S.c.metadata).where(_S.c.case_key == case)
    said = [open_metadata(connection, row.slide, row.metadata).get("patient_id") for row in connection.execute(query)]
    patients = set(filter(None, said))
    if len(patients) == 1:
        put_patient(connection, case, patients.pop())
    return len(patients) == 1


def _seal_people(connection: Connection) -> int:
    """Seal who the patients of the hospital's tables are; those rows are found by blind indexes from then on."""
    changed = 0
    for row in connection.execute(select(_P)).all():
        if isinstance(row.identity, str):
            continue
        values = {
            "identity": write_identity(connection, row.patient, row.identity or {}),
            "lookup": lookup(connection, row.lookup),
            "ins_lookup": None if row.ins_lookup is None else lookup(connection, row.ins_lookup),
        }
        if values["lookup"] != row.lookup:
            connection.execute(update(_P).where(_P.c.patient == row.patient).values(values))
            changed += 1
    return changed


def _seal_recalls(connection: Connection) -> int:
    changed = 0
    for row in connection.execute(select(_T.c.name, _T.c.lines)).all():
        sealed = recalls.seal_lines(connection, row.name, row.lines)
        if sealed != row.lines:
            connection.execute(update(_T).where(_T.c.name == row.name).values(lines=sealed))
            changed += 1
    return changed


def _cut_errors(connection: Connection) -> int:
    """Take patients out of what attempts say of their failure."""
    changed = 0
    query = select(_A.c.attempt, _A.c.error).where(_A.c.error.contains(_SAID_OF_PATIENTS, autoescape=True))
    for row in connection.execute(query).all():
        head = row.error.partition(_SAID_OF_PATIENTS)[0]
        if row.error != f"{head}{_SAID_OF_PATIENTS}(sealed)":
            values = {"error": f"{head}{_SAID_OF_PATIENTS}(sealed)"}
            connection.execute(update(_A).where(_A.c.attempt == row.attempt).values(values))
            changed += 1
    return changed
