"""Re-proving copies: read back, rebuilt, compared; the catalogue learns when, and of every failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wsistore.catalog.records import CopyRow, SlideRow
from wsistore.clock import iso
from wsistore.compress.verify import verify_copy
from wsistore.errors import IntegrityError, Kind, ObjectArchivedError, StorageError
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState, Evidence
from wsistore.ops.freezing import look_at_frozen, seen
from wsistore.ops.results import Failure, VerifyResult
from wsistore.ops.site import Site
from wsistore.ops.stored import check_commit, commit_of, in_turn, note_failure, place_of


def verify(
    site: Site, slides: Sequence[str], *, progress: Callable[[int], None] = lambda _: None
) -> Iterator[VerifyResult]:
    """Verify every copy of the current versions of `slides`, one after the other.

    A copy that fails is suspect from then on; one that proves good is not suspect any more.

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
        One per copy; a copy that fails is a result, not an exception. What is wrong with a copy that was superseded
        meanwhile is nobody's concern.

    Raises
    ------
    MissingError
        If one of `slides` is not there.

    """
    keys = [site.catalog.resolve(slide) for slide in slides]
    return (result for key in keys for result in _verify_slide(site, key, progress))


def _verify_slide(site: Site, key: str, progress: Callable[[int], None]) -> Iterator[VerifyResult]:
    row = site.catalog.slide(key)
    for copy in in_turn(site, key):
        result = _verify_copy(site, row, copy, progress)
        if result is not None:
            yield result


def verify_one(site: Site, copy: CopyRow) -> bool:
    """Verify one copy and note what was found; say whether it is good. A tier that fails proves nothing, nor harm."""
    result = _verify_copy(site, site.catalog.slide(copy.slide), copy, lambda _: None)
    return result is None or result.ok or (result.error is not None and result.error.kind != Kind.CORRUPT)


def _verify_copy(site: Site, row: SlideRow, copy: CopyRow, progress: Callable[[int], None]) -> VerifyResult | None:
    """Verify a copy; None if it failed and was superseded meanwhile, so that its failure is nobody's concern."""
    started = site.clock.monotonic_seconds()
    try:
        storage = site.tier(copy.tier)
        check_commit(storage, copy)
        if copy.evidence is Evidence.ATTESTED and not _can_be_read(site, copy):
            return _seen(site, row, copy, started)
        commit = commit_of(copy)
        files = site.catalog.source(copy.slide, copy.version).files
        verdict = verify_copy(storage, place_of(copy), commit.objects, files, progress=progress)
    except (IntegrityError, StorageError) as error:
        if not note_failure(site, copy, error):
            return None
        seconds = site.clock.monotonic_seconds() - started
        failure = Failure.of(error)
        return VerifyResult(slide=row.slide, name=row.name, tier=copy.tier, ok=False, seconds=seconds, error=failure)
    now = site.clock.now()
    read = {"bytes_read": verdict.bytes_read, "objects": verdict.objects}
    detail = {"tier": copy.tier, "attempt": copy.attempt, "evidence": str(copy.evidence), **read}
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


def _can_be_read(site: Site, copy: CopyRow) -> bool:
    """Say whether an archived copy can be read now, once its tier has said that it is what it was.

    Raises
    ------
    IntegrityError
        If it is not.
    ObjectArchivedError
        If the copy failed its last verification: only reading it can acquit it.

    """
    waiting = look_at_frozen(site, copy)
    if waiting is not None and copy.state is CopyState.SUSPECT:
        msg = f"{waiting.key} in tier {copy.tier} cannot be read now, and the copy failed its last verification."
        raise ObjectArchivedError(msg, remedy="Recall the slide, then verify it.")
    return waiting is None


def _seen(site: Site, row: SlideRow, copy: CopyRow, started: float) -> VerifyResult:
    return VerifyResult(
        slide=row.slide,
        name=row.name,
        tier=copy.tier,
        ok=True,
        verified_at=copy.verified_at,
        seen_at=seen(site, copy),
        seconds=site.clock.monotonic_seconds() - started,
    )
