"""The contract of all executors, and what they share: names of tasks, measured results, errors."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from wsistore.errors import Kind, WorkersError, WsistoreError
from wsistore.execute.attempt import Outcome
from wsistore.execute.worker_logs import log_again, wanted_level
from wsistore.units import format_bytes

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)

RUN_AGAIN = "Run it again: what is finished is kept."


@dataclass(frozen=True, slots=True)
class Done(Generic[T, R]):
    """A task that came to its end, and what it took."""

    index: int
    """Of the task in the sequence that was given."""
    task: T
    result: R
    worker: str
    """Where it ran; the same for all tasks of one worker process."""
    cpu_seconds: float
    """Of the thread that ran it."""
    wall_seconds: float
    peak_memory_bytes: int
    """The most memory that the worker has had resident since it started, this task included."""


class Executor(ABC):
    """Runs tasks on workers. A context manager: leaving it ends the workers that it started.

    One run at a time. Nothing of a run is under way any more when its iterator has ended or was closed, except on an
    existing Dask cluster: what a worker there is just doing cannot be interrupted, and ends by itself.
    """

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many tasks run at the same time. May change while workers come and go."""

    @property
    @abstractmethod
    def where(self) -> str:
        """Say for people where tasks run, such as ``2 processes of this machine``."""

    def run(
        self,
        function: Callable[[T], R],
        tasks: Sequence[T],
        *,
        memory_bytes: int,
        name: Callable[[T], str] | None = None,
    ) -> Iterator[Done[T, R]]:
        """Run `function` on each of `tasks`; yield the results as they come, in whatever order.

        Parameters
        ----------
        function
            Of a module, so that workers can import it. It may run twice for one task, also at the same time.
        tasks
            Picklable values.
        memory_bytes
            The most that one worker may need, all told, while it runs `function`.
        name
            How to call a task in messages; by default its number.

        Raises
        ------
        WsistoreError
            What `function` raised, as it is; what no worker has begun by then is not begun any more. Anything else
            that it raised is reported as a fault of wsistore, with its traceback as a note.
        WorkersError
            If workers lack the memory, cannot be started or reached, are of other versions, or if one task ended
            several of them.

        """
        if memory_bytes <= 0:
            msg = f"A worker cannot do with {memory_bytes} bytes of memory."
            raise WsistoreError(msg, remedy="This is a fault of wsistore; please report it.")
        run = Run(function, tasks, memory_bytes, name)
        self._prepare(memory_bytes)
        return self._run(run)

    def _prepare(self, memory_bytes: int) -> None:  # noqa: B027  (there may be nothing to prepare)
        """See that there are workers with this much memory."""

    @abstractmethod
    def _run(self, run: Run[T, R]) -> Iterator[Done[T, R]]:
        """Yield the results."""

    @abstractmethod
    def close(self) -> None:
        """End the workers that this executor started. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Run(Generic[T, R]):
    """What was asked for."""

    function: Callable[[T], R]
    tasks: Sequence[T]
    memory_bytes: int
    name: Callable[[T], str] | None
    log_level: int = field(default_factory=wanted_level)
    """What workers are to tell of what they log."""

    def name_of(self, index: int) -> str:
        """Return how to call a task in a message, as a phrase."""
        number = f"task {index + 1} of {len(self.tasks)}"
        return number if self.name is None else f"{self.name(self.tasks[index])} ({number})"

    def done(self, index: int, outcome: Outcome) -> Done[T, R]:
        """Return what came of a task, or raise what the function raised; what it logged is logged first."""
        log_again(outcome.log, outcome.worker)
        if outcome.error is not None:
            outcome.error.add_note(outcome.trace)
            raise outcome.error
        if outcome.fault:
            fault = WsistoreError(
                f"{_sentence(self.name_of(index))} failed: {outcome.fault}.",
                remedy="This is a fault of wsistore; please report it with what --verbose says.",
            )
            fault.add_note(outcome.trace)
            raise fault
        if outcome.out_of_memory:
            raise self.too_big(index, outcome.trace)
        return Done(
            index, self.tasks[index], outcome.result, outcome.worker,
            outcome.cpu_seconds, outcome.wall_seconds, outcome.peak_memory_bytes,
        )  # fmt: skip

    def too_big(self, index: int, trace: str) -> WorkersError:
        """Return the error of a task that was refused memory."""
        error = WorkersError(
            f"{_sentence(self.name_of(index))} ran out of memory; {format_bytes(self.memory_bytes)} were foreseen.",
            kind=Kind.WORKERS_MEMORY,
            remedy=f"Free memory or use fewer workers. {RUN_AGAIN}",
        )
        error.add_note(trace)
        return error

    def mourn(self, indices: Iterable[int]) -> None:
        """Log that tasks run again because the workers that ran them have died."""
        for index in indices:
            _log.info("%s ended with its worker, and runs again.", _sentence(self.name_of(index)))

    def deadly(self, index: int, deaths: int) -> WorkersError:
        """Return the error of a task that ended its workers."""
        return WorkersError(
            f"{_sentence(self.name_of(index))} ended {deaths} workers that ran it: they were killed, crashed, "
            f"or needed more memory than the {format_bytes(self.memory_bytes)} that were foreseen.",
            kind=Kind.WORKERS_LOST,
            remedy=f"See the system's log for what ended them. {RUN_AGAIN}",
        )

    def not_carried(self, index: int, error: BaseException) -> WsistoreError:
        """Return the error of a task or result that does not get to or from a worker."""
        return WsistoreError(
            f"{_sentence(self.name_of(index))} or its result cannot be handed over: {describe(error)}.",
            remedy="This is a fault of wsistore; please report it.",
        )


def describe(error: BaseException) -> str:
    """Return the kind and the first words of a foreign error, on one line, without a full stop."""
    text = " ".join(str(error).split())
    if len(text) > _MOST_CHARACTERS:
        text = text[:_MOST_CHARACTERS] + "…"
    return f"{type(error).__name__}: {text}".rstrip(":. ")


_MOST_CHARACTERS = 500


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


AnyRun = Run[Any, Any]
