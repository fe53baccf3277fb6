"""What a scenario's slides make each tier do, year by year: bytes that lie, move, are read and encoded.

Everything is told in bytes of the vendors' files (source bytes); what they take in a preset is reckoned afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from wsistore.reports.forecast.scenario import (
    DAYS_PER_MONTH,
    CopyAt,
    Lies,
    Scenario,
    Slides,
    lies_of,
    reads_of,
)
from wsistore.reports.forecast.volumes import Arrivals, arrivals, bytes_per_slide, columns
from wsistore.reports.periods import US_PER_YEAR, Month
from wsistore.reports.samples import Draws, Floats

_MONTHS = 12
_DAYS_PER_YEAR = 365.25


@dataclass(slots=True)
class Done:
    """Of the copies of one tier and preset; each (years, columns), in source bytes."""

    byte_months: Floats
    """That lay there: what prices per month are multiplied by."""
    byte_years: Floats
    """The same in years of 365.25 days: what energy is multiplied by."""
    written: Floats
    encoded: Floats
    read: Floats
    """Read back, verified, copied from, or read by people."""
    recalled: Floats
    """Of those, asked back from an archive first."""
    early_days: Floats
    """Days of their tier's least time that were left when copies went, times bytes."""
    at_ends: Floats
    """That lie there when each month ends, (months, columns)."""


@dataclass(frozen=True, slots=True)
class Activity:
    """All that is done in a scenario."""

    done: dict[CopyAt, Done]
    ratios: dict[CopyAt, Floats]
    """Stored bytes per source byte, (columns,)."""
    slides_new: Floats
    """(years, columns)."""
    slides_kept: Floats
    """When each year ends, (years, columns)."""
    bytes_per_slide: Floats
    """(columns,)."""
    months: tuple[Month, ...]


def activity(
    scenario: Scenario, begins: Month, years: int, draws: Draws, known: dict[Slides, Arrivals] | None = None
) -> Activity:
    """Return what a scenario makes its tiers do.

    Parameters
    ----------
    scenario
        What is expected.
    begins
        The first month.
    years
        How many, of twelve months each.
    draws
        Where uncertainty is from.
    known
        Arrivals of other scenarios, which many have in common.

    """
    known = {} if known is None else known
    coming = _coming(scenario, years, draws, known)
    size, whole = bytes_per_slide(scenario.slides, draws)
    months = _months(begins, years)
    work = _Work(scenario, coming, size, months, draws)
    for lies in lies_of(scenario):
        work.add(lies)
    work.add_reads()
    kept = sum((coming.at_ends(0.0, path.keep_months) * path.part for path in scenario.paths), np.zeros(1))
    return Activity(
        done=dict(work.done),
        ratios={copy: _ratio(copy, whole, scenario, draws) for copy in work.done},
        slides_new=_yearly(coming.flow(0.0)),
        slides_kept=kept[_MONTHS - 1 :: _MONTHS],
        bytes_per_slide=size,
        months=months,
    )


def _coming(scenario: Scenario, years: int, draws: Draws, known: dict[Slides, Arrivals]) -> Arrivals:
    if scenario.slides not in known:
        known[scenario.slides] = arrivals(scenario.slides, years, draws)
    return known[scenario.slides]


def _months(begins: Month, years: int) -> tuple[Month, ...]:
    found = [begins]
    while len(found) < years * _MONTHS:
        found.append(found[-1].next)
    return tuple(found)


def _ratio(copy: CopyAt, whole: Floats, scenario: Scenario, draws: Draws) -> Floats:
    """Return stored per source bytes; slides that are kept whole take what they took."""
    ratio = columns(draws.of(f"forecast.{copy.preset}.ratio", scenario.presets[copy.preset].ratio))
    return ratio * (1.0 - whole) + whole


def _yearly(monthly: Floats) -> Floats:
    found: Floats = monthly.reshape(-1, _MONTHS, monthly.shape[1]).sum(axis=1)
    return found


class _Work:
    """Sums what is done, copy by copy."""

    def __init__(
        self, scenario: Scenario, coming: Arrivals, size: Floats, months: tuple[Month, ...], draws: Draws
    ) -> None:
        self.scenario, self.coming, self.size, self.draws = scenario, coming, size, draws
        self.lengths = np.array([month.length_us / US_PER_YEAR for month in months])[:, None]
        self.done: defaultdict[CopyAt, Done] = defaultdict(self._nothing)

    def _nothing(self) -> Done:
        years, months = len(self.lengths) // _MONTHS, len(self.lengths)
        shapes = [(years, len(self.size))] * 7 + [(months, len(self.size))]
        return Done(*(np.zeros(shape) for shape in shapes))

    def add(self, lies: Lies) -> None:
        """Add a copy: that it lies there, is made, verified, and goes."""
        done, tier, factor = self.done[lies.copy], self.scenario.tiers[lies.copy.tier], self.size * lies.part
        lying = self.coming.lying(lies.begins, lies.ends) * factor
        years = _yearly(lying * self.lengths)
        done.byte_months += _yearly(lying)
        done.byte_years += years
        done.at_ends += self.coming.at_ends(lies.begins, lies.ends) * factor
        self._made(lies, _yearly(self.coming.flow(lies.begins)) * factor)
        if tier.verify_every_days:
            self._read(lies.copy, years * (_DAYS_PER_YEAR / tier.verify_every_days))
        left = 0.0 if lies.ends is None else tier.model.least_days - (lies.ends - lies.begins) * DAYS_PER_MONTH
        if lies.ends is not None and left > 0:
            done.early_days += _yearly(self.coming.flow(lies.ends)) * factor * left

    def _made(self, lies: Lies, made: Floats) -> None:
        done, source = self.done[lies.copy], lies.made_from
        done.written += made
        done.read += made  # what is written is read back before it counts, and archived afterwards
        if source is not None:
            self._read(source, made)
        if self._is_encoded(lies):
            done.encoded += made

    def _is_encoded(self, lies: Lies) -> bool:
        preset = self.scenario.presets[lies.copy.preset]
        was = "keep" if lies.made_from is None else lies.made_from.preset  # a scanner's file is as it is
        return was != preset.name and preset.cpu_seconds_per_gb.high > 0

    def add_reads(self) -> None:
        """Add what people and programs read."""
        for one in reads_of(self.scenario):
            per_year = columns(self.draws.of(f"forecast.reads.{one.number}", one.per_year))
            lying = self.coming.lying(one.begins, one.ends) * (self.size * one.part)
            self._read(one.copy, _yearly(lying * self.lengths) * per_year)

    def _read(self, copy: CopyAt, read: Floats) -> None:
        done = self.done[copy]
        done.read += read
        if self.scenario.tiers[copy.tier].model.prices.retrievals:
            done.recalled += read
