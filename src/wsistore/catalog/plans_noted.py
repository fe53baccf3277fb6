"""The catalogue's part that keeps plans, their approvals and visas, and the roster: each method is one transaction."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Row, Table, func, select

from wsistore.catalog import schema, schema_plans
from wsistore.catalog.plans import ApprovalRow, PlanRecord, PlanRow, PlanState, RosterRow, VisaRow
from wsistore.catalog.rows import reading
from wsistore.catalog.session import Session
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, MissingError

_PLANS, _APPROVALS, _VISAS, _ROSTER = (
    schema_plans.plans,
    schema_plans.approvals,
    schema_plans.visas,
    schema_plans.roster,
)


class NotedPlans(Session):
    """Plans, what people said of them, and who these people are; what it all counts for is decided elsewhere."""

    def note_plan(self, plan: PlanRecord) -> PlanRow:
        """Note a plan that was made: only such plans are approved and applied. May be repeated.

        Raises
        ------
        ConflictError
            If another plan has this digest.

        """
        row = PlanRow(
            digest=plan.digest,
            author=plan.author,
            made_at=iso(plan.made_at),
            expires_at=iso(plan.expires_at),
            header=plan.header,
            noted_at=self._now(),
            state=PlanState.MADE,
        )
        with self._database.write() as connection:
            found = connection.execute(select(_PLANS).where(_PLANS.c.digest == plan.digest)).first()
            if found is None:
                connection.execute(_PLANS.insert(), _values(row) | {"state": str(row.state)})
                return row
        there = plan_row(found)
        if (there.author, there.made_at, there.expires_at) != (row.author, row.made_at, row.expires_at):
            msg = f"The plan {plan.digest[:12]} is noted already, by {there.author} at {there.made_at}."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Make a new plan.")
        return there

    def plan(self, digest: str) -> PlanRow:
        """Return the plan with this digest; `MissingError` (`Kind.PLAN_MISSING`) if it was not made in this site."""
        with self._database.read() as connection:
            row = connection.execute(select(_PLANS).where(_PLANS.c.digest == digest)).first()
        if row is None:
            raise plan_missing(digest)
        return plan_row(row)

    def plans(self) -> list[PlanRow]:
        """Return all plans, the newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(_PLANS).order_by(_PLANS.c.made_at.desc(), _PLANS.c.digest))
            return [plan_row(row) for row in rows]

    # --- what people said

    def put_approval(self, approval: ApprovalRow) -> None:
        """Keep an approval; one that the same person gave before is replaced."""
        self._put(_APPROVALS, _values(approval), "plan", "person")

    def approvals(self, digest: str) -> list[ApprovalRow]:
        """Return the approvals of a plan as they were given, the oldest first."""
        query = select(_APPROVALS).where(_APPROVALS.c.plan == digest)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_APPROVALS.c.at, _APPROVALS.c.person))
            return [ApprovalRow(**row._mapping) for row in rows]

    def put_visa(self, visa: VisaRow) -> None:
        """Keep a visa; the one of the same role that was recorded before is replaced."""
        self._put(_VISAS, _values(visa), "plan", "role")

    def visas(self, digest: str) -> list[VisaRow]:
        """Return the visas of a plan, by role."""
        query = select(_VISAS).where(_VISAS.c.plan == digest)
        with self._database.read() as connection:
            return [VisaRow(**row._mapping) for row in connection.execute(query.order_by(_VISAS.c.role))]

    def _put(self, table: Table, values: dict[str, Any], *key: str) -> None:
        with self._database.write() as connection:
            state = connection.scalar(select(_PLANS.c.state).where(_PLANS.c.digest == values["plan"]))
            if state is None:
                raise plan_missing(values["plan"])
            # What was interrupted may need it again: somebody was revoked meanwhile.
            if state not in {PlanState.MADE, PlanState.APPLYING}:
                msg = f"The plan {values['plan'][:12]} is {state}: nothing can be said of it any more."
                raise ConflictError(msg, kind=Kind.PLAN_CLOSED, remedy="Make a new plan.")
            delete = table.delete()
            for name in key:
                delete = delete.where(table.c[name] == values[name])
            connection.execute(delete)
            connection.execute(table.insert(), values)

    # --- who they are

    def roster_log(self) -> list[RosterRow]:
        """Return the roster's log from its beginning."""
        with self._database.read() as connection:
            rows = connection.execute(select(_ROSTER).order_by(_ROSTER.c.number))
            return [RosterRow(**row._mapping) for row in rows]

    def append_roster(self, entry: RosterRow) -> None:
        """Append to the roster's log.

        Raises
        ------
        ConflictError
            If somebody else has appended since the entry was made.

        """
        with self._database.write() as connection:
            last = connection.scalar(select(func.max(_ROSTER.c.number))) or 0
            if entry.number != last + 1:
                msg = "The roster of approvers was changed meanwhile."
                raise ConflictError(msg, remedy="Try again.")
            connection.execute(_ROSTER.insert(), _values(entry))

    # --- when

    def latest_moment(self) -> str:
        """Return the latest moment that the catalogue knows of, ISO 8601 in UTC; empty if it knows none.

        A clock that says less was set back.
        """
        events, changes = schema.events, schema.changes
        last = select(changes.c.slide, changes.c.event).order_by(changes.c.seq.desc()).limit(1)
        with self._database.read() as connection:
            moments = [
                connection.scalar(select(func.max(column)))
                for column in (_PLANS.c.noted_at, _PLANS.c.begun_at, _APPROVALS.c.at, _VISAS.c.at, _ROSTER.c.at)
            ]
            change = connection.execute(last).first()
            if change is not None:
                query = select(events.c.at).where(events.c.slide == change.slide, events.c.number == change.event)
                moments.append(connection.scalar(query))
        return max((str(moment) for moment in moments if moment), default="")


def plan_row(row: Row[Any]) -> PlanRow:
    """Return a plan from its columns."""
    with reading("plans"):
        return PlanRow(**{**row._mapping, "state": PlanState(row.state), "header": dict(row.header)})


def plan_missing(digest: str) -> MissingError:
    """Return the error of a plan that this site did not make."""
    msg = f"The plan {digest[:12]} was not made in this site, or its file was altered."
    return MissingError(msg, kind=Kind.PLAN_MISSING, remedy="Make one: wsistore plan.")


def _values(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}
