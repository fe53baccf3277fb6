"""Tasks on a Dask cluster, whoever started it: a bounded number in flight, and every fault told as an error of ours."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import logging
import secrets
from abc import abstractmethod
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

from distributed.scheduler import KilledWorker

from wsistore.clock import SystemClock
from wsistore.errors import Kind, WorkersError, WsistoreError
from wsistore.execute.attempt import Outcome, attempt
from wsistore.execute.base import RUN_AGAIN, Done, Executor, R, Run, T, describe
from wsistore.execute.flow import MOST_DEATHS, Flow

_LOOK_EVERY_SECONDS = 1.0
"""How long to wait for results before looking whether the cluster still lives."""


class DaskExecutor(Executor):
    """What both kinds of cluster share."""

    _client: Any
    """Connected after `_prepare`."""

    @abstractmethod
    def _look(self, client: Any) -> None:
        """See that the cluster can go on; called about once a second."""

    def _abandon(self, client: Any, futures: list[Any]) -> None:
        """Give up what is under way."""
        if client.status == "running":
            with contextlib.suppress(Exception):  # it is gone, or goes: there is nothing more to cancel
                client.cancel(futures, reason="wsistore does not need it any more")

    def _run(self, run: Run[T, R]) -> Iterator[Done[T, R]]:
        client = self._client
        finished: SimpleQueue[Any] = SimpleQueue()
        futures: dict[Any, Any] = {}
        flow: Flow[Any] = Flow(len(run.tasks))
        name = f"wsistore-{secrets.token_hex(4)}"

        def submit(index: int) -> Any:
            # A new key each time: one that was given up is remembered for a while.
            future = _submit(client, run, index, (name, index, next(attempts)))
            futures[future.key] = future
            future.add_done_callback(finished.put)
            return future.key

        attempts = itertools.count()
        clock = SystemClock()
        looked = clock.monotonic_seconds()
        try:
            while flow.fill(self.workers, submit):
                # Also while results come one after the other: workers may have joined.
                if clock.monotonic_seconds() - looked >= _LOOK_EVERY_SECONDS:
                    require_connection(client)
                    self._look(client)
                    looked = clock.monotonic_seconds()
                try:
                    key = finished.get(timeout=_LOOK_EVERY_SECONDS).key
                except Empty:
                    continue
                index = flow.running[key]
                outcome = self._outcome(client, run, index, futures[key])
                del flow.running[key]
                futures.pop(key).release()
                if outcome is not None:
                    yield run.done(index, outcome)
                elif flow.died([index]) is not None:
                    raise run.deadly(index, MOST_DEATHS)
                else:
                    run.mourn([index])
        finally:
            if futures:
                self._abandon(client, list(futures.values()))

    def _outcome(self, client: Any, run: Run[T, R], index: int, future: Any) -> Outcome | None:
        """Return what came of a future that has ended, None if it is to run again, or raise what it means."""
        while True:
            try:
                outcome: Outcome = future.result(timeout=_LOOK_EVERY_SECONDS)
            except KilledWorker as error:
                if not error.allowed_failures:
                    return None  # our own scheduler, which leaves it to us to try again
                raise run.deadly(index, error.allowed_failures + 1) from error
            except ImportError as error:
                raise _unfit_worker(error) from error
            except TimeoutError:
                # The worker died with the result that it had announced: the task runs again.
                require_connection(client)
                self._look(client)
            except Exception as error:
                require_connection(client)
                if future.status == "cancelled":
                    raise connection_lost(client, str(error)) from error
                raise run.not_carried(index, error) from error
            else:
                return outcome


def _submit(client: Any, run: Run[T, R], index: int, key: Any) -> Any:
    try:
        return client.submit(attempt, run.function, run.tasks[index], run.log_level, key=key, pure=False)
    except WsistoreError:
        raise
    except Exception as error:
        require_connection(client)
        raise run.not_carried(index, error) from error


def require_connection(client: Any) -> None:
    """Raise an error if the scheduler is gone.

    Raises
    ------
    WorkersError
        If so.

    """
    if client.status != "running":
        raise connection_lost(client, f"the connection is {client.status}")


def connection_lost(client: Any, why: str) -> WorkersError:
    """Return the error of a scheduler that was there and is gone."""
    address = client.scheduler.address if client.scheduler else "which was there"
    return WorkersError(
        f"The connection to the Dask scheduler {address} was lost: {' '.join(why.split()).rstrip('.')}.",
        kind=Kind.CLUSTER_UNREACHABLE,
        remedy=f"See that the scheduler runs. {RUN_AGAIN}",
    )


def _unfit_worker(error: ImportError) -> WorkersError:
    return WorkersError(
        f"A Dask worker cannot load what it is to run: {describe(error)}.",
        kind=Kind.CLUSTER_UNFIT,
        remedy=f"Install wsistore {wsistore_version()} where the workers run. {RUN_AGAIN}",
    )


def wsistore_version() -> str:
    """Return the version of wsistore that workers must have."""
    return importlib.metadata.version("wsistore")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask's log to itself: what matters of it is told by errors, and the rest would disturb a progress bar."""
    log = logging.getLogger("distributed")
    before = log.level
    if not logging.getLogger("wsistore").isEnabledFor(logging.DEBUG):
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
