"""Whether the clock can be believed: what expires must not come back to life because it was set back."""

from __future__ import annotations

from datetime import datetime, timedelta

from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind
from wsistore.ops.site import Site

SLACK = timedelta(minutes=5)
"""By which the clocks of a site's machines may differ."""


def check_clock(site: Site) -> datetime:
    """Return the present.

    Raises
    ------
    ConflictError
        If the catalogue has seen a later moment (`Kind.CLOCK_WRONG`).

    """
    now = site.clock.now()
    latest = site.catalog.latest_moment()
    if iso(now + SLACK) < latest:
        msg = f"The clock says {iso(now)}, but the catalogue has seen {latest}: it was set back, or was ahead."
        raise ConflictError(msg, kind=Kind.CLOCK_WRONG, remedy="Set the clock of this machine right.")
    return now
