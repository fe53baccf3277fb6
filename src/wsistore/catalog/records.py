"""What goes into the catalogue and what comes out: frozen values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from wsistore.model import CopyState, Evidence, FileRecord, Mode, Preset


class SourceState(StrEnum):
    """Where a version of a slide's source is in its life."""

    CLAIMED = "claimed"
    """Its copy is verified, its commit object is about to be written. Not shown to anybody yet."""
    REPAIRING = "repairing"
    """As claimed, with the content of the current version, of which no good copy is left."""
    CURRENT = "current"
    SUPERSEDED = "superseded"
    DELETING = "deleting"
    """The slide is being deleted for good, with all its versions. Not shown to anybody any more."""
    DELETED = "deleted"
    """Nothing of the slide lies in any tier any more; that it was there, is known."""


class AttemptState(StrEnum):
    """Where the writing of one copy is in its life."""

    WRITING = "writing"
    WRITTEN = "written"
    """All objects are there; none has been read back yet."""
    VERIFIED = "verified"
    CLAIMED = "claimed"
    DROPPING = "dropping"
    """Of a move: its copy is committed, the drop of the copy that it was made from has not begun yet."""
    COMMITTED = "committed"
    ABANDONED = "abandoned"
    """Given up; its objects may still lie on the tier. `forget_attempt` follows when they are gone."""


class AttemptKind(StrEnum):
    """What a copy is written for."""

    INGEST = "ingest"
    """A new version of a slide's source comes in."""
    REENCODE = "reencode"
    """A copy is to take the place of another in its tier, encoded in another way."""
    MOVE = "move"
    """A copy is made of one in another tier; which is dropped afterwards, if it is a move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRecord:
    """What an ingest knows of a slide."""

    slide: str
    """Random key."""
    name: str
    """Shown to people: the name of the source's file or folder."""
    format: str
    mode: Mode
    width: int
    """Of level 0, in pixels."""
    height: int
    bytes_source: int
    series: str | None = None
    um_per_px: tuple[float, float] | None = None
    """Height and width of a pixel of level 0, in micrometres."""
    magnification: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What the site says of it: ``case_id``, ``patient_id``, ``block``, ``stain`` and whatever else it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRow(SlideRecord):
    """A slide as the catalogue knows it."""

    created_at: str
    """ISO 8601, UTC, as all moments here."""
    version: int
    """Number of the current version of its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """One version of a slide's source."""

    n: int
    """Number of the version, from 1."""
    files: tuple[FileRecord, ...]
    path: str
    """Where it was ingested from, as given."""

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow(SourceRecord):
    """A version of a source as the catalogue knows it."""

    slide: str
    fingerprint: str
    state: SourceState
    attempt: str
    """The attempt that brought it."""
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRecord:
    """One verified copy; everything that is needed to finish its commit after a crash."""

    tier: str
    n: int
    """Number in the commit object's key: counts the commits of a slide in a tier from 1."""
    preset: Preset
    bytes_stored: int
    objects: int
    evidence: Evidence
    verified_at: str
    commit_key: str
    commit_body: str
    """The commit object's content, to the byte (UTF-8)."""
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """What could not be encoded as the preset wants, counted by reason."""
    encoding: Mapping[str, Any] = field(default_factory=dict)
    """The preset's settings (JSON values); empty where it keeps tiles as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRow(CopyRecord):
    """A copy as the catalogue knows it."""

    attempt: str
    """The attempt that wrote it; names the copy."""
    slide: str
    version: int
    """The version of the source that it is a copy of."""
    state: CopyState
    seen_at: str | None = None
    """Of a copy in an archive: when the tier last said that it is as it was when it was read back."""
    expires_at: str | None = None
    """Of a temporary copy: when it may go. None for one that stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The writing of one copy."""

    attempt: str
    slide: str
    tier: str
    state: AttemptState
    owner: str
    """See `wsistore.catalog.owner`."""
    lease_until: str
    started_at: str
    fingerprint: str | None
    error: str
    """Why it was abandoned; else empty."""
    kind: AttemptKind = AttemptKind.INGEST
    job: Mapping[str, Any] = field(default_factory=dict)
    """Of a re-encoding or a move, what it does (JSON values): ``source``, the attempt of the copy that is read; the
    encoding; of a move ``drop``, the attempts of the copies that go when it is done. From its claim on also
    ``figures``: what its event tells."""
    fence: int = 0
    """Of a re-encoding or a move: a number that grows with every attempt at the slide's copies, and with every change
    of an attempt's owner. Who comes with a smaller one was taken for dead, and may do nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRule:
    """What has to remain where a copy is dropped."""

    required: int
    """In how many tiers a good copy must remain at least."""
    fresh_from: str
    """A copy counts if it was read back from this moment on, …"""
    fresh_until: str
    """… and not after this one, as after a jump of the clock."""
    via: str = ""
    """The copy (by its attempt) that comes in the place of the one that is dropped, and must be among them; …"""
    via_from: str = ""
    """… read back from this moment on."""
    attested: Mapping[str, str] = field(default_factory=dict)
    """Tiers whose archived copies count, if they were read back from the moment on that is named, and the tier was
    asked about them from `fresh_from` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Why a copy could be dropped."""

    copies: tuple[CopyRow, ...]
    """Those that remain and are cited, as they were when it was decided."""
    rule: DropRule

    @property
    def attempts(self) -> list[str]:
        """Names of the cited copies."""
        return sorted(copy.attempt for copy in self.copies)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "required": self.rule.required,
            "fresh_from": self.rule.fresh_from,
            "copies": [
                {
                    "attempt": copy.attempt,
                    "tier": copy.tier,
                    "evidence": str(copy.evidence),
                    "verified_at": copy.verified_at,
                    **({"seen_at": copy.seen_at} if copy.seen_at else {}),
                    "commit": copy.commit_key,
                    "commit_sha256": hashlib.sha256(copy.commit_body.encode()).hexdigest(),
                }
                for copy in self.copies
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A reason why nothing of a slide may be dropped."""

    slide: str
    reason: str
    actor: str
    placed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierRecord:
    """A tier's identity."""

    name: str
    id: str
    url: str


def slide_values(record: SlideRecord) -> dict[str, Any]:
    """Return the columns of ``slides`` that a new version of a source may change."""
    um_y, um_x = record.um_per_px or (None, None)
    return {
        "name": record.name,
        "format": record.format,
        "mode": str(record.mode),
        "series": record.series,
        "width": record.width,
        "height": record.height,
        "um_per_px_y": um_y,
        "um_per_px_x": um_x,
        "magnification": record.magnification,
        "bytes_source": record.bytes_source,
    }
