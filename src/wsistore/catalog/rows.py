"""From the catalogue's rows to values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row

from wsistore.catalog.records import Attempt, AttemptState, CopyRow, SlideRow, SourceRow, SourceState, TierRecord
from wsistore.errors import Kind, SiteError
from wsistore.model import CopyState, Evidence, FileRecord, Mode, Preset


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
    with reading("slides"):
        um = None if row.um_per_px_y is None else (row.um_per_px_y, row.um_per_px_x)
        return SlideRow(
            slide=row.slide,
            name=row.name,
            format=row.format,
            mode=Mode(row.mode),
            width=row.width,
            height=row.height,
            bytes_source=row.bytes_source,
            series=row.series,
            um_per_px=um,
            magnification=row.magnification,
            metadata=dict(row.metadata),
            created_at=row.created_at,
            version=row.version,
        )


def source_row(row: Row[Any]) -> SourceRow:
    """Return a version of a source."""
    with reading("sources"):
        return SourceRow(
            slide=row.slide,
            n=row.n,
            fingerprint=row.fingerprint,
            state=SourceState(row.state),
            attempt=row.attempt,
            files=tuple(FileRecord(**file) for file in row.files),
            path=row.path,
            created_at=row.created_at,
        )


def source_files(files: Iterable[FileRecord]) -> list[dict[str, Any]]:
    """Return files as JSON values."""
    return [{"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files]


def copy_row(row: Row[Any]) -> CopyRow:
    """Return a copy."""
    with reading("copies"):
        return CopyRow(
            attempt=row.attempt,
            slide=row.slide,
            version=row.version,
            tier=row.tier,
            n=row.n,
            state=CopyState(row.state),
            preset=Preset(row.preset),
            bytes_stored=row.bytes_stored,
            objects=row.objects,
            evidence=Evidence(row.evidence),
            verified_at=row.verified_at,
            commit_key=row.commit_key,
            commit_body=row.commit_body,
            fallbacks=dict(row.fallbacks),
        )


def attempt_row(row: Row[Any]) -> Attempt:
    """Return an attempt."""
    with reading("attempts"):
        return Attempt(
            attempt=row.attempt,
            slide=row.slide,
            tier=row.tier,
            state=AttemptState(row.state),
            owner=row.owner,
            lease_until=row.lease_until,
            started_at=row.started_at,
            fingerprint=row.fingerprint,
            error=row.error,
        )


def tier_row(row: Row[Any]) -> TierRecord:
    """Return a tier."""
    return TierRecord(name=row.name, id=row.id, url=row.url)
