"""Workers for a whole plan, started when the first row needs them; and signs of life of the rows that are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import TypeVar

from wsistore.execute import Executor, open_executor
from wsistore.execute.base import Done, Run
from wsistore.ops.attempts import LEASE
from wsistore.ops.site import Site
from wsistore.ops.watching import Planned, Watcher

T = TypeVar("T")
R = TypeVar("R")

_PULSE_SECONDS = 60.0


class LateExecutor(Executor):
    """An executor that is opened when it is first used: most plans encode nothing.

    Parameters
    ----------
    open_it
        Opens it.

    """

    def __init__(self, open_it: Callable[[], Executor]) -> None:
        self._open = open_it
        self._opened: Executor | None = None
        self._lock = Lock()

    @property
    def workers(self) -> int:
        """How many tasks run at the same time."""
        return self._executor.workers

    @property
    def where(self) -> str:
        """Where tasks run."""
        return self._executor.where

    @property
    def _executor(self) -> Executor:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def run(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        memory_bytes: int,
        name: Callable[[T], str] | None = None,
    ) -> Iterator[Done[T, R]]:
        """Run `function` on each of `tasks`; see `Executor.run`."""
        return self._executor.run(function, tasks, memory_bytes=memory_bytes, name=name)

    def _run(self, run: Run[T, R]) -> Iterator[Done[T, R]]:
        return self._executor._run(run)

    def close(self) -> None:
        """End the workers, if there are any."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()


def late_executor(site: Site, scheduler: str | None, jobs: int | None, watcher: Watcher) -> LateExecutor:
    """Return workers that are started when they are first needed."""
    return LateExecutor(
        lambda: open_executor(scheduler=scheduler, workers=jobs, tell=watcher.waiting, clock=site.clock)
    )


class Pulse(Watcher):
    """Passes progress on, and renews the lease of the rows that this process is at.

    Parameters
    ----------
    site
        An open site.
    digest
        Of the plan.
    inner
        Is told what this is told.

    """

    def __init__(self, site: Site, digest: str, inner: Watcher) -> None:
        self._site, self._digest, self._inner = site, digest, inner
        self._lock = Lock()
        self._next = site.clock.monotonic_seconds() + _PULSE_SECONDS

    def waiting(self, what: str) -> None:
        """Pass a sentence on."""
        self._inner.waiting(what)

    def planned(self, plan: Planned) -> None:
        """Pass on what is about to be done."""
        self._inner.planned(plan)
        self.beat()

    def encoded(self, bytes_read: int, bytes_written: int) -> None:
        """Pass progress on."""
        self._inner.encoded(bytes_read, bytes_written)
        self.beat()

    def verified(self, bytes_rebuilt: int) -> None:
        """Pass progress on."""
        self._inner.verified(bytes_rebuilt)
        self.beat()

    def beat(self) -> None:
        """Renew the lease if it is time."""
        with self._lock:
            now = self._site.clock.monotonic_seconds()
            is_due = now >= self._next
            if is_due:
                self._next = now + _PULSE_SECONDS
        if is_due:
            self._site.catalog.extend_rows(self._digest, self._site.owner, self._site.clock.now() + LEASE)
