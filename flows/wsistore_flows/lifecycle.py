"""The flow that plans, waits for people in no living process, and applies what they approved, within the window."""

from __future__ import annotations

from functools import partial

from prefect import flow

from wsistore.errors import ConflictError, Kind
from wsistore.ops import plans_due
from wsistore.ops.plans_due import DuePlan, Readiness
from wsistore_flows import lifecycle_shown
from wsistore_flows.hooks import HOOKS
from wsistore_flows.lifecycle_apply import Night, apply_due
from wsistore_flows.running import FLOW, Run, State, done, night
from wsistore_flows.states import GOES_ON, NOTHING_TO_DO, WAITING_FOR_APPROVAL, WAITING_FOR_WINDOW, ended, failure
from wsistore_flows.states import told as told_of


@flow(name="lifecycle", **FLOW, **HOOKS)
def lifecycle(site: str | None = None, plan: bool = True, anytime: bool = False) -> State:
    """Go on with the plan that was begun, or apply the one that is approved; else make one, and apply it if it may be.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    plan
        Whether a plan is made where none is to be applied.
    anytime
        Whether to apply also outside the hours of the rules' window.

    """
    name = "lifecycle" if plan else "lifecycle-apply"
    return night(name, site, partial(_lifecycle, plan=plan, anytime=anytime), lock="lifecycle")


def _lifecycle(run: Run, *, plan: bool, anytime: bool) -> State:
    due = run.step("look for a plan", lambda: plans_due.due_plan(run.site))
    if due is None and plan:
        due = run.step("make a plan", lambda: plans_due.make_due_plan(run.site))
        lifecycle_shown.show_plan(run, due)
    if due is None:
        return done("No plan is approved and waits.", name=NOTHING_TO_DO)
    run.facts.update(plan=due.plan.digest, slides=due.left)
    match due.readiness:
        case Readiness.EMPTY:
            later = sum(total.slides for total in due.plan.header.totals.postponed.values())
            return done(_nothing(later), name=NOTHING_TO_DO)
        case Readiness.OVER_LIMIT:
            said = " ".join(map(str, due.plan.header.over_limit))
            return failure(f"Plan {due.name}: {said}", ConflictError.exit_code, str(Kind.PLAN_OVER_LIMIT))
        case Readiness.WAITING:
            return _waiting(run, due, is_told=plan)
    closed = "" if anytime else run.step("ask for the window", lambda: plans_due.why_not_now(run.site, due.plan))
    if closed:
        more = "It is applied when the window opens."
        return done(f"Plan {due.name} has {due.left} slides to do. {closed} {more}", name=WAITING_FOR_WINDOW)
    return _told(run, due, apply_due(run, due, anytime=anytime))


def _nothing(later: int) -> str:
    more = f"; {later} slides wait for a limit of the rules" if later else ""
    return f"The rules want nothing done to any slide now{more}."


def _waiting(run: Run, due: DuePlan, *, is_told: bool) -> State:
    lacks = "; ".join(due.standing.missing)
    run.facts.update(missing=list(due.standing.missing))
    if not is_told:  # it is asked for every quarter of an hour: people were told once
        return done(f"Plan {due.name} still lacks {lacks}.", name=NOTHING_TO_DO)
    lifecycle_shown.show_waiting(run, due)
    what = f"Plan {due.name} ({due.left} slides) lacks {lacks}."
    return done(f"{what} See: wsistore approve {due.path} --status", name=WAITING_FOR_APPROVAL)


def _told(run: Run, due: DuePlan, found: Night) -> State:
    run.facts.update(found.facts)
    lifecycle_shown.show_night(run, due, found)
    sentence = f"Plan {due.name}: {found.sentence}"
    if found.error is not None:
        return failure(
            f"{sentence}. {told_of(found.error)} {found.goes_on}".rstrip(), found.error.exit_code, str(found.error.kind)
        )
    if found.failures:
        return ended(f"{sentence}. {found.goes_on}".rstrip(". "), found.failures, refused=found.refused)
    if found.left:
        return done(f"{sentence}. {found.stopped} {found.goes_on}", name=GOES_ON)
    return ended(sentence, refused=found.refused)
