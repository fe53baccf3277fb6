"""Which slides this process makes copies of: an attempt of its own that nobody works on is as good as a dead one's.

So it is where the catalogue could not be told that an attempt was let go. Other processes are asked of the kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from threading import Lock

from wsistore.catalog.owner import Owner, is_alive
from wsistore.catalog.records import Attempt
from wsistore.catalog.reencodes import COPIES

_lock = Lock()
_worked_on: Counter[str] = Counter()


@contextmanager
def working(slide: str) -> Iterator[None]:
    """Say that a copy of a slide is made, for as long as the block lasts."""
    with _lock:
        _worked_on[slide] += 1
    try:
        yield
    finally:
        with _lock:
            _worked_on[slide] -= 1
            if not _worked_on[slide]:
                del _worked_on[slide]


def lives(attempt: Attempt, now: datetime, *, mine: int = 0) -> bool:
    """Say whether somebody works on an attempt; `mine` is how often the caller itself has said so of its slide."""
    if attempt.kind in COPIES and attempt.owner == str(Owner.current()):
        with _lock:
            return _worked_on[attempt.slide] > mine
    return is_alive(attempt.owner, now, attempt.lease_until)
