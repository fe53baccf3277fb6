"""Totals of a plan: what it does as a whole, by action, rule, tier and department, and what it does not do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.plans.coefficients import Coefficients, storage_per_year
from wsistore.tiers.plans.costing import Costed
from wsistore.tiers.plans.flat import Flags, Floats, Integers, codes_of
from wsistore.tiers.rules.decisions import Action, Retention

Json = dict[str, Any]

KEPT = {
    "bytes_after": "bytes_now",
    "eur_year_after": "eur_year_now",
    "kwh_year_after": "kwh_year_now",
    "gco2e_year_after": "gco2e_year_now",
}
"""What a row that waits still has: the figure beside the one that it would have."""
ONCE = ("bytes_moved", "eur_once", "eur_retrieval", "eur_early", "kwh_once", "gco2e_once", "seconds")
"""What a row that waits does not spend."""
SUMMED = (*KEPT.values(), *KEPT, *ONCE)
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over some rows: what the plan does, without what waits."""

    slides: int = 0
    waiting: int = 0
    """Of these, slides for which something is to be done that waits."""
    sums: Mapping[str, float] = field(default_factory=dict)
    """By the columns' names, those of `SUMMED`."""

    @property
    def eur_spent(self) -> float:
        """All that is spent once."""
        return sum(self.sums.get(name, 0.0) for name in ("eur_once", "eur_retrieval", "eur_early"))

    @property
    def eur_saved_per_year(self) -> float:
        """Negative if keeping costs more afterwards."""
        return self.sums.get("eur_year_now", 0.0) - self.sums.get("eur_year_after", 0.0)

    @property
    def payback_years(self) -> float | None:
        """After how long what is spent is saved; None if it never is, or nothing is spent."""
        spent, saved = self.eur_spent, self.eur_saved_per_year
        return spent / saved if spent > 0 and saved > 0 else None

    def to_json(self) -> Json:
        """Return JSON values."""
        return {"slides": self.slides, "waiting": self.waiting, **self.sums}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Total:
        """Read `to_json`; raises KeyError, TypeError or ValueError on anything else."""
        if set(document) != {"slides", "waiting", *SUMMED}:
            msg = "a total has other sums"
            raise ValueError(msg)
        sums = {name: _number(document[name]) for name in SUMMED}
        return cls(_count(document["slides"]), _count(document["waiting"]), sums)

    def is_close(self, other: Total) -> bool:
        """Say whether two are the same but for the last digits of floats."""
        if (self.slides, self.waiting) != (other.slides, other.waiting):
            return False
        return all(math.isclose(self.sums[n], other.sums[n], rel_tol=_CLOSE, abs_tol=_CLOSE) for n in SUMMED)


@dataclass(frozen=True, slots=True)
class TierTotal:
    """What lies in a tier, of current versions: now and when the plan is done."""

    slides_now: int
    slides_after: int
    bytes_now: float
    bytes_after: float
    eur_year_now: float
    eur_year_after: float
    kwh_year_now: float
    kwh_year_after: float
    gco2e_year_now: float
    gco2e_year_after: float

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TierTotal:
        """Read what `dataclasses.asdict` made; raises TypeError or ValueError on anything else."""
        read: dict[str, Any] = {
            name: _count(one) if name.startswith("slides") else _number(one) for name, one in document.items()
        }
        return cls(**read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """All totals; each mapping's totals sum to `all`, and its keys are sorted."""

    all: Total
    by_action: Mapping[str, Total]
    by_rule: Mapping[str, Total]
    """The retention rule of what is deleted or detached, the placement rule of all else; nothing: no rule."""
    by_department: Mapping[str, Total]
    """Nothing: not known."""
    by_tier: Mapping[str, TierTotal]
    retention: Mapping[str, int]
    """Slides by how long they have to be kept."""
    blocked: Mapping[str, int]
    """Slides of which something is not done, by why."""
    postponed: Mapping[str, Total]
    """What waits, by the limit: what it would do, not what it does."""

    def tiers_add_up(self) -> bool:
        """Say whether the totals by tier are those of all."""
        names = [name for name in SUMMED if name not in ONCE]
        sums = {name: math.fsum(getattr(one, name) for one in self.by_tier.values()) for name in names}
        return all(math.isclose(sums[name], self.all.sums[name], rel_tol=_CLOSE, abs_tol=_CLOSE) for name in names)


def total_of(rows: pa.Table) -> Total:
    """Return the total of rows of a plan."""
    (found,) = _totals(rows, np.zeros(rows.num_rows, np.int64), [""]).values() if rows.num_rows else (empty(),)
    return found


def empty() -> Total:
    """Return the total of no rows."""
    return Total(0, 0, dict.fromkeys(SUMMED, 0.0))


def added(totals: Iterable[Total]) -> Total:
    """Return the sum of totals."""
    slides, waiting, sums = 0, 0, dict.fromkeys(SUMMED, 0.0)
    for total in totals:
        slides, waiting = slides + total.slides, waiting + total.waiting
        for name in SUMMED:
            sums[name] += total.sums[name]
    return Total(slides, waiting, sums)


def totals_of(rows: pa.Table, departments: pa.ChunkedArray, costed: Costed, terms: Coefficients) -> Totals:
    """Return the totals of a plan.

    Parameters
    ----------
    rows
        Of `wsistore.tiers.plans.rows.PLAN`.
    departments
        Of the same slides, from the facts.
    costed, terms
        What the figures come from: totals by tier need the copies.

    """
    return Totals(
        all=total_of(rows),
        by_action=by(rows, rows["action"]),
        by_rule=by(rows, rule_of(rows)),
        by_department=by(rows, departments),
        by_tier=_by_tier(rows, costed, terms),
        retention=counts(rows["retention"]),
        blocked=counts(pc.list_flatten(rows["blocked"])),
        postponed=postponed_of(rows),
    )


def rule_of(rows: pa.Table) -> pa.ChunkedArray:
    """Return the rule that decided of each row: of retention if the slide goes, else of placement."""
    goes = pc.is_in(rows["action"], value_set=pa.array([str(Action.DELETE), str(Action.DETACH_IDENTITY)]))
    return pc.if_else(goes, rows["keep_rule"], rows["place_rule"])


def by(rows: pa.Table, column: pa.ChunkedArray) -> dict[str, Total]:
    """Return the totals of rows by the values of a column, sorted; nulls as an empty text."""
    values = pc.fill_null(column, "")
    words = sorted(values.unique().to_pylist())
    return _totals(rows, codes_of(values, words), words)


def _totals(rows: pa.Table, code: Integers, words: Sequence[str], *, done: bool = True) -> dict[str, Total]:
    """Return the totals by a code; with `done` those of what is done now, else of what would be."""
    count = len(words)
    waits = pc.is_valid(rows["postponed"]).to_numpy() & done
    slides, waiting = np.bincount(code, minlength=count), np.bincount(code[waits], minlength=count)
    sums = {name: np.bincount(code, _effective(rows, name, waits), count) for name in SUMMED}
    return {
        word: Total(int(slides[n]), int(waiting[n]), {name: float(sums[name][n]) for name in SUMMED})
        for n, word in enumerate(words)
    }


def _effective(rows: pa.Table, name: str, waits: Flags) -> Floats:
    values = rows[name].to_numpy().astype(np.float64)
    if name in KEPT:
        kept: Floats = np.where(waits, rows[KEPT[name]].to_numpy(), values).astype(np.float64)
        return kept
    spent: Floats = np.where(waits, 0.0, values) if name in ONCE else values
    return spent


def postponed_of(rows: pa.Table) -> dict[str, Total]:
    """Return what the rows that wait would do, by the limit."""
    waiting = rows.filter(pc.is_valid(rows["postponed"]))
    words = sorted(waiting["postponed"].unique().to_pylist())
    return _totals(waiting, codes_of(waiting["postponed"], words), words, done=False) if words else {}


def _by_tier(rows: pa.Table, costed: Costed, terms: Coefficients) -> dict[str, TierTotal]:
    waits = pc.is_valid(rows["postponed"]).to_numpy()
    kept, made = costed.kept, costed.made
    stays, comes = costed.left | waits[kept.row], ~waits[made.row]
    row = np.concatenate([kept.row[stays], made.row[comes]])
    tier = np.concatenate([kept.tier[stays], made.tier[comes]])
    size = np.concatenate([kept.size[stays], made.size[comes]])
    objects = np.concatenate([kept.objects[stays], made.objects[comes]])
    before = _tier_sums(terms, kept.tier, kept.size, kept.objects)
    after = _tier_sums(terms, tier, size, objects)
    count = len(terms.names)
    slides = [_slides_by_tier(len(waits), count, kept.row, kept.tier), _slides_by_tier(len(waits), count, row, tier)]
    return {
        name: TierTotal(
            int(slides[0][n]),
            int(slides[1][n]),
            *(float(one[n]) for pair in zip(before, after, strict=True) for one in pair),
        )
        for n, name in enumerate(terms.names)
    }


def _slides_by_tier(rows: int, tiers: int, row: Integers, tier: Integers) -> Integers:
    """Return how many slides have a copy in each tier; two in one tier count once."""
    has = np.zeros((rows, tiers), np.bool_)
    has[row, tier] = True
    found: Integers = has.sum(axis=0).astype(np.int64)
    return found


def _tier_sums(
    terms: Coefficients,
    tier: Integers,
    size: Floats,
    objects: Floats,
) -> list[Floats]:
    yearly = storage_per_year(terms, tier, size, objects)
    return [np.bincount(tier, weights=one, minlength=len(terms.names)).astype(np.float64) for one in (size, *yearly)]


def counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value occurs, sorted; nulls are left out."""
    found = {one["values"]: one["counts"] for one in pc.value_counts(column).to_pylist()}
    return {str(word): int(found[word]) for word in sorted(found, key=str) if word is not None}


def unknown(totals: Totals) -> int:
    """Return how many slides are kept because nobody can say for how long."""
    return totals.retention.get(str(Retention.UNKNOWN), 0)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        msg = f"{value!r:.40} is no number"
        raise ValueError(msg)
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = f"{value!r:.40} is no count"
        raise ValueError(msg)
    return value
