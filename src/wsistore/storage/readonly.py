"""Decorator: refuses every write, for those who may only look."""

from __future__ import annotations

from typing import NoReturn

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError
from wsistore.storage.archive import Retrieval
from wsistore.storage.wrapper import WrappedStorage


class ReadOnlyStorage(WrappedStorage):
    """Reads what `inner` holds; whatever writes raises `StorageError` of kind ``storage-denied``.

    These are `put`, `upload`, `delete` and `transition`; and `begin_restore`, which changes nothing but costs money.
    """

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> NoReturn:
        """Refuse."""
        self._refuse(key, "written")

    def upload(self, key: str) -> NoReturn:
        """Refuse."""
        self._refuse(key, "written")

    def delete(self, key: str, *, version: str | None = None) -> NoReturn:
        """Refuse."""
        self._refuse(key, "deleted")

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> NoReturn:
        """Refuse."""
        self._refuse(key, "restored")

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> NoReturn:
        """Refuse."""
        self._refuse(key, "moved to another class")

    def _refuse(self, key: str, act: str) -> NoReturn:
        msg = f"{key!r} was not {act}: {self.url} is opened for reading only."
        raise StorageError(msg, kind=Kind.STORAGE_DENIED, remedy="Open the site for writing if that is meant.")
