"""Processes of this machine: a pool that is made anew when one of them is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection

from wsistore.errors import Kind, WorkersError
from wsistore.execute.attempt import Outcome, attempt
from wsistore.execute.base import RUN_AGAIN, Done, Executor, R, Run, T, describe
from wsistore.execute.flow import MOST_DEATHS, Flow
from wsistore.execute.machine import cores, fitting_workers


class ProcessExecutor(Executor):
    """Runs tasks in processes of this machine, one task each at a time.

    Parameters
    ----------
    workers
        How many; by default one per core, fewer where memory does not suffice for that.

    """

    def __init__(self, workers: int | None = None) -> None:
        self._wanted = workers
        self._workers = workers or cores()
        self._fits_bytes = 0
        self._pool: Pool | None = None

    @property
    def workers(self) -> int:
        """How many processes."""
        return self._workers

    @property
    def where(self) -> str:
        """Say how many processes there are."""
        return f"{self._workers} process{'es' if self._workers > 1 else ''} of this machine"

    def _prepare(self, memory_bytes: int) -> None:
        if self._pool is not None and memory_bytes <= self._fits_bytes:
            return
        self.close()
        self._workers, self._fits_bytes = fitting_workers(self._wanted, memory_bytes), memory_bytes

    def _run(self, run: Run[T, R]) -> Iterator[Done[T, R]]:
        flow: Flow[Future[Outcome]] = Flow(len(run.tasks))
        try:
            while flow.fill(self._workers, partial(self._submit, run)):
                finished, _ = wait(flow.running, return_when=FIRST_COMPLETED)
                died: list[int] = []
                for future in finished:
                    index = flow.running.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenProcessPool:
                        died.append(index)
                    except Exception as error:
                        raise run.not_carried(index, error) from error
                    else:
                        yield run.done(index, outcome)
                if died:
                    self._stop()
                    self._mourn(run, flow, died)
        finally:
            if flow.running:  # an error, Ctrl-C, or nobody wants the rest: nothing may go on unseen
                self._stop()

    def _mourn(self, run: Run[T, R], flow: Flow[Future[Outcome]], died: list[int]) -> None:
        """Take back what ran in a pool that broke, and give up the task that is to blame, if that is certain."""
        died += [index for future, index in flow.running.items() if not _succeeded(future)]
        flow.running = {future: index for future, index in flow.running.items() if _succeeded(future)}
        deadly = flow.died(died)
        if deadly is not None:
            raise run.deadly(deadly, MOST_DEATHS)
        run.mourn(died)

    def _submit(self, run: Run[T, R], index: int) -> Future[Outcome]:
        for _ in range(MOST_DEATHS):
            if self._pool is None:
                self._pool = Pool(self._workers)
            try:
                return self._pool.executor.submit(attempt, run.function, run.tasks[index], run.log_level)
            except BrokenProcessPool:  # a worker was killed while it had nothing to do
                self._stop()
            except OSError as error:
                raise _cannot_start(error) from error
        raise _cannot_start(BrokenProcessPool("workers die as soon as they start"))

    def _stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.kill()

    def close(self) -> None:
        """End the processes."""
        self._stop()


class Pool:
    """A pool whose processes end at once when they are told to, and when this process is no more.

    The standard library's own would let what runs come to its end, and outlives a parent that is killed: its workers
    wait for ever at a queue of which they hold both ends. Ours watch a pipe of which they have the reading end only.
    """

    def __init__(self, workers: int) -> None:
        # No fork: threads of this process may hold locks.
        context = multiprocessing.get_context("spawn")
        self._watched, self._lifeline = context.Pipe(duplex=False)
        self.executor = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(self._watched,))

    def kill(self) -> None:
        """End all processes, whatever they do, and wait until they are gone."""
        self._lifeline.close()
        self.executor.shutdown(wait=True, cancel_futures=True)
        self._watched.close()


def _begin(lifeline: Connection) -> None:
    """Prepare a worker process. Ctrl-C reaches the whole process group: who started the workers ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    lifeline.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def _succeeded(future: Future[Outcome]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _cannot_start(error: Exception) -> WorkersError:
    return WorkersError(
        f"Worker processes cannot be started: {describe(error)}.",
        kind=Kind.WORKERS_LOST,
        remedy=f"See whether the machine has memory and processes to give. {RUN_AGAIN}",
    )
