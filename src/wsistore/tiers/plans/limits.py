"""Limits of a plan: what fits into one night, and what is so much that a rule must be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.plans.coefficients import Coefficients
from wsistore.tiers.plans.costing import Costed
from wsistore.tiers.plans.flat import Floats, Integers
from wsistore.tiers.rules.decisions import Action
from wsistore.tiers.rules.values import Limits, Window

_DELETING = (Action.DELETE, Action.DETACH_IDENTITY)
_MOVING = (Action.COPY, Action.REENCODE, Action.MOVE, Action.DROP_COPY)


def window_seconds(window: Window | None) -> float | None:
    """Return how long a window is; None where there is none."""
    if window is None:
        return None
    begins, ends = (
        timedelta(hours=one.hour, minutes=one.minute, seconds=one.second) for one in (window.begins, window.ends)
    )
    length = (ends - begins) % timedelta(days=1)
    return length.total_seconds() or timedelta(days=1).total_seconds()


def limits_to_json(limits: Limits) -> dict[str, Any]:
    """Return limits as JSON values."""
    return {
        "move_bytes_per_day": limits.move_bytes_per_day,
        "window": None if limits.window is None else str(limits.window),
        "high_watermarks": dict(limits.high_watermarks),
        "cost_at_most_eur": limits.cost_at_most_eur,
        "delete_at_most": limits.delete_at_most,
        "move_at_most": limits.move_at_most,
    }


@dataclass(frozen=True, slots=True)
class OverLimit:
    """A limit that the plan as a whole breaks: it cannot be approved."""

    limit: str
    slides: int
    """That the rules want to touch."""
    allowed: int
    catalogue: int
    """All slides."""

    @property
    def needed(self) -> str:
        """The least percentage, in tenths, that would allow it."""
        tenths = -(-self.slides * 1000 // self.catalogue)
        return f"{tenths // 10}.{tenths % 10}".removesuffix(".0") + " %"

    def __str__(self) -> str:
        """Say it to a person."""
        what = "delete, or part from their patients," if self.limit == "delete_at_most" else "change the copies of"
        return (
            f"The rules would {what} {self.slides} of {self.catalogue} slides; {self.limit} allows {self.allowed}. "
            f"Mend the rules or, if this is meant, raise {self.limit} to {self.needed} there, and plan again."
        )


def over_limits(decisions: pa.Table, limits: Limits) -> tuple[OverLimit, ...]:
    """Return the limits that decisions break, postponed ones included: a wrong rule is wrong in small pieces, too."""
    slides = decisions.num_rows
    found = []
    for name, part, actions in (
        ("delete_at_most", limits.delete_at_most, _DELETING),
        ("move_at_most", limits.move_at_most, _MOVING),
    ):
        wanted = pc.sum(pc.is_in(decisions["action"], value_set=pa.array([str(one) for one in actions]))).as_py() or 0
        # 0.1 % of 2000 is 2: a float's last digit must not make it 1
        allowed = int(np.floor(part * slides + 1e-9))
        if wanted > allowed:
            found.append(OverLimit(name, wanted, allowed, slides))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Cases:
    """Slides that wait or go together, with what they need; arrays of groups are (cases,)."""

    of_row: Integers
    """Number of each slide's case; (slides,)."""
    acts: npt.NDArray[np.bool_]
    """Whether anything is done to each slide; (slides,)."""
    bytes_moved: Floats
    seconds: Floats
    eur: Floats
    rank: Integers
    """Which go first: lower before higher."""
    payback: Floats
    """Years; infinite where there is none."""


def postponed(facts: pa.Table, decisions: pa.Table, costed: Costed, terms: Coefficients, limits: Limits) -> pa.Array:
    """Return the name of the limit for which each slide waits; null for those that are in the plan.

    The slides of a case wait together. First come those that cost no time (deletions, drops), then those that relieve a
    tier above its high watermark, then further copies, then the rest: what pays back soonest before what does later.
    From the first that does not fit on all wait, so that small slides do not overtake large ones for ever; only a case
    that is larger than the whole limit is passed over.

    Parameters
    ----------
    facts, decisions
        The same rows of both.
    costed
        Theirs.
    terms
        Tiers with their capacities.
    limits
        Of the rules.

    Returns
    -------
    pyarrow.Array
        Strings: ``move_bytes_per_day``, ``window``, ``cost_at_most`` or ``capacity:TIER``.

    """
    cases = _cases(facts, decisions, costed, terms, limits)
    order = np.lexsort((np.arange(len(cases.rank)), cases.payback, cases.rank))
    waits = np.full(len(order), -1, np.int64)
    names: list[str] = []
    for name, needed, allowed in _capacities(cases, costed, terms, limits):
        names.append(name)
        late = _late(needed[order], allowed)
        waits[order[late & (waits[order] < 0)]] = len(names) - 1
    for name, needed, allowed in _budgets(cases, limits):
        names.append(name)
        going = order[waits[order] < 0]
        waits[going[_late(needed[going], allowed)]] = len(names) - 1
    of_row = np.where(cases.acts, waits[cases.of_row], -1)
    return pa.array(names, pa.string()).take(pa.array(of_row, mask=of_row < 0))


def _late(needed: Floats, allowed: float) -> npt.NDArray[np.bool_]:
    """Say which of the cases, the most urgent first, do not fit; what needs nothing need not wait.

    One that would not fit even alone does not keep the others waiting.
    """
    fits = needed <= allowed
    return (needed > 0) & (~fits | (np.cumsum(np.where(fits, needed, 0.0)) > allowed))


def _cases(facts: pa.Table, decisions: pa.Table, costed: Costed, terms: Coefficients, limits: Limits) -> Cases:
    keys = pc.coalesce(
        pc.binary_join_element_wise("case", facts["case_id"], ":"),
        pc.binary_join_element_wise("slide", facts["slide"], ":"),
    )
    of_row = _ranks(keys)
    count = int(of_row.max()) + 1 if len(of_row) else 0
    action = decisions["action"]
    acts = pc.not_equal(action, str(Action.NONE)).to_numpy().astype(np.bool_)

    def per_case(values: npt.NDArray[Any]) -> Floats:
        return np.bincount(of_row, weights=np.where(acts, values, 0), minlength=count).astype(np.float64)

    once = per_case(costed.eur_once + costed.eur_retrieval + costed.eur_early)
    saved = per_case(costed.eur_year_now - costed.eur_year_after)
    payback = np.divide(once, saved, out=np.full(count, np.inf), where=saved > 0)
    busy = per_case(costed.bytes_moved) + per_case(np.bincount(costed.made.row, minlength=len(acts)))
    rank = np.where(busy == 0, 0, 3)
    rank = np.where((rank > 0) & (_relief(of_row, count, costed, terms, limits) > 0), 1, rank)
    copying = per_case(pc.equal(action, str(Action.COPY)).to_numpy())
    rank = np.where((rank > 2) & (copying > 0), 2, rank)
    return Cases(of_row, acts, per_case(costed.bytes_moved), per_case(costed.seconds), once, rank, payback)


def _ranks(keys: pa.ChunkedArray) -> Integers:
    """Return the place of each key among all different ones, sorted: the same whatever the order of the rows."""
    coded = keys.combine_chunks().dictionary_encode()
    coded = coded if isinstance(coded, pa.DictionaryArray) else pa.concat_arrays(coded.chunks)
    place = np.empty(len(coded.dictionary), np.int64)
    place[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(place))
    found: Integers = place[coded.indices.to_numpy()]
    return found


def _relief(of_row: Integers, count: int, costed: Costed, terms: Coefficients, limits: Limits) -> Floats:
    """Return the bytes that each case takes away from tiers that are above their high watermarks."""
    full = np.array([tier.used_bytes > room for tier, room in _rooms(terms, limits)], np.bool_)
    kept = costed.kept
    going = ~costed.left & (full[kept.tier] if len(full) else False)
    return np.bincount(of_row[kept.row[going]], weights=kept.size[going], minlength=count).astype(np.float64)


def _rooms(terms: Coefficients, limits: Limits) -> Iterator[tuple[Any, float]]:
    for tier in terms.tiers:
        part = limits.high_watermarks.get(tier.name, tier.high_watermark)
        yield tier, float("inf") if tier.capacity_bytes is None else tier.capacity_bytes * part


def _capacities(
    cases: Cases, costed: Costed, terms: Coefficients, limits: Limits
) -> Iterator[tuple[str, Floats, float]]:
    """Yield the tiers that have a capacity: the limit's name, what each case brings there, and the room."""
    made, count = costed.made, len(cases.rank)
    for n, (tier, room) in enumerate(_rooms(terms, limits)):
        if np.isfinite(room):
            here = made.tier == n
            needed = np.bincount(cases.of_row[made.row[here]], weights=made.size[here], minlength=count)
            yield f"capacity:{tier.name}", needed.astype(np.float64), max(0.0, room - tier.used_bytes)


def _budgets(cases: Cases, limits: Limits) -> Iterator[tuple[str, Floats, float]]:
    """Yield the limits of the whole plan: name, what each case needs, and what there is."""
    if limits.move_bytes_per_day is not None:
        yield "move_bytes_per_day", cases.bytes_moved, float(limits.move_bytes_per_day)
    if (length := window_seconds(limits.window)) is not None:
        yield "window", cases.seconds, length
    if limits.cost_at_most_eur is not None:
        yield "cost_at_most", cases.eur, limits.cost_at_most_eur
