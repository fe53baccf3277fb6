"""One task after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator

from wsistore.execute.attempt import attempt
from wsistore.execute.base import Done, Executor, R, Run, T
from wsistore.execute.machine import require_memory


class SerialExecutor(Executor):
    """Runs tasks in the calling thread, in the order in which they are given."""

    @property
    def workers(self) -> int:
        """One."""
        return 1

    @property
    def where(self) -> str:
        """Say that it is this process."""
        return "this process"

    def _prepare(self, memory_bytes: int) -> None:
        require_memory(memory_bytes, workers=1)

    def _run(self, run: Run[T, R]) -> Iterator[Done[T, R]]:
        for index, task in enumerate(run.tasks):
            yield run.done(index, attempt(run.function, task))

    def close(self) -> None:
        """Do nothing: no worker was started."""
