"""One object of a `wsistore.storage.local.LocalStorage` being written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError
from wsistore.storage._errors import translated
from wsistore.storage._posix import TemporaryFile
from wsistore.storage._ranges import flat
from wsistore.storage.base import ObjectInfo


class LocalUpload:
    """One object being written into the hidden folder of a `LocalStorage`; see `wsistore.storage.base.Upload`.

    `complete` may be repeated after it succeeded. After a failed `write` or `complete` only `abort` is left.
    """

    def __init__(
        self,
        url: str,
        key: str,
        temporary: TemporaryFile,
        publish: Callable[[TemporaryFile], ObjectInfo],
        *,
        durable: bool = True,
    ) -> None:
        self._url = url
        self._key = key
        self._temporary = temporary
        self._publish = publish
        self._durable = durable
        self._is_open = True
        self._info: ObjectInfo | None = None

    def write(self, data: Buffer) -> None:
        """Append `data`.

        Raises
        ------
        FullError
            If there is no space left.
        StorageError
            If it cannot be written, or the upload has ended.

        """
        self._require_open()
        with self._ending(), translated(self._url, self._key, "written"):
            self._temporary.write(flat(data))
            if self._durable:
                self._temporary.begin_flush()
        self._is_open = True

    def complete(self) -> ObjectInfo:
        """Make the object visible and durable.

        Raises
        ------
        FullError
            If there is no space left.
        StorageError
            If it cannot be given its name, or the upload has ended.

        """
        if self._info is None:
            self._require_open()
            with self._ending(), translated(self._url, self._key, "written"):
                self._info = self._publish(self._temporary)
        return self._info

    def abort(self) -> None:
        """Throw away what was written. May be repeated; does nothing after `complete`."""
        self._is_open = False
        if self._info is None:
            self._temporary.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.abort()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Let nothing follow an act that failed: a part written half must never be completed."""
        self._is_open = False
        try:
            yield
        except BaseException:
            self._temporary.discard()
            raise

    def _require_open(self) -> None:
        if not self._is_open:
            msg = f"The upload of {self._key!r} to {self._url} has ended; nothing can follow."
            raise StorageError(msg, kind=Kind.INTERNAL, remedy="Start a new upload.")
