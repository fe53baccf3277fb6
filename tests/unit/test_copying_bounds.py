"""How much a copy to another tier may hold in memory."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wsistore.compress import copying
from wsistore.model import ObjectRecord
from wsistore.storage.base import Upload
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import WrappedStorage


def written(storage: Any, key: str, size_bytes: int) -> ObjectRecord:
    data = os.urandom(size_bytes)
    storage.put(key, data)
    return ObjectRecord(key, size_bytes, hashlib.sha256(data).hexdigest())


class Counting(WrappedStorage):
    """Counts the uploads that are open at a time."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage())
        self.open = self.most = 0
        self.both = threading.Barrier(copying._LARGE)
        self._lock = threading.Lock()

    def upload(self, key: str) -> Upload:
        with self._lock:
            self.open += 1
            self.most = max(self.most, self.open)
        self.both.wait(240)  # as many as may be are at it together, and no more are let in
        upload = super().upload(key)
        with self._lock:
            self.open -= 1
        return upload


def test_no_more_large_objects_are_on_their_way_than_memory_is_reckoned_for() -> None:
    source, target = MemoryStorage(), Counting()
    records = [written(source, f"a/{n}", copying._SMALL_BYTES + 1) for n in range(3 * copying._LARGE)]
    copier = copying._Copier(source, target, lambda _: None)
    with ThreadPoolExecutor(len(records)) as pool:
        copied = list(pool.map(lambda record: copier.take(record, record.key), records))
    assert copied == records
    assert target.most == copying._LARGE
    assert all(target.inner.get(record.key) == source.get(record.key) for record in records)
