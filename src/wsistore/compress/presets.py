"""Presets: what the tiles of a copy are encoded to, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass

from wsistore.model import Preset
from wsistore.units import MIB


@dataclass(frozen=True, slots=True)
class Encoding:
    """All that decides the bytes of a copy, given its source."""

    preset: Preset
    fold_height: int = 1
    """JPEG tiles per chunk."""
    candidate: str = "auto"
    """For tiles that are not JPEG: name of what they are recoded to; ``auto`` takes the smallest of all for each
    level, measured on a sample; ``source`` leaves them as they are."""
    packed: bool = False
    """Whether store and companion are one zip each."""


ENCODINGS = {
    Preset.KEEP: Encoding(Preset.KEEP, candidate="source"),
    Preset.FOLD: Encoding(Preset.FOLD, fold_height=8),
    Preset.PACK: Encoding(Preset.PACK, fold_height=64, packed=True),
}
"""What a preset means where no tuned profile says otherwise."""

MOST_FOLD_HEIGHT = 256
"""Tiles; more bring nothing, and make reading one of them expensive."""
LEAST_SHARD_BYTES, MOST_SHARD_BYTES = 4 * MIB, 32 * MIB
"""Stored bytes of a shard of the presets `fold` and `pack`: a small slide has enough shards to keep all cores busy."""
