"""One large object being collected in a temporary file before a file system of fsspec gets it."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Self

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError
from wsistore.storage._errors import translate
from wsistore.storage._ranges import flat
from wsistore.storage.base import ObjectInfo


class FsspecUpload:
    """One object being collected in a temporary file; see `wsistore.storage.base.Upload`."""

    def __init__(self, url: str, key: str, send: Callable[[str], ObjectInfo]) -> None:
        self._url = url
        self._key = key
        self._send = send
        self._scratch = NamedTemporaryFile(prefix="wsistore-")  # noqa: SIM115  (closed by `_end`)
        self._is_open = True
        self._info: ObjectInfo | None = None

    def write(self, data: Buffer) -> None:
        """Append `data`."""
        self._require_open()
        try:
            self._scratch.write(flat(data))
        except OSError as error:
            self.abort()
            raise translate(error, "the temporary folder of this machine", self._key, "collected") from error

    def complete(self) -> ObjectInfo:
        """Send the object; may be repeated."""
        if self._info is None:
            self._require_open()
            self._scratch.flush()
            self._info = self._send(self._scratch.name)
            self._end()
        return self._info

    def abort(self) -> None:
        """Throw away what was written. May be repeated; does nothing after `complete`."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.abort()

    def _end(self) -> None:
        self._is_open = False
        self._scratch.close()

    def _require_open(self) -> None:
        if not self._is_open:
            msg = f"The upload of {self._key!r} to {self._url} has ended; nothing can follow."
            raise StorageError(msg, kind=Kind.INTERNAL, remedy="Start a new upload.")
