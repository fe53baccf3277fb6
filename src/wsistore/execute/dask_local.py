"""A Dask cluster of this machine's own, for one executor: it starts with the first run, and ends with the executor."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
from typing import Any

import dask.config
from distributed import Client, LocalCluster, wait
from distributed.security import Security

from wsistore.errors import Kind, WorkersError
from wsistore.execute.base import RUN_AGAIN, describe
from wsistore.execute.dask_run import DaskExecutor, quiet
from wsistore.execute.machine import cores, fitting_workers

_GRACE_SECONDS = 0.3
_GONE = frozenset({"closing", "closed", "failed"})
_MOST_REPLACED = 5
"""Times per worker."""
_LOCALHOST = "127.0.0.1"

_CONFIG = {
    # A worker is ended when it needs a quarter more than was computed: a bound that is a little wrong must not cost the
    # run. Before that it is left alone: tasks hold their data themselves, so there is nothing that could be written to
    # disk, and a paused worker would never go on.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 1.25,
    # We count ourselves: the scheduler would blame also what only waited at a worker that died.
    "distributed.scheduler.allowed-failures": 0,
    # What waits, waits at the scheduler, for whichever worker is free first.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.no-workers-timeout": None,
    # Nobody looks at pages of a cluster of minutes.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.daemon": True,
    # Dask's default returns freed memory so eagerly (MALLOC_TRIM_THRESHOLD_) that encoding takes half as long again.
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1},
    "distributed.worker.preload": ["wsistore.execute.dask_preload"],
}


class LocalDask(DaskExecutor):
    """Worker processes of one thread each, under a scheduler in this process, all on 127.0.0.1.

    Connections are encrypted with a certificate made for the occasion: without one, every user of the machine could
    have the workers run what they like.

    Parameters
    ----------
    workers
        How many; by default one per core, fewer where memory does not suffice for that.

    """

    def __init__(self, workers: int | None = None) -> None:
        self._wanted = workers
        self._workers = workers or cores()
        self._limit_bytes = 0
        self._cluster: Any = None
        self._client: Any = None
        self._replaced = 0
        self._stack = contextlib.ExitStack()

    @property
    def workers(self) -> int:
        """How many processes."""
        return self._workers

    @property
    def where(self) -> str:
        """Say how many workers there are."""
        return f"{self._workers} Dask worker{'s' if self._workers > 1 else ''} of this machine"

    def _prepare(self, memory_bytes: int) -> None:
        if self._client is not None:
            if memory_bytes <= self._limit_bytes:
                return  # starting others takes seconds, and many slides need a little less than the one before
            self.close()
        self._workers, self._limit_bytes = fitting_workers(self._wanted, memory_bytes), memory_bytes
        self._start()

    def _start(self) -> None:
        try:
            self._stack.enter_context(quiet())
            folder = self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="wsistore-dask-", ignore_cleanup_errors=True)
            )
            # As long as the cluster lives: workers that are started anew read it too.
            self._stack.enter_context(dask.config.set({**_CONFIG, "temporary-directory": folder}))
            self._cluster = LocalCluster(
                n_workers=self._workers,
                threads_per_worker=1,
                processes=True,
                host=_LOCALHOST,
                scheduler_port=0,
                dashboard_address=f"{_LOCALHOST}:0",
                worker_dashboard_address=f"{_LOCALHOST}:0",
                silence_logs=logging.CRITICAL,
                local_directory=folder,
                memory_limit=self._limit_bytes,
                security=Security.temporary(),
            )
            self._stack.callback(_close_cluster, self._cluster)
            self._client = self._stack.enter_context(Client(self._cluster, set_as_default=False, name="wsistore"))
        except Exception as error:
            self.close()
            raise _cannot_start(self._workers, describe(error)) from error
        except BaseException:
            self.close()
            raise

    def _look(self, client: Any) -> None:
        """Replace nannies that gave up: they start a worker anew unless it died while it was being started."""
        gone = [name for name, nanny in self._cluster.workers.items() if nanny.status.name in _GONE]
        for name in gone:
            self._cluster.worker_spec.pop(name, None)
        if gone:
            self._replaced += len(gone)
            if self._replaced > self._workers * _MOST_REPLACED:
                raise _cannot_start(self._workers, "they die while they start")
            self._cluster.scale(self._workers)

    def _abandon(self, client: Any, futures: list[Any]) -> None:
        """End the workers: what they are doing could not be interrupted otherwise. The next run starts others.

        Unless they are about to end what they do, for starting others takes seconds.
        """
        try:
            wait(futures, timeout=_GRACE_SECONDS)
        except Exception:  # not in time, or nothing works any more
            self.close()

    def close(self) -> None:
        """End the workers and the scheduler, and remove the temporary folder."""
        self._client = None
        with contextlib.suppress(Exception):  # it is being thrown away: there is nobody whom it concerns
            self._stack.close()


def _cannot_start(workers: int, why: str) -> WorkersError:
    return WorkersError(
        f"Dask cannot start {workers} workers on this machine: {why}.",
        kind=Kind.WORKERS_LOST,
        remedy=f"See whether the machine has memory and processes to give. {RUN_AGAIN}",
    )


def _close_cluster(cluster: Any) -> None:
    """End the workers at once: left to itself, the cluster would wait seconds for what they are doing."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        pid = nanny.pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    cluster.close()
