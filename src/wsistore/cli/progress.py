"""Progress bars on stderr for work that takes long; nothing where nobody looks."""

from __future__ import annotations

import sys
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """One bar in bytes, with a count of slides. May be moved from several threads.

    Parameters
    ----------
    label
        What is being done.
    shown
        False draws nothing.

    """

    def __init__(self, label: str, *, shown: bool) -> None:
        self._progress = _progress(disable=not (shown and sys.stderr.isatty()))
        self._task = self._progress.add_task(label, total=None, count="")
        self._lock = Lock()
        self._known: set[str] = set()
        self._total = 0
        self._slides = self._done = 0

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar away."""
        self._progress.stop()

    def expect(self, slides: int = 0, size_bytes: int = 0) -> None:
        """Say that so many more slides and bytes are to come."""
        with self._lock:
            self._slides += slides
            self._total += size_bytes
            self._update()

    def move(self, size_bytes: int, *, of: str = "", total_bytes: int = 0) -> None:
        """Say that so many bytes are done; the first word of something new also says how many it has."""
        if of:
            with self._lock:
                is_new = of not in self._known
                self._known.add(of)
            if is_new:
                self.expect(size_bytes=total_bytes)
        self._progress.advance(self._task, size_bytes)

    def begin(self, label: str, size_bytes: int, note: str = "") -> None:
        """Start anew, with another label and size."""
        with self._lock:
            self._total = size_bytes
            self._progress.reset(self._task, description=label, total=size_bytes or None, count=note)

    def note(self, text: str) -> None:
        """Show a few words beside the bar."""
        self._progress.update(self._task, count=text)

    def slide_done(self) -> None:
        """Say that one more slide is done."""
        with self._lock:
            self._done += 1
            self._update()

    def _update(self) -> None:
        count = f"{self._done}/{self._slides} slides" if self._slides else ""
        self._progress.update(self._task, total=self._total or None, count=count)


def _progress(*, disable: bool) -> Progress:
    from rich import progress  # a seventh of a second that --help does not need
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[count]}"),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=disable,
        transient=True,
    )
