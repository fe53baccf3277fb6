"""Until when slides are kept: every rule that applies, in bulk.

The longest wins. What is not known never lets a slide go: a rule of which it is unknown whether it applies, or until
when, counts as one that never ends, unless another one replaces it of which both are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.rules.columns import EPOCH, Column, Flags, Ints, Moments, days, flags
from wsistore.tiers.rules.decisions import Retention
from wsistore.tiers.rules.values import Period, RetentionRule, Rules, Unit


class Rank(IntEnum):
    """What a rule says of a slide; the highest that any rule says is what holds."""

    NONE = 0
    """It does not apply, or another one replaces it."""
    DATED = 1
    UNKNOWN = 2
    SUSPENDED = 3
    NEVER = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says of each slide; arrays of shape (rows,)."""

    rank: Ints
    """A `Rank`."""
    until: Ints
    """Days since 1970 where the rank is DATED."""
    replaced: Flags
    """Where it would count if another rule did not replace it."""
    lengthened: Ints
    """Days by which recourses made it longer."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What all rules together say of each slide; arrays of shape (rows,)."""

    verdicts: dict[str, Verdict] = field(repr=False)
    """By rule, in the order of the file."""
    rank: Ints
    until: Ints
    """Days since 1970 where the rank is DATED."""
    rule: Ints
    """Number of the rule that decided, in the order of the file; -1: none applies."""
    ended: Flags
    """Whether the rules let it go."""
    detach: Flags
    """Whether a rule wants it parted from its patient, and the time for that has come."""
    not_detachable: Flags
    """Whether the time would have come, if it were known."""
    review: Column
    """The next day of review."""

    def status(self) -> Ints:
        """Return the number of each slide's `Retention`, in the order of that class."""
        order = list(Retention)
        by_rank = {
            Rank.NONE: Retention.UNKNOWN,
            Rank.DATED: Retention.KEPT,
            Rank.UNKNOWN: Retention.UNKNOWN,
            Rank.SUSPENDED: Retention.SUSPENDED,
            Rank.NEVER: Retention.NEVER_ENDS,
        }
        found = np.array([order.index(by_rank[rank]) for rank in Rank])[self.rank]
        return np.where(self.ended, order.index(Retention.ENDED), found).astype(np.int64)


def keep(
    rules: Rules, facts: pa.Table, where: list[pa.ChunkedArray], until: list[pa.ChunkedArray], now: Moments
) -> Kept:
    """Return what the retention rules say.

    Parameters
    ----------
    rules
        The rules.
    facts
        The slides' facts.
    where, until
        Of each retention rule the values of its expressions: truth values and days, null where unknown.
    now
        The present.

    """
    recourses = _Recourses.of(facts["recourse"], now)
    verdicts: dict[str, Verdict] = {}
    for rule in _replacing_first(rules.retention):
        number = rules.retention.index(rule)
        over = [verdicts[other.name] for other in rules.retention if rule.name in other.replaces]
        end = days(until[number], rules.time_zone) if rule.keep_until is not None else None
        verdicts[rule.name] = _verdict(rule, where[number], end, recourses, over, facts.num_rows)
    return _together(rules.retention, verdicts, facts, now)


def _replacing_first(rules: tuple[RetentionRule, ...]) -> list[RetentionRule]:
    """Return the rules so that each comes after those that replace it; cycles were refused when they were read."""
    done: list[RetentionRule] = []
    waiting = list(rules)
    while waiting:
        rule = next(
            one for one in waiting if not any(one.name in other.replaces for other in waiting if other is not one)
        )
        waiting.remove(rule)
        done.append(rule)
    return done


def _verdict(
    rule: RetentionRule,
    where: pa.ChunkedArray,
    end: Column | None,
    recourses: _Recourses,
    over: list[Verdict],
    rows: int,
) -> Verdict:
    applies, unknown = flags(where)
    if end is None:
        end, lengthened = Column(np.zeros(rows, np.int64), np.ones(rows, np.bool_)), np.zeros(rows, np.int64)
        rank = np.full(rows, Rank.NEVER, np.int64)
    else:
        lengthened = np.zeros(rows, np.int64)
        rank = np.full(rows, Rank.DATED, np.int64)
        if rule.suspended_by_recourse:
            lengthened = recourses.lengthen(end.values)
            rank[recourses.open] = Rank.SUSPENDED
            rank[recourses.unclear] = Rank.UNKNOWN
    rank[~end.known | unknown] = Rank.UNKNOWN
    rank[~applies & ~unknown] = Rank.NONE
    # A rule that does not itself count, or is not certain, replaces nothing.
    by = np.zeros(rows, np.bool_)
    for other in over:
        by |= (other.rank != Rank.NONE) & (other.rank != Rank.UNKNOWN)
    replaced = by & (rank != Rank.NONE)
    rank[replaced] = Rank.NONE
    return Verdict(rank, end.values + lengthened, replaced, lengthened)


def _together(rules: tuple[RetentionRule, ...], verdicts: dict[str, Verdict], facts: pa.Table, now: Moments) -> Kept:
    rows = facts.num_rows
    rank, until, number = np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.full(rows, -1, np.int64)
    others, legal_end, wants = np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    for index, rule in enumerate(rules):
        said = verdicts[rule.name]
        longer = (said.rank > rank) | ((said.rank == Rank.DATED) & (rank == Rank.DATED) & (said.until > until))
        rank, until = np.where(longer, said.rank, rank), np.where(longer, said.until, until)
        number[longer] = index
        if rule.detach:
            wants |= said.rank == Rank.NEVER
            continue
        later = (said.rank == Rank.DATED) & ((others == Rank.NONE) | (said.until > legal_end))
        legal_end = np.where(later, said.until, legal_end)
        others = np.maximum(others, said.rank)
    over = legal_end <= now.today
    detached, _ = flags(facts["identity_detached"])
    wants &= ~detached
    unsure = (others == Rank.NONE) | (others == Rank.UNKNOWN)
    return Kept(
        verdicts={rule.name: verdicts[rule.name] for rule in rules},
        rank=rank,
        until=until,
        rule=number,
        ended=(rank == Rank.DATED) & (until <= now.today),
        detach=wants & (others == Rank.DATED) & over,
        not_detachable=wants & unsure & _all_dated_ended(rules, verdicts, now, rows),
        review=_review(rules, verdicts, facts, now),
    )


def _all_dated_ended(rules: tuple[RetentionRule, ...], verdicts: dict[str, Verdict], now: Moments, rows: int) -> Flags:
    found = np.ones(rows, np.bool_)
    for rule in rules:
        said = verdicts[rule.name]
        found &= (said.rank != Rank.DATED) | (said.until <= now.today)
    return found


# --- recourses --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Recourses:
    """What recourses do to time limits, for each slide."""

    open: Flags
    """Where one goes on: no limit ends."""
    unclear: Flags
    """Where one has no beginning, or ends before it begins."""
    running_until: Ints
    """Until when one lasts that goes on today and whose end is known already; days since 1970, else the first day."""
    spans: list[tuple[Ints, Ints, Ints]]
    """Rows, first days and last days: the first recourse of each slide that has one, then the second, and so on."""

    @classmethod
    def of(cls, column: pa.ChunkedArray, now: Moments) -> _Recourses:
        rows = len(column)
        whole = column.combine_chunks()
        row = np.asarray(pc.list_parent_indices(whole), dtype=np.int64)
        flat = pc.list_flatten(whole)
        begins, ends = (days(pa.chunked_array([pc.struct_field(flat, name)])) for name in ("begins", "ends"))
        is_open, unclear = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        is_open[row[begins.known & ~ends.known]] = True
        unclear[row[~begins.known | (ends.known & (ends.values < begins.values))]] = True
        running = np.full(rows, np.iinfo(np.int64).min, np.int64)
        sound = begins.known & ends.known & (ends.values >= begins.values)
        row, first, last = row[sound], begins.values[sound], ends.values[sound]
        today = np.broadcast_to(now.today, (rows,))[row]
        going = (first <= today) & (today < last)
        np.maximum.at(running, row[going], last[going])
        return cls(is_open, unclear, running, _by_turn(row, first, last))

    def lengthen(self, until: Ints) -> Ints:
        """Return the days that are added to limits that would end on the days `until`."""
        limit, covered = until.copy(), np.full(len(until), np.iinfo(np.int64).min, np.int64)
        for row, first, last in self.spans:
            start = np.maximum(first, covered[row])
            # Of two that overlap the common days count once; one that begins after the limit had ended not at all.
            counts = (start < limit[row]) & (last > start)
            limit[row] += np.where(counts, last - start, 0)
            covered[row] = np.maximum(covered[row], last)
        # Whatever it is about: while it goes on nothing ends.
        return np.maximum(limit, self.running_until) - until


def _by_turn(row: Ints, first: Ints, last: Ints) -> list[tuple[Ints, Ints, Ints]]:
    order = np.lexsort((last, first, row))
    row, first, last = row[order], first[order], last[order]
    starts = np.flatnonzero(np.r_[True, row[1:] != row[:-1]]) if len(row) else np.zeros(0, np.int64)
    turn = np.arange(len(row)) - np.repeat(starts, np.diff(np.r_[starts, len(row)]))
    return [(row[turn == k], first[turn == k], last[turn == k]) for k in range(int(turn.max(initial=-1)) + 1)]


# --- reviews ----------------------------------------------------------------------------------------------------------


def _review(rules: tuple[RetentionRule, ...], verdicts: dict[str, Verdict], facts: pa.Table, now: Moments) -> Column:
    rows = facts.num_rows
    found = Column(np.zeros(rows, np.int64), np.zeros(rows, np.bool_))
    if not any(rule.review_every is not None for rule in rules):
        return found
    since = days(facts["ingested_at"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False))
    today = np.broadcast_to(now.today, (rows,))
    for rule in rules:
        if rule.review_every is None:
            continue
        rank = verdicts[rule.name].rank
        due = since.known & (rank != Rank.NONE) & (rank != Rank.UNKNOWN)
        at = np.zeros(rows, np.int64)
        at[due] = _next(since.values[due], rule.review_every, today[due])
        sooner = due & (~found.known | (at < found.values))
        found = Column(np.where(sooner, at, found.values), found.known | due)
    return found


def _next(since: Ints, every: Period, today: Ints) -> Ints:
    """Return the first day after `today` that is a whole number of periods after `since`."""
    if every.unit in {Unit.DAY, Unit.WEEK}:
        length = every.count * (7 if every.unit is Unit.WEEK else 1)
        after: Ints = since + np.maximum((today - since) // length + 1, 1) * length
        return after
    months = every.count * (12 if every.unit is Unit.YEAR else 1)
    passed = (_month_of(today) - _month_of(since)) // months
    at = add_months(since, np.maximum(passed, 1) * months)
    found: Ints = np.where(at > today, at, add_months(since, (np.maximum(passed, 0) + 1) * months))
    return found


def _month_of(day: Ints) -> Ints:
    found: Ints = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return found


def add_months(day: Ints, months: Ints) -> Ints:
    """Return days so many months later; where that month is too short, the first day of the next one."""
    start = _month_of(day)
    within = day - start.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    begin = (start + months).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    end = (start + months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    found: Ints = np.minimum(begin + within, end)
    return found


assert EPOCH.toordinal() == np.datetime64(0, "D").astype(object).toordinal()  # noqa: S101 - both count from 1970
