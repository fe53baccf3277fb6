"""Which tasks wait, which are in flight, and which may be to blame for workers that died."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

H = TypeVar("H", bound=Hashable)

MOST_DEATHS = 4
"""Workers that one task may cost before it is given up."""
_ALONE_AFTER = 2
"""Deaths after which a task runs alone."""
BACKLOG_PER_WORKER = 2
"""Tasks in flight per worker: one that runs and one that waits, so that no worker waits for whoever takes the results.
More would only be more to send again when a worker dies, and to cancel."""


class Flow(Generic[H]):
    """The state of one run.

    Where a worker dies, it often cannot be told which of several tasks ended it. So one that was there twice runs alone
    from then on; what happens then is its own doing. Twice, for a worker may also die of something else.

    Parameters
    ----------
    tasks
        How many there are.

    """

    def __init__(self, tasks: int) -> None:
        self._waiting = deque(range(tasks))
        self._suspects: deque[int] = deque()
        self._deaths: Counter[int] = Counter()
        self.running: dict[H, int] = {}
        """Tasks in flight by whatever stands for them."""

    def fill(self, workers: int, submit: Callable[[int], H]) -> bool:
        """Submit what may be in flight on so many workers; return whether anything is."""
        if self._waiting:
            while self._waiting and len(self.running) < workers * BACKLOG_PER_WORKER:
                self._submit(self._waiting, submit)
        elif self._suspects and not self.running:
            self._submit(self._suspects, submit)
        return bool(self.running)

    def _submit(self, queue: deque[int], submit: Callable[[int], H]) -> None:
        self.running[submit(queue[0])] = queue[0]
        queue.popleft()

    def died(self, indices: Iterable[int]) -> int | None:
        """Let tasks whose workers died run again; return one that has ended `MOST_DEATHS` of them, if there is one."""
        for index in sorted(indices, reverse=True):
            self._deaths[index] += 1
            if self._deaths[index] >= MOST_DEATHS:
                return index
            if self._deaths[index] >= _ALONE_AFTER:
                self._suspects.append(index)
            else:
                self._waiting.appendleft(index)
        return None
