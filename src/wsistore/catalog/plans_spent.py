"""What plans have moved since a moment, and which of their rows were begun: functions over an open catalogue."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import or_, select, update

from wsistore.catalog.schema_plans import plan_rows, plans
from wsistore.catalog.session import Session

BYTES = "bytes_moved"
"""Where the detail of a row says how many bytes were moved for it."""
BEGUN = "begun"
"""Where it says since when it is done: from then on its slide changes by that."""


def bytes_since(catalog: Session, since: str) -> int:
    """Return the bytes that rows of any plan moved which ended at `since` (ISO 8601 in UTC) or later."""
    mine = select(plans.c.digest).where(
        plans.c.begun_at.is_not(None), or_(plans.c.ended_at.is_(None), plans.c.ended_at >= since)
    )
    query = select(plan_rows.c.detail).where(plan_rows.c.plan.in_(mine), plan_rows.c.ended_at >= since)
    with catalog._database.read() as connection:
        return sum(int(detail.get(BYTES, 0)) for detail in connection.scalars(query))


def mark_rows(catalog: Session, digest: str, slides: Collection[str], owner: str, at: str) -> None:
    """Note that rows which a process took are being done from now on."""
    with catalog._database.write() as connection:
        for slide in slides:
            mine = (plan_rows.c.plan == digest) & (plan_rows.c.slide == slide) & (plan_rows.c.owner == owner)
            detail = connection.scalar(select(plan_rows.c.detail).where(mine))
            if detail is not None:
                connection.execute(update(plan_rows).where(mine).values(detail={**detail, BEGUN: at}))
