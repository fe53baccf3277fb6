"""Taking a slide in: written, read back, verified, committed; or nothing of it stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from wsistore import __version__
from wsistore.catalog.claims import AlreadyClaimed, NumberTaken, SeriesClaimed
from wsistore.catalog.records import Attempt, CopyRecord, CopyRow, SlideRecord, SourceRecord
from wsistore.catalog.reencodes import COPIES
from wsistore.clock import iso
from wsistore.compress.head_start import HeadStart
from wsistore.compress.keys import Place
from wsistore.compress.source_bytes import SourceBytes
from wsistore.compress.verify import verify_copy
from wsistore.compress.writer import Draft, write_slide
from wsistore.errors import BrokenError, ConflictError, IncompleteError, MissingError, WsistoreError
from wsistore.events import EventKind, NewEvent
from wsistore.model import Evidence, FileRecord, Preset, fingerprint, random_key
from wsistore.ops.adopting import copy_record, next_number
from wsistore.ops.attempts import LEASE, finish, give_up, give_up_own
from wsistore.ops.pulse import Pulse
from wsistore.ops.results import IngestResult, IngestStatus
from wsistore.ops.room import Room
from wsistore.ops.site import Site
from wsistore.ops.sources import RescanError, checker_of, naming, open_at_rest
from wsistore.ops.stored import sound_copy
from wsistore.slides.base import Source
from wsistore.tiers.commits import Commit

Progress = Callable[[str, int, int, str], None]
"""Gets the phase (``write``, ``verify``), the source bytes just dealt with, the source's size, and its path."""

_TURNS = 4
"""How often a source is begun anew, because it must be scanned whole or its series came in meanwhile."""
_WAIT_SECONDS = 0.2
_WAIT_TURNS = 300
"""How long to wait for another process that is committing the same content: a minute."""

_log = logging.getLogger(__name__)


def ingest_one(
    site: Site,
    path: Path,
    *,
    tier: str,
    metadata: Mapping[str, str] | None = None,
    progress: Progress = lambda *_: None,
) -> IngestResult:
    """Take one slide in.

    Parameters
    ----------
    site
        An open site.
    path
        A vendor's file, or a folder of DICOM instances.
    tier
        Name of the tier that it goes to.
    metadata
        What the site says of it, by name: ``case_id``, ``patient_id``, ``block``, ``stain``, …
    progress
        See `Progress`. What it raises ends the ingest, which leaves nothing behind.

    Raises
    ------
    InputError
        If the source cannot be kept, or `metadata` contradicts what is known.
    ConflictError
        If the source is being written or changed, or another process is at the same content for too long.
    SiteError
        If the tier takes no new copies (`Kind.TIER_CLOSED`).
    StorageError
        If the tier fails, or would hold more than its capacity (`Kind.CAPACITY_EXCEEDED`).
    IntegrityError
        If what was read back was not what had been written. In every case nothing of the slide is visible, and what
        was written is removed, now or by the next recovery.

    """
    started = site.clock.monotonic_seconds()
    scan_all = False
    for _ in range(_TURNS):
        try:
            with HeadStart(path) as ahead, Room(site, tier) as room:
                source = open_at_rest(path, scan_all=scan_all)
                result = _take_in(site, path, source, ahead, room, tier, metadata or {}, progress)
            result = replace(result, warnings=(*result.warnings, *room.warnings))
            return replace(result, seconds=site.clock.monotonic_seconds() - started)
        except RescanError as found:
            if scan_all:
                msg = f"{found.where} carries what it did not when the file was scanned: it was changed, or is damaged."
                raise BrokenError(msg, remedy="Copy the file again from the scanner, and run again.") from None
            scan_all = True
        except SeriesClaimed as claimed:
            _wait_until_through(site, claimed)
    msg = f"Other processes are taking in the series of {path}."
    raise ConflictError(msg, remedy="Run again when they have ended.")


def _take_in(
    site: Site,
    path: Path,
    source: Source,
    ahead: HeadStart,
    room: Room,
    tier: str,
    metadata: Mapping[str, str],
    progress: Progress,
) -> IngestResult:
    storage = site.tier(tier)
    size = sum(file.size_bytes for file in source.files)
    known = _hash_if_likely_known(site, source, size, ahead)
    if known is not None:
        found = site.catalog.find_current(fingerprint(known))
        if found is not None:
            copy = sound_copy(site, found.slide)
            if copy is not None:
                return _exists(site, path, copy, metadata)
            _log.warning("slide %s has no good copy left; %s is taken in anew", found.slide, path)
    slide, version = _identity(site, path, source, known)
    room.take(str(path), size)
    attempt = site.catalog.begin_attempt(slide, tier, site.owner, site.clock.now() + LEASE)
    pulse = Pulse(site, attempt, lambda phase, done: progress(phase, done, size, str(path)))
    try:
        with naming(path, source):
            draft = write_slide(
                source,
                storage,
                Place(slide, attempt.attempt),
                history=[_history(site)],
                check=lambda level: checker_of(source, level),
                progress=lambda done: pulse("write", done),
                ahead=ahead,
            )
        verify_copy(
            storage,
            draft.place,
            draft.objects,
            draft.files,
            progress=lambda done: pulse("verify", done),
        )
        return _commit(site, path, source, attempt, draft, version, metadata)
    except BaseException as error:
        reason = error.message if isinstance(error, WsistoreError) else repr(error)
        _give_up_quietly(site, attempt, reason)
        raise


def _give_up_quietly(site: Site, attempt: Attempt, reason: str) -> None:
    """Clean up without hiding the error that is on its way; a later recovery does what fails now."""
    try:
        give_up_own(site, attempt, reason)
    except WsistoreError as error:
        _log.warning("attempt %s is left for the next recovery: %s", attempt.attempt, error)


def _history(site: Site) -> dict[str, str]:
    return {
        "at": iso(site.clock.now()),
        "action": "ingested",
        "preset": str(Preset.KEEP),
        "software": f"wsistore {__version__}",
    }


def _hash_if_likely_known(site: Site, source: Source, size: int, ahead: HeadStart) -> tuple[FileRecord, ...] | None:
    """Hash the source first where the catalogue has one of its size or series: then it is likely to be known."""
    in_series = source.series is not None and site.catalog.current_of_series(source.series)
    if not in_series and not site.catalog.has_source_of_size(size):
        return None
    with SourceBytes(source.files, ahead) as files:
        records = files.hash_files(lambda _: None)
        files.check_unchanged()
    return records


def _identity(site: Site, path: Path, source: Source, known: tuple[FileRecord, ...] | None) -> tuple[str, int]:
    """Return the slide's key and the number of the version.

    A new slide; or the next version of one that grew, or that has this content and no good copy of it.

    Raises
    ------
    IncompleteError
        If the catalogue has the same series with instances that are missing here.

    """
    if known is None:
        return random_key(), 1
    same = site.catalog.find_current(fingerprint(known))
    if same is not None:
        return same.slide, same.version + 1
    if source.series is None:
        return random_key(), 1
    here = {record.sha256 for record in known}
    for slide, version in site.catalog.current_of_series(source.series):
        before = {record.sha256: record.name for record in version.files}
        if before.keys() < here:
            return slide.slide, version.n + 1
        missing = [name for sha256, name in before.items() if sha256 not in here]
        if here & before.keys() and missing:
            msg = f"{path} lacks {len(missing)} of the instances that slide {slide.slide} was ingested with: "
            msg += ", ".join(sorted(missing)[:5]) + "."
            raise IncompleteError(msg, remedy="Complete the folder, or leave the slide as it is: it has them all.")
    return random_key(), 1


def _commit(
    site: Site,
    path: Path,
    source: Source,
    attempt: Attempt,
    draft: Draft,
    version: int,
    metadata: Mapping[str, str],
) -> IngestResult:
    content, before = fingerprint(draft.files), version - 1 if version > 1 else None
    try:
        copy = _claim(site, path, source, attempt, draft, version, metadata)
    except SeriesClaimed as claimed:
        give_up_own(site, attempt, f"slide {claimed.slide} has instances of the same series")
        raise
    except AlreadyClaimed as claimed:
        give_up_own(site, attempt, f"slide {claimed.slide} has the same content")
        found = sound_copy(site, _wait_for(site, path, content, claimed))
        if found is None:
            msg = f"Another process just failed to commit the content of {path}, of which no good copy is left."
            raise ConflictError(msg, remedy="Run again.") from claimed
        return _exists(site, path, found, metadata)
    if not finish(site, attempt):
        give_up(site, site.catalog.attempt(attempt.attempt), "another attempt's commit stands in its place")
        msg = f"Version {version} of slide {attempt.slide} was committed by another site's catalogue."
        raise ConflictError(msg, remedy="Check that no other site uses this tier.")
    return IngestResult(
        slide=attempt.slide,
        source=str(path),
        status=IngestStatus.INGESTED,
        mode=source.mode,
        bytes_source=sum(file.size_bytes for file in draft.files),
        bytes_stored=copy.bytes_stored,
        objects=copy.objects,
        preset=copy.preset,
        verified_at=copy.verified_at,
        tier=attempt.tier,
        warnings=(*source.warnings, *((source.mode_reason,) if source.mode_reason else ())),
        supersedes=before,
    )


def _claim(
    site: Site,
    path: Path,
    source: Source,
    attempt: Attempt,
    draft: Draft,
    version: int,
    metadata: Mapping[str, str],
) -> CopyRecord:
    """Claim the content; another copy of the slide that is just being committed is waited for."""
    for _ in range(_WAIT_TURNS):
        commit = _commit_of(site, source, attempt, draft, version, next_number(site, attempt))
        copy = copy_record(attempt.tier, commit)
        try:
            site.catalog.claim(
                attempt.attempt,
                fingerprint=commit.fingerprint,
                slide=_slide_record(path, source, attempt.slide, commit.bytes_source, metadata),
                source=SourceRecord(n=version, files=draft.files, path=str(path)),
                copy=copy,
                supersedes=version - 1 or None,
            )
        except NumberTaken:
            continue
        except AlreadyClaimed as claimed:
            if not _is_copy(site, claimed):
                raise
            site.clock.sleep(_WAIT_SECONDS)
        else:
            return copy
    msg = f"Copies of slide {attempt.slide} are being re-encoded all the time."
    raise ConflictError(msg, remedy="Run again when that has ended.")


def _is_copy(site: Site, claimed: AlreadyClaimed) -> bool:
    try:
        return site.catalog.attempt(claimed.attempt).kind in COPIES
    except MissingError:
        return False


def _commit_of(site: Site, source: Source, attempt: Attempt, draft: Draft, version: int, number: int) -> Commit:
    return Commit(
        slide=attempt.slide,
        number=number,
        version=version,
        attempt=attempt.attempt,
        mode=source.mode,
        preset=Preset.KEEP,
        fingerprint=fingerprint(draft.files),
        bytes_source=sum(file.size_bytes for file in draft.files),
        evidence=Evidence.READ_BACK,
        verified_at=iso(site.clock.now()),
        objects=draft.objects,
    )


def _slide_record(path: Path, source: Source, slide: str, size: int, metadata: Mapping[str, str]) -> SlideRecord:
    first = source.levels[0] if source.levels else None
    return SlideRecord(
        slide=slide,
        name=path.resolve().name,
        format=source.format,
        mode=source.mode,
        width=first.width if first else 0,
        height=first.height if first else 0,
        bytes_source=size,
        series=source.series,
        um_per_px=source.um_per_px,
        magnification=source.magnification,
        metadata=dict(metadata),
    )


def _wait_for(site: Site, path: Path, content: str, claimed: AlreadyClaimed) -> str:
    """Wait until the attempt that claimed the same content is through; return its slide.

    Raises
    ------
    ConflictError
        If that takes too long, or that attempt came to nothing, or was of another version of the slide.

    """
    # While it is open, what is current may be what it is to repair.
    if _wait_until_through(site, claimed):
        found = site.catalog.find_current(content)
        if found is not None:
            return found.slide
    msg = f"Another process was just committing the content of {path}, or another version of it."
    raise ConflictError(msg, remedy="Run again: if it died, its work is finished or undone then.")


def _wait_until_through(site: Site, claimed: AlreadyClaimed) -> bool:
    """Wait until a claim is no longer open: it has become current then, or never will; say whether that came to be."""
    for _ in range(_WAIT_TURNS):
        if not any(attempt.attempt == claimed.attempt for attempt in site.catalog.open_attempts()):
            return True
        site.clock.sleep(_WAIT_SECONDS)
    return False


def _exists(site: Site, path: Path, copy: CopyRow, metadata: Mapping[str, str]) -> IngestResult:
    """Report a slide that is there already; what the site says of it is brought up to date."""
    slide = copy.slide
    if metadata:
        changed = NewEvent(EventKind.METADATA_CHANGED, site.actor, {"columns": sorted(metadata)})
        site.catalog.put_metadata({slide: dict(metadata)}, changed)
    row = site.catalog.slide(slide)
    return IngestResult(
        slide=slide,
        source=str(path),
        status=IngestStatus.EXISTS,
        mode=row.mode,
        bytes_source=row.bytes_source,
        bytes_stored=copy.bytes_stored,
        objects=copy.objects,
        preset=copy.preset,
        verified_at=copy.verified_at,
        tier=copy.tier,
    )
