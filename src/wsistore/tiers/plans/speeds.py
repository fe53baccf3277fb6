"""How fast copies are made: as this site's own copies went, else as is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wsistore.model import Preset

Json = dict[str, Any]

COPY_BYTES_PER_SECOND = 25e6
"""Assumed of writing, reading back and verifying a copy whose objects stay as they are: slow, for nights are short."""
ENCODE_CPU_SECONDS_PER_GB = 580.0
"""Assumed of folding, per GB of the source, with the check that every encoding makes (docs/tuning.md: 20.6 s for
35.6 MB)."""
UNDO_CPU_SECONDS_PER_GB = 200.0
"""Assumed of undoing folds, per GB that is read (likewise: 7.2 s)."""
DELETE_OBJECTS_PER_SECOND = 50.0
"""Assumed of taking objects away, each of which is named."""
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Rates; those that are not measured are assumed."""

    copying: Mapping[str, float] = field(default_factory=dict)
    """Bytes per second of copies as they are, by the tier that they were written to: measured."""
    encoding: Mapping[str, float] = field(default_factory=dict)
    """Bytes of what was read per second of copies that were encoded on the way, by preset: measured."""
    encoding_cpu: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds per byte of what was read, by preset: measured."""
    samples: int = 0
    """Copies that were looked at."""
    jobs: int = 1
    """Slides or shards that are worked on at once."""

    def copy_rate(self, tier: str) -> float:
        """Return bytes per second of copying as it is to a tier."""
        return self.copying.get(tier) or COPY_BYTES_PER_SECOND

    def cpu_per_byte(self, preset: str) -> float:
        """Return CPU seconds per byte of the source that encoding to a preset takes."""
        assumed = UNDO_CPU_SECONDS_PER_GB if preset == Preset.KEEP else ENCODE_CPU_SECONDS_PER_GB
        return self.encoding_cpu.get(preset) or assumed / _GB

    def encode_rate(self, preset: str) -> float:
        """Return bytes of the source per second of encoding to a preset, with all that a copy needs beside."""
        measured = self.encoding.get(preset)
        return measured or 1.0 / (self.cpu_per_byte(preset) / max(1, self.jobs) + 1.0 / COPY_BYTES_PER_SECOND)

    def to_json(self) -> Json:
        """Return JSON values: what was measured, and what is assumed of all else."""
        return {
            "measured": {
                "copy_bytes_per_second": _rounded(self.copying),
                "encode_bytes_per_second": _rounded(self.encoding),
                "encode_cpu_seconds_per_gb": _rounded({k: v * _GB for k, v in self.encoding_cpu.items()}),
            },
            "assumed": {
                "copy_bytes_per_second": COPY_BYTES_PER_SECOND,
                "encode_cpu_seconds_per_gb": ENCODE_CPU_SECONDS_PER_GB,
                "undo_cpu_seconds_per_gb": UNDO_CPU_SECONDS_PER_GB,
                "delete_objects_per_second": DELETE_OBJECTS_PER_SECOND,
            },
            "samples": self.samples,
            "jobs": self.jobs,
        }


def _rounded(values: Mapping[str, float]) -> Json:
    return {name: round(value, 3) for name, value in sorted(values.items())}
