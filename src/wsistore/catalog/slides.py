"""Slides, their sources and copies: reading, naming, and what the site says of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Select, delete, or_, select, update

from wsistore.catalog import schema
from wsistore.catalog.records import CopyRow, SlideRow, SourceRow, SourceState
from wsistore.catalog.rows import copy_row, slide_row, source_row
from wsistore.errors import InputError, Kind, MissingError
from wsistore.model import CopyState

PREFIX_LENGTH = 4
"""Least length of a key's beginning that stands for the key: 20 bits, enough to seldom hit a name by chance."""

_KEY_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz")
_SHOWN_CANDIDATES = 8
_CURRENT = str(SourceState.CURRENT)
_LS = "'wsistore ls' lists the slides."


def _shown() -> Select[Any]:
    """Slides that are there: those with a current version."""
    joined = schema.slides.join(schema.sources, schema.slides.c.slide == schema.sources.c.slide)
    return (
        select(schema.slides, schema.sources.c.n.label("version"))
        .select_from(joined)
        .where(schema.sources.c.state == _CURRENT)
    )


def every(connection: Connection) -> list[SlideRow]:
    """Return all slides, oldest first."""
    query = _shown().order_by(schema.slides.c.created_at, schema.slides.c.slide)
    return [slide_row(row) for row in connection.execute(query)]


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
    return slide_row(row)


def find_current(connection: Connection, fingerprint: str) -> SlideRow | None:
    """Return the slide whose current version has this content."""
    row = connection.execute(_shown().where(schema.sources.c.fingerprint == fingerprint)).first()
    return None if row is None else slide_row(row)


def has_source_of_size(connection: Connection, size_bytes: int) -> bool:
    """Say whether a current source has this size."""
    table = schema.sources
    query = select(table.c.slide).where(table.c.bytes == size_bytes, table.c.state == _CURRENT)
    return connection.execute(query.limit(1)).first() is not None


def current_of_series(connection: Connection, series: str) -> list[tuple[SlideRow, SourceRow]]:
    """Return the slides of a series, each with its current version."""
    query = _shown().where(schema.slides.c.series == series).order_by(schema.slides.c.created_at)
    slides = [slide_row(row) for row in connection.execute(query)]
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


def copies(connection: Connection, slide: str) -> list[CopyRow]:
    """Return a slide's copies that were committed, newest version first; those of older versions are superseded."""
    table = schema.copies
    query = (
        select(table)
        .where(table.c.slide == slide, table.c.state != str(CopyState.CLAIMED))
        .order_by(table.c.version.desc(), table.c.tier, table.c.n.desc(), table.c.attempt)
    )
    return [copy_row(row) for row in connection.execute(query)]


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
        after = {key: value for key, value in {**before, **values}.items() if value}
        cases |= {before.get("case_id"), after.get("case_id")} - {None}
        if after != before:
            changed.append(slide)
            _set_case(connection, slide, after)
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
    rows = connection.execute(select(schema.slides.c.metadata).where(schema.slides.c.case_key == case)).scalars().all()
    patients = sorted({row["patient_id"] for row in rows if row.get("patient_id")})
    if len(patients) > 1:
        msg = f"Case {case!r} would have slides of several patients: {', '.join(map(repr, patients))}."
        remedy = "Mend case_id or patient_id; give all slides of a case together if its patient was wrong."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=remedy)
    if not rows:
        connection.execute(delete(schema.cases).where(schema.cases.c.case_key == case))
        return
    patient = patients[0] if patients else None
    connection.execute(update(schema.cases).where(schema.cases.c.case_key == case).values(patient_id=patient))


def _metadata(connection: Connection, slide: str) -> dict[str, str]:
    query = select(schema.slides.c.metadata).where(schema.slides.c.slide == slide).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        msg = f"There is no slide {slide!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy=_LS)
    return dict(row.metadata)


def _set_case(connection: Connection, slide: str, metadata: Mapping[str, str]) -> None:
    case = metadata.get("case_id")
    if case is not None:
        ensure_cases(connection, [case])
    values = {"metadata": dict(metadata), "case_key": case}
    connection.execute(update(schema.slides).where(schema.slides.c.slide == slide).values(values))


def ensure_cases(connection: Connection, cases: Iterable[str]) -> None:
    """Make rows for cases that have none."""
    for case in cases:
        if connection.execute(select(schema.cases).where(schema.cases.c.case_key == case)).first() is None:
            connection.execute(schema.cases.insert(), {"case_key": case, "patient_id": None})
