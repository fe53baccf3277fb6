"""What applying a plan reports: plain values that become tables for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from wsistore.ops.results import Failure

Json = dict[str, Any]


class AppliedState(StrEnum):
    """How a row ended."""

    DONE = "done"
    REFUSED = "refused"
    """It was not done, for a reason that lies in the slide or in the rules: nothing was changed."""
    FAILED = "failed"
    WAITING = "waiting"
    """It was stopped: applying the plan again goes on with it."""
    PLANNED = "planned"
    """Only asked what would be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one row of a plan."""

    slide: str
    action: str
    state: AppliedState
    reason: str = ""
    steps: tuple[str, ...] = ()
    """What was done, or would be, in words."""
    bytes_planned: int = 0
    bytes_moved: int = 0
    bytes_deleted: int = 0
    seconds: float = 0.0
    kind: str = ""
    """Of the error, if it failed or was refused by one."""
    exit_code: int = 0

    def to_json(self) -> Json:
        """Return the documented JSON object."""
        document = asdict(self) | {"steps": list(self.steps), "seconds": round(self.seconds, 3)}
        del document["exit_code"]
        return document


class Applying(Iterator[Applied]):
    """A plan that is being applied: iterate over what becomes of its rows.

    Attributes
    ----------
    digest
        SHA-256 of the plan's file.
    stopped
        When the iteration has ended: in words why rows were left, or nothing.
    failure
        Then: the error that stopped it, if it was one of a tier or the site.
    left
        Then: rows that wait, or that other processes are at.
    receipt
        Then: path of the receipt.

    """

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.stopped = ""
        self.failure: Failure | None = None
        self.left = 0
        self.receipt = ""
        self._rows: Iterator[Applied] = iter(())

    def __next__(self) -> Applied:
        """Return what became of the next row."""
        return next(self._rows)

    def close(self) -> None:
        """End early: rows that are under way are given back."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()
