"""What a tier will not delete before a day: objects under Object Lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import MAXYEAR, datetime
from functools import partial

from wsistore.catalog.records import CopyRow
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, ObjectMissingError, StorageError
from wsistore.ops.side_by_side import side_by_side
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, place_of
from wsistore.storage.archive import SupportsArchive, archive_of
from wsistore.storage.erasing import lying


def check_unlocked(site: Site, copies: Iterable[CopyRow]) -> None:
    """Refuse copies of which a tier would not delete every version of every object now.

    Only buckets that keep versions can lock; others are not asked. Nor is a medium that is out.

    Raises
    ------
    ConflictError
        With the day until which the first such copy is locked (`Kind.HELD`).
    StorageError
        If a tier fails.

    """
    for copy in copies:
        try:
            until = _last(site, copy)
        except StorageError as error:
            if error.kind is not Kind.TIER_MISSING:
                raise
            continue
        if until is not None and until > site.clock.now():
            raise _locked(copy, until)


def _last(site: Site, copy: CopyRow) -> datetime | None:
    """Return until when the object of a copy that is locked longest is."""
    storage = site.tier(copy.tier)
    archive = archive_of(storage)
    if archive is None or not storage.properties.versions:
        return None
    moments = side_by_side(list(_objects(site, copy)), partial(_locked_until, archive))
    return max((moment for moment in moments if moment is not None), default=None)


def _locked_until(archive: SupportsArchive, which: tuple[str, str | None]) -> datetime | None:
    try:
        return archive.look(which[0], version=which[1]).locked_until
    except ObjectMissingError:
        return None


def _objects(site: Site, copy: CopyRow) -> Iterator[tuple[str, str | None]]:
    """Yield every version of every object of a copy, its commit first."""
    storage, place = site.tier(copy.tier), place_of(copy)
    named = {record.key for record in commit_of(copy).objects} | {copy.commit_key}
    for prefix in (copy.commit_key, place.store, place.private):
        for info in lying(storage, prefix):
            if info.key in named:
                yield info.key, info.version


def _locked(copy: CopyRow, until: datetime) -> ConflictError:
    if until.year == MAXYEAR:
        msg = f"The copy of slide {copy.slide} in tier {copy.tier} is under a legal hold of the storage service."
        return ConflictError(msg, kind=Kind.HELD, remedy="Whoever placed it there has to end it.")
    msg = f"The copy of slide {copy.slide} in tier {copy.tier} is locked (Object Lock) until {iso(until)}."
    return ConflictError(msg, kind=Kind.HELD, remedy="Plan its deletion for after that day.")
