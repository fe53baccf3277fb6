"""A clock that goes only when it is told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
"""Where a `ManualClock` starts unless told otherwise: no daylight saving, no leap day near."""


class ManualClock:
    """A `wsistore.clock.Clock` for tests: `sleep` returns at once and moves the time on.

    Parameters
    ----------
    start
        The wall clock's first time, timezone-aware.

    """

    def __init__(self, start: datetime = START) -> None:
        self._lock = threading.Lock()
        self._now = start.astimezone(UTC)
        self._monotonic_seconds = 0.0
        self._slept_seconds: list[float] = []

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def now(self) -> datetime:
        """Return the wall clock's time in UTC."""
        with self._lock:
            return self._now

    def monotonic_seconds(self) -> float:
        """Return the seconds passed since the clock was made."""
        with self._lock:
            return self._monotonic_seconds

    def sleep(self, seconds: float) -> None:
        """Move the time on by `seconds` and remember that somebody slept."""
        with self._lock:
            self._slept_seconds.append(seconds)
        self.advance(seconds)

    @property
    def slept_seconds(self) -> tuple[float, ...]:
        """Every pause that was asked for, in order."""
        with self._lock:
            return tuple(self._slept_seconds)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass.

        Raises
        ------
        ValueError
            If `seconds` is negative: time does not go back; see `jump`.

        """
        if seconds < 0:
            msg = f"Time cannot pass by {seconds} seconds."
            raise ValueError(msg)
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic_seconds += seconds

    def jump(self, to: datetime) -> None:
        """Set the wall clock, forwards or back, as an administrator or a time server does; no time passes."""
        with self._lock:
            self._now = to.astimezone(UTC)
