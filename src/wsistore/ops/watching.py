"""How whoever asked for a re-encoding is told how it goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is about to be done to one copy."""

    slide: str
    name: str
    """Of the slide, for people."""
    tier: str
    preset: str
    shards: int
    bytes_stored: int
    """Of the tiles to be read."""
    bytes_source: int
    """Of the files to be rebuilt when the new copy is verified."""
    memory_bound_bytes: int
    """What one worker may need at most."""
    workers: int
    where: str
    """Where they are, for people."""


class Watcher:
    """Is told how a re-encoding goes, in this order, slide by slide. This one does nothing with it."""

    def waiting(self, what: str) -> None:
        """Get a sentence when there is something to wait for."""

    def planned(self, plan: Planned) -> None:
        """Get what is about to be done, before the first shard."""

    def encoded(self, bytes_read: int, bytes_written: int) -> None:
        """Get the stored bytes of tiles just read, and what they have become."""

    def verified(self, bytes_rebuilt: int) -> None:
        """Get the bytes of the source just rebuilt from the new copy."""
