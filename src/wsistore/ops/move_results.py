"""What moves, copies and drops report: plain values that become tables for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from wsistore.model import Preset
from wsistore.ops.early import EarlyEnd
from wsistore.ops.results import Failure

Json = dict[str, Any]


class MoveStatus(StrEnum):
    """How it ended."""

    MOVED = "moved"
    """The tier has a good copy, and the one that it came from is gone."""
    COPIED = "copied"
    """The tier has a new copy; nothing was to be dropped, or what was had to stay, see the reason."""
    DROPPED = "dropped"
    DROPPING = "dropping"
    """The copy counts for nothing any more, but its tier would not delete all of it; `recover` tries again."""
    EXISTS = "exists"
    """The tier had a good copy already, and nothing was to be dropped."""
    UNCHANGED = "unchanged"
    """There is nothing to be dropped."""
    PLANNED = "planned"
    """Only asked what would be done."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    """What became of one slide."""

    slide: str
    status: MoveStatus
    name: str = ""
    source: str | None = None
    """Tier of the copy that was read."""
    tier: str | None = None
    """Tier that it was brought to."""
    dropped: tuple[str, ...] = ()
    """Tiers whose copies are gone, or would be."""
    preset_before: Preset | None = None
    preset: Preset | None = None
    bytes_source: int | None = None
    bytes_before: int | None = None
    """Of the copy that was read, its commit included."""
    bytes_stored: int | None = None
    """Of the copy in `tier`."""
    objects: int | None = None
    verified_at: str | None = None
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """Tiles that could not be encoded as the preset wants, counted by reason."""
    shards: int = 0
    """Encoded anew; 0 where the objects were copied as they are."""
    seconds: float = 0.0
    reason: str = ""
    """Why nothing, or not everything, was done; or what would be."""
    warnings: tuple[str, ...] = ()
    """What the administrator should know of the tier, such as that it is over its high watermark."""
    early: tuple[EarlyEnd, ...] = ()
    """What tiers still bill for copies that went, or would go, before their minimum storage days."""
    error: Failure | None = None

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self)
        document["from"] = document.pop("source")
        document["dropped"] = list(self.dropped)
        document["warnings"] = list(self.warnings)
        document["early"] = [end.to_json() for end in self.early]
        document["error"] = None if self.error is None else {"kind": self.error.kind, "message": self.error.message}
        document["seconds"] = round(self.seconds, 3)
        return document
