"""The benchmark's side of a worker: starts a warm process and asks it to run things."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

from bench.support.places import REPOSITORY

_TIMEOUT_SECONDS = 600.0
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
"""Nothing but its own environment may reach a worker."""


class WorkerError(Exception):
    """A worker failed, died or took too long."""


class Worker:
    """A process that runs `module` under `python`, and stays until it is closed.

    Parameters
    ----------
    python
        Interpreter of the environment that the worker needs.
    module
        Its module, one of `bench.workers`.
    log
        File that gets what it prints.
    environment
        Variables that it gets besides those of this process.

    """

    def __init__(self, python: Path, module: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._module = module
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", module],
                cwd=REPOSITORY,
                env=_ENVIRONMENT | {"PYTHONNOUSERSITE": "1"} | dict(environment or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Run an action and return its answer.

        Raises
        ------
        WorkerError
            If it fails, or takes more than ten minutes.

        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"do": do} | {name: str(it) if isinstance(it, Path) else it for name, it in arguments.items()}
        watch = Timer(_TIMEOUT_SECONDS, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        answer: dict[str, Any] = json.loads(line) if line else {"failure": f"it ended: {self._last_words()}"}
        if "failure" in answer:
            msg = f"{self._module}, {do}: {answer['failure']}"
            raise WorkerError(msg)
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()
