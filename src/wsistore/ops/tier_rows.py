"""What a check of a tier finds, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Figure = str | int | float | bool | None


class Result(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    WARNING = "warning"
    """It works, but somebody should look at it."""
    NO = "no"
    """The tier cannot do this, and need not."""
    SKIPPED = "skipped"
    """Not tried, for the reason that the row gives."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found."""

    result: Result
    figure: str = ""
    """For people: what was seen, with numbers."""
    remedy: str = ""
    """What to do about it, if anything."""
    values: Mapping[str, Figure] = field(default_factory=dict)
    """For programs: the numbers, with their units in their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """One line of the table."""

    tier: str
    check: str
    """Stable name of what was tried."""
    needed: bool
    """Whether wsistore cannot work without it."""
    result: Result
    figure: str
    remedy: str
    values: Mapping[str, Figure]
    seconds: float
    """How long it took."""


def is_fit(rows: Iterable[CheckRow]) -> bool:
    """Say whether a tier can do all that wsistore needs."""
    return all(row.result in {Result.OK, Result.WARNING} for row in rows if row.needed)
