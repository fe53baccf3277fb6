"""Takes in what the hospital says of patients, cases and slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wsistore.catalog.clinical_dates import COMPLETE
from wsistore.catalog.clinical_import import FeedFile, Imported
from wsistore.catalog.clinical_rows import Said, refused
from wsistore.clock import iso
from wsistore.errors import InputError, Kind
from wsistore.ops.clinical_columns import Feed
from wsistore.ops.clinical_tables import FeedTable, read_tables
from wsistore.ops.site import Site, read_only_error


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How fresh one kind of table is."""

    kind: str
    as_of: str | None
    """Up to which moment it is complete; None: never imported."""
    needed: bool
    """Whether nothing can be deleted without it."""


def feed_status(site: Site) -> list[FeedStatus]:
    """Return how fresh each kind of table is."""
    newest = site.catalog.newest_feeds()
    return [FeedStatus(str(feed), newest.get(str(feed)), str(feed) in COMPLETE) for feed in Feed]


def import_metadata(site: Site, paths: Sequence[Path], as_of: datetime) -> Imported:
    """Take in tables of the hospital: all of them, or nothing.

    Taking the same ones in again changes nothing; nor does it matter in which order they come, in one import or
    several: of each value the one with the latest moment counts.

    Parameters
    ----------
    site
        An open site.
    paths
        CSV or Parquet; docs/metadata.md describes them.
    as_of
        Up to which moment they are complete, timezone-aware.

    Raises
    ------
    MissingError
        If one is not there.
    InputError
        If one cannot be understood, or contradicts itself or others, naming file, line and column.
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    now = site.clock.now()
    if as_of > now:
        msg = f"The tables cannot be complete up to {iso(as_of)}: that is to come."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give the moment at which they were made.")
    stamp = iso(as_of)
    tables = [_said(table, stamp) for table in read_tables(paths)]
    _check_moments(tables, iso(now))
    return site.catalog.import_clinical(tables, stamp, site.actor)


def _check_moments(tables: Sequence[FeedFile], now: str) -> None:
    """Refuse rows of moments that are to come: until then nobody could say otherwise."""
    for row in (row for table in tables for row in table.rows):
        if row.stamp > now:
            raise refused(row, "at", f"is of {row.stamp}, which is still to come")


def _said(table: FeedTable, stamp: str) -> FeedFile:
    # A merger has its own moment.
    own = "at" if table.feed is Feed.MERGES else ""
    rows = [
        Said(f"{table.path}, line {row.line}", row.values, (own and row.values.get(own)) or stamp) for row in table.rows
    ]
    return FeedFile(str(table.feed), table.digest, rows)
