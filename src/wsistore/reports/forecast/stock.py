"""The slides that a catalogue has: where rules want them in the years to come, and what that makes tiers do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.reports.forecast.doing import Activity, Done
from wsistore.reports.forecast.scenario import CopyAt, Scenario
from wsistore.reports.periods import US_PER_YEAR, Month
from wsistore.reports.samples import Floats
from wsistore.tiers.plans.flat import PRESETS, copies_of
from wsistore.tiers.rules import Rules, decide
from wsistore.tiers.rules.decisions import Retention

_MONTHS = 12
_MOST_COPIES = 62
Masks = npt.NDArray[np.int64]
"""Which copies each slide has, a bit for each of `Stock.copies`; (slides,)."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is now."""

    facts: pa.Table
    """Of `wsistore.tiers.rules.facts.SCHEMA`."""
    copies: tuple[CopyAt, ...]
    """All that there may be."""
    size: Floats
    """Of each slide's files, (slides,)."""
    now: Masks

    @classmethod
    def of(cls, facts: pa.Table, rules: Iterable[Rules], tiers: Sequence[str], at: datetime) -> Stock:
        """Return the stock of a catalogue.

        Parameters
        ----------
        facts
            All slides.
        rules
            All that will be applied to it; bound.
        tiers
            Names of all tiers that copies lie in or rules name.
        at
            The present, timezone-aware.

        """
        lying = copies_of(facts, tiers, at)
        found = {
            CopyAt(tiers[tier], PRESETS[max(preset, 0)])
            for tier, preset in {*zip(lying.tier.tolist(), lying.preset.tolist(), strict=True)}
        }
        found |= {copy for one in rules for copies in _wanted(one).values() for copy in copies}
        copies = tuple(sorted(found, key=lambda one: (one.tier, one.preset)))[:_MOST_COPIES]
        place = {copy: number for number, copy in enumerate(copies)}
        number = np.array([[place.get(CopyAt(tier, preset), 0) for preset in PRESETS] for tier in tiers], np.int64)
        now = np.zeros(facts.num_rows, np.int64)
        if len(lying.row):
            bits = np.left_shift(np.int64(1), number[lying.tier, np.maximum(lying.preset, 0)])
            np.bitwise_or.at(now, lying.row, bits)
        size = facts["bytes_source"].fill_null(0).to_numpy().astype(np.float64)
        return cls(facts, copies, size, now)

    def wanted(self, rules: Rules, at: datetime) -> Masks:
        """Return which copies the rules want of each slide at a moment; none of those whose time is over."""
        decisions = decide(self.facts, rules, at)
        bits = {copy: 1 << number for number, copy in enumerate(self.copies)}
        by_rule = {name: sum(bits[copy] for copy in copies) for name, copies in _wanted(rules).items()}
        names = list(by_rule)
        code = pc.fill_null(pc.index_in(decisions["place_rule"], value_set=pa.array(names, pa.string())), len(names))
        # What no rule places stays where it is.
        masks = np.array([*by_rule.values(), 0], np.int64)[code.to_numpy()]
        masks = np.where(code.to_numpy() == len(names), self.now, masks)
        over = pc.fill_null(pc.equal(decisions["retention"], str(Retention.ENDED)), False).to_numpy()
        free = self.facts["holds"].fill_null(0).to_numpy() == 0
        found: Masks = np.where(over & free, 0, masks)
        return found


def _wanted(rules: Rules) -> dict[str, tuple[CopyAt, ...]]:
    """Return the copies that each placement rule wants; rules must be bound."""
    return {
        rule.name: tuple(CopyAt(tier, str(rule.encode or rules.tiers[tier].preset)) for tier in rule.tiers)
        for rule in rules.placement
    }


def activity_of(
    stock: Stock, rules: Rules, scenario: Scenario, moments: Sequence[datetime], months: tuple[Month, ...], width: int
) -> Activity:
    """Return what rules make tiers do with the slides that there are; none come.

    Parameters
    ----------
    stock
        The slides.
    rules
        Where they are to be, and until when.
    scenario
        Its tiers and presets.
    moments
        The begin of the forecast, and the ends of its years.
    months
        All of the forecast.
    width
        Columns of the figures.

    """
    masks = [stock.wanted(rules, moment) for moment in moments]
    count, years = len(stock.copies), len(moments) - 1
    lying = np.array([[_sum(stock, mask & (1 << bit) != 0) for bit in range(count)] for mask in masks])
    flows = [_Flows.nothing(count) for _ in range(years)]
    flows[0].add(stock, stock.now, masks[0], scenario)
    for year in range(years):
        flows[year].add(stock, masks[year], masks[year + 1], scenario)
    kept = np.array([float((mask != 0).sum()) for mask in masks[1:]])
    size = float(stock.size.mean()) if len(stock.size) else 1.0
    lengths = np.array([month.length_us / US_PER_YEAR for month in months])
    return Activity(
        done={
            copy: _done(lying[:, bit], [flow.of(bit) for flow in flows], lengths, width, _is_archive(copy, scenario))
            for bit, copy in enumerate(stock.copies)
        },
        ratios={copy: np.full(width, scenario.presets[copy.preset].ratio.central) for copy in stock.copies},
        slides_new=np.zeros((years, width)),
        slides_kept=_wide(kept, width),
        bytes_per_slide=np.full(width, max(size, 1.0)),
        months=months,
    )


def _is_archive(copy: CopyAt, scenario: Scenario) -> bool:
    return bool(scenario.tiers[copy.tier].model.prices.retrievals)


def _sum(stock: Stock, which: npt.NDArray[np.bool_]) -> float:
    return float(stock.size[which].sum())


def _wide(rows: Floats, width: int) -> Floats:
    return np.repeat(rows[:, None], width, axis=1)


@dataclass(slots=True)
class _Flows:
    """Bytes of a year, by copy; each (copies,)."""

    written: Floats
    encoded: Floats
    read: Floats

    @classmethod
    def nothing(cls, count: int) -> _Flows:
        return cls(np.zeros(count), np.zeros(count), np.zeros(count))

    def of(self, bit: int) -> tuple[float, float, float]:
        return float(self.written[bit]), float(self.encoded[bit]), float(self.read[bit])

    def add(self, stock: Stock, before: Masks, after: Masks, scenario: Scenario) -> None:
        """Add the copies that are made to come from one to the other."""
        made_any = np.zeros(len(before), np.float64)
        for bit, copy in enumerate(stock.copies):
            made = (after & ~before & (1 << bit)) != 0
            same = sum(1 << other for other, one in enumerate(stock.copies) if one.preset == copy.preset)
            self.written[bit] += _sum(stock, made)
            self.read[bit] += _sum(stock, made)  # read back
            self.encoded[bit] += _sum(stock, made & (before & same == 0) & (before != 0))
            made_any += made
        self._sources(stock, before, made_any, scenario)

    def _sources(self, stock: Stock, before: Masks, made: Floats, scenario: Scenario) -> None:
        """Add what is read to make them: of what can be read at once, before what lies in an archive."""
        left = made.copy()
        order = sorted(range(len(stock.copies)), key=lambda bit: (_is_archive(stock.copies[bit], scenario), bit))
        for bit in order:
            here = (before & (1 << bit)) != 0
            self.read[bit] += float((stock.size * left)[here].sum())
            left[here] = 0.0


def _done(
    lying: Floats, flows: Sequence[tuple[float, float, float]], lengths: Floats, width: int, is_archive: bool
) -> Done:
    """Return what is done with one copy, between the moments as on a straight line."""
    years = len(flows)
    steps = (np.arange(_MONTHS) + 0.5) / _MONTHS
    monthly = np.concatenate([lying[year] + (lying[year + 1] - lying[year]) * steps for year in range(years)])
    ends = np.concatenate(
        [lying[year] + (lying[year + 1] - lying[year]) * (steps + 0.5 / _MONTHS) for year in range(years)]
    )
    written, encoded, read = (np.array(column) for column in zip(*flows, strict=True))
    recalled = np.maximum(read - written, 0.0) if is_archive else np.zeros(years)
    return Done(
        byte_months=_wide(monthly.reshape(years, _MONTHS).sum(axis=1), width),
        byte_years=_wide((monthly * lengths).reshape(years, _MONTHS).sum(axis=1), width),
        written=_wide(written, width),
        encoded=_wide(encoded, width),
        read=_wide(read, width),
        recalled=_wide(recalled, width),
        early_days=np.zeros((years, width)),
        at_ends=_wide(ends, width),
    )


def preset_ratios(stock: Stock, ratios: Mapping[str, Floats]) -> dict[str, float]:
    """Return stored per source bytes of each preset, were all slides in it.

    Parameters
    ----------
    stock
        The slides.
    ratios
        Of each slide by preset, each (slides,).

    """
    whole = float(stock.size.sum())
    return {name: float((stock.size * one).sum()) / whole if whole else 1.0 for name, one in ratios.items()}
