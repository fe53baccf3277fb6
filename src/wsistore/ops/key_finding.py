"""One line of a check of keys."""

from __future__ import annotations

from dataclasses import dataclass

from wsistore.errors import WsistoreError
from wsistore.ops.tier_rows import Result


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """One line of a check of keys."""

    check: str
    """Stable name of what was looked at."""
    tier: str
    """Nothing where it is about no tier."""
    result: Result
    figure: str
    """What was seen, for people."""
    remedy: str = ""


def failed(check: str, error: WsistoreError, tier: str = "") -> KeyFinding:
    """Return the line of what could not be looked at."""
    return KeyFinding(check, tier, Result.FAILED, error.message, error.remedy)
