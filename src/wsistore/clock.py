"""The only place that reads the time: wall clock, monotonic clock and sleep behind one small protocol."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of the code may know about time."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        ...

    def monotonic_seconds(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(tz=UTC)

    def monotonic_seconds(self) -> float:
        """Return `time.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`."""
        time.sleep(seconds)


def cpu_seconds() -> float:
    """Return the CPU seconds that the calling thread has used; only differences mean anything."""
    return time.thread_time()


def iso(moment: datetime) -> str:
    """Return `moment` as ISO 8601 in UTC with microseconds and a trailing ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
