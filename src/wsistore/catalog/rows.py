"""From the catalogue's rows to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Row

from wsistore.catalog.records import (
    Attempt,
    AttemptKind,
    AttemptState,
    CopyRow,
    Hold,
    SlideRow,
    SourceRow,
    SourceState,
    TierRecord,
)
from wsistore.errors import Kind, SiteError
from wsistore.model import CopyState, Evidence, FileRecord, Mode, Preset

_R = TypeVar("_R", SlideRow, SourceRow, CopyRow, Attempt, TierRecord, Hold)


@contextmanager
def reading(table: str) -> Iterator[None]:
    """Turn what goes wrong with a row's content into the site's error."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        msg = f"The catalogue's table {table!r} holds what this release cannot read: {error}."
        remedy = "Upgrade wsistore if a newer release has worked here; else put back the catalogue's last backup."
        raise SiteError(msg, kind=Kind.CATALOG_FAILED, remedy=remedy) from error


def slide_row(row: Row[Any]) -> SlideRow:
    """Return a slide, from its columns and ``version``."""
    um = None if row.um_per_px_y is None else (row.um_per_px_y, row.um_per_px_x)
    return _record(SlideRow, "slides", row, {"um_per_px": um}, mode=Mode, metadata=dict)


def source_row(row: Row[Any]) -> SourceRow:
    """Return a version of a source."""
    return _record(SourceRow, "sources", row, state=SourceState, files=_files)


def copy_row(row: Row[Any]) -> CopyRow:
    """Return a copy."""
    return _record(
        CopyRow, "copies", row, state=CopyState, preset=Preset, evidence=Evidence, fallbacks=dict, encoding=dict
    )


def attempt_row(row: Row[Any]) -> Attempt:
    """Return an attempt."""
    return _record(Attempt, "attempts", row, state=AttemptState, kind=AttemptKind, job=dict)


def hold_row(row: Row[Any]) -> Hold:
    """Return a hold."""
    return _record(Hold, "holds", row)


def tier_row(row: Row[Any]) -> TierRecord:
    """Return a tier."""
    return _record(TierRecord, "tiers", row)


def source_files(files: Iterable[FileRecord]) -> list[dict[str, Any]]:
    """Return files as JSON values."""
    return [{"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files]


def _files(values: list[dict[str, Any]]) -> tuple[FileRecord, ...]:
    return tuple(FileRecord(**value) for value in values)


def _record(
    kind: type[_R], table: str, row: Row[Any], given: dict[str, Any] | None = None, /, **read: Callable[[Any], Any]
) -> _R:
    """Return a record from the columns of its fields' names; `read` makes its values of what is kept otherwise."""
    values = dict(given or {})
    with reading(table):
        for field in fields(kind):
            if field.name not in values:
                value = getattr(row, field.name)
                values[field.name] = read[field.name](value) if field.name in read else value
        return kind(**values)
