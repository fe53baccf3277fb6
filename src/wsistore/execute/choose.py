"""Which executor: by what the caller asks for, and by Dask's own configuration."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from wsistore.clock import Clock, SystemClock
from wsistore.errors import Kind, SiteError
from wsistore.execute.base import Executor
from wsistore.execute.processes import ProcessExecutor
from wsistore.execute.serial import SerialExecutor


class Engine(StrEnum):
    """Who runs the tasks."""

    SERIAL = "serial"
    PROCESSES = "processes"
    DASK = "dask"


def open_executor(
    engine: Engine = Engine.DASK,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    tell: Callable[[str], object] | None = None,
    clock: Clock | None = None,
) -> Executor:
    """Return an executor; close it, or use it as a context manager.

    Parameters
    ----------
    engine
        `Engine.DASK` is a cluster of this machine, unless a scheduler is named.
    scheduler
        Address of an existing Dask scheduler, such as ``tcp://10.0.0.5:8786`` or ``tls://…``; for TLS, certificates are
        taken from Dask's configuration. By default the one that Dask's configuration names, if it does
        (``DASK_SCHEDULER_ADDRESS``).
    workers
        How many, where they are started here; by default one per core, fewer where memory does not suffice for that.
    tell
        Gets a sentence when there is something to wait for.
    clock
        Of this machine by default.

    Raises
    ------
    WorkersError
        If the scheduler cannot be reached, or its workers are unfit.
    SiteError
        If Dask is not installed with its distributed scheduler, or its configuration cannot be read.

    """
    if engine is Engine.SERIAL:
        return SerialExecutor()
    if engine is Engine.PROCESSES:
        return ProcessExecutor(workers)
    try:
        # Two seconds of loading, needed by those only who distribute work.
        import dask.config

        from wsistore.execute.dask_existing import ExistingDask
        from wsistore.execute.dask_local import LocalDask
    except ImportError as error:
        msg = f"Dask cannot be loaded: {error}."
        remedy = 'Install it with its scheduler: pip install "dask[distributed]".'
        raise SiteError(msg, kind=Kind.DEPENDENCY_MISSING, remedy=remedy) from error
    address = scheduler or dask.config.get("scheduler-address", None)
    if address:
        return ExistingDask(str(address), tell=tell, clock=clock or SystemClock())
    return LocalDask(workers)
