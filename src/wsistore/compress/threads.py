"""Threads that live as long as the process: starting some anew for every slide costs more than a small slide's work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TypeVar

T = TypeVar("T")
Job = Callable[[], None]

_pools: dict[str, ThreadPoolExecutor] = {}
_lock = Lock()


def shared_pool(name: str, workers: int) -> ThreadPoolExecutor:
    """Return the process's pool of a name; a task in it must never wait for another one of the same pool.

    Threads are started when there is work for them. A forked process gets pools of its own.
    """
    with _lock:
        known = _pools.get(name)
        if known is None:
            known = _pools[name] = ThreadPoolExecutor(workers, f"wsistore-{name}")
        return known


def for_each(pool: ThreadPoolExecutor, act: Callable[[T], object], items: Iterable[T]) -> None:
    """Run `act` for all items side by side; raise the first failure once nothing of it runs any more."""
    tasks = [pool.submit(act, item) for item in items]
    try:
        done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        wait(tasks)
    for task in tasks:
        if task in done:
            task.result()


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(jobs: Iterable[Job], threads: int | None = None) -> None:
    """Run all jobs, the calling thread among those that do, and return when all are done.

    Jobs must not wait for other jobs. After one failed no further one is started.

    Parameters
    ----------
    jobs
        In the order in which they are started.
    threads
        At most so many at once, the calling one included; None: as many as there are processors.

    Raises
    ------
    Exception
        What the first job that failed raised.

    """
    work = _Work(jobs)
    wanted = min(len(work.left), processors() if threads is None else threads) - 1
    helpers = [helper for helper in (_submitted(work.drain) for _ in range(wanted)) if helper is not None]
    work.drain()
    for helper in helpers:
        # One that has not begun, because others keep the threads busy, has nothing left to do.
        if not helper.cancel():
            helper.result()
    if work.failures:
        raise work.failures[0]


def _submitted(job: Job) -> Future[None] | None:
    """Let a thread run `job`; None while the interpreter ends, when there are no new threads."""
    try:
        return shared_pool("decode", max(1, processors() - 1)).submit(job)
    except RuntimeError:
        return None


class _Work:
    """Jobs that are left; threads share it."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.left = deque(jobs)
        self.failures: list[BaseException] = []

    def drain(self) -> None:
        """Take jobs until there are none."""
        while True:
            try:
                job = self.left.popleft()
            except IndexError:
                return
            try:
                job()
            except BaseException as error:  # the caller gets it, in its own thread
                self.failures.append(error)
                self.left.clear()
                return


def _forget() -> None:
    """In a forked process there are no threads but the one that forked, and the lock may be held by another."""
    global _lock
    _lock = Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
