"""The flow that lets go what was brought back for a time, when that time is over."""

from __future__ import annotations

from prefect import flow

from wsistore import ops
from wsistore_flows.hooks import HOOKS
from wsistore_flows.running import FLOW, Run, State, done, night
from wsistore_flows.states import NOTHING_TO_DO, ended, may_be_told


@flow(name="expire", **FLOW, **HOOKS)
def expire(site: str | None = None) -> State:
    """Drop the temporary copies of recalls whose time is over; one on hold, or the last good one, stays.

    Parameters
    ----------
    site
        The site's folder; by default the one that WSISTORE_HOME tells.

    """
    return night("expire", site, _expire)


def _expire(run: Run) -> State:
    rows = run.step("drop temporary copies", lambda: list(ops.expire(run.site)))
    if not rows:
        return done("No temporary copy's time is over.", name=NOTHING_TO_DO)
    kept = [row for row in rows if row.error is not None]
    run.facts.update(dropped=sum(row.is_dropped for row in rows), kept=len(kept))
    table = [
        {
            "slide": row.slide,
            "tier": row.tier,
            "its time was over": row.expires_at,
            "dropped": "yes" if row.is_dropped else "not yet",
            "why": "" if row.error is None else may_be_told(row.error.message, row.error.kind),
        }
        for row in sorted(rows, key=lambda row: row.error is None)
    ]
    run.shown.table("copies", table, "Temporary copies whose time is over.")
    message = f"{run.facts['dropped']} of {len(rows)} temporary copies were dropped"
    return ended(message, [row.error for row in kept if row.error is not None])
