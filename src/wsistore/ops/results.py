"""What operations report: plain values that become tables for people and JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from wsistore.errors import WsistoreError
from wsistore.model import Mode

Json = dict[str, Any]


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

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self)
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["seconds"] = round(self.seconds, 3)
        return document
