"""Figures with their uncertainty, by seeded draws that are the same for the same coefficient wherever it is used.

Two figures that rest on one coefficient share its draws. So the band of a difference is that of the difference: what is
uncertain in both, and cancels out, does not widen it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsistore.tiers.value_files import Value

Floats = npt.NDArray[np.float64]

DRAWS = 2000
SEED = 20_250_101
LOW, HIGH = 5.0, 95.0
"""Percentiles that a band is of."""


class Band(NamedTuple):
    """Low, central and high of a figure."""

    low: float
    central: float
    high: float

    def times(self, factor: float) -> Band:
        """Return the band of `factor` times the figure."""
        ends = sorted((self.low * factor, self.high * factor))
        return Band(ends[0], self.central * factor, ends[1])


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A figure: its central estimate, and what it was in each draw."""

    central: float
    draws: Floats
    """(draws,)."""

    def __add__(self, other: Sample) -> Sample:
        """Add, draw by draw."""
        return Sample(self.central + other.central, self.draws + other.draws)

    def __sub__(self, other: Sample) -> Sample:
        """Subtract, draw by draw: the difference that there would be in each."""
        return Sample(self.central - other.central, self.draws - other.draws)

    def __mul__(self, other: Sample | float) -> Sample:
        """Multiply, draw by draw."""
        if isinstance(other, Sample):
            return Sample(self.central * other.central, self.draws * other.draws)
        return Sample(self.central * other, self.draws * other)

    @property
    def band(self) -> Band:
        """From the 5th to the 95th percentile; the central estimate lies within."""
        low, high = np.percentile(self.draws, (LOW, HIGH))
        return Band(min(float(low), self.central), self.central, max(float(high), self.central))


@dataclass(frozen=True)
class Draws:
    """Makes samples of values.

    Parameters
    ----------
    seed
        Of all draws: the same seed gives the same bands.
    count
        Of draws.

    """

    seed: int = SEED
    count: int = DRAWS
    _known: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def of(self, key: str, value: Value) -> Sample:
        """Return a sample of `value`: half of the draws below central, half above, evenly spread on each side.

        Parameters
        ----------
        key
            The coefficient's name: where two values have the same, they are high in the same draws.
        value
            Low, central and high.

        """
        places = self._places(key)
        below = value.low + (value.central - value.low) * 2 * places
        above = value.central + (value.high - value.central) * (2 * places - 1)
        return Sample(value.central, np.where(places < 0.5, below, above))

    def exactly(self, number: float) -> Sample:
        """Return a figure without uncertainty."""
        return Sample(number, np.full(self.count, number))

    def _places(self, key: str) -> Floats:
        """Return where each draw lies between low (0) and high (1); a shuffled grid, so that the mean hardly varies."""
        if key not in self._known:
            entropy = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
            random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, entropy])))
            self._known[key] = (random.permutation(self.count) + 0.5) / self.count
        return self._known[key]
