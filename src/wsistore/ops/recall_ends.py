"""Temporary copies let go when their time is over, by the same proof as every other copy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from wsistore.catalog import archived, recalls
from wsistore.catalog.records import CopyRow
from wsistore.clock import iso
from wsistore.errors import WsistoreError
from wsistore.events import EventKind
from wsistore.model import CopyState
from wsistore.ops.dropping import begin_drop, drop_replaced
from wsistore.ops.results import Failure
from wsistore.ops.site import Site, read_only_error

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What became of a temporary copy whose time is over."""

    slide: str
    tier: str
    expires_at: str
    is_dropped: bool
    error: Failure | None = None
    """Why it stays, or is not all deleted yet; the next recovery tries again."""


def expire(site: Site) -> Iterator[Expired]:
    """Drop the temporary copies whose time is over; one on hold, or the last good one, stays.

    Raises
    ------
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    return (_expire(site, copy) for copy in archived.expired(site.catalog, iso(site.clock.now())))


def _expire(site: Site, copy: CopyRow) -> Expired:
    error: WsistoreError | None = None
    try:
        begin_drop(site, copy)
        detail = {"tier": copy.tier, "attempt": copy.attempt, "expires_at": copy.expires_at}
        site.note(copy.slide, EventKind.RECALL_EXPIRED, detail)
        recalls.ended(site.catalog, copy.slide)
        error = next(iter(drop_replaced(site, copy.slide)), None)
    except WsistoreError as problem:
        _log.info("the temporary copy %s of slide %s stays: %s", copy.attempt, copy.slide, problem)
        error = problem
    now = site.catalog.copy_of_attempt(copy.attempt)
    return Expired(
        slide=copy.slide,
        tier=copy.tier,
        expires_at=copy.expires_at or "",
        is_dropped=now is not None and now.state is CopyState.DROPPED,
        error=None if error is None else Failure.of(error),
    )
