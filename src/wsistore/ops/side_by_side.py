"""Small work on many slides: side by side, for tiers and the catalogue's disk are waited for most of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_WORKERS = 8

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(items: Sequence[T], act: Callable[[T], R]) -> Iterator[R]:
    """Yield what `act` makes of each item, in their order; what it raises ends the work."""
    if len(items) < 2:
        yield from map(act, items)
        return
    with ThreadPoolExecutor(min(_WORKERS, len(items)), "wsistore-slides") as pool:
        try:
            yield from pool.map(act, items)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
