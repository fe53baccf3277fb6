"""What a scrub reads: each copy again within its tier's period, the longest unread first, as evenly as can be.

The catalogue knows when each copy was read last; nothing else has to be kept. A tier of so many bytes and days is read
at an even pace, its bytes by its days. A copy is due when that pace, from now on, would come to it too late: so copies
that were all written on one day are spread over the whole period, a run that is repeated finds nothing to do, and where
a scrub runs every day, every copy is read once per period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from wsistore.catalog import scrubs
from wsistore.catalog.scrubs import Waiting
from wsistore.clock import iso
from wsistore.ops.site import Site
from wsistore.settings import TierSettings
from wsistore.storage.s3_providers import PROVIDERS, provider_of

_DAY = timedelta(days=1)
_AHEAD = timedelta(minutes=5)
"""A copy that was verified further in the future was verified by a clock that was wrong."""
_CATCH_UP = 2
"""A tier whose copies are overdue is read so many times as fast as it should be, not all of it in one night."""


def is_archived(tier: TierSettings) -> bool:
    """Say whether a tier is only listed, never read: reading it would need a recall that takes hours and costs money.

    The one place that decides it, for scrubs and repairs.
    """
    # Where no endpoint is named the environment names one, by default that of the service whose classes these are.
    provider = provider_of(None, tier.endpoint) if tier.endpoint else PROVIDERS["aws"]
    return tier.archive is not None or tier.storage_class in provider.classes


@dataclass(frozen=True, slots=True)
class Limits:
    """What is asked for."""

    everything: bool = False
    """Read every copy, whenever it was read last."""
    budget_bytes: int | None = None
    """Read at most so much; see `due`."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a tier is."""

    period: timedelta
    copies: int
    bytes_stored: int
    overdue: int
    """Copies that were not read within the period."""
    overdue_bytes: int
    owed_bytes: int
    """What should have been read by now."""
    oldest: str | None
    """When the copy that waits longest was read."""

    @property
    def day_bytes(self) -> int:
        """What is read on an ordinary day."""
        return -(-self.bytes_stored * int(_DAY.total_seconds()) // int(self.period.total_seconds()))

    def most_bytes(self, elapsed: timedelta | None) -> int:
        """Return what a run may read that comes so long after the last one, where the tier is behind."""
        days = 1.0 if elapsed is None else max(0.0, elapsed / _DAY)
        return int(_CATCH_UP * self.day_bytes * min(days, self.period / _DAY))

    def round_by(self, now: datetime, day_bytes: int | None = None) -> datetime | None:
        """Return when every copy will have been read again, at a run a day that reads so much; None if there is none.

        By default as much as the period asks for.
        """
        if not self.bytes_stored:
            return None
        if day_bytes is not None:
            pace = max(1, min(day_bytes, self.day_bytes * 2))
            return now + min(timedelta(days=36_500), _DAY * (self.bytes_stored / pace))
        late = self.overdue_bytes / (_CATCH_UP * self.day_bytes)
        return now + _DAY * (late + (self.bytes_stored - self.overdue_bytes) / self.day_bytes)


def latest(now: datetime) -> str:
    """Return the last moment at which a copy can have been verified."""
    return iso(now + _AHEAD)


def pace_of(site: Site, tier: str) -> Pace:
    """Return how far the reading of a tier is; holds one page of its copies in memory."""
    now, period = site.clock.now(), timedelta(days=site.tier_settings(tier).scrub_days)
    total = scrubs.waiting_bytes(site.catalog, tier)
    before, owed, copies, overdue, overdue_bytes = 0, 0, 0, 0, 0
    oldest: str | None = None
    for one in scrubs.waiting(site.catalog, tier, latest(now)):
        oldest = oldest or one.verified_at
        copies += 1
        before += one.bytes_stored
        left = datetime.fromisoformat(one.verified_at) + period - now
        if left < timedelta(0):
            overdue, overdue_bytes = overdue + 1, overdue_bytes + one.bytes_stored
        # In whole numbers: with a float's error a copy that was just read would be owed.
        owed = max(owed, before - total * (left // _MICROSECOND) // (period // _MICROSECOND))
    return Pace(period, copies, total, overdue, overdue_bytes, owed, oldest)


_MICROSECOND = timedelta(microseconds=1)


def due(
    site: Site, tier: str, pace: Pace, limits: Limits, elapsed: timedelta | None, now: datetime
) -> Iterator[Waiting]:
    """Yield the copies of a tier that a run is to read, the longest unread first.

    Parameters
    ----------
    site, tier
        Which.
    pace
        Of the tier, as it is now.
    limits
        With a budget the copies that were not read in the last half of the period, for the caller to stop when it is
        used up; else those that are owed, or would be overdue before tomorrow's run.
    elapsed
        Since the last run, where that is known.
    now
        When the run began: copies that were read since then are done.

    """
    waiting = scrubs.waiting(site.catalog, tier, iso(now))
    if limits.everything:
        yield from waiting
        return
    if limits.budget_bytes is not None:
        newest = iso(now - pace.period / 2)
        yield from (one for one in _until(waiting, newest))
        return
    soon, before = iso(now + _DAY - pace.period), 0
    most = pace.most_bytes(elapsed)
    for one in waiting:
        size = before + one.bytes_stored
        is_behind = bool(pace.overdue) and size > most
        if is_behind and (before or not most):
            return
        if size > pace.owed_bytes and one.verified_at > soon:
            return
        before = size
        yield one


def _until(waiting: Iterator[Waiting], newest: str) -> Iterator[Waiting]:
    for one in waiting:
        if one.verified_at > newest:
            return
        yield one
