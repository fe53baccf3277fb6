"""What a pass over the shares reports: a row for each slide or file, counts, and what is wrong with a share."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class IntakeStatus(StrEnum):
    """What became of a slide or a file on a share."""

    INGESTED = "ingested"
    """This pass has taken it in."""
    KEPT = "kept"
    """It was taken in earlier; the reason says why the original is still there."""
    RELEASED = "released"
    """This pass has deleted the original, or moved it: its slide is safely kept."""
    WAITING = "waiting"
    REFUSED = "refused"
    FOREIGN = "foreign"
    METADATA = "metadata"
    VANISHED = "vanished"
    """It went away before it was taken in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRow:
    """A slide on a share, or a file that is none."""

    share: str
    path: str
    """Of its main file or folder, relative to the share."""
    status: IntakeStatus
    reason: str = ""
    """Why it waits, was refused, or stays."""
    error: str = ""
    """The kind of the error, where there is one."""
    since: str
    """Of what waits: when the first of it was seen; of the others: since when they are what they are."""
    slide: str | None = None
    version: int | None = None
    files: int = 1
    bytes_source: int = 0

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        return asdict(self)


@dataclass(slots=True, kw_only=True)
class IntakeReport:
    """What one pass did with one share."""

    share: str
    path: str
    rows: list[IntakeRow] = field(default_factory=list)
    """All that is on the share; what was ingested, released or has vanished first."""
    problem: str = ""
    """Why the share could not be looked at, or the pass ended early; else empty."""
    error: str = ""
    """Its kind."""
    exit_code: int = 0
    """What the error means for who called; 0 where there is none."""
    busy: bool = False
    """Whether another pass is at work on this share: then this one did nothing."""
    remarks: list[str] = field(default_factory=list)
    """Folders that could not be listed, metadata that speak of no slide."""
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are of each status."""
        found = Counter(str(row.status) for row in self.rows)
        return {str(status): found[str(status)] for status in IntakeStatus}

    def to_json(self) -> Json:
        """Return the documented JSON object, without the rows."""
        return {
            "share": self.share,
            "path": self.path,
            "counts": self.counts,
            "busy": self.busy,
            "error": {"kind": self.error, "message": self.problem} if self.problem else None,
            "remarks": self.remarks,
            "seconds": round(self.seconds, 3),
        }
