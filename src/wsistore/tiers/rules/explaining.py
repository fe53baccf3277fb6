"""Why a slide is kept, where it is to be, and what comes next: in sentences, from what `decide` decides by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.expressions import Expression
from wsistore.errors import Kind, MissingError
from wsistore.tiers.rules.columns import Moments, to_date
from wsistore.tiers.rules.deciding import Weighed, weigh
from wsistore.tiers.rules.decisions import Action, Blocked, Retention
from wsistore.tiers.rules.placement import Site
from wsistore.tiers.rules.retention import Rank
from wsistore.tiers.rules.values import PlacementRule, RetentionRule, Rules

_DAILY = 400
"""Days that are looked at one by one for what comes next; after them every `_STRIDE`."""
_STRIDE = 30
_LOOK_AHEAD = 40 * 366
"""Days."""

_BLOCKED = {
    Blocked.HELD: "A hold is on it: nothing is deleted, moved away or detached before it is released.",
    Blocked.STALE_FEED: "The feed that its dates come from is not fresh enough to delete or detach by: that waits.",
    Blocked.STILL_CHARGED: "A copy stays for now: its class charges for it in any case until {charged}.",
    Blocked.TIER_NOT_ALLOWED: "It is not brought where the rule wants it: {refused}.",
    Blocked.TOO_FEW_COPIES: "There are fewer good copies than the rule wants ({copies}), with no tier for another.",
    Blocked.NO_GOOD_COPY: "None of its copies is good: they are to be repaired first.",
    Blocked.NOT_DETACHABLE: "Whether its legal time is over is not known: it is not parted from its patient.",
}


def explain(facts: pa.Table, rules: Rules, now: datetime, slide: str) -> list[str]:
    """Return in sentences what the rules mean for a slide, why, and what comes next.

    Parameters
    ----------
    facts
        The slide's row and those of the other slides of its case, as `decide` takes them; other rows do no harm.
    rules
        The rules.
    now
        The moment, timezone-aware.
    slide
        The slide's key.

    Raises
    ------
    MissingError
        If `facts` has no such slide.
    InputError
        As `decide`.

    """
    rows = _case_of(facts, slide)
    found = weigh(rows, rules, Moments.of([now], rules.time_zone))
    row = rows["slide"].to_pylist().index(slide)
    decision = found.table().slice(row, 1).to_pylist()[0]
    told = _Told(found, found.facts, row, rules, rules.day(now), decision)
    if told.decision["action"] == Action.DELETE:
        return [*told.retention(), *told.doing()]
    return [*told.retention(), *told.placement(), *told.doing(), *_coming(told, now)]


def _case_of(facts: pa.Table, slide: str) -> pa.Table:
    mine = facts.filter(pc.equal(facts["slide"], slide))
    if not mine.num_rows:
        msg = f"There are no facts of a slide {slide!r}."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="'wsistore ls' lists the slides.")
    case = mine["case_id"][0].as_py()
    return mine if case is None else facts.filter(pc.equal(facts["case_id"], case))


@dataclass(frozen=True, slots=True)
class _Told:
    """A slide whose decision is told."""

    found: Weighed
    facts: pa.Table
    row: int
    rules: Rules
    today: date
    decision: dict[str, Any]

    def value(self, name: str) -> Any:
        """Return a fact of the slide."""
        return self.facts[name][self.row].as_py()

    def known(self, *expressions: Expression | None) -> str:
        """Return the values that expressions rest on."""
        names = sorted(set().union(*(one.names for one in expressions if one is not None)))
        return ", ".join(f"{name} is {_shown(self.value(name))}" for name in names) or "it rests on no fact"

    # --- retention ---

    def retention(self) -> Iterator[str]:
        """Tell what each retention rule says, and which decides."""
        for number, rule in enumerate(self.rules.retention):
            yield self._rule(number, rule)
        kept = self.found.kept
        status = list(Retention)[int(kept.status()[self.row])]
        name = self.rules.retention[kept.rule[self.row]].name if kept.rule[self.row] >= 0 else None
        until = to_date(kept.until[self.row])
        if name is None:
            yield "No retention rule applies, so nothing lets it go: it is kept."
        elif status is Retention.KEPT:
            yield f"So it is kept until {until}: {name!r} is the longest that applies."
        elif status is Retention.ENDED:
            yield f"So its retention ended on {until}: {name!r} was the longest that applies."
        elif status is Retention.NEVER_ENDS:
            yield f"So it is kept for ever, by {name!r}."
        elif status is Retention.SUSPENDED:
            yield f"So it is kept as long as the recourse is open, by {name!r}."
        else:
            yield f"So it is kept: as long as {name!r} is unknown, nothing lets it go."
        if kept.review.known[self.row]:
            yield f"Somebody is to look on {to_date(kept.review.values[self.row])} whether it is still wanted."

    def _rule(self, number: int, rule: RetentionRule) -> str:
        said = self.found.kept.verdicts[rule.name]
        applies, unknown = (bool(flag[self.row]) for flag in self.found.applies[number])
        rank = Rank(int(said.rank[self.row]))
        start = f"Retention rule {rule.name!r}"
        if said.replaced[self.row]:
            by = [one.name for one in self.rules.retention if rule.name in one.replaces]
            return f"{start} does not count: {' or '.join(map(repr, by))} replaces it."
        if unknown:
            return f"{start}: whether it applies is unknown ({self.known(rule.where)}), so it counts as never ending."
        if not applies:
            return f"{start} does not apply ({self.known(rule.where)})."
        if rank is Rank.NEVER:
            return f"{start} applies and never ends."
        if rank is Rank.SUSPENDED:
            return f"{start} applies and is suspended: a recourse is open."
        if rank is Rank.UNKNOWN:
            return (
                f"{start} applies until nobody knows when ({self.known(rule.keep_until)}): it counts as never ending."
            )
        longer = int(said.lengthened[self.row])
        because = f", {longer} days of it for recourses" if longer else ""
        return f"{start} applies until {to_date(said.until[self.row])} ({self.known(rule.keep_until)}{because})."

    # --- placement ---

    def placement(self) -> Iterator[str]:
        """Tell which placement rule wins for the case, and why those before it do not."""
        winner = int(self.found.placed[self.row])
        for number, rule in enumerate(self.rules.placement[: winner + 1 if winner >= 0 else None]):
            yield self._asked(number, rule, winner)
        if winner < 0:
            yield "No placement rule is true for it: its copies stay where they are."
            return
        rule, site = self.rules.placement[winner], Site.of(self.rules, self.today)
        preset = site.preset(rule, rule.tier)
        also = f", and in {' and '.join(rule.also)}" if rule.also else ""
        encoded = f" as {preset}" if preset is not None else ""
        copies = site.copies(rule)
        yield f"So it belongs in {rule.tier}{encoded}{also}, with at least {copies} good {_copies(copies)}."

    def _asked(self, number: int, rule: PlacementRule, winner: int) -> str:
        start = f"Placement rule {rule.name!r}"
        if number != winner:
            return f"{start} is true for no slide of its case ({self.known(rule.where)})."
        if rule.where is None:
            return f"{start} is for every slide that no rule before it took."
        if self.found.matches[number][self.row]:
            return f"{start} is the first that is true ({self.known(rule.where)})."
        return f"{start} is the first that is true: for another slide of its case, and a case's slides stay together."

    # --- steps ---

    def doing(self) -> Iterator[str]:
        """Tell what is done, and what is not and why."""
        for step in self.decision["steps"] or ():
            yield _step(step)
        if self.decision["action"] == Action.NONE:
            yield "Nothing is to be done now."
        for reason in self.decision["blocked"] or ():
            yield self._reason(Blocked(reason))

    def _reason(self, reason: Blocked) -> str:
        winner = int(self.found.placed[self.row])
        rule = self.rules.placement[winner] if winner >= 0 else None
        site = Site.of(self.rules, self.today)
        refused = (
            [f"{tier}: {site.taking_none[tier]}" for tier in rule.tiers if tier in site.taking_none] if rule else []
        )
        ends = [copy["charged_until"] for copy in self.value("copies") or () if copy["charged_until"] is not None]
        return _BLOCKED[reason].format(
            charged=max(ends).date() if ends else "later",
            refused="; ".join(refused),
            copies=site.copies(rule) if rule else 1,
        )


def _step(step: dict[str, Any]) -> str:
    encoded = f" as {step['preset']}" if step["preset"] else ""
    return {
        Action.COPY: f"It is copied to {step['tier']}{encoded}.",
        Action.MOVE: f"It is moved from {step['source']} to {step['tier']}{encoded}.",
        Action.REENCODE: f"Its copy in {step['tier']} is encoded anew{encoded}.",
        Action.DROP_COPY: f"Its copy in {step['tier']} is dropped.",
        Action.DETACH_IDENTITY: "Its legal time is over, and it is wanted for ever: it is parted from its patient.",
        Action.DELETE: "It is deleted for good, once that is approved.",
        Action.NONE: "",
    }[Action(step["action"])]


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "empty"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return str(value)


def _copies(count: int) -> str:
    return "copy" if count == 1 else "copies"


# --- what comes next --------------------------------------------------------------------------------------------------


def _coming(told: _Told, now: datetime) -> Iterator[str]:
    """Tell when another placement rule wins, and when the time to keep it ends, if nothing is learnt until then."""
    moments = [now, *_later(now)]
    seen = _signals(told, moments)
    changes = {which: _first_change(told, moments, values, which) for which, values in seen.items()}
    told_any = False
    for which, change in changes.items():
        if change is None or (which == "detach" and not change[1]):
            continue
        day, what = told.rules.day(change[0]), _change(told.rules, which, change[1])
        told_any = True
        yield f"Next: on {day} {what}, if nothing changes until then."
    if not told_any:
        yield "Nothing else comes of these rules within 40 years, if nothing changes."


def _change(rules: Rules, which: str, value: int) -> str:
    if which == "placed":
        if value < 0:
            return "no placement rule is true for it any more"
        rule = rules.placement[value]
        return f"placement rule {rule.name!r} takes over, and it belongs in {rule.tier}"
    if which == "detach":
        return "its legal time is over, and it is to be parted from its patient"
    status = list(Retention)[value]
    return "its retention ends, and it may be deleted" if status is Retention.ENDED else f"its retention is {status}"


def _later(now: datetime) -> list[datetime]:
    last = (datetime.max.replace(tzinfo=UTC) - now).days - 1
    days = [*range(1, _DAILY), *range(_DAILY, _LOOK_AHEAD, _STRIDE)]
    return [now + timedelta(days=day) for day in days if day <= last]


def _signals(told: _Told, moments: list[datetime]) -> dict[str, list[int]]:
    """Return what holds for the slide at each of `moments`: its placement rule, its retention, whether it is parted."""
    rows, times = told.facts.num_rows, len(moments)
    facts = told.facts.take(pa.array(np.tile(np.arange(rows), times)))
    # The same case at another moment is another case.
    case = pa.array([str(moment) for moment in range(times) for _ in range(rows)], pa.string())
    facts = facts.set_column(facts.column_names.index("case_id"), facts.schema.field("case_id"), case)
    at = Moments.of(moments, told.rules.time_zone)
    found = weigh(facts, told.rules, Moments(np.repeat(at.us, rows), np.repeat(at.today, rows)))
    values = {"placed": found.placed, "status": found.kept.status(), "detach": found.kept.detach}
    return {which: [int(value) for value in column[told.row :: rows]] for which, column in values.items()}


def _first_change(told: _Told, moments: list[datetime], values: list[int], which: str) -> tuple[datetime, int] | None:
    """Return the first day on which a signal is another than now, and what it is then."""
    changed = next((index for index, value in enumerate(values) if value != values[0]), None)
    if changed is None:
        return None
    before, after = moments[changed - 1], moments[changed]
    between = [before + timedelta(days=day) for day in range(1, (after - before).days + 1)]
    finer = _signals(told, between)[which] if len(between) > 1 else [values[changed]]
    first = next(index for index, value in enumerate(finer) if value != values[0])
    return between[first], finer[first]
