"""Threads that stay: to start a dozen for every slide takes longer than what many of them do."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

_T = TypeVar("_T")

_MOST_IDLE = 8
"""Idle pools that are kept: those of two or three slides at a time."""


class _Idle:
    """Pools that nobody uses at the moment, by their number of threads."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start with none: threads do not survive a fork, and the lock may have been held by one of them."""
        self._lock = Lock()
        self._pools: list[tuple[int, ThreadPoolExecutor]] = []

    def take(self, workers: int) -> ThreadPoolExecutor:
        with self._lock:
            for place, (count, pool) in enumerate(self._pools):
                if count == workers:
                    del self._pools[place]
                    return pool
        return ThreadPoolExecutor(workers, "wsistore-crew")

    def put(self, workers: int, pool: ThreadPoolExecutor) -> None:
        with self._lock:
            self._pools.append((workers, pool))
            spare = [self._pools.pop(0)[1] for _ in range(len(self._pools) - _MOST_IDLE)]
        for old in spare:
            old.shutdown(wait=False)


_idle = _Idle()
os.register_at_fork(after_in_child=_idle.forget)


class Crew(Executor):
    """As a `ThreadPoolExecutor` of the caller's own, but its threads are kept for the next crew of this size.

    Leaving its ``with`` block, or `shutdown`, waits for what was submitted.

    Parameters
    ----------
    workers
        How many tasks run at a time.

    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = _idle.take(workers)
        self._tasks: set[Future[Any]] = set()
        self._lock = Lock()

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Have one of the threads call `fn`.

        Raises
        ------
        RuntimeError
            After `shutdown`.

        """
        with self._lock:
            if self._pool is None:
                msg = "This crew was dismissed."
                raise RuntimeError(msg)
            task = self._pool.submit(fn, *args, **kwargs)
            self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and wait (always: the threads are others' afterwards) for what was submitted.

        With `cancel_futures` what has not begun is dropped.
        """
        with self._lock:
            pool, self._pool = self._pool, None
            tasks = list(self._tasks)
        if pool is None:
            return
        if cancel_futures:
            for task in tasks:
                task.cancel()
        try:
            futures.wait(tasks)
        except BaseException:  # interrupted: threads that are at work still are nobody else's
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        _idle.put(self._workers, pool)
