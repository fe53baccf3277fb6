"""Runs contenders in turn and keeps their times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.support.worker import WorkerError


@dataclass(frozen=True, slots=True)
class Contender:
    """One side of a comparison."""

    key: str
    run: Callable[[int], float]
    """Gets the round's number, from 0, and returns seconds."""
    rounds: int | None = None
    """In how many of the rounds it takes part, if not in all: for slow ones."""
    may_fail: bool = False
    """A peer that fails is left out from then on, with the reason; anything else that fails ends the benchmark."""


@dataclass(frozen=True, slots=True)
class Timings:
    """What was measured."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By contender, in the order of the rounds; none for one that failed."""
    failed: dict[str, str] = field(default_factory=dict)
    """The reasons, by contender."""

    def median(self, key: str) -> float:
        """Return the median of a contender's seconds."""
        return statistics.median(self.seconds[key])

    def ratios(self, ours: str, peer: str) -> list[float]:
        """Return how many times as fast `ours` was as `peer`, round by round, as far as both took part.

        What ran within the same seconds is compared: a machine that is slow for a while is slow for both.
        """
        return [theirs / mine for mine, theirs in zip(self.seconds[ours], self.seconds.get(peer, []), strict=False)]

    def ratio(self, ours: str, peer: str) -> float | None:
        """Return the median of `ratios`; None if the peer has no times."""
        ratios = self.ratios(ours, peer)
        return statistics.median(ratios) if ratios else None


def interleave(
    contenders: Sequence[Contender],
    rounds: int,
    *,
    before: Callable[[], object] = lambda: None,
    tell: Callable[[str], object] = lambda _: None,
) -> Timings:
    """Run the contenders in turn, round by round, so that what slows the machine for a while slows all of them.

    Parameters
    ----------
    contenders
        In the order of each round.
    rounds
        How many.
    before
        Called before each run, outside its time.
    tell
        Gets what is being run.

    """
    timings = Timings()
    for number in range(rounds):
        for one in contenders:
            if one.key in timings.failed or (one.rounds is not None and number >= one.rounds):
                continue
            tell(f"round {number + 1} of {rounds}: {one.key}")
            before()
            try:
                timings.seconds.setdefault(one.key, []).append(one.run(number))
            except WorkerError as error:
                if not one.may_fail:
                    raise
                timings.failed[one.key] = str(error)
                timings.seconds.pop(one.key, None)
    return timings
