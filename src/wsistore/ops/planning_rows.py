"""Rows of a plan that somebody asks for, and what it says of one slide in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.expressions import Vocabulary, evaluate, parse
from wsistore.errors import InputError, Kind, MissingError
from wsistore.ops.facts import facts_table
from wsistore.ops.planning import bound
from wsistore.ops.site import Site
from wsistore.tiers.plans.diffs import changes, difference
from wsistore.tiers.plans.plan_file import Plan
from wsistore.tiers.plans.reasons import BLOCKED, step_in_words, waits_for
from wsistore.tiers.plans.rows import PLAN
from wsistore.tiers.rules import parse_rules
from wsistore.tiers.rules.decisions import Action
from wsistore.tiers.rules.explaining import explain
from wsistore.units import format_bytes

COLUMNS = tuple(name for name in PLAN.names if name != "steps")
"""Of a plan, that conditions may speak of."""
plan_changes, plan_difference = changes, difference
_VOCABULARY = Vocabulary(COLUMNS, "condition", "docs/plans.md describes the columns of a plan.")


def plan_rows(
    plan: Plan, *, where: str | None = None, actions: Sequence[str] = (), doing: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield rows of a plan in parts, sorted by slide.

    Parameters
    ----------
    plan
        A plan that was read.
    where
        A condition over the columns of a plan; ``now`` is the moment of the plan.
    actions
        Names of actions; none: all.
    doing
        Whether rows by which nothing is done now are left out.

    Raises
    ------
    InputError
        If the condition or an action is wrong (`Kind.CONDITION_INVALID`).

    """
    known = [str(action) for action in Action]
    for action in actions:
        if action not in known:
            msg = f"There is no action {action!r}."
            raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy=f"Actions are: {', '.join(known)}.")
    condition = None if where is None else parse(where, _VOCABULARY)
    for batch in plan.batches():
        rows = pa.Table.from_batches([batch])
        if actions:
            rows = rows.filter(pc.is_in(rows["action"], value_set=pa.array(list(actions), pa.string())))
        if doing:
            rows = rows.filter(pc.and_(pc.not_equal(rows["action"], str(Action.NONE)), pc.is_null(rows["postponed"])))
        if condition is not None:
            chosen = evaluate([condition], rows, plan.header.at)["0"]
            if not pa.types.is_boolean(chosen.type):
                msg = f"The condition {where!r} is not true or false, but a value."
                raise InputError(msg, kind=Kind.CONDITION_INVALID, remedy="Compare it with something.")
            rows = rows.filter(pc.fill_null(chosen, False))
        yield from rows.combine_chunks().to_batches()


def explain_row(site: Site, plan: Plan, slide: str) -> list[str]:
    """Say in sentences what a plan does to a slide, what that costs, and why the rules want it.

    Parameters
    ----------
    site
        The site that the plan is of.
    plan
        A plan that was read.
    slide
        Key, unique beginning of one, or name.

    Raises
    ------
    MissingError
        If there is no such slide, or the plan does not have it.

    """
    key = site.catalog.resolve(slide)
    row = plan.row(key)
    if row is None:
        msg = f"{plan.path} says nothing of the slide {key}: it came after the plan."
        raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="Make a new plan: wsistore plan.")
    said = [*_does(row), *_costs(row)]
    facts = facts_table(site, [key])
    (state,) = facts.filter(pc.equal(facts["slide"], key))["state"].to_pylist()
    if state != row["state"]:
        said.append("The slide has changed since the plan was made: applying it leaves this slide out.")
    rules = bound(site, parse_rules(plan.header.rules.text.encode("utf-8"), plan.header.rules.file))
    return [*said, *explain(facts, rules, plan.header.at, key)]


def _does(row: Mapping[str, Any]) -> Iterator[str]:
    steps = row["steps"] or []
    if not steps:
        yield f"The plan does nothing to slide {row['slide']}."
    else:
        words = ", then ".join(step_in_words(*(step[name] or "" for name in _STEP)) for step in steps)
        waits = f" It waits for a later night: {waits_for(row['postponed'])}." if row["postponed"] else ""
        yield f"The plan for slide {row['slide']}: {words}.{waits}"
    for blocked in row["blocked"] or []:
        yield f"Something is not done: {BLOCKED.get(blocked, blocked)}."


_STEP = ("action", "tier", "source", "preset")


def _costs(row: Mapping[str, Any]) -> Iterator[str]:
    now, after = format_bytes(row["bytes_now"]), format_bytes(row["bytes_after"])
    yield f"It takes {now} now: {_yearly(row, 'now')}."
    if not row["steps"]:
        return
    yield f"Afterwards it takes {after}: {_yearly(row, 'after')}."
    once, fees, early = row["eur_once"], row["eur_retrieval"], row["eur_early"]
    spent = f"Doing it costs {once + fees + early:.4f} EUR once"
    parts = [f"{fees:.4f} for reading it out of its tier"] if fees else []
    parts += [f"{early:.4f} because its class is left early"] if early else []
    of_which = f" ({', '.join(parts)})" if parts else ""
    yield f"{spent}{of_which} and takes about {row['seconds']:.0f} seconds."
    if row["payback_years"] is not None:
        yield f"That is saved after {row['payback_years']:.2f} years."
    elif once + fees + early > 0:
        yield "What that costs is never saved."


def _yearly(row: Mapping[str, Any], when: str) -> str:
    eur, kwh, carbon = (row[f"{name}_year_{when}"] for name in ("eur", "kwh", "gco2e"))
    return f"{eur:.4f} EUR, {kwh:.4f} kWh and {carbon:.1f} gCO2e a year"
