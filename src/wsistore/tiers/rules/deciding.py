"""What the rules mean for each slide, and why: pure, in bulk, the same however the slides are divided by case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.expressions import Expression, evaluate
from wsistore.errors import InputError, Kind
from wsistore.model import CopyState
from wsistore.tiers.rules.columns import (
    Flags,
    Ints,
    Moments,
    as_days,
    codes,
    flags,
    integers,
    moments,
    texts,
    to_date,
    without_unknown,
)
from wsistore.tiers.rules.decisions import DECISIONS, STEP, Action, Blocked, Retention
from wsistore.tiers.rules.facts import SCHEMA
from wsistore.tiers.rules.placement import Placed, Site, Situation, Step, place
from wsistore.tiers.rules.retention import Kept, keep
from wsistore.tiers.rules.values import Rules

_ORDER = list(Action)
_AHEAD_US = 86_400_000_000
"""How far a feed may be ahead of the present: a clock that is wrong by more proves nothing."""
_MOST_TIERS = 60
_COMPLETE = frozenset({"collections", "tags", "tiers"})
"""Lists that are the catalogue's own: what is not in them is not so. Where there is none it is empty, not unknown."""


def decide(facts: pa.Table, rules: Rules, now: datetime, *, threads: int | None = None) -> pa.Table:
    """Return what `rules` mean for slides at the moment `now`.

    Parameters
    ----------
    facts
        One row per slide, with at least the columns of `Rules.columns` as `wsistore.tiers.rules.facts.SCHEMA` has
        them; all slides of each case.
    rules
        The rules; where they are not bound, nothing is known of tiers: any is allowed, and one copy is enough.
    now
        The present, timezone-aware.
    threads
        How many processors may be used; by default all.

    Returns
    -------
    pa.Table
        `wsistore.tiers.rules.decisions.DECISIONS`, one row per slide, in the order of `facts`.

    Raises
    ------
    InputError
        If a column is missing or of another type, or `now` has no time zone.

    """
    if now.tzinfo is None:
        msg = f"The moment {now.isoformat()} has no time zone."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy="Give it one, such as +00:00.")
    return weigh(facts, rules, Moments.of([now], rules.time_zone), threads=threads).table()


@dataclass(frozen=True, slots=True)
class Weighed:
    """All that was found out about slides; arrays of shape (rows,)."""

    rules: Rules
    facts: pa.Table
    now: Moments
    kept: Kept
    applies: list[tuple[Flags, Flags]]
    """Of each retention rule, where it applies and where that is unknown."""
    matches: list[Flags]
    """Of each placement rule, where it is true."""
    placed: Ints
    """Number of the placement rule that wins for the slide's case; -1: none."""
    fresh: Flags
    """Whether the feed that the dates come from is new enough to delete by."""
    held: Flags
    situations: _Situations

    def table(self) -> pa.Table:
        """Return the decisions."""
        return _table(self)


def weigh(facts: pa.Table, rules: Rules, now: Moments, *, threads: int | None = None) -> Weighed:
    """Return what is found out about slides on the way to a decision.

    Parameters
    ----------
    facts, rules, threads
        As `decide`.
    now
        The present; it may be another one for each row.

    """
    facts = _checked(facts, rules)
    rows = facts.num_rows
    expressions: list[Expression | None] = []
    for rule in rules.retention:
        expressions += [rule.where, rule.keep_until]
    expressions += [rule.where for rule in rules.placement]
    values = _values(expressions, facts, now, threads)
    retention, placement = values[: 2 * len(rules.retention)], values[2 * len(rules.retention) :]
    matches = [flags(column)[0] for column in placement]
    held = integers(facts["holds"]) > 0
    return Weighed(
        rules=rules,
        facts=facts,
        now=now,
        kept=keep(rules, facts, retention[::2], retention[1::2], now),
        applies=[flags(column) for column in retention[::2]],
        matches=matches,
        placed=_first_of_case(facts["case_id"], matches, rows),
        fresh=_fresh(facts["feed_as_of"], rules, now),
        held=held,
        situations=_Situations.of(facts["copies"], held, now),
    )


def _checked(facts: pa.Table, rules: Rules) -> pa.Table:
    wanted = rules.columns
    missing = [name for name in wanted if name not in facts.column_names]
    if missing:
        msg = f"The table of facts has no column {', '.join(map(repr, missing))}."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy="These rules need it.")
    try:
        found = facts.select(wanted).cast(pa.schema([SCHEMA.field(name) for name in wanted]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        msg = f"The table of facts has a column of another type: {str(error).splitlines()[0]}."
        raise InputError(msg, kind=Kind.RULES_INVALID, remedy="Make it as docs/rules.md says.") from error
    for name in _COMPLETE & set(wanted):
        found = found.set_column(found.column_names.index(name), name, without_unknown(found[name]))
    return found


def _values(
    expressions: list[Expression | None], facts: pa.Table, now: Moments, threads: int | None
) -> list[pa.ChunkedArray]:
    """Return the values of expressions; true where there is none."""
    # The same text is asked once, however many rules have it.
    distinct = {one.sql: one for one in expressions if one is not None}
    columns = evaluate(list(distinct.values()), facts, now.arrow(facts.num_rows), threads=threads)
    found = {sql: columns[str(number)] for number, sql in enumerate(distinct)}
    always = pa.chunked_array([pa.repeat(pa.scalar(True), facts.num_rows)])
    return [always if one is None else found[one.sql] for one in expressions]


def _first_of_case(case: pa.ChunkedArray, matches: list[Flags], rows: int) -> Ints:
    """Return the number of the first rule that is true for any slide of each slide's case; -1: none is."""
    none = len(matches)
    first = np.full(rows, none, np.int64)
    for number in reversed(range(none)):
        first[matches[number]] = number
    group, names = codes(case)
    alone = group < 0
    best = np.full(len(names), none, np.int64)
    np.minimum.at(best, group[~alone], first[~alone])
    found = first.copy()
    found[~alone] = best[group[~alone]]
    return np.where(found == none, -1, found)


def _fresh(feed: pa.ChunkedArray, rules: Rules, now: Moments) -> Flags:
    as_of = moments(feed)
    age = now.us - as_of.values
    most = int(rules.feed_max_age.total_seconds() * 1_000_000)
    found: Flags = as_of.known & (age <= most) & (age >= -_AHEAD_US)
    return found


# --- copies -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Situations:
    """The situations that slides are in: one for each that there is, and which of them each slide is in."""

    number: Ints
    distinct: list[Situation]

    @classmethod
    def of(cls, copies: pa.ChunkedArray, held: Flags, now: Moments) -> _Situations:
        rows = len(copies)
        whole = copies.combine_chunks()
        row = np.asarray(pc.list_parent_indices(whole), dtype=np.int64)
        flat = pc.list_flatten(whole)
        tier, names = codes(pc.struct_field(flat, "tier"))
        if len(names) > _MOST_TIERS:
            msg = f"There are copies in {len(names)} tiers; rules can tell {_MOST_TIERS} apart."
            raise InputError(msg, kind=Kind.RULES_INVALID, remedy="Drop the copies of tiers that are no more.")
        bit = np.left_shift(np.int64(1), np.maximum(tier, 0))
        lasting = np.asarray(pc.is_null(pc.struct_field(flat, "expires_at")), dtype=np.bool_) & (tier >= 0)
        state = _is(flat, "state", str(CopyState.COMMITTED)), _is(flat, "state", str(CopyState.SUSPECT))
        until = moments(pa.chunked_array([pc.struct_field(flat, "charged_until")]))
        charged = until.known & (until.values > np.broadcast_to(now.us, (rows,))[row])
        preset, presets = codes(pc.struct_field(flat, "preset"))
        masks = [_mask(rows, row, bit, lasting & state[0] & (preset == number)) for number in range(len(presets))]
        masks += [_mask(rows, row, bit, lasting & state[1]), _mask(rows, row, bit, lasting & charged)]
        number, firsts = _distinct([*masks, held.astype(np.int64)])
        found = [_situation([int(mask[one]) for mask in masks], bool(held[one]), names, presets) for one in firsts]
        return cls(number, found)


def _is(flat: pa.Array, name: str, value: str) -> Flags:
    return np.asarray(pc.fill_null(pc.equal(pc.struct_field(flat, name), value), False), dtype=np.bool_)


def _mask(rows: int, row: Ints, bit: Ints, which: Flags) -> Ints:
    """Return for each slide the bits of the tiers of those of its copies that are meant."""
    found = np.zeros(rows, np.int64)
    np.bitwise_or.at(found, row[which], bit[which])
    return found


def _situation(masks: list[int], held: bool, names: list[str], presets: list[str]) -> Situation:
    *by_preset, suspect, charged = masks
    good: dict[str, set[str]] = {}
    for preset, mask in zip(presets, by_preset, strict=True):
        for tier in _named(mask, names):
            good.setdefault(tier, set()).add(preset)
    frozen = {tier: frozenset(found) for tier, found in sorted(good.items())}
    return Situation(frozen, frozenset(_named(suspect, names)), frozenset(_named(charged, names)), held)


def _named(mask: int, names: list[str]) -> list[str]:
    return [name for number, name in enumerate(names) if mask >> number & 1]


def _distinct(columns: Iterable[Ints | Flags]) -> tuple[Ints, list[int]]:
    """Return a number for each distinct row of `columns`, and where the first row with each number is."""
    number: Ints | None = None
    for column in columns:
        code, values = codes(pa.array(np.asarray(column, np.int64)))
        number = code if number is None else codes(pa.array(number * max(len(values), 1) + code))[0]
    if number is None or not len(number):
        return np.zeros(0 if number is None else len(number), np.int64), []
    # Numbers are given in the order in which they are first seen.
    highest = np.maximum.accumulate(number)
    firsts = np.flatnonzero(np.r_[True, highest[1:] > highest[:-1]])
    return number, [int(first) for first in firsts]


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What is done about the slides of one kind."""

    action: Action
    steps: list[Step] | None
    blocked: list[str] | None


def _table(found: Weighed) -> pa.Table:
    rules, kept, facts = found.rules, found.kept, found.facts
    rows = facts.num_rows
    today = np.broadcast_to(found.now.today, (rows,))
    number, firsts = _distinct(
        [found.situations.number, found.placed, kept.ended, kept.detach, kept.not_detachable, found.fresh, today]
        if rows
        else []
    )
    sites = {int(day): Site.of(rules, to_date(day)) for day in np.unique(today)}
    outcomes = [_outcome(found, one, sites[int(today[one])]) for one in firsts]
    status = kept.status()
    placed, site = found.placed, Site.of(rules, to_date(today[0])) if rows else None
    presets = [None if site is None else site.preset(rule, rule.tier) for rule in rules.placement]
    copies = [0 if site is None else site.copies(rule) for rule in rules.placement]
    dated = np.isin(status, [list(Retention).index(Retention.KEPT), list(Retention).index(Retention.ENDED)])
    take = pa.array(number)
    columns = [
        facts["slide"],
        facts["case_id"],
        texts([str(one) for one in Retention], status),
        as_days(np.where(dated, kept.until, 0), dated),
        texts([rule.name for rule in rules.retention], kept.rule),
        texts([rule.name for rule in rules.placement], placed),
        texts([rule.tier for rule in rules.placement], placed),
        texts([None if preset is None else str(preset) for preset in presets], placed),
        pa.array(copies, pa.int64()).take(pa.array(placed, mask=placed < 0)),
        as_days(kept.review.values, kept.review.known),
        pa.array([str(one.action) for one in outcomes], pa.string()).take(take),
        pa.array(
            [None if one.steps is None else [step.to_row() for step in one.steps] for one in outcomes], pa.list_(STEP)
        ).take(take),
        pa.array([one.blocked for one in outcomes], pa.list_(pa.string())).take(take),
    ]
    return pa.table(columns, schema=DECISIONS)


def _outcome(found: Weighed, one: int, site: Site) -> _Outcome:
    """Return what is done about the slide in row `one`, and all others like it."""
    kept, situation = found.kept, found.situations.distinct[found.situations.number[one]]
    ends, detaches, fresh = bool(kept.ended[one]), bool(kept.detach[one]), bool(found.fresh[one])
    may = fresh and not situation.held
    if ends and may:
        return _Outcome(Action.DELETE, [Step(Action.DELETE)], None)
    placed = Placed()
    placed.block(Blocked.HELD, when=(ends or detaches) and situation.held)
    placed.block(Blocked.STALE_FEED, when=(ends or detaches) and not fresh)
    placed.block(Blocked.NOT_DETACHABLE, when=bool(kept.not_detachable[one]))
    if found.placed[one] >= 0:
        more = place(found.rules.placement[found.placed[one]], situation, site)
        placed.steps += more.steps
        for reason in more.blocked:
            placed.block(reason)
    if detaches and may:
        placed.steps.append(Step(Action.DETACH_IDENTITY))
    action = max((step.action for step in placed.steps), key=_ORDER.index, default=Action.NONE)
    return _Outcome(action, placed.steps or None, [str(reason) for reason in placed.blocked] or None)
