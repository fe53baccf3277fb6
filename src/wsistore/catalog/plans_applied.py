"""The catalogue's part that follows a plan while it is applied, row by row: each method is one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from wsistore.catalog import schema_plans
from wsistore.catalog.owner import is_alive
from wsistore.catalog.plans import ENDED, PlanRow, PlanState, RowState, SlideStep
from wsistore.catalog.plans_noted import plan_missing, plan_row
from wsistore.catalog.rows import reading
from wsistore.catalog.session import Session
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, WsistoreError

_PLANS, _ROWS = schema_plans.plans, schema_plans.plan_rows
_AT_ONCE = 1000


class AppliedPlans(Session):
    """How far plans are that are being applied."""

    def begin_applying(self, digest: str, steps: Iterable[tuple[str, str]], actor: str) -> PlanRow:
        """Begin to apply a plan, or go on with it; plans that were made before it are superseded.

        Parameters
        ----------
        digest
            The plan's.
        steps
            Slides with what is to be done to each (an `Action`), in the order in which they are to be done; not looked
            at where the plan was begun before.
        actor
            Who applies it.

        Raises
        ------
        MissingError
            If it was not made in this site.
        ConflictError
            If it was applied or superseded (`Kind.PLAN_CLOSED`), or another plan is being applied (`Kind.BUSY`).

        """
        with self._database.write() as connection:
            found = _found(connection, digest)
            if found.state is PlanState.APPLYING:
                return found
            if found.state is not PlanState.MADE:
                raise closed(found)
            others = select(_PLANS.c.digest).where(_PLANS.c.state == str(PlanState.APPLYING))
            other = connection.scalar(others)
            if other is not None:
                msg = f"The plan {other[:12]} is being applied: one plan at a time."
                raise ConflictError(msg, remedy="Apply that one to its end, or give it up.")
            _insert(connection, digest, steps)
            now = self._now()
            older = (_PLANS.c.state == str(PlanState.MADE)) & (_PLANS.c.made_at <= found.made_at)
            superseded = {"state": str(PlanState.SUPERSEDED), "ended_at": now}
            connection.execute(update(_PLANS).where(older, _PLANS.c.digest != digest).values(superseded))
            begun = {"state": str(PlanState.APPLYING), "actor": actor, "begun_at": now}
            connection.execute(update(_PLANS).where(_PLANS.c.digest == digest).values(begun))
            return _found(connection, digest)

    def take_rows(self, digest: str, owner: str, limit: int, lease_until: datetime) -> list[SlideStep]:
        """Take rows that are waiting, or whose process died or let its lease run out; they are running from then on.

        Returns
        -------
        list of SlideStep
            At most `limit`, in the order of the plan; none if nothing is left to take. One that was taken over has
            the `owner` and `begun_at` of before in its `detail` under ``before``.

        """
        free = (_ROWS.c.plan == digest) & _ROWS.c.state.in_([str(RowState.WAITING), str(RowState.RUNNING)])
        now, taken = self._clock.now(), []
        with self._database.write() as connection:
            for row in connection.execute(select(_ROWS).where(free).order_by(_ROWS.c.number)):
                step = _step(row)
                if step.state is RowState.RUNNING and is_alive(step.owner, now, step.lease_until or ""):
                    continue
                taken.append(step)
                if len(taken) == limit:
                    break
            return [self._taken(connection, step, owner, iso(lease_until)) for step in taken]

    def _taken(self, connection: Connection, step: SlideStep, owner: str, lease_until: str) -> SlideStep:
        values: dict[str, Any] = {"state": str(RowState.RUNNING), "owner": owner, "lease_until": lease_until}
        values["begun_at"] = self._now()
        if step.state is RowState.RUNNING:
            values["detail"] = {**step.detail, "before": {"owner": step.owner, "begun_at": step.begun_at}}
        which = (_ROWS.c.plan == step.plan) & (_ROWS.c.slide == step.slide)
        connection.execute(update(_ROWS).where(which).values(values))
        return _step(connection.execute(select(_ROWS).where(which)).one())

    def extend_rows(self, digest: str, owner: str, lease_until: datetime) -> None:
        """Renew the lease of all rows that a process is at."""
        mine = (_ROWS.c.plan == digest) & (_ROWS.c.owner == owner) & (_ROWS.c.state == str(RowState.RUNNING))
        with self._database.write() as connection:
            connection.execute(update(_ROWS).where(mine).values(lease_until=iso(lease_until)))

    def end_row(
        self,
        digest: str,
        slide: str,
        state: RowState,
        reason: str = "",
        *,
        owner: str,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Note what became of a row that `owner` took.

        Raises
        ------
        ConflictError
            If it is not this process's any more.

        """
        mine = (_ROWS.c.plan == digest) & (_ROWS.c.slide == slide) & (_ROWS.c.owner == owner)
        values: dict[str, Any] = {"state": str(state), "reason": reason, "lease_until": None}
        values["ended_at"] = self._now() if state in ENDED else None
        if detail is not None:
            values["detail"] = dict(detail)
        with self._database.write() as connection:
            running = mine & (_ROWS.c.state == str(RowState.RUNNING))
            if connection.execute(update(_ROWS).where(running).values(values)).rowcount != 1:
                msg = f"Slide {slide} of the plan {digest[:12]} is being dealt with by another process."
                raise ConflictError(msg, remedy="Let that one go on.")

    def reopen_rows(self, digest: str, state: RowState = RowState.FAILED) -> int:
        """Let rows that ended so wait again, while the plan is being applied; return how many."""
        with self._database.write() as connection:
            if _found(connection, digest).state is not PlanState.APPLYING:
                return 0
            ended = (_ROWS.c.plan == digest) & (_ROWS.c.state == str(state))
            values = {"state": str(RowState.WAITING), "ended_at": None, "owner": ""}
            return connection.execute(update(_ROWS).where(ended).values(values)).rowcount

    def finish_plan(self, digest: str) -> PlanRow:
        """Note that a plan was applied: no row waits or runs. May be repeated.

        Raises
        ------
        ConflictError
            If rows are left, or it was not begun.

        """
        with self._database.write() as connection:
            found = _found(connection, digest)
            if found.state is PlanState.APPLIED:
                return found
            if found.state is not PlanState.APPLYING:
                raise closed(found)
            left = _counts(connection, digest)
            waiting = left.get(RowState.WAITING, 0) + left.get(RowState.RUNNING, 0)
            if waiting:
                msg = f"{waiting} rows of the plan {digest[:12]} were not dealt with."
                raise ConflictError(msg, remedy="Apply it again: it goes on.")
            values = {"state": str(PlanState.APPLIED), "ended_at": self._now()}
            connection.execute(update(_PLANS).where(_PLANS.c.digest == digest).values(values))
            return _found(connection, digest)

    def supersede(self, digest: str) -> PlanRow:
        """Give up a plan for good, also one that was begun: what was done stays done. May be repeated.

        Raises
        ------
        ConflictError
            If it was applied to its end (`Kind.PLAN_CLOSED`).

        """
        with self._database.write() as connection:
            found = _found(connection, digest)
            if found.state is PlanState.APPLIED:
                raise closed(found)
            if found.state is not PlanState.SUPERSEDED:
                values = {"state": str(PlanState.SUPERSEDED), "ended_at": self._now()}
                connection.execute(update(_PLANS).where(_PLANS.c.digest == digest).values(values))
            return _found(connection, digest)

    def plan_rows(self, digest: str, state: RowState | None = None) -> Iterator[SlideStep]:
        """Yield the rows of a plan that was begun, in its order, or those in a state; in portions, so others write."""
        after = -1
        while True:
            query = select(_ROWS).where(_ROWS.c.plan == digest, _ROWS.c.number > after)
            if state is not None:
                query = query.where(_ROWS.c.state == str(state))
            with self._database.read() as connection:
                some = [_step(row) for row in connection.execute(query.order_by(_ROWS.c.number).limit(_AT_ONCE))]
            if not some:
                return
            yield from some
            after = some[-1].number

    def count_rows(self, digest: str) -> dict[RowState, int]:
        """Return how many rows of a plan are in each state; states without any are left out."""
        with self._database.read() as connection:
            return _counts(connection, digest)


def closed(plan: PlanRow) -> WsistoreError:
    """Return the error of a plan that is not to be applied any more."""
    said = {
        PlanState.APPLIED: f"was applied already ({plan.ended_at})",
        PlanState.SUPERSEDED: f"was superseded by another one, or given up ({plan.ended_at})",
    }.get(plan.state, "was not begun")
    msg = f"The plan {plan.digest[:12]} {said}."
    return ConflictError(msg, kind=Kind.PLAN_CLOSED, remedy="Make a new plan: wsistore plan.")


def _found(connection: Connection, digest: str) -> PlanRow:
    row = connection.execute(select(_PLANS).where(_PLANS.c.digest == digest)).first()
    if row is None:
        raise plan_missing(digest)
    return plan_row(row)


def _insert(connection: Connection, digest: str, steps: Iterable[tuple[str, str]]) -> None:
    numbered = enumerate(steps)
    while some := list(islice(numbered, _AT_ONCE)):
        fixed = {"plan": digest, "state": str(RowState.WAITING), "reason": "", "owner": "", "detail": {}}
        rows = [{**fixed, "slide": slide, "number": n, "action": str(action)} for n, (slide, action) in some]
        connection.execute(_ROWS.insert(), rows)


def _counts(connection: Connection, digest: str) -> dict[RowState, int]:
    query = select(_ROWS.c.state, func.count()).where(_ROWS.c.plan == digest).group_by(_ROWS.c.state)
    with reading("plan_rows"):
        return {RowState(state): int(count) for state, count in connection.execute(query)}


def _step(row: Row[Any]) -> SlideStep:
    with reading("plan_rows"):
        return SlideStep(**{**row._mapping, "state": RowState(row.state), "detail": dict(row.detail)})
