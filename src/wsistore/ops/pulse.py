"""Signs of life: progress that moves the end of an attempt's lease."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from wsistore.catalog.records import Attempt
from wsistore.ops.attempts import LEASE
from wsistore.ops.site import Site

_PULSE_SECONDS = 60.0
"""How often long work moves the end of its lease."""


class Pulse:
    """Passes progress on and keeps an attempt's lease while there is progress, from whatever thread it is told.

    Parameters
    ----------
    site
        An open site.
    attempt
        Whose lease it is.
    tell
        Gets what the pulse gets: the phase, and how much was done.

    """

    def __init__(self, site: Site, attempt: Attempt, tell: Callable[[str, int], None]) -> None:
        self._site, self._attempt, self._tell = site, attempt, tell
        self._lock = Lock()
        self._next = site.clock.monotonic_seconds() + _PULSE_SECONDS

    def __call__(self, phase: str, done: int) -> None:
        """Say that so much more is done.

        Raises
        ------
        ConflictError
            If somebody else has ended the attempt, or taken it over.

        """
        self._tell(phase, done)
        with self._lock:
            now = self._site.clock.monotonic_seconds()
            is_due = now >= self._next
            if is_due:
                self._next = now + _PULSE_SECONDS
        if is_due:
            until = self._site.clock.now() + LEASE
            self._site.catalog.extend_lease(self._attempt.attempt, until, fence=self._attempt.fence)
