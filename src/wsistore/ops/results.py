"""What operations report: plain values that become tables for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from wsistore.errors import Kind, WsistoreError
from wsistore.model import Mode, Preset

Json = dict[str, Any]

HOPELESS = frozenset({Kind.STORAGE_FULL, Kind.STORAGE_DENIED, Kind.TIER_MISSING, Kind.SITE_READ_ONLY})
"""What stops a whole run: the next slide would fail for the same reason."""


class IngestStatus(StrEnum):
    """How an ingest ended."""

    INGESTED = "ingested"
    EXISTS = "exists"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a value."""

    kind: str
    message: str
    exit_code: int

    @classmethod
    def of(cls, error: WsistoreError) -> Failure:
        """Describe an error."""
        return cls(str(error.kind), str(error), error.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """What became of one source."""

    slide: str | None
    """Key of the slide; None if it failed."""
    source: str
    """Path as given."""
    status: IngestStatus
    mode: Mode | None = None
    bytes_source: int | None = None
    bytes_stored: int | None = None
    """Bytes of the copy in its tier, its commit included."""
    objects: int | None = None
    preset: Preset | None = None
    """How the copy is encoded."""
    verified_at: str | None = None
    seconds: float = 0.0
    error: Failure | None = None
    tier: str | None = None
    warnings: tuple[str, ...] = ()
    supersedes: int | None = None
    """Number of the slide's earlier version that this one replaces."""

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self)
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["seconds"] = round(self.seconds, 3)
        document["warnings"] = list(self.warnings)
        return document


class ReencodeStatus(StrEnum):
    """How a re-encoding ended."""

    REENCODED = "reencoded"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReencodeResult:
    """What became of one slide's copy in a tier."""

    slide: str
    """Key of the slide; what was asked for, if there is no such slide."""
    status: ReencodeStatus
    tier: str | None = None
    preset_before: Preset | None = None
    preset: Preset | None = None
    fold_height: int | None = None
    bytes_before: int | None = None
    """Bytes of the copy that was replaced, its commit included."""
    bytes_after: int | None = None
    bytes_source: int | None = None
    shards: int = 0
    shards_resumed: int = 0
    """Those that an interrupted run had written."""
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """Tiles that could not be encoded as the preset wants, counted by reason."""
    cpu_seconds: float = 0.0
    """Of all workers, those of interrupted runs included as far as their shards are used."""
    seconds: float = 0.0
    workers: int = 0
    memory_bound_bytes: int = 0
    """What one worker could need at most, as computed before the run."""
    peak_worker_bytes: int = 0
    """The most that one needed."""
    reason: str = ""
    """Why nothing was to be done."""
    error: Failure | None = None

    @property
    def ratio(self) -> float | None:
        """Bytes after by bytes before."""
        return self.bytes_after / self.bytes_before if self.bytes_before and self.bytes_after is not None else None

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self)
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["ratio"] = None if self.ratio is None else round(self.ratio, 4)
        document["seconds"] = round(self.seconds, 3)
        document["cpu_seconds"] = round(self.cpu_seconds, 3)
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What a verification of one copy found."""

    slide: str
    name: str
    tier: str
    ok: bool
    bytes_read: int = 0
    objects: int = 0
    verified_at: str | None = None
    seconds: float = 0.0
    error: Failure | None = None
    seen_at: str | None = None
    """Of a copy in an archive, which was not read: when its tier said that it is as it was at `verified_at`."""

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self)
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["seconds"] = round(self.seconds, 3)
        return document
