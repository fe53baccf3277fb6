"""What differs between two plans: slides that one has and the other has not, and those of which they say otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.plans.plan_file import Plan
from wsistore.tiers.plans.totals import SUMMED, Total

Json = dict[str, Any]

COMPARED = (
    *("action", "tier", "preset", "place_rule", "keep_rule", "retention", "keep_until", "steps", "blocked"),
    *("postponed", "state", "bytes_now", "bytes_after"),
)
"""Columns of which a change is told. Costs follow from them and from the coefficients, compared as a whole."""
_PARTS = 50_000


@dataclass(frozen=True, slots=True)
class Change:
    """One slide of which two plans say something else."""

    slide: str
    before: Mapping[str, Any] | None
    """What changed, as it was; None: the first plan has not this slide."""
    after: Mapping[str, Any] | None

    def to_json(self) -> Json:
        """Return values; days are dates."""
        before = None if self.before is None else dict(self.before)
        return {"slide": self.slide, "before": before, "after": None if self.after is None else dict(self.after)}


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two plans as a whole."""

    same_rules: bool
    same_catalogue: bool
    same_coefficients: bool
    same_limits: bool
    before: Total
    after: Total

    @property
    def grown(self) -> dict[str, float]:
        """By how much each sum grew from the first plan to the second."""
        return {name: self.after.sums[name] - self.before.sums[name] for name in SUMMED}


def difference(first: Plan, second: Plan) -> Difference:
    """Compare two plans as a whole."""
    one, other = first.header, second.header
    return Difference(
        same_rules=one.rules.digest == other.rules.digest,
        same_catalogue=one.catalogue_digest == other.catalogue_digest,
        same_coefficients=one.coefficients_digest == other.coefficients_digest,
        same_limits=one.limits == other.limits,
        before=one.totals.all,
        after=other.totals.all,
    )


def changes(first: Plan, second: Plan) -> Iterator[Change]:
    """Yield the slides of which two plans say something else, sorted by slide."""
    one, other = _texts(first.rows), _texts(second.rows)
    joined = one.join(other, "slide", join_type="full outer", right_suffix=" after").sort_by("slide")
    differs = pc.invert(pc.fill_null(pc.equal(joined["text"], joined["text after"]), False))
    slides = joined["slide"].filter(differs)
    for start in range(0, len(slides), _PARTS):
        part = slides.slice(start, _PARTS)
        before, after = _rows(first.rows, part), _rows(second.rows, part)
        for slide in part.to_pylist():
            yield _change(slide, before.get(slide), after.get(slide))


def _texts(rows: pa.Table) -> pa.Table:
    """Return slide and one text of all compared columns."""
    parts = [_as_text(rows, name) for name in COMPARED]
    text = pc.binary_join_element_wise(*parts, "\x1f", null_handling="replace", null_replacement="\x00")
    return pa.table({"slide": rows["slide"], "text": text})


def _as_text(rows: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    column = rows[name]
    if name == "blocked":
        return pc.binary_join(column, "\x1e")
    if name == "steps":
        # The reason has the steps in words; it is the same text for the same steps.
        return rows["reason"]
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _rows(rows: pa.Table, slides: pa.ChunkedArray) -> dict[str, Json]:
    chosen = rows.select(["slide", *COMPARED]).filter(pc.is_in(rows["slide"], value_set=slides.combine_chunks()))
    return {row.pop("slide"): row for row in chosen.to_pylist()}


def _change(slide: str, before: Json | None, after: Json | None) -> Change:
    if before is None or after is None:
        return Change(slide, before, after)
    names = [name for name in COMPARED if before[name] != after[name]]
    return Change(slide, {name: before[name] for name in names}, {name: after[name] for name in names})
