"""One large object on its way to an S3 service, in numbered parts of which a few are in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from functools import partial
from secrets import token_hex
from types import TracebackType
from typing import Self

from typing_extensions import Buffer

from wsistore.errors import Kind, ObjectMissingError, StorageError
from wsistore.storage._ranges import flat
from wsistore.storage.base import ObjectInfo
from wsistore.storage.retry import Retrier
from wsistore.storage.s3_control import S3Control
from wsistore.units import MIB

PART_BYTES = 8 * MIB
"""Least size of a part. A service takes any from 5 MiB; larger ones mean fewer requests and more memory."""

MAX_PARTS = 10_000
_IN_FLIGHT = 4
_PARTS_OF_ONE_SIZE = 1000


def part_bytes(number: int) -> int:
    """Return the size in bytes of the part `number`, from 0: so that 10 000 parts make the 5 TiB of the largest object.

    The first thousand parts, 8 GiB, are of one size: there is no slide that needs more.
    """
    return PART_BYTES * (1 + 3 * (number // _PARTS_OF_ONE_SIZE) ** 2)


class S3Upload:
    """One object of a `wsistore.storage.s3.S3Storage` being written; see `wsistore.storage.base.Upload`.

    What is smaller than one part becomes a single PUT. Each part is repeated by itself when it fails in passing. At
    most four parts are held, and the one being filled: 40 MiB up to objects of 8 GiB.

    Parameters
    ----------
    control
        Asks the service.
    key
        The object's, with the tier's prefix.
    retrier
        Repeats parts.
    executor
        Sends them.
    describe
        Returns what is to be known of the finished object, given its ETag, version and size.

    """

    def __init__(
        self,
        control: S3Control,
        key: str,
        retrier: Retrier,
        executor: Executor,
        describe: Callable[[str | None, str | None, int], ObjectInfo],
    ) -> None:
        self._control = control
        self._key = key
        self._retrier = retrier
        self._executor = executor
        self._describe = describe
        self._token = token_hex(16)
        self._part = bytearray()
        self._upload_id: str | None = None
        self._waiting: deque[Future[str]] = deque()
        self._etags: list[str] = []
        self._size = 0
        self._is_open = True
        self._is_completing = False
        self._is_aborted = False
        self._info: ObjectInfo | None = None

    def write(self, data: Buffer) -> None:
        """Append `data`.

        Raises
        ------
        StorageError
            If a part cannot be written (this one or one before), or the upload has ended.

        """
        if not self._is_open or self._is_completing:
            raise self._ended()
        view = flat(data)
        self._is_open = False  # until it went well: bytes that were taken half must never be completed
        while len(self._part) + len(view) > (size := part_bytes(len(self._etags) + len(self._waiting))):
            room = size - len(self._part)
            self._part += view[:room]
            view = view[room:]
            self._send()
        self._part += view
        self._is_open = True

    def complete(self) -> ObjectInfo:
        """Make the object visible and durable.

        Raises
        ------
        StorageError
            If it cannot be completed, or the upload has ended.

        """
        if self._info is None:
            if not self._is_open:
                raise self._ended()
            size = self._size + len(self._part)
            if self._upload_id is None:
                etag, version = self._control.put(self._key, self._part)  # as one request, which may be repeated
            else:
                etag, version = self._join(self._upload_id)
                self._control.retain(self._key, version)
            self._info = self._describe(etag, version, size)
            self._is_open = False
            self._part = bytearray()
        return self._info

    def abort(self) -> None:
        """Give up and throw away the parts that were sent. May be repeated; does nothing after `complete`."""
        self._is_open = False
        if self._info is not None:
            return
        self._is_aborted = True
        self._part = bytearray()
        for future in self._waiting:
            future.cancel()
        for future in self._waiting:  # a part that arrives after the abort would stay for good
            with suppress(CancelledError):
                future.exception()
        self._waiting.clear()
        if self._upload_id is not None:
            self._control.abort(self._key, self._upload_id)
            self._upload_id = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.abort()

    # --- how ---------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Hand the filled part to the executor; waits while enough are in flight."""
        if self._upload_id is None:
            self._upload_id = self._retrier.call(lambda: self._control.start(self._key, self._token))
        while len(self._waiting) >= _IN_FLIGHT:
            self._collect()
        number = len(self._etags) + len(self._waiting) + 1
        if number > MAX_PARTS:
            msg = f"{self._key!r} is larger than any object of an S3 service can be."
            raise StorageError(msg, remedy="Keep such a slide on a file system.")
        self._size += len(self._part)
        work = partial(self._deliver, self._upload_id, number, self._part)
        self._part = bytearray()
        self._waiting.append(self._executor.submit(self._retrier.call, work))

    def _deliver(self, upload_id: str, number: int, data: bytearray) -> str:
        if self._is_aborted:  # seen between attempts: nobody wants the part any more
            raise self._ended()
        return self._control.part(self._key, upload_id, number, data)

    def _collect(self) -> None:
        """Wait for the oldest part in flight."""
        self._etags.append(self._waiting.popleft().result())

    def _join(self, upload_id: str) -> tuple[str | None, str | None]:
        """Complete the multipart upload, or find that an attempt whose reply was lost did."""
        again = self._is_completing
        if not again:
            self._is_open = False  # until all parts are there
            if self._part:
                self._send()
            while self._waiting:
                self._collect()
            self._is_open = self._is_completing = True
        try:
            return self._control.complete(self._key, upload_id, self._etags)
        except StorageError:  # also one that may pass: Ceph RGW answers 500 where there is no such upload any more
            if again and self._is_ours():
                return None, None
            raise

    def _is_ours(self) -> bool:
        """Return whether the object that is there now is the one of this upload."""
        try:
            return self._control.token(self._key) == self._token
        except ObjectMissingError:
            return False

    def _ended(self) -> StorageError:
        msg = f"The upload of {self._key!r} has ended; nothing can follow."
        return StorageError(msg, kind=Kind.INTERNAL, remedy="Start a new upload.")
