"""Attempts whose commit is on the tier though the catalogue knows of none: they become what they are, copies.

So it is after the catalogue was put back from a backup that was made while the attempt was under way.
"""

from __future__ import annotations

from wsistore.catalog.records import Attempt, CopyRecord, SlideRecord, SourceRecord
from wsistore.compress.companion import Companion
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.errors import IntegrityError
from wsistore.events import EventKind, NewEvent
from wsistore.ops.site import Site
from wsistore.storage.base import Storage
from wsistore.tiers import commits
from wsistore.tiers.commits import Commit, encode


def find_commit(site: Site, storage: Storage, place: Place) -> Commit | None:
    """Return the commit that names an attempt, if there is one on its tier.

    Raises
    ------
    StorageError, IntegrityError
        If that cannot be told: a commit of the slide that the catalogue does not know cannot be read.

    """
    known = {copy.commit_key for copy in site.catalog.copies(place.slide) if copy.attempt != place.attempt}
    for key in commits.find(storage, place.slide):
        if key in known:  # another attempt's: it need not be whole to tell that
            continue
        commit = commits.read(storage, key)
        if commit.attempt == place.attempt:
            return commit
    return None


def adopt(site: Site, seen: Attempt, storage: Storage, commit: Commit) -> None:
    """Take what a commit on the tier says, and its companion, into the catalogue, as its ingest would have.

    What the site said of the slide at that ingest is on no tier: it has to be said again.

    Raises
    ------
    ConflictError
        If the attempt is no longer as it was `seen`, or the content, or another version of the slide, is known by
        another attempt.
    StorageError, IntegrityError
        If the companion cannot be read, or is not what the commit says.

    """
    companion = StoredSlide(storage, commit.place).companion
    if (commit.slide, companion.fingerprint) != (seen.slide, commit.fingerprint):
        msg = f"{commit.key} in {storage.url} is of another content than the companion of attempt {commit.attempt}."
        raise IntegrityError(msg, remedy="Find out who wrote there.")
    copy = copy_record(seen.tier, commit)
    detail = {**copy_detail(copy), "source": commit.fingerprint, "adopted": True}
    site.catalog.adopt(
        seen,
        slide=_slide_record(commit, companion),
        source=SourceRecord(n=commit.number, files=companion.files, path=""),
        copy=copy,
        event=NewEvent(EventKind.INGESTED, site.actor, detail),
    )


def copy_record(tier: str, commit: Commit) -> CopyRecord:
    """Return what the catalogue keeps of a copy, from its commit."""
    body = encode(commit)
    return CopyRecord(
        tier=tier,
        n=commit.number,
        preset=commit.preset,
        bytes_stored=commit.bytes_stored + len(body),
        objects=len(commit.objects) + 1,
        evidence=commit.evidence,
        verified_at=commit.verified_at,
        commit_key=commit.key,
        commit_body=body.decode(),
    )


def copy_detail(copy: CopyRecord) -> dict[str, str | int]:
    """Return what the event of an ingest says of its copy."""
    return {
        "tier": copy.tier,
        "version": copy.n,
        "commit": copy.commit_key,
        "bytes_stored": copy.bytes_stored,
        "objects": copy.objects,
        "evidence": str(copy.evidence),
        "verified_at": copy.verified_at,
    }


def _slide_record(commit: Commit, companion: Companion) -> SlideRecord:
    height, width = companion.levels[0] if companion.levels else (0, 0)
    first = companion.files[0].name if companion.files else commit.slide
    return SlideRecord(
        slide=commit.slide,
        # A series was ingested as a folder, whose name is not kept on the tier.
        name=companion.series if companion.series and len(companion.files) > 1 else first,
        format=companion.source_format,
        mode=companion.mode,
        width=width,
        height=height,
        bytes_source=commit.bytes_source,
        series=companion.series,
        um_per_px=companion.um_per_px,
        magnification=companion.magnification,
    )
