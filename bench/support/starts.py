"""How long processes take to start and end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial

from bench.support.places import REPOSITORY
from bench.support.timing import Contender, Timings, interleave
from bench.support.worker import WorkerError


def time_starts(commands: Mapping[str, Sequence[str]], rounds: int) -> Timings:
    """Time each command from its start to its end, in turn; one that fails is left out.

    A first run of each is not counted: it compiles and loads what later ones find.
    """

    def run(command: Sequence[str], _round: int) -> float:
        begin = time.perf_counter()
        done = subprocess.run(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            said = done.stderr.strip().splitlines()
            msg = f"{command[0]} ended with {done.returncode}: {said[-1] if said else 'without a word'}"
            raise WorkerError(msg)
        return seconds

    contenders = [Contender(key, partial(run, command), may_fail=True) for key, command in commands.items()]
    timings = interleave(contenders, rounds + 1)
    for seconds in timings.seconds.values():
        del seconds[0]
    return timings
