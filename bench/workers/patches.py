"""What all who read patches do alike: one call after another, or one per thread (standard library and NumPy only)."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.support.serving import Answer, timed

Position = tuple[int, int]
"""y and x."""


def run(read: Callable[[int, int], Any], positions: Sequence[Position], manner: str, check: bool) -> Answer:
    """Read a patch at each position, in a loop or in as many threads as there are processors.

    With `check`, the answer has a hash of each patch; every patch must be (256, 256, 3) uint8 in any case.
    """
    patches: list[Any] = []

    def loop() -> None:
        patches.extend(read(y, x) for y, x in positions)

    def threads() -> None:
        patches.extend(pool.map(lambda place: read(*place), positions))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(abs, range(8)))  # threads are there
        times = measured({"loop": loop, "threads": threads}[manner])
    return answer(times, patches, check)


def measured(action: Callable[[], object]) -> Answer:
    """Return the seconds that `action` takes, and those of all processors together in all threads."""
    before = time.process_time()
    return {"seconds": timed(action), "cpu_seconds": time.process_time() - before}


def answer(times: Answer, patches: Sequence[Any], check: bool) -> Answer:
    """Return the times, and what the patches are."""
    for patch in patches:
        if patch.shape != (256, 256, 3) or str(patch.dtype) != "uint8":
            msg = f"a patch is {patch.shape} {patch.dtype}"
            raise ValueError(msg)
    return times | {"hashes": [hash_of(one) for one in patches] if check else []}


def hash_of(pixels: Any) -> str:
    """Return a hash of an array's bytes in row order."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()
