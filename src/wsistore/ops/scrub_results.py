"""What a scrub reports: plain values that become tables for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from wsistore.ops.results import Failure

Json = dict[str, Any]


class ScrubStatus(StrEnum):
    """What was found of a copy, and what became of it."""

    GOOD = "good"
    REPAIRED = "repaired"
    """It was damaged; a new copy was made of a good one, proven, and took its place."""
    DAMAGED = "damaged"
    """It is damaged and could not be repaired now; the slide has other copies."""
    LOST = "lost"
    """It is damaged, and so are all other copies of its slide."""
    UNREAD = "unread"
    """Its tier does not answer: nothing is known of it."""
    PLANNED = "planned"
    """Only asked what would be read."""


class What(StrEnum):
    """What an inventory finds."""

    MISSING = "missing"
    """An object of a copy is not there."""
    TRUNCATED = "truncated"
    """An object of a copy has another size than was recorded."""
    FOREIGN = "foreign"
    """An object that is none of this site's; it is left alone."""
    ORPHANED = "orphaned"
    """Objects of an attempt that ended, or a commit of a copy that is dropped."""
    DUPLICATE = "duplicate"
    """A copy of a slide's version of which the tier has another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubRow:
    """What a scrub found of one copy."""

    slide: str
    tier: str
    status: ScrubStatus
    attempt: str
    name: str = ""
    bytes_read: int = 0
    objects: int = 0
    deep: bool = False
    """Whether the source was rebuilt and pixels were compared, too."""
    verified_before: str | None = None
    """When it was last found good before."""
    verified_at: str | None = None
    """When it was found good now; of a repaired one, when the new copy was."""
    source: str | None = None
    """Tier of the copy that it was repaired from."""
    seconds: float = 0.0
    reason: str = ""
    error: Failure | None = None
    """What is wrong with it, also where it was repaired."""

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = {"kind": "copy", **asdict(self)}
        document["from"] = document.pop("source")
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["seconds"] = round(self.seconds, 3)
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an inventory found."""

    tier: str
    what: What
    key: str
    """Of the first object; of an orphaned attempt the beginning that its keys share."""
    slide: str | None = None
    attempt: str | None = None
    objects: int = 1
    size_bytes: int = 0
    removed: int = 0
    """Objects that were deleted: only what is orphaned ever is."""
    message: str = ""

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        return {"kind": "finding", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReport:
    """How far the reading of a tier is after a run."""

    tier: str
    archived: bool = False
    """It is listed only, never read."""
    scrub_days: int
    copies: int = 0
    bytes_stored: int = 0
    read: int = 0
    """Copies that this run read."""
    bytes_read: int = 0
    overdue: int = 0
    """Copies that were not read within the period, after this run."""
    oldest: str | None = None
    """When the copy that waits longest was read."""
    round_by: str | None = None
    """When every copy will have been read again, at a run a day."""
    findings: Mapping[str, int] = field(default_factory=dict)
    """How often what was found."""
    seconds: float = 0.0
    """Of the whole run."""
    error: Failure | None = None
    """Why the tier, or the rest of it, was left out."""

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = {"kind": "tier", **asdict(self)}
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["seconds"] = round(self.seconds, 3)
        return document


Result = ScrubRow | Finding | TierReport
