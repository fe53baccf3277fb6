"""What was used, by what it is told apart by: whole numbers, so that sums are exact in whatever order they are made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import NamedTuple


class What(StrEnum):
    """What is charged for. Members are added, never renamed."""

    STORAGE = "storage"
    OVERHEAD = "object-overhead"
    """What archive classes keep of each object in the service's standard class."""
    WRITES = "write-requests"
    READS = "read-requests"
    EGRESS = "egress"
    """Bytes that were read: the tier's fee for reading and the network's."""
    RETRIEVAL = "retrieval"
    """Bytes asked back from an archive."""
    EARLY = "early-deletion"
    ENCODING = "encoding"
    IDLE = "idle-capacity"
    """Of own hardware: bought, and not used."""


class Group(NamedTuple):
    """What usage is told apart by."""

    tier: str
    preset: str
    """Nothing: not known, or of no preset."""
    department: str | None
    estimated: bool
    """Whether an event of a begin or an end is lost."""
    rule: str = ""
    """The placement rule that wanted the copy there; nothing: people did, or it is not known."""


@dataclass(slots=True)
class Usage:
    """Of one group in one month; whole numbers, so that sums are exact in any order."""

    byte_us: int = 0
    """Stored bytes times microseconds."""
    logical_byte_us: int = 0
    """The same of the vendor's files that the copies stand for."""
    object_us: int = 0
    copy_us: int = 0
    early_byte_us: int = 0
    """Of copies that went before their tier's least time: bytes times what was left."""
    copies_made: int = 0
    puts: int = 0
    gets: int = 0
    bytes_written: int = 0
    bytes_read: int = 0
    cpu_us: int = 0
    """CPU microseconds of encoding."""
    restored: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Asked for from an archive: bytes and objects by the way they come back."""

    def add(self, other: Usage) -> None:
        """Add another one's figures to these."""
        for one in fields(self):
            if one.name != "restored":
                setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        for way, (size, objects) in other.restored.items():
            mine = self.restored.get(way, (0, 0))
            self.restored[way] = (mine[0] + size, mine[1] + objects)


Metered = dict[Group, Usage]
"""Of one month."""
