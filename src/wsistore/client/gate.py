"""Who reads a slide at the moment: what it holds open is freed when they have left, and nobody comes in after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from threading import Condition
from types import TracebackType
from typing import Any

from typing_extensions import override
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from wsistore.compress.chunk_bytes import Objects, Parts, Wanted
from wsistore.errors import MissingError


class Gate:
    """Counts readers; each reads in a ``with`` statement. Threads share it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = Condition()
        self._inside, self._closed = 0, False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as an open gate: the workers of Dask open files of their own."""
        return (Gate, (self.name,))

    def check(self) -> None:
        """Raise `MissingError` if the slide is closed."""
        if self._closed:
            msg = f"{self.name} is closed."
            raise MissingError(msg, remedy="Open it again.")

    def __enter__(self) -> None:
        """Come in; raise `MissingError` if the slide is closed."""
        with self._changed:
            self.check()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave."""
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait until all have left."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)


class GatedStore(WrapperStore[Store]):
    """A Zarr store that nobody reads once its slide is closed, not through trees made before, either.

    A descriptor that is closed under a reader may be another file's by the time it reads.
    """

    def __init__(self, store: Store, gate: Gate) -> None:
        super().__init__(store)
        self._gate = gate

    @override
    def _with_store(self, store: Store) -> GatedStore:
        return GatedStore(store, self._gate)

    @override
    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        with self._gate:
            return await self._store.get(key, prototype, byte_range)

    @override
    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        with self._gate:
            return await self._store.get_partial_values(prototype, key_ranges)

    @override
    async def exists(self, key: str) -> bool:
        with self._gate:
            return await self._store.exists(key)

    @override
    def list(self) -> AsyncIterator[str]:
        return self._listed(self._store.list)

    @override
    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        return self._listed(lambda: self._store.list_prefix(prefix))

    @override
    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        return self._listed(lambda: self._store.list_dir(prefix))

    async def _listed(self, names: Callable[[], AsyncIterator[str]]) -> AsyncIterator[str]:
        with self._gate:
            found = [name async for name in names()]
        for name in found:
            yield name


class GatedObjects:
    """Objects that nobody fetches once their slide is closed."""

    def __init__(self, objects: Objects, gate: Gate) -> None:
        self._objects, self._gate = objects, gate

    @property
    def at_once(self) -> bool:
        """Whether objects that are asked for together come at the same time."""
        return self._objects.at_once

    def get_many(self, wanted: Sequence[Wanted]) -> list[Parts]:
        """Return parts of several objects."""
        with self._gate:
            return self._objects.get_many(wanted)
