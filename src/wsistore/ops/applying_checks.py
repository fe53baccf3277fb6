"""Whether a row of a plan may still be done: what is known now is asked again, and the rules with it.

A row that was never begun is done only if its slide is what the plan saw (`state`) and the rules want the same of it
now. One that was cut short by a crash has changed by its own doing: it goes on if what the rules want now is a part of
what was approved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsistore.catalog.plans import RowState, SlideStep
from wsistore.catalog.plans_spent import BEGUN
from wsistore.catalog.records import SourceState
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.ops.approval_contract import IRREVERSIBLE
from wsistore.ops.facts import facts_table
from wsistore.ops.planning import bound
from wsistore.ops.site import Site
from wsistore.tiers.plans import Plan
from wsistore.tiers.plans.reasons import BLOCKED, step_in_words
from wsistore.tiers.rules import Rules, decide, parse_rules, read_rules
from wsistore.tiers.rules.decisions import Action

Json = dict[str, Any]

GONE = "It is not there any more."
CHANGED = "It has changed since the plan was made."
KEPT_BY_ARCHIVES = "A visa keeps it."
_AGAIN = "Make a new plan: wsistore plan."


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do to a slide; see `wsistore.tiers.rules.decisions.STEP`."""

    action: Action
    tier: str | None = None
    source: str | None = None
    preset: str | None = None
    at_least: int = 1
    """Of a copy that is dropped: in how many other tiers a good one must remain, as the placement rule wants."""

    def __str__(self) -> str:
        """In words."""
        return step_in_words(self.action, self.tier or "", self.source or "", self.preset or "")

    @property
    def effects(self) -> frozenset[tuple[str, str, str]]:
        """What comes and what goes by it."""
        came = ("comes", self.tier or "", self.preset or "")
        match self.action:
            case Action.COPY:
                return frozenset({came})
            case Action.MOVE:
                return frozenset({came, ("goes", self.source or "", "")})
            case Action.DROP_COPY:
                return frozenset({("goes", self.tier or "", "")})
        return frozenset({(str(self.action), self.tier or "", self.preset or "")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done to a slide now."""

    slide: str
    steps: tuple[Step, ...] = ()
    """Nothing: all is done."""
    refused: str = ""
    """Why nothing may be done."""
    why: Json = field(default_factory=dict)
    """Of the decision, for events and certificates."""
    planned: Json = field(default_factory=dict)
    """Figures of the plan's row."""


def rules_of_plan(site: Site, plan: Plan) -> Rules:
    """Return the rules that a plan was made with, for this site's tiers.

    Raises
    ------
    InputError
        If they are not those that its header names, or the site lacks a tier that they name.

    """
    used = plan.header.rules
    rules = parse_rules(used.text.encode("utf-8"), used.file)
    if rules.digest != used.digest:
        msg = f"The rules in the plan {plan.digest[:12]} are not those that it says it was made with."
        raise InputError(msg, kind=Kind.PLAN_INVALID, remedy=_AGAIN)
    return bound(site, rules)


class Checker:
    """Asks again what is known of slides, and what the rules want of them.

    Parameters
    ----------
    site
        An open site.
    plan
        As it was read and approved.
    left_out
        Slides that a visa keeps.
    current
        The rules that the site has now, where they are others than the plan's: what cannot be undone must be wanted by
        both.

    """

    def __init__(self, site: Site, plan: Plan, left_out: frozenset[str], current: Rules | None = None) -> None:
        self._site, self._left_out, self._current = site, left_out, current
        self.rules = rules_of_plan(site, plan)
        self._rows = acting_rows(plan)
        self._place = {slide: place for place, slide in enumerate(self._rows["slide"].to_pylist())}

    def leave_out(self, slides: frozenset[str]) -> None:
        """Refuse these from now on, and no others for a visa's sake."""
        self._left_out = slides

    def planned(self, slide: str) -> Json:
        """Return the plan's row of a slide.

        Raises
        ------
        InputError
            If there is none.

        """
        if slide not in self._place:
            msg = f"The plan has no row of slide {slide}."
            raise InputError(msg, kind=Kind.PLAN_INVALID, remedy=_AGAIN)
        row: Json = self._rows.slice(self._place[slide], 1).to_pylist()[0]
        return row

    def order(self) -> list[tuple[str, str]]:
        """Return slides and actions in the order in which they are done: cases together, what cannot be undone last."""
        names = ("slide", "case_id", "action")
        rows = zip(*(self._rows[name].to_pylist() for name in names), strict=True)
        keyed = sorted(((_rank(action), case or slide, slide, action) for slide, case, action in rows))
        return [(slide, action) for _, _, slide, action in keyed]

    def look(self, steps: Sequence[SlideStep]) -> dict[str, Verdict]:
        """Return what is to be done to slides now, by slide."""
        facts = facts_table(self._site, [step.slide for step in steps])
        decided = _by_slide(decide(facts, self.rules, self._site.clock.now()))
        states = dict(zip(facts["slide"].to_pylist(), facts["state"].to_pylist(), strict=True))
        stricter: Mapping[str, Json] | None = None
        if self._current is not None and any(step.action in IRREVERSIBLE for step in steps):
            stricter = _by_slide(decide(facts, self._current, self._site.clock.now()))
        return {step.slide: self._one(step, states.get(step.slide), decided, stricter) for step in steps}

    def check(self, slide: str, action: str) -> None:
        """Raise `ConflictError` unless a slide that was not begun is still to be deleted or parted from its patient."""
        step = next(iter(self.look([_fresh(slide, action)]).values()))
        if step.refused or not step.steps:
            msg = f"Slide {slide}: {step.refused or 'nothing is to be done to it any more.'}"
            raise ConflictError(msg, remedy=_AGAIN)

    def _one(
        self, step: SlideStep, state: str | None, decided: Mapping[str, Json], stricter: Mapping[str, Json] | None
    ) -> Verdict:
        row = self.planned(step.slide)
        verdict = Verdict(slide=step.slide, why=_why(row), planned=_figures(row))
        wanted, is_begun = steps_of(row), BEGUN in step.detail
        if state is None:
            return self._gone(verdict, step, is_begun=is_begun)
        if step.action in IRREVERSIBLE and step.slide in self._left_out:
            return _refused(verdict, KEPT_BY_ARCHIVES)
        if step.action == Action.DETACH_IDENTITY and is_begun and self._is_detached(step.slide):
            return verdict
        now = steps_of(decided[step.slide])
        if not is_begun and state != row["state"]:
            return _refused(verdict, f"{CHANGED}{_blocked(decided[step.slide])}")
        if not (_effects(now) <= _effects(wanted) if is_begun else now == wanted):
            return _refused(verdict, _other(now, decided[step.slide]))
        if stricter is not None and step.action in IRREVERSIBLE and steps_of(stricter[step.slide]) != now:
            return _refused(verdict, f"The site's rules have changed. {_other(steps_of(stricter[step.slide]), {})}")
        return Verdict(slide=step.slide, steps=now, why=_why(decided[step.slide]), planned=verdict.planned)

    def _gone(self, verdict: Verdict, step: SlideStep, *, is_begun: bool) -> Verdict:
        """Say of a slide that is not shown any more whether this row has deleted it."""
        if step.action == Action.DELETE and is_begun:
            state = self._site.catalog.deletion_of(step.slide)
            if state is SourceState.DELETED:
                return verdict
            if state is SourceState.DELETING:
                return Verdict(
                    slide=step.slide, steps=(Step(action=Action.DELETE),), why=verdict.why, planned=verdict.planned
                )
        return _refused(verdict, GONE)

    def _is_detached(self, slide: str) -> bool:
        kinds = {event.kind for event in self._site.catalog.events(slide)}
        return "identity-detached" in kinds


def acting_rows(plan: Plan) -> pa.Table:
    """Return the rows of a plan by which something is done."""
    rows = plan.rows
    return rows.filter(pc.and_(pc.not_equal(rows["action"], str(Action.NONE)), pc.is_null(rows["postponed"])))


def steps_of(row: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the steps of a row of a plan, or of a decision."""
    wanted = int(row.get("copies_wanted") or 1)
    return tuple(
        Step(
            action=Action(one["action"]),
            tier=one["tier"],
            source=one["source"],
            preset=one["preset"],
            at_least=wanted if one["action"] == Action.DROP_COPY else 1,
        )
        for one in row["steps"] or ()
    )


def current_rules(site: Site, path: Path, used: Rules) -> Rules | None:
    """Return the rules that a site has now, if they are others than those of the plan; None if it has none.

    Raises
    ------
    InputError
        If they are no rules: then nobody knows what may be deleted.

    """
    if not path.exists():
        return None
    found = read_rules(path)
    return None if found.digest == used.digest else bound(site, found)


def _fresh(slide: str, action: str) -> SlideStep:
    return SlideStep(plan="", slide=slide, number=0, action=action, state=RowState.RUNNING)


def _rank(action: str) -> int:
    return {Action.DETACH_IDENTITY: 1, Action.DELETE: 2}.get(Action(action), 0)


def _by_slide(decisions: pa.Table) -> dict[str, Json]:
    return {row["slide"]: row for row in decisions.to_pylist()}


def _effects(steps: Sequence[Step]) -> frozenset[tuple[str, str, str]]:
    return frozenset().union(*(step.effects for step in steps))


def _refused(verdict: Verdict, reason: str) -> Verdict:
    return Verdict(slide=verdict.slide, refused=reason, why=verdict.why, planned=verdict.planned)


def _other(now: Sequence[Step], decision: Mapping[str, Any]) -> str:
    wanted = "; ".join(map(str, now)) or "leave it as it is"
    return f"Asked again, the rules want something else: {wanted}{_blocked(decision)}."


def _blocked(decision: Mapping[str, Any]) -> str:
    said = [BLOCKED.get(word, word) for word in decision.get("blocked") or ()]
    return f" ({'; '.join(said)})" if said else ""


def _why(decision: Mapping[str, Any]) -> Json:
    keep_until = decision["keep_until"]
    return {
        "retention": decision["retention"],
        "rule": decision["keep_rule"],
        "keep_until": None if keep_until is None else keep_until.isoformat(),
    }


def _figures(row: Mapping[str, Any]) -> Json:
    names = (
        "bytes_now",
        "bytes_after",
        "bytes_moved",
        "eur_once",
        "eur_retrieval",
        "eur_early",
        "seconds",
        "place_rule",
    )
    return {name: row[name] for name in names}
