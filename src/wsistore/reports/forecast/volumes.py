"""Slides that come, and how many of them are how old: for all draws at once.

Arrays have one row per month and one column per draw; column 0 is the central estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wsistore.reports.forecast.scenario import MONTHS_PER_YEAR, Slides
from wsistore.reports.samples import Draws, Floats, Sample

_MONTHS = 12


def columns(sample: Sample) -> Floats:
    """Return a figure as one row: its central estimate, then its draws; (1 + draws,)."""
    return np.concatenate(([sample.central], sample.draws))


def sample_of(row: Floats) -> Sample:
    """Return the figure that a row is."""
    return Sample(float(row[0]), row[1:])


def power(part: Floats, years: float) -> Floats:
    """Return what is left after so many years of which each takes `part`; a negative part adds."""
    found: Floats = (1.0 - part) ** years
    return found


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Slides by the month they come in, evenly within each."""

    before: int
    """Months before the forecast begins in which slides came."""
    came: Floats
    """Slides, (before + months, columns)."""
    sums: Floats
    """Slides that had come when each month began, (before + months + 1, columns)."""
    held: Floats
    """Slide-months that had passed then, if none ever went; the same shape."""
    _known: dict[tuple[float, bool], Floats] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, came: Floats, before: int) -> Arrivals:
        """Return them from slides per month."""
        none = np.zeros((1, came.shape[1]))
        sums = np.concatenate((none, np.cumsum(came, axis=0)))
        held = np.concatenate((none, np.cumsum(sums[:-1] + came / 2, axis=0)))
        return cls(before, came, sums, held)

    @property
    def months(self) -> int:
        """Of the forecast."""
        return len(self.came) - self.before

    def _at(self, ages: float, *, held: bool) -> Floats:
        """Return sums at the ends of all months, `ages` months earlier; (months + 1, columns)."""
        if (ages, held) not in self._known:
            self._known[ages, held] = self._summed(ages, held=held)
        return self._known[ages, held]

    def _summed(self, ages: float, *, held: bool) -> Floats:
        at = np.maximum(np.arange(self.months + 1) + self.before - ages, 0.0)
        whole = np.minimum(at.astype(np.int64), len(self.came))
        part = (at - whole)[:, None]
        rate = self.came[np.minimum(whole, len(self.came) - 1)]
        if held:
            found: Floats = self.held[whole] + self.sums[whole] * part + rate * part**2 / 2
        else:
            found = self.sums[whole] + rate * part
        return found

    def lying(self, begins: float, ends: float | None) -> Floats:
        """Return slide-months between two ages (in months) that pass in each month; (months, columns)."""
        since = self._at(begins, held=True)
        if ends is not None:
            since = since - self._at(ends, held=True)
        return np.diff(since, axis=0)

    def flow(self, age: float) -> Floats:
        """Return how many slides reach an age in each month; (months, columns)."""
        return np.diff(self._at(age, held=False), axis=0)

    def at_ends(self, begins: float, ends: float | None) -> Floats:
        """Return how many slides are between two ages when each month ends; (months, columns)."""
        found = self._at(begins, held=False)
        return (found if ends is None else found - self._at(ends, held=False))[1:]


def arrivals(slides: Slides, years: int, draws: Draws) -> Arrivals:
    """Return the slides that come.

    Parameters
    ----------
    slides
        What is expected.
    years
        From the forecast's begin.
    draws
        Where uncertainty is from; two scenarios have many slides in the same draws.

    """
    full = columns(draws.of("forecast.slides.per_year", slides.per_year)) / MONTHS_PER_YEAR
    growth = columns(draws.of("forecast.slides.growth_per_year", slides.growth_per_year))
    rows = [full * _level(slides, year, growth) for year in range(years)]
    coming = np.repeat(np.array(rows), _MONTHS, axis=0)
    before = max(1, round(slides.stock_years * MONTHS_PER_YEAR)) if slides.stock else 0
    stock = np.full((before, coming.shape[1]), slides.stock / before if before else 0.0)
    return Arrivals.of(np.concatenate((stock, coming)), before)


def _level(slides: Slides, year: int, growth: Floats) -> Floats:
    """Return which part of the slides per year comes in a year: ramped up first, grown afterwards."""
    if year < len(slides.ramp_up):
        return np.full(len(growth), slides.ramp_up[year])
    # Without a ramp-up the first year is the one that `per_year` is of.
    return power(-growth, year - max(len(slides.ramp_up) - 1, 0))


def bytes_per_slide(slides: Slides, draws: Draws) -> tuple[Floats, Floats]:
    """Return the mean size of a slide's files, and the part of bytes that no preset makes smaller; both (columns,)."""
    sizes = [columns(draws.of("forecast.slides.bytes", kind.bytes)) * kind.part for kind in slides.kinds]
    whole = [size for size, kind in zip(sizes, slides.kinds, strict=True) if kind.is_whole]
    mean: Floats = np.sum(sizes, axis=0)
    kept: Floats = np.sum(whole, axis=0) if whole else np.zeros(len(mean))
    return mean, np.divide(kept, mean, out=np.zeros(len(mean)), where=mean > 0)
