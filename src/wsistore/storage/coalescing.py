"""Which parts of an object are worth one request: arithmetic for all who read many small parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One request that serves several neighbouring spans."""

    start: int
    length_bytes: int
    members: tuple[int, ...]
    """Positions, in the sequence that was coalesced, of the spans it serves."""


def coalesce(spans: Sequence[tuple[int, int]], *, gap_bytes: int, limit_bytes: int) -> list[Run]:
    """Join spans (start, length) that lie within `gap_bytes` of each other into runs, ordered by start.

    Empty spans belong to no run. A run grows to at most `limit_bytes`, unless one span alone is longer, so that the
    gaps that are read for nothing and thrown away stay bounded.
    """
    runs: list[Run] = []
    start = end = 0
    members: list[int] = []
    for position in sorted((n for n, (_, length) in enumerate(spans) if length), key=lambda n: spans[n]):
        first, length = spans[position]
        last = max(end, first + length)
        if members and (last == end or (first - end < gap_bytes and last - start <= limit_bytes)):
            end = last
            members.append(position)
            continue
        if members:
            runs.append(Run(start, end - start, tuple(members)))
        start, end, members = first, first + length, [position]
    if members:
        runs.append(Run(start, end - start, tuple(members)))
    return runs
