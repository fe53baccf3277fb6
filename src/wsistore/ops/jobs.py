"""What is to be made of a slide's copy, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from wsistore.catalog.records import AttemptKind, CopyRow
from wsistore.catalog.reencodes import DROP, EXPIRES
from wsistore.compress.presets import Encoding
from wsistore.compress.shard_task import ShardNote
from wsistore.model import Preset
from wsistore.ops.encodings import settings_of
from wsistore.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Job:
    """A copy to be made of another one."""

    slide: str
    tier: str
    """Where the new copy goes."""
    encoding: Encoding
    before: CopyRow | None
    """The copy that the tier has, which is replaced."""
    source: CopyRow
    """The copy that is read."""
    started: float
    """When the run began, by the monotonic clock."""
    kind: AttemptKind = AttemptKind.REENCODE
    drops: tuple[str, ...] = ()
    """The copies (by attempt) that are dropped when the new one is committed."""
    expires_at: str | None = None
    """Of a temporary copy: when it may go."""
    pieces: Storage | None = None
    """Where the copy that is read lies, if not in its tier alone: it is pieced together (`wsistore.ops.piecing`)."""
    rule: str = ""
    """The placement rule that wants it; nothing: people do."""

    @property
    def settings(self) -> dict[str, Any]:
        """The encoding's settings."""
        return settings_of(self.encoding)

    @property
    def document(self) -> dict[str, Any]:
        """What two runs that do the same have in common, and what they drop (JSON values)."""
        document: dict[str, Any] = {"source": self.source.attempt, "preset": str(self.encoding.preset), **self.settings}
        if self.expires_at is not None:
            document[EXPIRES] = self.expires_at
        return {**document, DROP: sorted(self.drops)} if self.drops else document

    @property
    def as_it_is(self) -> bool:
        """Whether the new copy is encoded as the one that is read: then its objects are the same bytes."""
        return self.kind is AttemptKind.MOVE and is_encoded(self.source, self.encoding)


def is_encoded(copy: CopyRow, encoding: Encoding) -> bool:
    """Say whether a copy is encoded so."""
    if copy.preset is not encoding.preset:
        return False
    return encoding.preset is Preset.KEEP or dict(copy.encoding) == settings_of(encoding)


@dataclass(slots=True)
class Tally:
    """What the workers did."""

    notes: list[ShardNote] = field(default_factory=list)
    peak_bytes: int = 0
    workers: int = 0

    @property
    def fallbacks(self) -> dict[str, int]:
        """Tiles that could not be encoded as the preset wants, counted by reason."""
        counted: Counter[str] = Counter()
        for note in self.notes:
            counted.update(note.fallbacks)
        return dict(sorted(counted.items()))

    @property
    def cpu_seconds(self) -> float:
        """Of all workers."""
        return sum(note.cpu_seconds for note in self.notes)

    @property
    def resumed(self) -> int:
        """Shards that an earlier run had written."""
        return sum(note.resumed for note in self.notes)


@dataclass(frozen=True, slots=True)
class Made:
    """A copy that was made and committed."""

    attempt: str
    bytes_stored: int
    """Of all its objects, its commit included."""
    bytes_source: int
    objects: int
    verified_at: str
    shards: int
    memory_bytes: int
    """What one worker could need at most, as computed before."""
    tally: Tally
