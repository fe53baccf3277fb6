"""Attempts whose commit is on the tier though the catalogue knows of none: they become what they are, copies.

So it is after the catalogue was put back from a backup that was made while the attempt was under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsistore.catalog.records import Attempt, AttemptKind, CopyRecord, SlideRecord, SourceRecord
from wsistore.catalog.reencodes import COPIES
from wsistore.compress.archive import open_stored
from wsistore.compress.companion import Companion
from wsistore.compress.keys import Place
from wsistore.errors import IntegrityError
from wsistore.events import EventKind, NewEvent
from wsistore.model import Preset
from wsistore.ops.drop_rules import drop_rule
from wsistore.ops.site import Site
from wsistore.storage.base import Storage
from wsistore.tiers import commits
from wsistore.tiers.commits import Commit, encode


def find_commit(site: Site, tier: str, place: Place, there: Sequence[str] | None = None) -> Commit | None:
    """Return the commit that names an attempt, if there is one on the tier.

    Parameters
    ----------
    site, tier, place
        The attempt.
    there
        The keys of the slide's commits on the tier, if they were just listed.

    Raises
    ------
    StorageError, IntegrityError
        If that cannot be told: a commit of the slide that the catalogue does not know cannot be read.

    """
    storage = site.tier(tier)
    keys = list(commits.find(storage, place.slide)) if there is None else there
    if not keys:
        return None
    copies = site.catalog.copies(place.slide, with_past=True)
    # The same key in another tier is another commit.
    known = {copy.commit_key for copy in copies if copy.tier == tier and copy.attempt != place.attempt}
    for key in keys:
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
    companion = open_stored(storage, commit.place, packed=commit.preset is Preset.PACK).companion
    if (commit.slide, companion.fingerprint) != (seen.slide, commit.fingerprint):
        msg = f"{commit.key} in {storage.url} is of another content than the companion of attempt {commit.attempt}."
        raise IntegrityError(msg, remedy="Find out who wrote there.")
    encoding, fallbacks = encoding_of(companion)
    copy = copy_record(seen.tier, commit, encoding=encoding, fallbacks=fallbacks)
    detail = {**copy_detail(copy, commit.version), "source": commit.fingerprint, "adopted": True}
    if seen.kind in COPIES:
        kind = EventKind.REENCODED if seen.kind is AttemptKind.REENCODE else EventKind.COPIED
        site.catalog.adopt_reencode(
            seen,
            fingerprint=commit.fingerprint,
            version=commit.version,
            copy=copy,
            event=NewEvent(kind, site.actor, detail),
            rule=drop_rule(site, {other.tier for other in site.catalog.to_drop(seen)}, via=seen.attempt),
        )
        return
    site.catalog.adopt(
        seen,
        slide=slide_record(commit, companion),
        source=SourceRecord(n=commit.version, files=companion.files, path=""),
        copy=copy,
        event=NewEvent(EventKind.INGESTED, site.actor, detail),
    )


def next_number(site: Site, attempt: Attempt) -> int:
    """Return the number of the commit that an attempt is to write: higher than all that its slide had in the tier."""
    there = commits.next_number(site.tier(attempt.tier), attempt.slide)
    return max(there, site.catalog.last_number(attempt.slide, attempt.tier) + 1)


def copy_record(
    tier: str,
    commit: Commit,
    *,
    encoding: Mapping[str, Any] | None = None,
    fallbacks: Mapping[str, int] | None = None,
) -> CopyRecord:
    """Return what the catalogue keeps of a copy, from its commit and what is known of its encoding."""
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
        fallbacks=dict(fallbacks or {}),
        encoding=dict(encoding or {}),
    )


def encoding_of(companion: Companion) -> tuple[Mapping[str, Any], Mapping[str, int]]:
    """Return the settings and the fallbacks of a copy's encoding, from the last entry of its history."""
    last = companion.history[-1] if companion.history else {}
    encoding, fallbacks = last.get("encoding"), last.get("fallbacks")
    return (
        encoding if isinstance(encoding, dict) else {},
        {str(key): n for key, n in fallbacks.items() if isinstance(n, int)} if isinstance(fallbacks, dict) else {},
    )


def copy_detail(copy: CopyRecord, version: int) -> dict[str, Any]:
    """Return what the event of an ingest says of its copy."""
    return {
        "tier": copy.tier,
        "preset": str(copy.preset),
        "version": version,
        "commit": copy.commit_key,
        "bytes_stored": copy.bytes_stored,
        "objects": copy.objects,
        "evidence": str(copy.evidence),
        "verified_at": copy.verified_at,
    }


def slide_record(commit: Commit, companion: Companion) -> SlideRecord:
    """Return what commit and companion tell of a slide."""
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
