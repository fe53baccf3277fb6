"""A bounded cache that makes what it does not have once, however many threads ask for it at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from wsistore.compress.lru import BytesLru

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class MakingCache(Generic[K, V]):
    """Keeps what was used last. Threads share it.

    Parameters
    ----------
    most_bytes
        What is kept together.
    size_of
        Bytes that a value takes.

    """

    def __init__(self, most_bytes: int, size_of: Callable[[V], int]) -> None:
        self._kept: BytesLru[K, V] = BytesLru(most_bytes)
        self._size_of = size_of
        self._making: dict[K, Future[V]] = {}
        self._lock = Lock()

    @property
    def size_bytes(self) -> int:
        """What is kept at present."""
        return self._kept.size_bytes

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of `key`, which `make` makes if it is not kept.

        One thread makes a value, the others wait for it; what `make` raises is raised in all of them and not kept.
        """
        known = self._kept.get(key)
        if known is not None:
            return known
        with self._lock:
            known = self._kept.get(key)  # it may have come meanwhile
            if known is not None:
                return known
            future = self._making.get(key)
            is_mine = future is None
            if future is None:
                future = self._making[key] = Future()
        return self._make(key, make, future) if is_mine else future.result()

    def _make(self, key: K, make: Callable[[], V], future: Future[V]) -> V:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        self._kept.put(key, value, self._size_of(value))
        with self._lock:
            del self._making[key]
        future.set_result(value)
        return value
