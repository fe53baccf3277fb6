"""What a scenario says: how many slides come, where they lie at which age, how prices and the grid go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from wsistore.reports.terms import TierModel
from wsistore.tiers.grid import Grid
from wsistore.tiers.value_files import NOTHING, Value

MONTHS_PER_YEAR = 12.0
DAYS_PER_MONTH = 365.25 / MONTHS_PER_YEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeKind:
    """Slides that are alike in size."""

    name: str
    part: float
    """Of all slides, from 0 to 1."""
    bytes: Value
    """Of the vendor's file."""
    is_whole: bool = False
    """Kept as the scanner wrote it, whatever preset its tier has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slides:
    """How many slides come."""

    per_year: Value
    """When all departments are digital, before growth."""
    kinds: tuple[SizeKind, ...]
    """Parts sum to 1."""
    growth_per_year: Value = NOTHING
    """After the ramp-up."""
    ramp_up: tuple[float, ...] = ()
    """Part of `per_year` that comes in the first years, one by one."""
    stock: float = 0.0
    """Slides that there are when the forecast begins."""
    stock_years: float = 1.0
    """Over which these came, evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetFigures:
    """How a copy is."""

    name: str
    ratio: Value
    """Stored bytes per byte of the vendor's file."""
    objects: float
    """Of a slide."""
    cpu_seconds_per_gb: Value = NOTHING
    """Of encoding, per GB of the vendor's file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastTier:
    """A tier, and how its prices go on."""

    model: TierModel
    storage_decline: Value = NOTHING
    """Part by which the price of storage, and of new hardware, falls each year."""
    fees_rise: Value = NOTHING
    """Part by which all other prices rise each year, running hardware included."""
    verify_every_days: float = 0.0
    """How often every copy is read again; 0: never."""
    owned_systems: float = 0.0
    """Of own hardware: bought before the forecast begins."""
    owned_years: float = 0.0
    """How old these are then."""

    @property
    def name(self) -> str:
        """The tier's."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class CopyAt:
    """One copy: where, and how."""

    tier: str
    preset: str


@dataclass(frozen=True, slots=True)
class Stage:
    """From an age on."""

    after_months: float
    copies: tuple[CopyAt, ...]
    """The first is the one that is read."""


@dataclass(frozen=True, slots=True)
class Path:
    """What becomes of a part of the slides."""

    name: str
    part: float
    stages: tuple[Stage, ...]
    """By age; the first begins at 0."""
    keep_months: float | None = None
    """When they are deleted; None: never."""


@dataclass(frozen=True, slots=True)
class ReadsAt:
    """How often a slide is read whole in a year, from an age on."""

    after_months: float
    per_year: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way that the coming years may go."""

    name: str
    file: str
    title: str
    title_fr: str = ""
    """On pages in French; nothing: the same."""
    about: str = ""
    slides: Slides
    paths: tuple[Path, ...]
    tiers: Mapping[str, ForecastTier]
    presets: Mapping[str, PresetFigures]
    reads: tuple[ReadsAt, ...] = ()
    grid: Grid
    grid_decline: Mapping[str, Value] = field(default_factory=dict)
    """By country: part by which its factor falls each year after the last that is known."""


@dataclass(frozen=True, slots=True)
class Lies:
    """One copy from when it is made to when it goes; ages in months."""

    copy: CopyAt
    part: float
    """Of all slides."""
    begins: float
    ends: float | None
    """None: it stays."""
    made_from: CopyAt | None
    """None: from the scanner."""


@dataclass(frozen=True, slots=True)
class ReadFrom:
    """Which copy readers take between two ages, in months, and how often in a year."""

    copy: CopyAt
    part: float
    begins: float
    ends: float | None
    per_year: Value
    number: int
    """Of the scenario's `reads`."""


def lies_of(scenario: Scenario) -> list[Lies]:
    """Return all copies of a scenario's paths; one that two stages have stays, and is not made anew."""
    return [one for path in scenario.paths for one in _of_path(path, scenario)]


def _of_path(path: Path, scenario: Scenario) -> list[Lies]:
    found: list[Lies] = []
    before: dict[CopyAt, Lies] = {}
    for stage, end in stages_with_ends(path):
        now = {}
        for copy in stage.copies:
            if copy in before:
                now[copy] = replace(before[copy], ends=end)
            else:
                source = _source(copy, tuple(before), scenario)
                now[copy] = Lies(copy, path.part, stage.after_months, end, source)
        found += [lies for copy, lies in before.items() if copy not in now]
        before = now
    return [*found, *before.values()]


def stages_with_ends(path: Path) -> list[tuple[Stage, float | None]]:
    """Return a path's stages, each with the age at which it ends."""
    ends: list[float | None] = [stage.after_months for stage in path.stages[1:]]
    return list(zip(path.stages, [*ends, path.keep_months], strict=True))


def _source(copy: CopyAt, before: tuple[CopyAt, ...], scenario: Scenario) -> CopyAt | None:
    """Return what a copy is made from: one that can be read at once, in the same preset if there is one."""
    if not before:
        return None
    archived = {one: bool(scenario.tiers[one.tier].model.prices.retrievals) for one in before}
    return min(before, key=lambda one: (archived[one], one.preset != copy.preset, before.index(one)))


def reads_of(scenario: Scenario) -> list[ReadFrom]:
    """Return from which copies a scenario's slides are read, by age."""
    ends: list[float | None] = [read.after_months for read in scenario.reads[1:]]
    found = []
    for path in scenario.paths:
        for stage, stage_ends in stages_with_ends(path):
            for number, (read, read_ends) in enumerate(zip(scenario.reads, [*ends, None], strict=False)):
                begins = max(stage.after_months, read.after_months)
                known = [end for end in (stage_ends, read_ends) if end is not None]
                end = min(known) if known else None
                if end is None or end > begins:
                    found.append(ReadFrom(stage.copies[0], path.part, begins, end, read.per_year, number))
    return found
