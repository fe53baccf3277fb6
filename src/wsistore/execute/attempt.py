"""What happens in a worker: one task is run and measured. Whatever the function raises comes back as a value."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsistore.clock import SystemClock, cpu_seconds
from wsistore.errors import WsistoreError
from wsistore.execute.worker_logs import LogLine, collected


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt at a task: a result, or one of three kinds of failure."""

    worker: str
    cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    result: Any = None
    error: WsistoreError | None = None
    fault: str = ""
    """What a foreign exception said: it may not be picklable itself."""
    out_of_memory: bool = False
    trace: str = ""
    log: tuple[LogLine, ...] = ()
    """What was logged meanwhile."""


def attempt(function: Callable[[Any], Any], task: Any, log_level: int | None = None) -> Outcome:
    """Run `function` on `task` and measure it; raise nothing but what ends the process.

    With a `log_level`, what is logged from it on comes back with the outcome.
    """
    clock = SystemClock()
    wall, cpu = clock.monotonic_seconds(), cpu_seconds()
    with collected(log_level) as log:
        what = _run(function, task)
    return Outcome(
        worker=worker_name(),
        cpu_seconds=cpu_seconds() - cpu,
        wall_seconds=clock.monotonic_seconds() - wall,
        peak_memory_bytes=peak_memory_bytes(),
        log=log.lines,
        **what,
    )


def _run(function: Callable[[Any], Any], task: Any) -> dict[str, Any]:
    what: dict[str, Any] = {}
    try:
        what["result"] = function(task)
    except WsistoreError as error:
        what |= {"error": error, "trace": traceback.format_exc()}
        # Tracebacks do not travel; here they would keep the frames' values from being freed.
        error.__traceback__ = error.__cause__ = error.__context__ = None
    except MemoryError:
        what |= {"out_of_memory": True, "trace": traceback.format_exc()}
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        what |= {"fault": f"{type(error).__name__}: {said}".rstrip(":. "), "trace": traceback.format_exc()}
    return what


def worker_name() -> str:
    """Return a name of this process that no other process of the cluster has."""
    return f"{platform.node()}/{os.getpid()}"


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had resident; 0 where the system does not tell.

    Not ``ru_maxrss``: that one starts with the peak of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
