"""Copies that are worth reading: of several, one that is sound, and another where it turns out not to be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from wsistore.catalog.records import CopyRow
from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectArchivedError, StorageError
from wsistore.model import CopyState, Evidence
from wsistore.ops.site import Site
from wsistore.ops.stored import check_copy, current_copies, is_current, note_failure
from wsistore.ops.verifying import verify_one

T = TypeVar("T")

_log = logging.getLogger(__name__)


def from_sound_copy(site: Site, slide: str, order: Callable[[CopyRow], Any], act: Callable[[CopyRow], T]) -> T:
    """Return what `act` makes of a copy of the slide's current version, the first by `order` that serves.

    One that turns out to be damaged is suspect from then on, and the next is taken.

    Raises
    ------
    ConflictError
        If somebody else has put another copy in the place of the one that was read (`Kind.BUSY`).
    IntegrityError
        If no copy is sound, or what was made of a sound one is not.
    StorageError
        If the tiers of those that may be sound fail.
    WsistoreError
        What else `act` raises.

    """
    damaged: set[str] = set()
    archived: ObjectArchivedError | None = None
    while True:
        try:
            source = sound_source(site, slide, order, damaged)
        except IntegrityError:
            if archived is not None:
                raise archived from None  # it may be as good as any, but cannot be read now
            raise
        try:
            return act(source)
        except ObjectArchivedError as error:
            archived = error
            damaged.add(source.attempt)
        except IntegrityError as error:
            # Either copy may be to blame. If it is the one that was read, another may do.
            if verify_one(site, source):
                check_current(site, source)
                raise
            damaged.add(source.attempt)
            if all(copy.attempt in damaged for copy in current_copies(site, slide)):
                raise
            _log.warning("copy %s of slide %s is damaged: %s", source.attempt, slide, error)


def sound_source(site: Site, slide: str, order: Callable[[CopyRow], Any], damaged: set[str]) -> CopyRow:
    """Return the first copy by `order` whose objects are all there; those in archive classes come last.

    Raises
    ------
    ConflictError
        If somebody else has put another copy in the place of one meanwhile (`Kind.BUSY`).
    IntegrityError, StorageError
        What is wrong with the last one.

    """
    failure: IntegrityError | StorageError | None = None
    for copy in sorted(current_copies(site, slide), key=lambda copy: (copy.evidence is Evidence.ATTESTED, order(copy))):
        if copy.state is CopyState.SUSPECT or copy.attempt in damaged:
            continue
        try:
            check_copy(site.tier(copy.tier), copy)
        except IntegrityError as error:
            if not note_failure(site, copy, error):
                check_current(site, copy)
            failure = error
        except StorageError as error:
            failure = error  # it says nothing of the bytes
        else:
            return copy
    if failure is not None:
        raise failure
    msg = f"No copy of slide {slide} is good."
    raise IntegrityError(msg, remedy="Verify its copies, or ingest its source again.")


def check_current(site: Site, copy: CopyRow) -> None:
    """Raise `ConflictError` (`Kind.BUSY`) if somebody else has dropped or replaced a copy since it was looked up."""
    if not is_current(site, copy):
        msg = f"The copy of slide {copy.slide} in tier {copy.tier} was dropped or replaced meanwhile."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.")
