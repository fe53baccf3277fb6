"""Functions that workers run, and Dask clusters of separate processes, all on 127.0.0.1."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from wsistore.errors import IntegrityError, Kind, TransientError

REPOSITORY = Path(__file__).resolve().parents[1]
MB = 10**6
ENOUGH = 300 * MB
"""Bytes of memory that a worker with Dask loaded and a small task takes at most."""


# --- what workers run -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Something to do; calls are counted in a folder, which all workers see."""

    folder: Path
    number: int
    seconds: float = 0.0
    first_seconds: float = 0.0
    """How much longer the first call takes: enough to be killed in it, however late."""
    deaths: int = 0
    """How many of the first calls end their worker."""

    @property
    def calls(self) -> int:
        return len(self.pids)

    @property
    def pids(self) -> list[int]:
        """The processes that ran it, by calls."""
        made = sorted(self.folder.glob(f"{self.number}-*"), key=lambda path: int(path.name.partition("-")[2]))
        return [int(str(path.readlink())) for path in made]

    def count(self) -> int:
        """Record a call; return which one it is, from 1."""
        call = 1
        while True:
            with suppress(FileExistsError):
                (self.folder / f"{self.number}-{call}").symlink_to(str(os.getpid()))
                return call
            call += 1


def square(task: Task) -> int:
    call = task.count()
    time.sleep(task.seconds + (task.first_seconds if call == 1 else 0))
    if call <= task.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.number**2


def square_when_told(task: Task) -> int:
    """Wait, as the first of the tasks, until there is a file `go` in the folder."""
    if task.number == 0:
        wait_until((task.folder / "go").exists)
    return square(task)


def refuse(task: Task) -> int:
    task.count()
    if task.number == 3:
        raise IntegrityError("Chunk 0/1 of slide x is damaged.", kind=Kind.FORMAT_UNKNOWN, remedy="Restore it.")
    time.sleep(task.seconds)
    return task.number


def refuse_with_more(task: Task) -> int:
    raise TransientError("The tier is busy.", retry_after_seconds=7.0)


def refuse_with_a_cause(task: Task) -> int:
    try:
        raise UnpicklableError
    except UnpicklableError as error:
        raise IntegrityError("It is damaged.") from error


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no")


def talk(task: Task) -> int:
    """Log in the task's own thread and in another one, and on levels of all kinds."""
    log = logging.getLogger("wsistore.somewhere")
    log.debug("details of %d", task.number)
    log.info("task %d is done", task.number)
    logging.getLogger("elsewhere").warning("not of wsistore")
    helper = threading.Thread(target=log.warning, args=("helper of %d", task.number))
    helper.start()
    helper.join()
    return task.number


def talk_and_refuse(task: Task) -> int:
    try:
        json.loads("no JSON")
    except ValueError:
        logging.getLogger("wsistore.somewhere").exception("before the end")
    raise IntegrityError("It is damaged.")


def chatter(task: Task) -> int:
    for number in range(1000):
        logging.getLogger("wsistore").info("line %d", number)
    return task.number


def stumble(task: Task) -> int:
    raise UnpicklableError("a fault")


def leave(task: Task) -> int:
    sys.exit("enough")


def unpicklable_result(task: Task) -> Any:
    return UnpicklableError()


def no_memory(task: Task) -> int:
    raise MemoryError


def burn(task: Task) -> int:
    """Use about a third of a second of CPU time, wait as long, and hold 100 MB for a moment."""
    held = bytearray(100 * MB)
    begin = time.thread_time()
    while time.thread_time() - begin < 0.3:
        held[0] += 1
        held[0] = 0
    time.sleep(0.3)
    return len(held)


def grow(task: Task) -> int:
    """Take more and more memory, slowly enough to be seen."""
    task.count()
    if task.number != 1:
        return task.number
    held = []
    for _ in range(200):
        held.append(b"x" * (20 * MB))
        time.sleep(0.05)
    return len(held)


# --- processes --------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def children(pid: int | None = None) -> set[int]:
    """Return the processes that a process has started, and theirs, as far as they run."""
    found: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    todo = [pid or os.getpid()]
    seen: set[int] = set()
    while todo:
        parent = todo.pop()
        mine = {child for child, of in found.items() if of == parent} - seen
        seen |= mine
        todo += mine
    return {one for one in seen if alive(one)}


def wait_until(true: Callable[[], Any], seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


# --- clusters ---------------------------------------------------------------------------------------------------------


class Cluster:
    """A scheduler and workers, each a process of its own, as an administrator would start them."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", self._file, *options,
        )  # fmt: skip
        wait_until(self._file.exists, 240)
        wait_until(lambda: self._file.read_text().rstrip().endswith("}"))

    @property
    def address(self) -> str:
        return str(json.loads(self._file.read_text())["address"])

    def add_worker(self, *options: str, nanny: bool = False, path: Path | None = None) -> subprocess.Popen[bytes]:
        return self._start(
            "dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0", "--local-directory", self._folder / "scratch",
            "--nanny" if nanny else "--no-nanny", *options,
            path=path,
        )  # fmt: skip

    def _start(self, module: str, *options: object, path: Path | None = None) -> Any:
        log = (self._folder / f"{module}-{len(self._processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, *(["-S"] if path else []), "-m", f"distributed.cli.{module}", *map(str, options)],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"PYTHONPATH": str(path or REPOSITORY)},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def close(self) -> None:
        started = {pid for process in self._processes for pid in children(process.pid)}
        for process in self._processes:
            process.kill()
            process.wait()
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def cluster(
    folder: Path, workers: int = 0, *options: str, nanny: bool = False, scheduler_options: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Start a scheduler and workers, which get `options`; end them. Meanwhile this process connects with patience."""
    folder.mkdir()
    made = Cluster(folder, scheduler_options)
    try:
        for _ in range(workers):
            made.add_worker(*options, nanny=nanny)
        # A scheduler that gets little of a busy machine may answer late.
        with mock.patch("wsistore.execute.dask_existing.CONNECT_SECONDS", 120.0):
            yield made
    finally:
        made.close()
