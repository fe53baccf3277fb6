"""Plans that are only looked at, and those that end before all their rows were done."""

from __future__ import annotations

from collections.abc import Iterator

from wsistore.catalog.plans import PlanState, RowState, SlideStep
from wsistore.errors import WsistoreError
from wsistore.ops.applying_checks import Checker, current_rules
from wsistore.ops.applying_results import Applied, AppliedState
from wsistore.ops.approving import check_plan, standing
from wsistore.ops.attempts import LEASE
from wsistore.ops.receipts import write_receipt
from wsistore.ops.site import Site, read_only_error
from wsistore.tiers.plans import Plan

BATCH = 64
"""Rows that a process takes at a time at most: they are asked again together."""


def checker_of(site: Site, plan: Plan, left_out: frozenset[str]) -> Checker:
    """Return what asks again what may be done to slides."""
    checker = Checker(site, plan, left_out)
    stricter = current_rules(site, site.settings.rules, checker.rules)
    return checker if stricter is None else Checker(site, plan, left_out, stricter)


def planned_rows(site: Site, plan: Plan) -> Iterator[Applied]:
    """Yield what would become of each row now."""
    check_plan(site, plan)
    left_out = frozenset(slide for visa in standing(site, plan).visas for slide in visa.kept)
    checker = checker_of(site, plan, left_out)
    order = checker.order()
    for start in range(0, len(order), BATCH):
        rows = [
            SlideStep(plan=plan.digest, slide=slide, number=start + place, action=action, state=RowState.WAITING)
            for place, (slide, action) in enumerate(order[start : start + BATCH])
        ]
        verdicts = checker.look(rows)
        for row in rows:
            verdict = verdicts[row.slide]
            yield Applied(
                slide=row.slide,
                action=row.action,
                state=AppliedState.REFUSED if verdict.refused else AppliedState.PLANNED,
                reason=verdict.refused,
                steps=tuple(map(str, verdict.steps)),
                bytes_planned=int(verdict.planned["bytes_moved"]),
            )


def give_up_plan(site: Site, digest: str) -> None:
    """Give up a plan for good, also one that was begun: what was done stays done, what waits is refused.

    Raises
    ------
    MissingError
        If it was not made in this site.
    ConflictError
        If it was applied to its end.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    site.catalog.supersede(digest)
    write_receipt(site, digest)


def close_expired(site: Site, plan: Plan, error: WsistoreError) -> None:
    """Close the books of a plan that was begun and expired: it would keep all others out."""
    if site.catalog.plan(plan.digest).state is PlanState.APPLYING:
        refuse_rest(site, plan.digest, error.message)
        counts = site.catalog.count_rows(plan.digest)
        if not counts.get(RowState.RUNNING, 0):
            site.catalog.finish_plan(plan.digest)
            write_receipt(site, plan.digest)


def refuse_rest(site: Site, digest: str, reason: str) -> None:
    """End all rows of a plan that wait, or whose process died."""
    while taken := site.catalog.take_rows(digest, site.owner, BATCH, site.clock.now() + LEASE):
        for step in taken:
            site.catalog.end_row(digest, step.slide, RowState.REFUSED, reason, owner=site.owner, detail=step.detail)
