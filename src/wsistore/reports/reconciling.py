"""Whether what was metered is what lies on a tier: its listing, object by object, against every copy's bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from wsistore.reports.intervals import Integers

MOST_UNEXPLAINED = 0.001
"""Part of a tier's metered bytes: with more a month does not close."""
_AT_ONCE = 100_000
_NAME = "S20"
"""Of an attempt: twenty letters and digits."""
_OF_ATTEMPT = re.compile(r"(?:store|private)/[^/]+/([^/]+)/.+")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One tier."""

    tier: str
    metered_bytes: int
    """Of copies, as the events tell."""
    listed_bytes: int
    """Of all objects that lie there."""
    own_bytes: int
    """Of the tier's marker, ledger and wrapped keys: charged for, and of no copy."""
    moving_bytes: int
    """Of copies that are being written or deleted."""
    unexplained_bytes: int
    """Missing and superfluous ones added up, copy by copy: they do not cancel each other out."""

    @property
    def part(self) -> float:
        """Unexplained of metered."""
        if not self.unexplained_bytes:
            return 0.0
        return self.unexplained_bytes / self.metered_bytes if self.metered_bytes else 1.0

    @property
    def is_good(self) -> bool:
        """Whether a month may close on it."""
        return self.part <= MOST_UNEXPLAINED


class Expected:
    """What should lie in one tier; filled a portion at a time."""

    def __init__(self) -> None:
        self._packed: list[tuple[np.ndarray, Integers]] = []
        self._few: list[tuple[str, int]] = []
        self.commits = 0
        """Bytes of commit objects."""
        self.metered = 0
        self.unplaced = 0
        """Bytes of copies that were metered and whose place nobody knows."""

    def copy(self, attempt: str, size: int, commit_bytes: int) -> None:
        """Add a copy: all its bytes, and those of its commit."""
        self.metered += size
        self.commits += commit_bytes
        self._few.append((attempt, size - commit_bytes))

    def copies(self, attempts: pa.ChunkedArray, sizes: pa.ChunkedArray, commit_bytes: pa.ChunkedArray) -> None:
        """Add copies: kept as arrays, a tenth of what lists of Python's take."""
        if not len(attempts):
            return
        whole, commits = sizes.to_numpy().astype(np.int64), commit_bytes.to_numpy().astype(np.int64)
        self.metered += int(whole.sum())
        self.commits += int(commits.sum())
        self._packed.append((np.array(attempts.to_pylist(), dtype=_NAME), whole - commits))

    def merge(self, other: Expected) -> None:
        """Add what another one expects, of other slides."""
        self._packed += other._packed
        self._few += other._few
        self.commits += other.commits
        self.metered += other.metered
        self.unplaced += other.unplaced

    def lost(self, size: int) -> None:
        """Add a copy that events tell of and the catalogue does not know."""
        self.metered += size
        self.unplaced += size

    def arrays(self) -> tuple[np.ndarray, Integers]:
        """Return attempts, sorted, and their bytes."""
        few = (np.array([name for name, _ in self._few], _NAME), np.array([size for _, size in self._few], np.int64))
        names, sizes = (np.concatenate(parts) for parts in zip(few, *self._packed, strict=True))
        order = np.argsort(names, kind="stable")
        return names[order], sizes[order]


def reconcile(
    tier: str,
    listed: Iterable[tuple[str, int]],
    expected: Expected,
    *,
    moving: Collection[str] = (),
    is_own: re.Pattern[str],
) -> Reconciled:
    """Return how a tier's listing agrees with what was metered.

    Parameters
    ----------
    tier
        Its name.
    listed
        Key and size of every object there, in any order.
    expected
        What should be there.
    moving
        Attempts that are being written or deleted: a part of them may lie there.
    is_own
        Keys that are of no copy and yet the site's own.

    """
    names, sizes = expected.arrays()
    there = np.zeros(len(names), np.int64)
    total = own = unknown = commits = shifting = 0
    for portion in _portions(listed):
        placed: list[str] = []
        amounts: list[int] = []
        for key, size in portion:
            total += size
            attempt = _attempt(key)
            if attempt is not None and attempt in moving:
                shifting += size
            elif attempt is not None:
                placed.append(attempt)
                amounts.append(size)
            elif key.startswith("commits/"):
                commits += size
            elif is_own.fullmatch(key):
                own += size
            else:
                unknown += size
        unknown += _add(names, there, placed, amounts)
    is_moving = np.isin(names, np.array(sorted(moving), dtype=_NAME)) if moving else np.zeros(len(names), np.bool_)
    apart = int(np.abs(there - sizes)[~is_moving].sum()) + abs(commits - expected.commits)
    return Reconciled(tier, expected.metered, total, own, shifting, apart + unknown + expected.unplaced)


def _attempt(key: str) -> str | None:
    match = _OF_ATTEMPT.fullmatch(key)
    return None if match is None else match[1]


def _portions(listed: Iterable[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    rest = iter(listed)
    while portion := list(islice(rest, _AT_ONCE)):
        yield portion


def _add(names: np.ndarray, there: Integers, placed: list[str], amounts: list[int]) -> int:
    """Add sizes to the attempts that they are of; return the bytes of attempts that nobody expects."""
    if not placed:
        return 0
    found, values = np.array(placed, dtype=_NAME), np.array(amounts, dtype=np.int64)
    if not len(names):
        return int(values.sum())
    places = np.minimum(np.searchsorted(names, found), len(names) - 1)
    known = names[places] == found
    np.add.at(there, places[known], values[known])
    return int(values[~known].sum())
