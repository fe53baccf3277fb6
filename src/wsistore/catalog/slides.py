"""Slides, their sources and copies: reading, naming, and what the site says of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, Text, cast, delete, func, or_, select, update

from wsistore.catalog import schema
from wsistore.catalog.clinical_whose import check_patient
from wsistore.catalog.detached import sayable
from wsistore.catalog.identities import (
    PATIENT,
    SEALED,
    of,
    open_metadata,
    put_patient,
    seal_metadata,
)
from wsistore.catalog.records import CopyRow, SlideRow, SourceRow, SourceState
from wsistore.catalog.rows import copy_row, slide_row, source_row
from wsistore.errors import InputError, Kind, MissingError
from wsistore.model import CopyState

PREFIX_LENGTH = 4
"""Least length of a key's beginning that stands for the key: 20 bits, enough to seldom hit a name by chance."""

_KEY_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz")
_SHOWN_CANDIDATES = 8
_CURRENT = str(SourceState.CURRENT)
_HIDDEN = frozenset({CopyState.CLAIMED, CopyState.DROPPING, CopyState.DROPPED, CopyState.DELETING})
_LS = "'wsistore ls' lists the slides."


def _shown() -> Select[Any]:
    """Slides that are there: those with a current version."""
    joined = schema.slides.join(schema.sources, schema.slides.c.slide == schema.sources.c.slide)
    return (
        select(schema.slides, schema.sources.c.n.label("version"))
        .select_from(joined)
        .where(schema.sources.c.state == _CURRENT)
    )


def _row(connection: Connection, row: Row[Any]) -> SlideRow:
    """Return a slide; identities that are sealed by keys which are not at hand are left out of its metadata."""
    found = slide_row(row)
    return replace(found, metadata=open_metadata(connection, found.slide, found.metadata, strict=False))


def is_readable(connection: Connection) -> bool:
    """Say whether all identities in the slides' metadata can be read.

    Raises
    ------
    WsistoreError
        Why they cannot.

    """
    query = select(schema.slides.c.slide, schema.slides.c.metadata)
    sealed = query.where(cast(schema.slides.c.metadata, Text).contains(SEALED))
    for row in connection.execute(sealed.limit(1)):
        open_metadata(connection, row.slide, row.metadata)
    return True


def every(connection: Connection) -> list[SlideRow]:
    """Return all slides, oldest first."""
    query = _shown().order_by(schema.slides.c.created_at, schema.slides.c.slide)
    return [_row(connection, row) for row in connection.execute(query)]


def one(connection: Connection, slide: str) -> SlideRow:
    """Return the slide with this key.

    Raises
    ------
    MissingError
        If there is none (`Kind.SLIDE_MISSING`).

    """
    row = connection.execute(_shown().where(schema.slides.c.slide == slide)).first()
    if row is None:
        msg = f"There is no slide {slide!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy=_LS)
    return _row(connection, row)


def find_current(connection: Connection, fingerprint: str) -> SlideRow | None:
    """Return the slide whose current version has this content."""
    row = connection.execute(_shown().where(schema.sources.c.fingerprint == fingerprint)).first()
    return None if row is None else _row(connection, row)


def has_source_of_size(connection: Connection, size_bytes: int) -> bool:
    """Say whether a current source has this size."""
    table = schema.sources
    query = select(table.c.slide).where(table.c.bytes == size_bytes, table.c.state == _CURRENT)
    return connection.execute(query.limit(1)).first() is not None


def current_of_series(connection: Connection, series: str) -> list[tuple[SlideRow, SourceRow]]:
    """Return the slides of a series, each with its current version."""
    query = _shown().where(schema.slides.c.series == series).order_by(schema.slides.c.created_at)
    slides = [_row(connection, row) for row in connection.execute(query)]
    return [(slide, source(connection, slide.slide, slide.version)) for slide in slides]


def source(connection: Connection, slide: str, version: int | None = None) -> SourceRow:
    """Return a version of a slide's source; the current one by default.

    Raises
    ------
    MissingError
        If there is none.

    """
    table = schema.sources
    query = select(table).where(table.c.slide == slide)
    query = query.where(table.c.state == _CURRENT) if version is None else query.where(table.c.n == version)
    row = connection.execute(query).first()
    if row is None:
        msg = f"There is no slide {slide!r}" + ("." if version is None else f" with a version {version}.")
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy=_LS)
    return source_row(row)


def copies(connection: Connection, slide: str, *, with_past: bool = False) -> list[CopyRow]:
    """Return a slide's copies that were committed, newest version first; those of older versions are superseded.

    Those that are being dropped, or were, are left out unless `with_past`.
    """
    hidden = {CopyState.CLAIMED} if with_past else _HIDDEN
    table = schema.copies
    query = (
        select(table)
        .where(table.c.slide == slide, table.c.state.not_in([str(state) for state in hidden]))
        .order_by(table.c.version.desc(), table.c.tier, table.c.n.desc(), table.c.attempt)
    )
    return [copy_row(row) for row in connection.execute(query)]


def current_copies(connection: Connection) -> dict[str, list[CopyRow]]:
    """Return the copies of the current versions of all slides, by slide; in the order of `copies`."""
    table, version = schema.copies, schema.sources
    query = (
        select(table)
        .join(version, (version.c.slide == table.c.slide) & (version.c.n == table.c.version))
        .where(version.c.state == _CURRENT, table.c.state.not_in([str(state) for state in _HIDDEN]))
        .order_by(table.c.slide, table.c.tier, table.c.n.desc(), table.c.attempt)
    )
    found: dict[str, list[CopyRow]] = {}
    for row in connection.execute(query):
        found.setdefault(row.slide, []).append(copy_row(row))
    return found


def last_number(connection: Connection, slide: str, tier: str) -> int:
    """Return the highest number of the commits that a slide ever had in a tier, as far as is known; 0 for none."""
    table = schema.copies
    query = select(func.max(table.c.n)).where(table.c.slide == slide, table.c.tier == tier)
    return connection.scalar(query) or 0


def resolve(connection: Connection, text: str) -> str:
    """Return the key of the slide that a person means: by key, its unique beginning, or the slide's exact name.

    Raises
    ------
    MissingError
        If no slide is meant (`Kind.SLIDE_MISSING`) or several are (`Kind.SLIDE_AMBIGUOUS`, naming them).

    """
    key, name = schema.slides.c.slide, schema.slides.c.name
    conditions = [key == text, name == text]
    # Keys are lower-case letters and digits, so LIKE means the same in every database.
    if len(text) >= PREFIX_LENGTH and _KEY_CHARACTERS.issuperset(text):
        conditions.append(key.like(text + "%"))
    query = _shown().where(or_(*conditions)).order_by(name, key).limit(1000)
    found = [(row.slide, row.name) for row in connection.execute(query)]
    if any(slide == text for slide, _ in found):
        return text
    if len(found) == 1:
        return str(found[0][0])
    if found:
        listed = ", ".join(f"{slide} ({label})" for slide, label in found[:_SHOWN_CANDIDATES])
        more = f" and {len(found) - _SHOWN_CANDIDATES} more" if len(found) > _SHOWN_CANDIDATES else ""
        msg = f"{text!r} may mean {len(found)} slides: {listed}{more}."
        raise MissingError(msg, kind=Kind.SLIDE_AMBIGUOUS, remedy="Give the whole key.")
    raise _nobody(connection, text)


def _nobody(connection: Connection, text: str) -> MissingError:
    names = connection.execute(_shown().with_only_columns(schema.slides.c.name).distinct().limit(10_000)).scalars()
    close = difflib.get_close_matches(text, list(names), n=3)
    hint = f"; did you mean {', '.join(repr(name) for name in close)}" if close else ""
    msg = f"There is no slide {text!r}{hint}."
    if text and len(text) < PREFIX_LENGTH:
        msg += f" The beginning of a key needs {PREFIX_LENGTH} characters."
    return MissingError(msg, kind=Kind.SLIDE_MISSING, remedy=_LS)


# --- what the site says of a slide ------------------------------------------------------------------------------------


def put_metadata(connection: Connection, changes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Set values of slides' metadata, for several slides at once; empty values are removed, others stay.

    What would give a slide back to the patient that it was parted from is left out.

    Returns
    -------
    list of str
        Keys of the slides that are no longer as they were.

    Raises
    ------
    MissingError
        If there is no such slide.
    InputError
        If a case would have slides of two patients (`Kind.METADATA_INVALID`).

    """
    changed, cases = [], set()
    for slide, values in changes.items():
        before = _metadata(connection, slide)
        after = sayable(connection, slide, {key: value for key, value in {**before, **values}.items() if value})
        cases |= {before.get("case_id"), after.get("case_id")} - {None}
        if after != before:
            changed.append(slide)
            set_metadata(connection, slide, after)
    for case in sorted(case for case in cases if case):
        settle_case(connection, case)
    return changed


def settle_case(connection: Connection, case: str) -> None:
    """Make a case say what its slides say: its one patient; or nothing, if it has no slide left.

    Raises
    ------
    InputError
        If its slides name different patients.

    """
    query = select(schema.slides.c.slide, schema.slides.c.metadata).where(schema.slides.c.case_key == case)
    rows = [open_metadata(connection, row.slide, row.metadata) for row in connection.execute(query).all()]
    patients = sorted({row[PATIENT] for row in rows if row.get(PATIENT)})
    own = check_patient(connection, case, patients)
    if own is None and len(patients) > 1:
        # Messages are kept, in attempts and in logs: where identities are sealed they name none.
        named = f"{len(patients)}" if of(connection).is_on else ", ".join(map(repr, patients))
        msg = f"Case {case!r} would have slides of several patients: {named}."
        remedy = "Mend case_id or patient_id; give all slides of a case together if its patient was wrong."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=remedy)
    if not rows:
        # What the hospital said of it stays, for slides that are still to come.
        gone = (schema.cases.c.case_key == case) & schema.cases.c.as_of.is_(None)
        connection.execute(delete(schema.cases).where(gone))
        return
    patient = own or (patients[0] if patients else None)
    put_patient(connection, case, patient)


def _metadata(connection: Connection, slide: str) -> dict[str, str]:
    query = select(schema.slides.c.metadata).where(schema.slides.c.slide == slide).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        msg = f"There is no slide {slide!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy=_LS)
    return open_metadata(connection, slide, row.metadata)


def set_metadata(connection: Connection, slide: str, metadata: Mapping[str, str]) -> None:
    """Make `metadata` all that the site says of a slide; its case is to be settled afterwards."""
    case = metadata.get("case_id")
    if case is not None:
        ensure_cases(connection, [case])
    values = {"metadata": seal_metadata(connection, slide, metadata), "case_key": case}
    connection.execute(update(schema.slides).where(schema.slides.c.slide == slide).values(values))


def ensure_cases(connection: Connection, cases: Iterable[str]) -> None:
    """Make rows for cases that have none."""
    for case in cases:
        if connection.execute(select(schema.cases).where(schema.cases.c.case_key == case)).first() is None:
            connection.execute(schema.cases.insert(), {"case_key": case, "patient_id": None})
