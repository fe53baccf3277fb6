"""When a plan may be worked on: the rules' window and bytes per day, and what the caller says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from threading import Event
from typing import Any

from wsistore.catalog.plans_spent import bytes_since
from wsistore.clock import iso
from wsistore.ops.site import Site
from wsistore.tiers.rules import Rules
from wsistore.units import format_bytes


class Limits:
    """Says why no further row may be begun.

    Parameters
    ----------
    site
        An open site.
    rules
        The plan's.
    until
        When to stop at the latest.
    stop
        Is set when somebody wants it to stop.
    anytime
        Whether to work outside the rules' window, too.

    """

    def __init__(self, site: Site, rules: Rules, until: datetime | None, stop: Event, *, anytime: bool) -> None:
        self._site, self._rules, self._until, self._stop = site, rules, until, stop
        self._window = None if anytime else rules.limits.window

    def why_stop(self) -> str:
        """Return in words why nothing more is begun now; nothing if it may be."""
        now = self._site.clock.now()
        if self._stop.is_set():
            return "It was stopped."
        if self._until is not None and now >= self._until:
            return f"It was to run until {iso(self._until)}."
        if self._window is not None and not self._window.contains(now, self._rules.time_zone):
            return f"It is outside the hours of the rules' window ({self._window}, {self._rules.time_zone})."
        return ""

    def left_today(self) -> int | None:
        """Return how many bytes may still be moved in this day of the rules; None if as many as you like."""
        most = self._rules.limits.move_bytes_per_day
        if most is None:
            return None
        return max(0, most - bytes_since(self._site.catalog, iso(self.day_begins())))

    def too_much(self, planned: Mapping[str, Any], left: int | None) -> str:
        """Return in words why a row has to wait for another day; nothing if it need not.

        What is larger than a whole day's bytes by itself goes first on a day, or it would never go.
        """
        most, wanted = self._rules.limits.move_bytes_per_day, int(planned["bytes_moved"])
        if left is None or most is None or wanted <= left or (left == most and wanted > most):
            return ""
        return f"The {format_bytes(most)} that the rules allow in a day are moved."

    def day_begins(self) -> datetime:
        """Return when the present day of the rules began: with the window, for it may span midnight."""
        now = self._site.clock.now().astimezone(self._rules.time_zone)
        window = self._rules.limits.window
        begins = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if window is not None:
            begins = begins.replace(hour=window.begins.hour, minute=window.begins.minute)
        return begins if begins <= now else begins - timedelta(days=1)
