"""A plan's rows and header from facts, decisions, prices and limits: pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsistore.tiers.plans.coefficients import Coefficients, digest_of
from wsistore.tiers.plans.costing import Costed, cost
from wsistore.tiers.plans.flat import PRESETS
from wsistore.tiers.plans.header import VALID_DAYS, Header, RulesUsed
from wsistore.tiers.plans.limits import limits_to_json, over_limits, postponed
from wsistore.tiers.plans.reasons import reasons
from wsistore.tiers.plans.rows import COSTS, PLAN
from wsistore.tiers.plans.sizes import groups_of
from wsistore.tiers.plans.totals import totals_of
from wsistore.tiers.rules.decisions import DECISIONS
from wsistore.tiers.rules.values import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Who makes a plan, where and when."""

    site: str
    author: str
    made_at: datetime
    at: datetime
    rules: RulesUsed
    software: str
    """Name and version of what makes it."""
    valid: timedelta = timedelta(days=VALID_DAYS)


def make(
    facts: pa.Table, decisions: pa.Table, terms: Coefficients, limits: Limits, around: Circumstances
) -> tuple[Header, pa.Table]:
    """Make a plan.

    Parameters
    ----------
    facts
        Of `wsistore.tiers.rules.facts.SCHEMA`, sorted by slide.
    decisions
        What `wsistore.tiers.rules.decide` made of them, the same rows.
    terms
        Prices and coefficients of every tier that facts and decisions name.
    limits
        Of the rules.
    around
        Who, where and when.

    Returns
    -------
    Header
        All but the hash of the file's data.
    pyarrow.Table
        Of `wsistore.tiers.plans.rows.PLAN`.

    Raises
    ------
    ValueError
        If facts and decisions are not of the same slides, sorted and each once.

    """
    facts, decisions = facts.combine_chunks(), decisions.combine_chunks()
    _check_rows(facts, decisions)
    costed = cost(facts, decisions, terms, around.at)
    waits = postponed(facts, decisions, costed, terms, limits)
    rows = _rows(facts, decisions, costed, waits)
    coefficients = terms.to_json()
    header = Header(
        site=around.site,
        software=around.software,
        made_at=around.made_at,
        at=around.at,
        expires_at=around.made_at + around.valid,
        author=around.author,
        rules=around.rules,
        catalogue_digest=catalogue_digest(facts),
        coefficients=coefficients,
        coefficients_digest=digest_of(coefficients),
        limits=limits_to_json(limits),
        over_limit=over_limits(decisions, limits),
        estimated=_estimated(facts, costed, terms),
        totals=totals_of(rows, facts["department"], costed, terms),
        rows=rows.num_rows,
    )
    return header, rows


def catalogue_digest(facts: pa.Table) -> str:
    """Return the SHA-256 over the catalogue's state: ``slide TAB state LF`` of every slide, sorted by slide."""
    lines = pc.binary_join_element_wise(facts["slide"], pc.fill_null(facts["state"], ""), "\t")
    hashed = hashlib.sha256()
    for chunk in lines.take(pc.sort_indices(facts["slide"])).chunks:
        hashed.update("".join(f"{line}\n" for line in chunk.to_pylist()).encode("utf-8"))
    return hashed.hexdigest()


def _check_rows(facts: pa.Table, decisions: pa.Table) -> None:
    slides = facts["slide"].combine_chunks()
    rising = len(slides) < 2 or pc.all(pc.less(slides[:-1], slides[1:])).as_py()
    if decisions.schema.names != DECISIONS.names or not rising or not decisions["slide"].equals(facts["slide"]):
        msg = "facts and decisions must be of the same slides, sorted, each once"
        raise ValueError(msg)


def _rows(facts: pa.Table, decisions: pa.Table, costed: Costed, waits: pa.Array) -> pa.Table:
    figures = {
        "reason": reasons(decisions, waits),
        "state": pc.fill_null(facts["state"], ""),
        "postponed": waits,
        "payback_years": pa.array(costed.payback_years, mask=np.isnan(costed.payback_years)),
    }
    for name in COSTS.names:
        if name not in figures:
            figures[name] = pa.array(getattr(costed, name))
    columns = [decisions[name] for name in DECISIONS.names] + [figures[name] for name in COSTS.names]
    return pa.Table.from_arrays([_typed(one, item.type) for one, item in zip(columns, PLAN, strict=True)], schema=PLAN)


def _typed(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)


def _estimated(facts: pa.Table, costed: Costed, terms: Coefficients) -> dict[str, int]:
    """Return how many copies' sizes are estimated, by what the estimates rest on."""
    made = costed.made
    rests_on = groups_of(facts).ratios(terms.sizes)[2]
    cells = made.group[made.is_estimated] * len(PRESETS) + made.preset[made.is_estimated]
    found: Counter[str] = Counter()
    for cell, count in zip(*np.unique(cells, return_counts=True), strict=True):
        group, preset = divmod(int(cell), len(PRESETS))
        found[str(rests_on[group][preset])] += int(count)
    return dict(sorted(found.items()))
