"""How large copies will be that are yet to be made: measured on the copies that there are, else told, else assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsistore.model import Mode, Preset
from wsistore.tiers.plans.flat import Copies, codes_of

Json = dict[str, Any]

PRESETS = tuple(str(preset) for preset in Preset)
LEAST_COPIES = 3
"""That a measured ratio rests on: fewer say more of these slides than of the format."""


class Rest(StrEnum):
    """What an estimate rests on, from the surest to the least sure."""

    FORMAT = "copies-of-format"
    """Copies of this site in the same format and preset."""
    PRESET = "copies-in-preset"
    """Copies of this site in the same preset, of all formats."""
    TUNER = "tuner"
    """The samples that the tuner measured."""
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Ratio:
    """What a copy takes, per byte of its source, and in how many objects."""

    bytes_per_byte: float
    objects: float
    rests_on: Rest
    copies: int = 0
    """How many were measured."""


ASSUMED: Mapping[str, Ratio] = {
    "keep": Ratio(1.0, 40.0, Rest.ASSUMED),
    "fold": Ratio(0.77, 40.0, Rest.ASSUMED),
    "pack": Ratio(0.74, 3.0, Rest.ASSUMED),
}
"""Of slides in tiles, where nothing is measured: the mean of three real slides (docs/tuning.md), and the objects of a
slide of 1 GB."""
_WHOLE = 1.0
"""Of slides that are kept as they are: no preset makes them smaller."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Ratios by mode, format and preset."""

    by_format: Mapping[tuple[str, str, str], Ratio] = field(default_factory=dict)
    by_preset: Mapping[tuple[str, str], Ratio] = field(default_factory=dict)
    tuned: Mapping[str, float] = field(default_factory=dict)
    """Bytes per byte of the source that the tuner's samples have, by preset."""

    def ratio(self, mode: str, source_format: str, preset: str) -> Ratio:
        """Return the surest estimate that there is."""
        found = self.by_format.get((mode, source_format, preset)) or self.by_preset.get((mode, preset))
        if found is not None:
            return found
        assumed = ASSUMED.get(preset, ASSUMED["keep"])
        if mode == Mode.WHOLE:
            return Ratio(_WHOLE, assumed.objects, Rest.ASSUMED)
        if preset in self.tuned:
            return Ratio(self.tuned[preset], assumed.objects, Rest.TUNER)
        return assumed

    def to_json(self) -> list[Json]:
        """Return JSON values: one object per ratio, sorted."""
        measured = [(*key, ratio) for key, ratio in self.by_format.items()]
        measured += [(mode, "", preset, ratio) for (mode, preset), ratio in self.by_preset.items()]
        measured += [
            ("tiles", "", name, Ratio(part, ASSUMED[name].objects, Rest.TUNER)) for name, part in self.tuned.items()
        ]
        measured += [("tiles", "", name, ratio) for name, ratio in ASSUMED.items()]
        ordered = sorted(measured, key=lambda one: (one[0], one[1], one[2], list(Rest).index(one[3].rests_on)))
        return [_to_json(*one) for one in ordered]


def _to_json(mode: str, source_format: str, preset: str, ratio: Ratio) -> Json:
    return {
        "mode": mode,
        "format": source_format or None,
        "preset": preset,
        "bytes_per_byte": round(ratio.bytes_per_byte, 6),
        "objects": round(ratio.objects, 3),
        "rests_on": str(ratio.rests_on),
        "copies": ratio.copies,
    }


@dataclass(frozen=True, slots=True)
class Groups:
    """Which slides are alike in mode and format."""

    keys: Sequence[tuple[str, str]]
    """Mode and format."""
    of_row: npt.NDArray[np.int64]
    """Number of each slide's key; (slides,)."""

    def ratios(self, sizes: Sizes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[list[Rest]]]:
        """Return bytes per byte and objects, each (keys, presets), and what they rest on."""
        found = [[sizes.ratio(mode, kind, preset) for preset in PRESETS] for mode, kind in self.keys]
        shape = (len(self.keys), len(PRESETS))
        ratios = np.array([[one.bytes_per_byte for one in row] for row in found], np.float64).reshape(shape)
        objects = np.array([[one.objects for one in row] for row in found], np.float64).reshape(shape)
        return ratios, objects, [[one.rests_on for one in row] for row in found]


def groups_of(facts: pa.Table) -> Groups:
    """Return the modes and formats of the slides of `wsistore.tiers.rules.facts.SCHEMA`."""
    modes, formats = _words(facts, "mode"), _words(facts, "format")
    mode, kind = codes_of(facts["mode"], modes), codes_of(facts["format"], formats)
    code = mode * (len(formats) + 1) + kind
    # Codes are few: counting them is quicker than sorting.
    present = np.flatnonzero(np.bincount(code))
    place = np.zeros(int(present[-1]) + 1 if len(present) else 1, np.int64)
    place[present] = np.arange(len(present))
    keys = [
        (_at(modes, int(one) // (len(formats) + 1)), _at(formats, int(one) % (len(formats) + 1))) for one in present
    ]
    return Groups(keys, place[code])


def measured_sizes(facts: pa.Table, copies: Copies, tuned: Mapping[str, float] | None = None) -> Sizes:
    """Return what the site's good copies took, per byte of their sources.

    Parameters
    ----------
    facts
        Of `wsistore.tiers.rules.facts.SCHEMA`.
    copies
        Those of the facts.
    tuned
        What the tuner measured, by preset.

    """
    groups = groups_of(facts)
    source = facts["bytes_source"].fill_null(0).to_numpy().astype(np.float64)
    good = ~copies.is_suspect & (copies.preset >= 0)
    row, preset = copies.row[good], copies.preset[good]
    count = len(PRESETS)
    cell = groups.of_row[row] * count + preset
    length = len(groups.keys) * count
    sums = [
        np.bincount(cell, weights=weights, minlength=length).astype(np.float64).reshape(-1, count)
        for weights in (copies.size[good], source[row], copies.objects[good], np.ones(len(cell)))
    ]
    by_format = {
        (*groups.keys[n], PRESETS[p]): ratio
        for n in range(len(groups.keys))
        for p in range(count)
        if (ratio := _ratio([float(one[n, p]) for one in sums], Rest.FORMAT)) is not None
    }
    return Sizes(by_format, dict(_by_preset(groups, sums)), dict(tuned or {}))


def _by_preset(groups: Groups, sums: Sequence[npt.NDArray[np.float64]]) -> Iterable[tuple[tuple[str, str], Ratio]]:
    for mode in sorted({mode for mode, _ in groups.keys}):
        mine = [n for n, (its, _) in enumerate(groups.keys) if its == mode]
        for p, preset in enumerate(PRESETS):
            ratio = _ratio([float(one[mine, p].sum()) for one in sums], Rest.PRESET)
            if ratio is not None:
                yield (mode, preset), ratio


def _ratio(sums: Sequence[float], rests_on: Rest) -> Ratio | None:
    stored, source, objects, count = sums
    if count < LEAST_COPIES or source <= 0:
        return None
    return Ratio(stored / source, objects / count, rests_on, int(count))


def _words(facts: pa.Table, name: str) -> tuple[str, ...]:
    return tuple(sorted(word for word in facts[name].unique().to_pylist() if word is not None))


def _at(words: Sequence[str], n: int) -> str:
    """Return a word by its number; the one after the last is that of a null."""
    return words[n] if n < len(words) else ""
