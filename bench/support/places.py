"""Where things lie: the repository, the folder of what benchmarks make, temporary folders, the slides."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MADE = REPOSITORY / ".bench"
"""Peers' environments and temporary folders; not under version control."""


def real_slide(name: str) -> Path | None:
    """Return a real slide by its path in the folder of slides, or None where there is none."""
    named = os.environ.get("WSISTORE_TEST_SLIDES")
    path = (Path(named) if named else REPOSITORY.parent / "shared" / "slides") / name
    return path if path.is_file() else None


@contextmanager
def workspace(name: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder for one run and remove it, also when the run is terminated.

    Parameters
    ----------
    name
        Of the benchmark.
    parent
        Folder on the disk to measure; the repository's disk if None.

    """
    parent = parent or MADE / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, _exit)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
