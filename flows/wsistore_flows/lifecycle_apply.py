"""A plan applied within a run, batch by batch, and what became of its slides."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from wsistore import ops
from wsistore.errors import TransientError, WsistoreError
from wsistore.ops import Applied, Applying
from wsistore.ops.plans_due import DuePlan
from wsistore.ops.results import Failure
from wsistore.units import format_bytes
from wsistore_flows.running import BATCH, Run, Told
from wsistore_flows.states import kind_passes

MOST_KEPT = 1000
"""Slides that were refused or failed, of which a run remembers why; the receipt has all."""
_TIME_USED = 0.9
"""Of a run's time, after which nothing new is begun: what is under way ends by itself before Prefect ends the run."""


@dataclass(slots=True)
class Night:
    """What became of a plan's slides in one run."""

    total: int
    """To which something was to be done."""
    states: Counter[str] = field(default_factory=Counter)
    became: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what was to be done, and how it ended."""
    bytes_moved: int = 0
    bytes_deleted: int = 0
    told: list[Applied] = field(default_factory=list)
    """Those that were refused or failed."""
    left: int = 0
    stopped: str = ""
    """Why slides are left."""
    stopper: Failure | None = None
    """The error of a tier or the site that left them."""
    error: WsistoreError | None = None
    """What ended the work."""
    receipt: str = ""

    def add(self, rows: list[Applied]) -> None:
        """Count rows."""
        for row in rows:
            state = str(row.state)
            self.bytes_moved += row.bytes_moved
            self.bytes_deleted += row.bytes_deleted
            if state == "waiting":
                continue  # it is among those left, or comes again
            self.states[state] += 1
            self.became[(row.action, state)] += 1
            if state != "done" and len(self.told) < MOST_KEPT:
                self.told.append(row)

    def end(self, applying: Applying) -> None:
        """Take over what was known when the last row was done."""
        self.left, self.stopped = applying.left, applying.stopped
        self.stopper, self.receipt = applying.failure, applying.receipt

    @property
    def refused(self) -> int:
        """How many were refused."""
        return self.states["refused"]

    @property
    def failures(self) -> list[Failure]:
        """What failed: first what stopped the work, then slides."""
        slides = [Failure(row.kind, row.reason, row.exit_code or 1) for row in self.told if str(row.state) == "failed"]
        return [*([] if self.stopper is None else [self.stopper]), *slides]

    @property
    def sentence(self) -> str:
        """All of it, without a full stop."""
        done = sorted((action, count) for (action, state), count in self.became.items() if state == "done")
        actions = ", ".join(f"{count} {_PAST.get(action, action)}" for action, count in done)
        moved = f"; {format_bytes(self.bytes_moved)} written" if self.bytes_moved else ""
        freed = f", {format_bytes(self.bytes_deleted)} freed" if self.bytes_deleted else ""
        parts = [f"{self.states['done']} of {self.total} slides done ({actions or 'nothing'}{moved}{freed})"]
        parts += [f"{self.states[state]} {state}" for state in ("refused", "failed") if self.states[state]]
        return ", ".join([*parts, *([f"{self.left} left"] if self.left else [])])

    @property
    def goes_on(self) -> str:
        """What happens to the slides that are left; nothing if there are none."""
        return "The next run goes on with what is left." if self.left else ""

    @property
    def facts(self) -> dict[str, Any]:
        """Figures for the history."""
        counts = {state: self.states[state] for state in ("done", "refused", "failed")}
        figures = {"left": self.left, "bytes_moved": self.bytes_moved, "bytes_deleted": self.bytes_deleted}
        return {**counts, **figures, "receipt": self.receipt}


_PAST = {
    "copy": "copied",
    "move": "moved",
    "reencode": "re-encoded",
    "drop-copy": "dropped from a tier",
    "detach-identity": "parted from their patients",
    "delete": "deleted",
}


def apply_due(run: Run, due: DuePlan, *, anytime: bool) -> Night:
    """Apply a plan, or go on with it, until nothing is left or something says to stop.

    What fails in passing is tried again after the pauses that the site's settings say: the plan goes on then.
    """
    found = Night(due.left)
    try:
        run.step(f"apply plan {due.name}", partial(_apply, run, due, found, anytime=anytime))
    except WsistoreError as error:
        if found.stopper is None:
            found.error = error
            found.left = found.left or max(0, found.total - sum(found.states.values()))
    return found


def _apply(run: Run, due: DuePlan, found: Night, *, anytime: bool) -> None:
    ends = None if run.flow.timeout is None else run.began + run.flow.timeout * _TIME_USED
    found.stopper = None
    with run.executor() as executor:
        applying = ops.apply_plan(
            run.site, due.path, executor=executor, jobs=run.site.jobs, until=ends, anytime=anytime, watcher=Told()
        )
        with closing(applying):
            _rows(run, due, found, applying)
    found.end(applying)
    if applying.failure is not None and kind_passes(applying.failure.kind):
        raise TransientError(applying.failure.message)


def _rows(run: Run, due: DuePlan, found: Night, applying: Applying) -> None:
    """Do the rows, `BATCH` at a time: each batch is a task that people see come and go."""
    while True:
        before = sum(found.states.values())
        last = min(before + BATCH, found.total)
        name = f"slides {before + 1}-{last} of {found.total}" if last > before else "write the receipt"
        rows = run.step(name, lambda: list(islice(applying, BATCH)), again=False)
        found.add(rows)
        run.shown.progress(sum(found.states.values()), found.total, f"Plan {due.name}: {found.sentence}")
        if len(rows) < BATCH:
            return
