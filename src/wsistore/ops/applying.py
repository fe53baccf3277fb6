"""Plans applied: each row is asked again, done by the movers, and noted; what was interrupted goes on.

A plan is applied once. Its rows are in the catalogue (`plan_rows`): one that waits is taken by a process, which holds
it while it works, and gives it back or notes how it ended. So several processes share a plan's rows, none is done
twice, and what a dead process was at is taken over: the movers go on with what it had written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from wsistore.catalog.plans import PlanState, RowState, SlideStep
from wsistore.catalog.plans_spent import BEGUN, mark_rows
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, WsistoreError
from wsistore.execute import Executor
from wsistore.ops.applying_checks import Checker, Verdict
from wsistore.ops.applying_consent import Consent
from wsistore.ops.applying_ends import BATCH, checker_of, close_expired, planned_rows, refuse_rest
from wsistore.ops.applying_limits import Limits
from wsistore.ops.applying_results import Applied, AppliedState, Applying
from wsistore.ops.applying_steps import Doer, Outcome
from wsistore.ops.applying_workers import Pulse, late_executor
from wsistore.ops.approving import Approved
from wsistore.ops.attempts import LEASE, recover
from wsistore.ops.eliminating import Authority
from wsistore.ops.planning import plan_of_site
from wsistore.ops.receipts import write_receipt
from wsistore.ops.results import Failure
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.watching import Watcher
from wsistore.tiers.plans import Plan

Json = dict[str, Any]

_log = logging.getLogger(__name__)


def apply_plan(
    site: Site,
    path: Path,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    scheduler: str | None = None,
    until: datetime | None = None,
    anytime: bool = False,
    stop: Event | None = None,
    watcher: Watcher | None = None,
    dry_run: bool = False,
) -> Applying:
    """Apply a plan, or go on with one that was begun.

    Parameters
    ----------
    site
        An open site.
    path
        The plan's file.
    jobs
        Slides at a time, and workers of a cluster that is started here; by default one per processor.
    executor
        Encodes, instead of a cluster.
    scheduler
        Address of a Dask scheduler.
    until
        Begin nothing more from then on.
    anytime
        Also outside the rules' window.
    stop
        When it is set, nothing more is begun.
    watcher
        Is told how it goes, from several threads.
    dry_run
        Only say what would be done, and what refused.

    Returns
    -------
    Applying
        Yields `Applied`, one per row. A row that fails is a result, not an exception. Where a tier or the site itself
        fails, rows are left, and `Applying.stopped` says why.

    Raises
    ------
    InputError
        If the file is no plan, or was altered (`Kind.PLAN_INVALID`).
    MissingError
        If it was not made in this site (`Kind.PLAN_MISSING`).
    ConflictError
        If it was applied already or superseded (`Kind.PLAN_CLOSED`), has expired, is over a limit, lacks approvals or
        visas, or another plan is being applied.
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only and not dry_run:
        raise read_only_error(site)
    plan = plan_of_site(site, path)
    run = Applying(plan.digest)
    if dry_run:
        run._rows = planned_rows(site, plan)
        return run
    try:
        consent = Consent(site, plan)
    except ConflictError as error:
        if error.kind is Kind.PLAN_EXPIRED:
            close_expired(site, plan, error)
        raise
    checker = checker_of(site, plan, consent.approved.left_out)
    recover(site)
    site.catalog.begin_applying(plan.digest, checker.order(), site.actor)
    limits = Limits(site, checker.rules, until, stop or Event(), anytime=anytime)
    pulse = Pulse(site, plan.digest, watcher or Watcher())
    own = None if executor is not None else late_executor(site, scheduler, jobs, pulse)
    workers = executor or own
    assert workers is not None  # noqa: S101  (one of both is there)
    doer = Doer(
        site, _authority(plan, consent.approved), checker.check, workers, jobs or site.jobs, pulse, limits.why_stop
    )
    run._rows = _Work(site, plan, consent, checker, limits, doer, pulse, run).rows(own)
    return run


def _authority(plan: Plan, approved: Approved) -> Authority:
    return Authority(
        plan=plan.digest,
        rules=plan.header.rules.digest,
        approvals=tuple(
            {"person": one.person, "role": one.role, "scope": str(one.scope), "at": one.at, "by": one.by}
            for one in approved.approvals
        ),
        visas=tuple(
            {"role": one.role, "reference": one.reference, "date": one.date, "scope": str(one.scope), "at": one.at}
            for one in approved.visas
        ),
        policy=approved.policy,
    )


class _Work:
    """The rows of a plan, taken and done batch by batch."""

    def __init__(
        self,
        site: Site,
        plan: Plan,
        consent: Consent,
        checker: Checker,
        limits: Limits,
        doer: Doer,
        pulse: Pulse,
        run: Applying,
    ) -> None:
        self._site, self._plan, self._consent = site, plan, consent
        self._checker, self._limits = checker, limits
        self._doer, self._pulse, self._run = doer, pulse, run
        self._held: dict[str, SlideStep] = {}
        """Rows that this process is at."""
        self._marked: set[str] = set()
        """Of these, those that were not begun before."""

    def rows(self, own: Executor | None) -> Iterator[Applied]:
        """Yield what becomes of rows until none is left, or something says to stop."""
        try:
            while not self._run.stopped:
                self._run.stopped = self._limits.why_stop() or self._why_closed() or self._why_unwanted()
                taken = [] if self._run.stopped else self._take()
                if not taken:
                    break
                yield from self._batch(taken)
        finally:
            if own is not None:
                own.close()
            for slide in list(self._held):
                self._give_back(slide, "It was interrupted.")
            self._end()

    def _take(self) -> list[SlideStep]:
        until = self._site.clock.now() + LEASE
        taken = self._site.catalog.take_rows(self._plan.digest, self._site.owner, BATCH, until)
        self._held = {step.slide: step for step in taken}
        return taken

    def _batch(self, taken: list[SlideStep]) -> Iterator[Applied]:
        verdicts = self._checker.look(taken)
        going: list[Verdict] = []
        left = self._limits.left_today()
        for step in taken:
            verdict = verdicts[step.slide]
            if verdict.refused:
                yield self._ended(step, Outcome(step.slide, [], {}, RowState.REFUSED, verdict.refused), verdict)
                continue
            wait = self._limits.too_much(verdict.planned, left)
            if wait:
                self._run.stopped = wait
                self._give_back(step.slide, wait)
                continue
            left = None if left is None else max(0, left - int(verdict.planned["bytes_moved"]))
            going.append(verdict)
        self._mark([verdict.slide for verdict in going])
        for outcome in self._doer.do(going):
            self._pulse.beat()
            yield self._ended(self._held[outcome.slide], outcome, verdicts[outcome.slide])

    def _mark(self, slides: Sequence[str]) -> None:
        """Note that rows are begun: should this process die, their slides have changed by our own doing."""
        at = iso(self._site.clock.now())
        self._marked = {slide for slide in slides if BEGUN not in self._held[slide].detail}
        mark_rows(self._site.catalog, self._plan.digest, sorted(self._marked), self._site.owner, at)
        for slide in self._marked:
            step = self._held[slide]
            self._held[slide] = replace(step, detail={**step.detail, BEGUN: at})

    def _ended(self, step: SlideStep, outcome: Outcome, verdict: Verdict) -> Applied:
        """Note how a row ended, or that it waits for another time."""
        if outcome.state is RowState.FAILED and outcome.is_hopeless:
            self._run.stopped = outcome.reason  # the next row would fail as well
            self._run.failure = Failure(outcome.kind, outcome.reason, outcome.exit_code)
            outcome.state = RowState.WAITING
        before = step.detail
        detail = {
            **{name: value for name, value in before.items() if name in (BEGUN, "before")},
            "planned": verdict.planned,
            "steps": [*before.get("steps", ()), *outcome.steps],
            "bytes_moved": int(before.get("bytes_moved", 0)) + outcome.bytes_moved,
            "bytes_deleted": int(before.get("bytes_deleted", 0)) + outcome.bytes_deleted,
            "seconds": round(float(before.get("seconds", 0.0)) + outcome.seconds, 3),
            "kind": outcome.kind,
        }
        if outcome.state is RowState.WAITING and not outcome.is_tried and step.slide in self._marked:
            detail = {}  # as if it had not been taken
        if outcome.state is RowState.WAITING and not self._run.stopped:
            self._run.stopped = self._limits.why_stop() or "It was stopped."
        self._held.pop(step.slide, None)
        self._site.catalog.end_row(
            self._plan.digest, step.slide, outcome.state, outcome.reason, owner=self._site.owner, detail=detail
        )
        return _applied(step, outcome, detail)

    def _give_back(self, slide: str, reason: str) -> None:
        step = self._held.pop(slide)
        try:
            self._site.catalog.end_row(
                self._plan.digest, slide, RowState.WAITING, reason, owner=self._site.owner, detail=step.detail
            )
        except WsistoreError as error:
            _log.warning("slide %s of the plan was not given back: %s", slide, error)

    def _why_closed(self) -> str:
        """Return in words why the plan may not go on: it expired, or somebody gave it up."""
        if self._plan.header.expires_at <= self._site.clock.now():
            refuse_rest(self._site, self._plan.digest, "The plan has expired.")
            return "The plan has expired."
        state = self._site.catalog.plan(self._plan.digest).state
        return "" if state is PlanState.APPLYING else f"The plan is {state}."

    def _why_unwanted(self) -> str:
        """Return in words why people do not want it any more; what they said anew holds from the next row on."""
        try:
            if self._consent.has_changed():
                self._checker.leave_out(self._consent.approved.left_out)
                self._doer.authority = _authority(self._plan, self._consent.approved)
        except ConflictError as error:
            self._run.failure = Failure.of(error)
            return error.message
        return ""

    def _end(self) -> None:
        """Close the plan's books if no row is left, and write the receipt as it stands."""
        counts = self._site.catalog.count_rows(self._plan.digest)
        left = self._run.left = counts.get(RowState.WAITING, 0) + counts.get(RowState.RUNNING, 0)
        if not left and self._site.catalog.plan(self._plan.digest).state is PlanState.APPLYING:
            self._site.catalog.finish_plan(self._plan.digest)
        elif left and not self._run.stopped:
            self._run.stopped = "Another process is at what is left."
        try:
            self._run.receipt = str(write_receipt(self._site, self._plan.digest))
        except WsistoreError as error:
            _log.warning("the receipt could not be written: %s", error)


def _applied(step: SlideStep, outcome: Outcome, detail: Json) -> Applied:
    return Applied(
        slide=step.slide,
        action=step.action,
        state=AppliedState(str(outcome.state)),
        reason=outcome.reason,
        steps=tuple(str(one["step"]) for one in detail.get("steps", ())),
        bytes_planned=int(detail.get("planned", {}).get("bytes_moved", 0)),
        bytes_moved=int(detail.get("bytes_moved", 0)),
        bytes_deleted=int(detail.get("bytes_deleted", 0)),
        seconds=outcome.seconds,
        kind=outcome.kind,
        exit_code=outcome.exit_code,
    )
