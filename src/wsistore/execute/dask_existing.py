"""A Dask cluster that somebody else runs: a hospital's or a cloud's."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Client

from wsistore.clock import Clock
from wsistore.errors import Kind, WorkersError, WsistoreError
from wsistore.execute.base import RUN_AGAIN, describe
from wsistore.execute.dask_run import DaskExecutor, quiet, require_connection
from wsistore.units import format_bytes

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
WAIT_FOR_WORKERS_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_SAME = ("dask", "distributed")
"""Packages whose versions must be the same everywhere; Dask promises nothing else."""


class ExistingDask(DaskExecutor):
    """Runs tasks on the workers of an existing scheduler, as many at a time as they have threads.

    Parameters
    ----------
    address
        Of the scheduler.
    tell
        Gets a sentence when there is something to wait for.
    clock
        For waiting.
    wait_seconds
        How long to wait for workers where there are none.

    Raises
    ------
    WorkersError
        If the scheduler cannot be reached, or has no workers, or unfit ones.

    """

    def __init__(
        self,
        address: str,
        *,
        tell: Callable[[str], object] | None = None,
        clock: Clock,
        wait_seconds: float = WAIT_FOR_WORKERS_SECONDS,
    ) -> None:
        self._address = address
        self._tell = tell or (lambda _: None)
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._stack = contextlib.ExitStack()
        self._infos: Mapping[str, Any] = {}
        self._none_since: float | None = None
        try:
            self._stack.enter_context(quiet())
            self._client = self._stack.enter_context(_connect(address))
            self._wait_for_workers()
            _require_versions(address, self._client)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """How many threads the workers have, as of the last look; 1 while there are none."""
        return max(1, sum(int(info["nthreads"]) for info in self._infos.values()))

    @property
    def where(self) -> str:
        """Name the scheduler."""
        return f"the Dask cluster {self._address}, {len(self._infos)} workers with {self.workers} threads"

    def _prepare(self, memory_bytes: int) -> None:
        require_connection(self._client)
        self._wait_for_workers()
        for info in self._infos.values():
            limit = (info.get("memory_limit") or 0) // info["nthreads"]
            if 0 < limit < memory_bytes:
                each = "" if info["nthreads"] == 1 else f" for each of its {info['nthreads']} threads"
                msg = (
                    f"The Dask worker {info['name']} has {format_bytes(limit)} of memory{each}, "
                    f"and {format_bytes(memory_bytes)} may be needed."
                )
                raise WorkersError(
                    msg,
                    kind=Kind.WORKERS_MEMORY,
                    remedy=f"Start workers with --nthreads 1 --memory-limit {memory_bytes} or more. {RUN_AGAIN}",
                )

    def _wait_for_workers(self) -> None:
        self._look(self._client)
        while not self._infos:
            self._clock.sleep(_LOOK_SECONDS)
            self._look(self._client)

    def _look(self, client: Any) -> None:
        """See who is there; tell if nobody is, and give up when that lasts."""
        before = self._infos
        try:
            self._infos = client.scheduler_info()["workers"]
        except Exception as error:
            raise _unreachable(self._address, error) from error
        for gone in before.keys() - self._infos.keys():
            _log.info("The Dask worker %s has gone; what it was doing runs again on another one.", gone)
        now = self._clock.monotonic_seconds()
        if self._infos:
            self._none_since = None
        elif self._none_since is None:
            self._none_since = now
            self._tell(f"The Dask scheduler {self._address} has no workers; waiting for some.")
        elif now - self._none_since >= self._wait_seconds:
            msg = f"The Dask scheduler {self._address} has had no workers for {now - self._none_since:.0f} seconds."
            raise WorkersError(
                msg,
                kind=Kind.CLUSTER_UNREACHABLE,
                remedy=f"Start workers: dask worker {self._address}. {RUN_AGAIN}",
            )

    def close(self) -> None:
        """Disconnect; scheduler and workers stay as they are."""
        with contextlib.suppress(Exception):  # the other end may be gone
            self._stack.close()


def _connect(address: str) -> Any:
    client = Client.__new__(Client)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions: we look ourselves, and refuse
            client.__init__(address, timeout=CONNECT_SECONDS, set_as_default=False, name="wsistore")
    except BaseException as error:
        # One that did not get through is closed here and now. Left to the garbage collector, it may be closed while
        # this thread is just making another one: distributed then waits for ever for a lock that it holds itself.
        with contextlib.suppress(Exception):
            client.close(timeout=CONNECT_SECONDS)
        if isinstance(error, Exception):
            raise _unreachable(address, error) from error
        raise
    return client


def _unreachable(address: str, error: Exception) -> WorkersError:
    return WorkersError(
        f"The Dask scheduler {address} cannot be reached: {describe(error)}.",
        kind=Kind.CLUSTER_UNREACHABLE,
        remedy="See that it runs there, with a version of Dask like ours; for tls:// addresses Dask's configuration "
        f"must name the certificates. {RUN_AGAIN}",
    )


def _require_versions(address: str, client: Any) -> None:
    """Refuse a cluster on which tasks would fail one by one."""
    try:
        found = client.get_versions(check=False)
        wsistore = client.run(importlib.metadata.version, "wsistore", on_error="return")
    except Exception as error:
        raise _unreachable(address, error) from error
    ours = found["client"]["packages"]
    others = {"scheduler": found["scheduler"], **found["workers"]}
    for where, theirs in others.items():
        packages = theirs["packages"] if theirs else {}
        for package in ("python", *_SAME):
            if _comparable(package, packages.get(package)) != _comparable(package, ours[package]):
                raise _unfit(where, package, packages.get(package), ours[package])
    version = importlib.metadata.version("wsistore")
    for where, theirs in wsistore.items():
        if theirs != version:
            raise _unfit(where, "wsistore", None if isinstance(theirs, BaseException) else theirs, version)


def _comparable(package: str, version: str | None) -> str | None:
    """Return what of a version must be equal: of Python's 3.11.7, 3.11."""
    return ".".join(version.split(".")[:2]) if package == "python" and version else version


def _unfit(where: str, package: str, theirs: str | None, ours: str) -> WsistoreError:
    place = "The Dask scheduler" if where == "scheduler" else f"The Dask worker {where}"
    return WorkersError(
        f"{place} has {'no ' + package if theirs is None else f'{package} {theirs}'}; {package} {ours} is needed.",
        kind=Kind.CLUSTER_UNFIT,
        remedy="Install the same versions there as here.",
    )
