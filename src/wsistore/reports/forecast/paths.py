"""Stages of a scenario: where copies lie at which age, for all slides or parts of them; how often they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from wsistore.reports.forecast.scenario import MONTHS_PER_YEAR, CopyAt, Path, ReadsAt, Stage
from wsistore.reports.forecast.scenario_values import ScenarioReader
from wsistore.settings.values import did_you_mean
from wsistore.tiers.value_files import Json, Mark, Value

_STAGE = ("after", "tier", "preset", "also")
_ALSO = ("tier", "preset")
_PATH = ("part", "stages", "keep_years")
_READ = ("after", "per_year", "low", "central", "high", "unit", "source", "mark")
_KEEP = "keep"
_REST = "all"
_SOURCE = "ours, for want of a source: half of all slides seen again are seen within a month (MSK), few priors ever"
READS = (
    ReadsAt(0.0, Value(1.0, 4.0, 16.0, _SOURCE, Mark.ASSUMED)),
    ReadsAt(3.0, Value(0.1, 0.5, 2.0, _SOURCE, Mark.ASSUMED)),
    ReadsAt(24.0, Value(0.01, 0.05, 0.5, _SOURCE, Mark.ASSUMED)),
)
"""Whole slides read in a year, by age, unless a scenario says otherwise: what the tuner assumes of hot, warm and cold
(`wsistore.tiers.expected_cost.EXPECTED_ACCESS`), at the ages at which slides are there."""


def paths_of(
    document: Json, readers: Mapping[str, ScenarioReader], tiers: Collection[str], presets: Collection[str], keep: float
) -> tuple[Path, ...]:
    """Return the paths of a scenario: what its ``paths`` say of parts of the slides, and ``stages`` of the rest.

    Parameters
    ----------
    document
        The whole scenario.
    readers
        For messages, of ``stages`` and ``paths``.
    tiers, presets
        Names that there are.
    keep
        Years after which slides are deleted; 0: never.

    Raises
    ------
    SiteError, InputError
        If one is wrong.

    """
    names = (tiers, presets)
    found = []
    reader = readers["paths"]
    others = reader.tables(document["paths"], "paths") if "paths" in document else {}
    for name, table in others.items():
        key = f"paths.{name}"
        reader.known(table, key, _PATH)
        part = reader.optional(table, f"{key}.part", 0.0, most=1.0)
        mine = reader.optional(table, f"{key}.keep_years", keep, most=200.0)
        stages = _stages(reader, table, f"{key}.stages", *names)
        found.append(Path(name, part, stages, _months(reader, mine, stages, f"{key}.keep_years")))
    rest = 1.0 - sum(path.part for path in found)
    if rest < -1e-9:
        raise reader.wrong(round(1.0 - rest, 6), "parts that sum to 1 at most", "paths")
    stages = _stages(readers["stages"], document, "stages", *names)
    if rest > 1e-9:
        found.append(Path(_REST, rest, stages, _months(readers["stages"], keep, stages, "keep_years")))
    return tuple(found)


def _months(reader: ScenarioReader, keep: float, stages: Sequence[Stage], key: str) -> float | None:
    if not keep:
        return None
    if keep * MONTHS_PER_YEAR <= stages[-1].after_months:
        raise reader.wrong(keep, "more years than the age at which the last stage begins", key)
    return keep * MONTHS_PER_YEAR


def _stages(
    reader: ScenarioReader, table: Json, key: str, tiers: Collection[str], presets: Collection[str]
) -> tuple[Stage, ...]:
    name = key.rpartition(".")[2]
    if name not in table:
        raise reader.missing(key)
    found = [
        Stage(reader.age(one, f"{where}.after"), _copies(reader, one, where, tiers, presets))
        for where, one in _listed(reader, table[name], key, _STAGE)
    ]
    if found[0].after_months:
        expected = "0, or nothing: the first stage begins with the slide"
        raise reader.wrong(table[name][0]["after"], expected, f"{key}[1].after")
    for number, (one, other) in enumerate(pairwise(found), 1):
        if other.after_months <= one.after_months:
            after = table[name][number].get("after")
            raise reader.wrong(after, "a later age than before", f"{key}[{number + 1}].after")
    return tuple(found)


def _listed(reader: ScenarioReader, value: Any, key: str, keys: Sequence[str]) -> list[tuple[str, Json]]:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise reader.wrong(value, f"a list of tables with the keys {', '.join(keys)}", key)
    found = [(f"{key}[{number}]", one) for number, one in enumerate(value, 1)]
    for where, one in found:
        reader.known(one, where, keys)
    return found


def _copies(
    reader: ScenarioReader, stage: Json, key: str, tiers: Collection[str], presets: Collection[str]
) -> tuple[CopyAt, ...]:
    found = [_copy(reader, stage, key, tiers, presets)]
    for where, one in _listed(reader, stage["also"], f"{key}.also", _ALSO) if "also" in stage else []:
        copy = _copy(reader, one, where, tiers, presets)
        if copy in found:
            twice = f"{copy.tier} as {copy.preset}"
            raise reader.wrong(twice, "another tier or preset than before", where)
        found.append(copy)
    return tuple(found)


def _copy(reader: ScenarioReader, table: Json, key: str, tiers: Collection[str], presets: Collection[str]) -> CopyAt:
    reader.needed(table, key, "tier")
    tier, preset = reader.text(table, f"{key}.tier"), reader.text(table, f"{key}.preset", _KEEP)
    for name, value, known in (("tier", tier, tiers), ("preset", preset, presets)):
        if value not in known:
            raise reader.wrong(value, f"one of: {', '.join(known)}{did_you_mean(value, known)}", f"{key}.{name}")
    return CopyAt(tier, preset)


def reads_from(document: Json, reader: ScenarioReader) -> tuple[ReadsAt, ...]:
    """Return how often slides are read at which age."""
    if "reads" not in document:
        return READS
    found = []
    for where, one in _listed(reader, document["reads"], "reads", _READ):
        values = {name: value for name, value in one.items() if name not in ("after", "per_year")}
        if "per_year" in one and values:
            raise reader.wrong(one["per_year"], "either per_year, or low, central and high", f"{where}.per_year")
        value = reader.of({"reads": values or one.get("per_year")}, f"{where}.reads")
        found.append(ReadsAt(reader.age(one, f"{where}.after"), value))
    ages = [one.after_months for one in found]
    if ages[0] or sorted(set(ages)) != ages:
        raise reader.wrong(ages, "ages that begin with 0 and grow", "reads")
    return tuple(found)
