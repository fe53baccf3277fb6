"""What was used last, kept within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BytesLru(Generic[K, V]):
    """Keeps values as long as they fit; threads share it.

    Parameters
    ----------
    most_bytes
        What the values weigh together at most; of 0 nothing is kept. A value that alone weighs more is not kept.

    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.hits = self.misses = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def size_bytes(self) -> int:
        """What is kept now weighs."""
        return self._bytes

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return what is kept under `key`, which thereby was used last; None if nothing is."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Keep `value`, which weighs `size_bytes`, in place of what was kept under `key`."""
        if size_bytes > self.most_bytes or not self.most_bytes:
            return
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += size_bytes - (0 if before is None else before[1])
            self._kept[key] = (value, size_bytes)
            self._shrink()

    def resize(self, most_bytes: int) -> None:
        """Keep at most so many bytes from now on."""
        with self._lock:
            self.most_bytes = most_bytes
            self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self.most_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
