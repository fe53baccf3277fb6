"""Re-proving copies: read back, rebuilt, compared; the catalogue learns when, and of every failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wsistore.catalog.records import CopyRow, SlideRow
from wsistore.clock import iso
from wsistore.compress.verify import verify_copy
from wsistore.errors import IntegrityError, ObjectMissingError, StorageError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.ops.results import Failure, VerifyResult
from wsistore.ops.site import Site
from wsistore.ops.stored import current_copies, place_of
from wsistore.storage.base import Storage
from wsistore.tiers import commits


def verify(
    site: Site, slides: Sequence[str], *, progress: Callable[[int], None] = lambda _: None
) -> Iterator[VerifyResult]:
    """Verify every committed copy of `slides`, one after the other.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys, unique beginnings or names; all of them are resolved before the first is read.
    progress
        Gets the number of source bytes just rebuilt.

    Yields
    ------
    VerifyResult
        One per copy; a copy that fails is a result, not an exception.

    Raises
    ------
    MissingError
        If one of `slides` is not there.

    """
    keys = [site.catalog.resolve(slide) for slide in slides]
    return (result for key in keys for result in _verify_slide(site, key, progress))


def _verify_slide(site: Site, key: str, progress: Callable[[int], None]) -> Iterator[VerifyResult]:
    row = site.catalog.slide(key)
    for copy in current_copies(site, key):
        yield _verify_copy(site, row, copy, progress)


def _verify_copy(site: Site, row: SlideRow, copy: CopyRow, progress: Callable[[int], None]) -> VerifyResult:
    started = site.clock.monotonic_seconds()
    try:
        storage = site.tier(copy.tier)
        _check_commit(storage, copy)
        commit = commits.decode(copy.commit_body.encode(), where=copy.commit_key)
        files = site.catalog.source(row.slide).files
        verdict = verify_copy(storage, place_of(copy), commit.objects, files, progress=progress)
    except (IntegrityError, StorageError) as error:
        _note_failure(site, copy, error)
        seconds = site.clock.monotonic_seconds() - started
        failure = Failure.of(error)
        return VerifyResult(slide=row.slide, name=row.name, tier=copy.tier, ok=False, seconds=seconds, error=failure)
    now = site.clock.now()
    detail = {"tier": copy.tier, "attempt": copy.attempt, "evidence": str(copy.evidence)}
    site.catalog.record_verification(copy.attempt, now, NewEvent(EventKind.VERIFIED, site.actor, detail))
    return VerifyResult(
        slide=row.slide,
        name=row.name,
        tier=copy.tier,
        ok=True,
        bytes_read=verdict.bytes_read,
        objects=verdict.objects,
        verified_at=iso(now),
        seconds=site.clock.monotonic_seconds() - started,
    )


def _check_commit(storage: Storage, copy: CopyRow) -> None:
    try:
        found = storage.get(copy.commit_key)
    except ObjectMissingError as error:
        msg = f"{copy.commit_key} is missing from {storage.url}."
        raise IntegrityError(msg, remedy="Restore the slide from another copy, or ingest its source again.") from error
    if found != copy.commit_body.encode():
        msg = f"{copy.commit_key} in {storage.url} is not what the catalogue recorded."
        raise IntegrityError(msg, remedy="Find out who wrote there; restore the slide from another copy.")


def _note_failure(site: Site, copy: CopyRow, error: WsistoreError) -> None:
    detail = {"tier": copy.tier, "attempt": copy.attempt, "kind": str(error.kind), "message": error.message}
    site.catalog.append_event(copy.slide, EventKind.VERIFICATION_FAILED, site.actor, detail)
