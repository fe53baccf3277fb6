"""One copy read again: its commit and all objects, or its source and pixels too; the catalogue learns when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wsistore.catalog.records import CopyRow
from wsistore.clock import iso
from wsistore.compress.object_check import damaged_objects
from wsistore.compress.verify import verify_copy
from wsistore.errors import IntegrityError, Kind
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState
from wsistore.ops.scrub_pixels import Hashes, PixelComparison, pixel_hashes
from wsistore.ops.site import Site
from wsistore.ops.stored import check_commit, commit_of, place_of

CLOSED = frozenset({Kind.OBJECT_ARCHIVED, Kind.KEY_DESTROYED})
"""Kinds of errors of objects that cannot be read as they are meant to be; they say nothing of others."""
UNREACHABLE = frozenset({Kind.TIER_MISSING, Kind.STORAGE_TRANSIENT, Kind.STORAGE_DENIED}) | CLOSED
"""Kinds of errors that say nothing of the bytes."""

_REMEDY = "Restore the slide from another copy, or ingest its source again."


@dataclass(frozen=True, slots=True)
class Read:
    """What was found of a copy whose bytes are as they were."""

    bytes_read: int
    objects: int
    verified_at: str | None
    """None if it does not count as verified."""
    note: str = ""
    differs: IntegrityError | None = None
    """That it shows other pixels than another copy."""


class Reader:
    """Reads copies and writes down that they are good.

    Parameters
    ----------
    site
        An open site.
    deep
        Rebuild the source and compare pixels, too.
    progress
        Gets the number of bytes just read, from several threads.

    """

    def __init__(self, site: Site, *, deep: bool, progress: Callable[[int], None]) -> None:
        self.deep, self._site, self._progress = deep, site, progress
        self._pixels = PixelComparison(site)

    def read(self, copy: CopyRow) -> Read:
        """Read a copy.

        Raises
        ------
        IntegrityError, StorageError
            What is wrong with it, or with its tier.

        """
        site = self._site
        storage, commit = site.tier(copy.tier), commit_of(copy)
        check_commit(storage, copy)
        note = ""
        if self.deep or copy.state is CopyState.SUSPECT:
            files = site.catalog.source(copy.slide, copy.version).files
            verify_copy(storage, place_of(copy), commit.objects, files, progress=self._progress)
        else:
            note = self._check(copy)
        hashes: Hashes = pixel_hashes(site, copy) if self.deep else {}
        size = commit.bytes_stored + len(copy.commit_body)
        try:
            compared = self._pixels.compare(copy, hashes)
        except IntegrityError as error:
            self._note_difference(copy, error)
            note = "Its bytes are good. It is not repaired: which of the two is wrong cannot be told."
            return Read(size, copy.objects, None, note, error)
        return Read(size, copy.objects, self._note(copy, hashes, compared), note)

    def _check(self, copy: CopyRow) -> str:
        """Compare a copy's objects with its commit; return what is to be told all the same."""
        storage, commit = self._site.tier(copy.tier), commit_of(copy)
        first = damaged_objects(storage, commit.objects, progress=self._progress)
        damaged = damaged_objects(storage, list(first))  # what was altered on its way is not when it comes again
        for record, wrong in damaged.items():
            more = f" So are {len(damaged) - 1} more objects of the copy." if len(damaged) > 1 else ""
            msg = f"{record.key} {wrong} in {storage.url}.{more}"
            raise IntegrityError(msg, remedy=_REMEDY)
        again = next(iter(first), None)
        return "" if again is None else f"{again.key} was read well only the second time: look at the way to the tier."

    def _note(self, copy: CopyRow, hashes: Hashes, compared: str) -> str:
        now = self._site.clock.now()
        detail: dict[str, object] = {
            "tier": copy.tier,
            "attempt": copy.attempt,
            "evidence": str(copy.evidence),
            "by": "scrub",
            "bytes_read": copy.bytes_stored,
            "objects": copy.objects,
        }
        if hashes:
            detail |= {"pixels": dict(hashes), "compared_with": compared}
        event = NewEvent(EventKind.VERIFIED, self._site.actor, detail)
        self._site.catalog.record_verification(copy.attempt, now, event)
        return iso(now)

    def _note_difference(self, copy: CopyRow, error: IntegrityError) -> None:
        detail = {"tier": copy.tier, "attempt": copy.attempt, "kind": str(error.kind), "message": error.message}
        event = NewEvent(EventKind.VERIFICATION_FAILED, self._site.actor, detail)
        self._site.catalog.record_failure(copy.attempt, event, suspect=False)
