"""Recalls of cold slides through the gateway: asked for, and looked at. What they tell is of one slide only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from wsistore.clock import Clock
from wsistore.errors import WsistoreError
from wsistore.ops.recall_lists import lines_of
from wsistore.ops.recall_results import Coming, RecallStatus, SlideStatus
from wsistore.ops.recall_status import statuses
from wsistore.ops.recalling import recall
from wsistore.ops.research_access import RECALL, ProjectView, SharedSlide
from wsistore.ops.site import Site
from wsistore.serve.answers import Answer, Refusal, forbidden, json_answer
from wsistore.serve.pool import Pool
from wsistore.serve.requests import Request

_BELIEVED_SECONDS = 300.0
"""How long it is believed how long a recall takes."""
_MOST_BELIEVED = 4096
_TOLD = {
    Coming.READY: "ready",
    Coming.ON_ITS_WAY: "coming",
    Coming.LATE: "coming",
    Coming.CONFIRM: "needs-approval",
    Coming.EXPIRED: "cold",
    Coming.NOT_FOUND: "cold",
    Coming.FAILED: "failed",
}


class RecallRoutes:
    """Recalls of a site.

    Parameters
    ----------
    site
        Open for writing, else nothing can be asked for.
    pool
        Where the catalogue is waited for.
    clock
        The time.

    """

    def __init__(self, site: Site, pool: Pool, clock: Clock) -> None:
        self._site, self._pool, self._clock = site, pool, clock
        self._hours: dict[str, tuple[float, float | None]] = {}

    async def answer(self, request: Request, view: ProjectView, slide: SharedSlide) -> Answer:
        """Ask for a slide (POST), or say how it stands (GET).

        Raises
        ------
        Refusal
            If the caller may not ask.

        """
        if request.method != "POST":
            return json_answer(await self._pool.run(self._standing, slide.slide))
        if RECALL not in view.scopes:
            raise Refusal(forbidden("recall slides"))
        told = await self._pool.run(self._ask, slide.slide)
        return json_answer(told, 200 if told["state"] == "ready" else 202)

    async def expected_hours(self, slide: str) -> float | None:
        """Return within how many hours a slide would be ready; None if nobody knows."""
        now = self._clock.monotonic_seconds()
        found = self._hours.get(slide)
        if found is None or now - found[0] > _BELIEVED_SECONDS:
            if len(self._hours) >= _MOST_BELIEVED:
                self._hours.clear()
            found = self._hours[slide] = (now, await self._pool.run(self._expected, slide))
        return found[1]

    def _expected(self, slide: str) -> float | None:
        try:
            planned = recall(self._site, lines_of([slide]), dry_run=True)
        except WsistoreError:
            return None
        return self._hours_until(planned.expected_at)

    def _ask(self, slide: str) -> dict[str, Any]:
        # Where the site sets no price that a recall may have, a researcher's may have none.
        limit = self._site.settings.recall_max_eur or 0.0
        return self._told(slide, [recall(self._site, lines_of([slide]), max_eur=limit)])

    def _standing(self, slide: str) -> dict[str, Any]:
        known = self._told(slide, statuses(self._site))
        if known["state"] != "cold":
            return known
        return self._told(slide, [recall(self._site, lines_of([slide]), dry_run=True, confirmed=True)], planned=True)

    def _told(self, slide: str, found: list[RecallStatus], *, planned: bool = False) -> dict[str, Any]:
        mine = [one for status in found for case in status.cases for one in case.slides if one.slide == slide]
        if not mine:
            return {"state": "cold", "expected_hours": None}
        best = min(mine, key=_rank)
        state = _TOLD[best.state]
        if planned and state == "coming":
            state = "cold"
        return {"state": state, "expected_hours": self._hours_until(best.expected_at)}

    def _hours_until(self, moment: str | None) -> float | None:
        if moment is None:
            return None
        seconds = (datetime.fromisoformat(moment) - self._clock.now()).total_seconds()
        return round(max(0.0, seconds) / 3600, 1)


_ORDER = (
    *(Coming.READY, Coming.ON_ITS_WAY, Coming.LATE, Coming.CONFIRM),
    *(Coming.FAILED, Coming.EXPIRED, Coming.NOT_FOUND),
)


def _rank(one: SlideStatus) -> int:
    return _ORDER.index(one.state)
