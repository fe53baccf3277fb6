"""The worker's side of a benchmark: answers requests until its input closes (standard library only)."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Answer = dict[str, Any]


def serve(actions: Mapping[str, Callable[..., Answer]]) -> None:
    """Read one JSON object per line, ``{"do": name, ...arguments}``, and write one as the answer.

    What an action prints goes to standard error, so that it cannot disturb the answers. An exception is answered as
    ``{"failure": text}``.
    """
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            action = actions[request.pop("do")]
            try:
                answer = action(**request)
            except Exception as error:
                traceback.print_exc()
                answer = {"failure": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes."""
    gc.collect()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had resident.

    Not ``ru_maxrss``: that one starts with the peak of the process that started this one.
    """
    with open("/proc/self/status") as status:  # noqa: PTH123  (pathlib is one more import for every worker)
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    msg = "/proc/self/status has no VmHWM"
    raise OSError(msg)
