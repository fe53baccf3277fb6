"""What a worker of our own Dask cluster does before anything else."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:  # noqa: ARG001  (Dask passes it)
    """Let Ctrl-C, which reaches the whole process group, be dealt with by the process that started the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
