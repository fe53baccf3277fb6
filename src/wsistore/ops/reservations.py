"""How full tiers are while a process fills them: what the catalogue says, and what is being written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

_FRESH_SECONDS = 60.0
"""How long a figure of the catalogue is believed: other processes fill tiers, too. Summing it up reads every copy."""


@dataclass(slots=True)
class _Known:
    """One tier."""

    at: float
    """By the monotonic clock."""
    bytes_stored: int
    pending: dict[object, int] = field(default_factory=dict)
    """What is being written, by who writes it."""
    written: int = 0
    """What was written since the catalogue was asked."""

    @property
    def bytes_used(self) -> int:
        """What the tier holds or is about to, at most: what is just being committed may count twice."""
        return self.bytes_stored + self.written + sum(self.pending.values())


class Reservations:
    """Room that slides have taken in tiers. Threads share it; other processes are seen when their copies are there."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tiers: dict[str, _Known] = {}

    def take(
        self, tier: str, bytes_needed: int, capacity: int, *, by: object, now: float, ask: Callable[[], int]
    ) -> tuple[int, bool]:
        """Take room in a tier, if it has so much.

        Parameters
        ----------
        tier, bytes_needed, capacity
            Name of the tier; bytes.
        by
            Who takes it; until `give_back`.
        now
            By the monotonic clock, seconds.
        ask
            Returns the bytes that the catalogue knows in the tier.

        Returns
        -------
        int
            Bytes that were in use before.
        bool
            Whether there was room.

        """
        with self._lock:
            known = self._tiers.get(tier)
            if known is not None:
                known.pending.pop(by, None)  # it asks again, for another size
            is_old = known is None or not 0 <= now - known.at < _FRESH_SECONDS
            if known is None or is_old or known.bytes_used + bytes_needed > capacity:
                known = _Known(now, ask(), {} if known is None else known.pending)
                self._tiers[tier] = known
            used = known.bytes_used
            fits = used + bytes_needed <= capacity
            if fits:
                known.pending[by] = bytes_needed
            return used, fits

    def give_back(self, tier: str, *, by: object, is_written: bool) -> None:
        """End what `take` began; what was written stays."""
        with self._lock:
            known = self._tiers.get(tier)
            if known is not None:
                size = known.pending.pop(by, 0)
                known.written += size if is_written else 0
