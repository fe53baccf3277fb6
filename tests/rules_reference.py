"""Retention and placement told anew, one slide after the other in plain Python: what the fast path is compared with.

Slow on purpose, and from the specification: no SQL, no arrays.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

Row = Mapping[str, Any]
Truth = Callable[[Row, datetime], bool | None]
Day = Callable[[Row, datetime], date | None]


@dataclass(frozen=True)
class Until:
    """When a rule lets go: as a person writes it, and as it is."""

    sql: str
    day: Day | None
    """None: it never does."""


@dataclass(frozen=True)
class When:
    """A condition likewise; no text: always."""

    sql: str
    truth: Truth


@dataclass(frozen=True)
class Rule:
    """A retention rule."""

    name: str
    when: When
    until: Until
    suspended: bool = False
    replaces: tuple[str, ...] = ()
    detach: bool = False

    def yaml(self) -> str:
        """Return it as a file has it."""
        lines = [f"  - name: {self.name}", f"    keep_until: {self.until.sql}"]
        lines += [f'    where: "{self.when.sql}"'] if self.when.sql else []
        lines += ["    suspended_by: recourse"] if self.suspended else []
        lines += [f"    replaces: [{', '.join(self.replaces)}]"] if self.replaces else []
        lines += ["    at_legal_end: detach-identity"] if self.detach else []
        return "\n".join(lines) + "\n"


def add_years(day: date | None, years: int) -> date | None:
    """Return the day so many years later; of 29 February, where there is none, 1 March."""
    if day is None:
        return None
    if day.month == 2 and day.day == 29 and not calendar.isleap(day.year + years):
        return date(day.year + years, 3, 1)
    return day.replace(year=day.year + years)


def lengthened(limit: date, recourses: Sequence[Mapping[str, date]], today: date) -> date:
    """Return the day to which ended recourses shift a limit, counted day by day."""
    suspended: set[date] = set()
    for one in sorted(recourses, key=lambda each: (each["begins"], each["ends"])):
        days = {one["begins"] + timedelta(days=n) for n in range((one["ends"] - one["begins"]).days)} - suspended
        if days and min(days) < limit:
            limit += timedelta(days=len(days))
        suspended |= days
    going = [one["ends"] for one in recourses if one["begins"] <= today < one["ends"]]
    return max([limit, *going])


def retention(rules: Sequence[Rule], row: Row, now: datetime) -> dict[str, Any]:
    """Return what becomes of a slide: retention, keep_until, keep_rule, and whether it goes or is parted."""
    said = {rule.name: _said(rule, row, now) for rule in rules}
    counting = _counting(rules, said)
    today = now.astimezone(UTC).date()
    order = ("never-ends", "suspended", "unknown")
    best: tuple[str, date | None, str | None] = ("unknown", None, None)
    for kind in order:
        of_kind = [name for name in counting if said[name][0] == kind]
        if of_kind:
            best = (kind, None, of_kind[0])
            break
    else:
        if counting:
            last = max(said[name][1] for name in counting)
            name = next(name for name in counting if said[name][1] == last)
            best = ("ended" if last <= today else "kept", last, name)
    others = [said[rule.name] for rule in rules if rule.name in counting and not rule.detach]
    wants = any(rule.detach and rule.name in counting and said[rule.name][0] == "never-ends" for rule in rules)
    over = bool(others) and all(kind == "dated" and day <= today for kind, day in others)
    parts = wants and over and not row["identity_detached"]
    return {"retention": best[0], "keep_until": best[1], "keep_rule": best[2], "detach": parts}


def _said(rule: Rule, row: Row, now: datetime) -> tuple[str, Any]:
    applies = rule.when.truth(row, now)
    if applies is None:
        return ("unknown", None)
    if not applies:
        return ("none", None)
    if rule.until.day is None:
        return ("never-ends", None)
    day = rule.until.day(row, now)
    if day is None:
        return ("unknown", None)
    if rule.suspended:
        recourses = row["recourse"] or []
        if any(one["begins"] is None or (one["ends"] is not None and one["ends"] < one["begins"]) for one in recourses):
            return ("unknown", None)
        if any(one["ends"] is None for one in recourses):
            return ("suspended", None)
        day = lengthened(day, recourses, now.astimezone(UTC).date())
    return ("dated", day)


def _counting(rules: Sequence[Rule], said: Mapping[str, tuple[str, Any]]) -> list[str]:
    """Return the rules that count: those that apply, or may, and that no certain rule that counts replaces."""

    def counts(rule: Rule) -> bool:
        replacing = [other for other in rules if rule.name in other.replaces]
        replaced = any(counts(other) and said[other.name][0] != "unknown" for other in replacing)
        return said[rule.name][0] != "none" and not replaced

    return [rule.name for rule in rules if counts(rule)]


def first_rules(conditions: Sequence[When], rows: Sequence[Row], now: datetime) -> list[int | None]:
    """Return for each slide the number of the placement rule that wins for its case."""
    found: list[int | None] = []
    for row in rows:
        case = [other for other in rows if row["case_id"] is not None and other["case_id"] == row["case_id"]] or [row]
        true = [n for n, when in enumerate(conditions) if any(when.truth(one, now) for one in case)]
        found.append(true[0] if true else None)
    return found
