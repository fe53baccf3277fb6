"""What goes into the catalogue and what comes out: frozen values."""

from __future__ import annotations

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


class AttemptState(StrEnum):
    """Where the writing of one copy is in its life."""

    WRITING = "writing"
    VERIFIED = "verified"
    CLAIMED = "claimed"
    COMMITTED = "committed"
    ABANDONED = "abandoned"
    """Given up; its objects may still lie on the tier. `forget_attempt` follows when they are gone."""


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
    """Number in the commit object's key."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRow(CopyRecord):
    """A copy as the catalogue knows it."""

    attempt: str
    """The attempt that wrote it; names the copy."""
    slide: str
    version: int
    """The version of the source that it is a copy of."""
    state: CopyState


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
