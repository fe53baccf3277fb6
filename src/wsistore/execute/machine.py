"""What this machine offers: cores and memory, within the limits of a container."""

from __future__ import annotations

import os
from pathlib import Path

from wsistore.errors import Kind, WorkersError
from wsistore.units import format_bytes

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def available_bytes() -> int | None:
    """Return the memory that could be had now without swapping, at most what a container allows; None if unknown."""
    known = [value for value in (_available_of_system(), *map(_limit, _CGROUP_LIMITS)) if value is not None]
    return min(known, default=None)


def fitting_workers(wanted: int | None, memory_bytes: int) -> int:
    """Return how many workers to start: as many as wanted, or one per core as far as memory goes.

    Raises
    ------
    WorkersError
        If there is not enough memory.

    """
    if wanted is not None:
        require_memory(memory_bytes, workers=wanted)
        return wanted
    require_memory(memory_bytes, workers=1)
    available = available_bytes()
    return cores() if available is None else max(1, min(cores(), available // memory_bytes))


def require_memory(memory_bytes: int, *, workers: int) -> None:
    """Refuse to start what would not fit into memory.

    Raises
    ------
    WorkersError
        If the machine has less than `workers` times `memory_bytes`.

    """
    available = available_bytes()
    if available is None or workers * memory_bytes <= available:
        return
    most = available // memory_bytes
    msg = (
        f"{workers} worker{'s' if workers > 1 else ''} may need {format_bytes(memory_bytes)} of memory each, "
        f"and this machine has {format_bytes(available)} to give."
    )
    raise WorkersError(
        msg,
        kind=Kind.WORKERS_MEMORY,
        remedy=f"Use {most} workers at most." if most else "Free memory, or run it on a larger machine.",
    )


def _available_of_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def _limit(path: str) -> int | None:
    try:
        text = Path(path).read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
