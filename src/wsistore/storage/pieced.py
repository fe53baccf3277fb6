"""Decorator: some objects are read from elsewhere, under the keys that they should have here."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from wsistore.storage.base import ByteRange, ObjectInfo, Span, Storage
from wsistore.storage.readonly import ReadOnlyStorage

Elsewhere = tuple[Storage, str]
"""A tier, and the key that an object has there."""


class PiecedStorage(ReadOnlyStorage):
    """Reads what `inner` holds, but the objects in `elsewhere` from there; writes nothing.

    Parameters
    ----------
    inner
        A tier.
    elsewhere
        By the key that an object has, or should have, in `inner`.

    """

    def __init__(self, inner: Storage, elsewhere: Mapping[str, Elsewhere]) -> None:
        super().__init__(inner)
        self._elsewhere = dict(elsewhere)

    def _find(self, key: str) -> Elsewhere:
        return self._elsewhere.get(key, (self._inner, key))

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; a version is always one of `inner`."""
        storage, there = (self._inner, key) if version is not None else self._find(key)
        return storage.get(there, byte_range, version=version)

    def get_many(self, key: str, spans: Sequence[Span]) -> builtins.list[bytes]:
        """Return several parts of one object."""
        storage, there = self._find(key)
        return storage.get_many(there, spans)

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks."""
        storage, there = self._find(key)
        return storage.stream(there, block_bytes=block_bytes, uncached=uncached)

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object."""
        storage, there = self._find(key)
        return replace(storage.head(there), key=key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys, those from elsewhere among them."""
        found = {info.key: info for info in self._inner.list(prefix, after=after)}
        for key in self._elsewhere:
            if key.startswith(prefix) and key > after:
                found[key] = self.head(key)
        yield from (found[key] for key in sorted(found, key=lambda key: key.encode()))
