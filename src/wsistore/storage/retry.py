"""Decorator: repeats what failed in passing, with growing random pauses.

Only `TransientError` is repeated; every other error is permanent. Whether a call whose reply was lost has been carried
out is unknown, so only what may be carried out twice is repeated:

* reads, plain `put`, `delete` and `Upload.complete`, which the contract makes idempotent;
* what an archive is asked to do (`begin_restore`, `transition`), which its contract makes idempotent;
* a stream or a listing, from where it broke off;
* ``put(..., if_absent=True)``, with a second look. Its first attempt may have written the object and lost the reply;
  the second then meets its own object and is told "exists". That reply is neither success nor conflict until the object
  was read back: equal bytes mean that this call wrote it, other bytes that somebody else was faster. This is right for
  the objects that wsistore writes so, because each carries something that no other writer can have (a commit names its
  random attempt key). Whoever puts the same bytes from several writers may see more than one of them succeed.

`Upload.write` is not repeated: appended twice, bytes would be there twice. A back end that sends numbered parts over a
network repeats each part itself, with `Retrier.call`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from typing_extensions import Buffer

from wsistore.clock import Clock
from wsistore.errors import Kind, ObjectExistsError, ObjectMissingError, TransientError
from wsistore.storage._ranges import check_block_bytes, flat
from wsistore.storage.archive import Retrieval
from wsistore.storage.base import ArchiveState, ByteRange, ObjectInfo, OneState, Span, Storage, Upload
from wsistore.storage.wrapper import WrappedStorage, WrappedUpload, delete_many

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try."""

    attempts: int = 6
    """Calls in all, the first included."""
    first_delay_seconds: float = 0.2
    """Upper bound of the first pause; doubled for each further one."""
    longest_delay_seconds: float = 20.0
    """Upper bound of every pause that the server did not ask for."""
    total_seconds: float = 120.0
    """No attempt is made later than this after the first: a person or a scheduler should hear of it by then."""


class Retrier:
    """Calls something until it succeeds, fails for good, or the policy's limits are reached.

    Parameters
    ----------
    clock
        Measures and waits.
    rng
        Draws each pause between zero and its upper bound ("full jitter"), so that many clients that failed together
        do not come back together.
    policy
        Limits.

    """

    def __init__(self, clock: Clock, rng: random.Random, policy: RetryPolicy) -> None:
        self._clock = clock
        self._rng = rng
        self._policy = policy

    def call(self, act: Callable[[], T]) -> T:
        """Return what `act` returns.

        Raises
        ------
        TransientError
            The last one, when the limits are reached.

        """
        patience = self.patience()
        while True:
            try:
                return act()
            except TransientError as error:
                patience.wait_after(error)

    def patience(self) -> Patience:
        """Return a fresh allowance of attempts and seconds."""
        return Patience(self._clock, self._rng, self._policy)


class Patience:
    """What is left of the attempts and seconds of one call."""

    def __init__(self, clock: Clock, rng: random.Random, policy: RetryPolicy) -> None:
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._failures = 0
        self._end_seconds = clock.monotonic_seconds() + policy.total_seconds

    def wait_after(self, error: TransientError) -> None:
        """Wait before the next attempt, or raise `error` if there is to be none."""
        self._failures += 1
        # What a service has no room for now it will not have in seconds, and the caller knows other ways.
        if self._failures >= self._policy.attempts or error.kind is Kind.RETRIEVAL_REFUSED:
            raise error
        longest = self._policy.longest_delay_seconds
        # The exponent is bounded so that no number of attempts overflows a float.
        ceiling = min(longest, self._policy.first_delay_seconds * 2.0 ** min(self._failures - 1, 64))
        delay = max(self._rng.uniform(0.0, ceiling), error.retry_after_seconds or 0.0)
        if self._clock.monotonic_seconds() + delay > self._end_seconds:
            raise error
        self._clock.sleep(delay)


class RetryStorage(WrappedStorage):
    """Repeats transient failures of `inner`; the module's docstring says which calls and why.

    Parameters
    ----------
    inner
        What does the work.
    clock, rng, policy
        As for `Retrier`.

    """

    def __init__(self, inner: Storage, *, clock: Clock, rng: random.Random, policy: RetryPolicy | None = None) -> None:
        super().__init__(inner)
        self._retrier = Retrier(clock, rng, policy or RetryPolicy())

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object; see `wsistore.storage.base.Storage.put` and, for `if_absent`, this module."""
        if not if_absent:
            return self._retrier.call(lambda: self.inner.put(key, data))
        patience = self._retrier.patience()
        reply_was_lost = False
        while True:
            try:
                return self.inner.put(key, data, if_absent=True)
            except ObjectExistsError:
                own = self._own(key, data) if reply_was_lost else None
                if own is None:
                    raise
                return own
            except TransientError as error:
                reply_was_lost = True
                patience.wait_after(error)

    def upload(self, key: str) -> RetryUpload:
        """Start writing a large object in parts; see `wsistore.storage.base.Storage.upload`."""
        return RetryUpload(self._retrier.call(lambda: self.inner.upload(key)), self._retrier)

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        return self._retrier.call(lambda: self.inner.get(key, byte_range, version=version))

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        return self._retrier.call(lambda: self.inner.get_many(key, spans))

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`.

        A stream that breaks off is read again from its start and what was delivered is skipped, if the object is still
        the same; otherwise the error is raised, so that no mixture of two objects is ever delivered. Where the stream
        does not tell its state itself, the object is asked for before and after.
        """
        check_block_bytes(block_bytes)
        blocks = self.inner.stream(key, block_bytes=block_bytes, uncached=uncached)
        one = blocks if isinstance(blocks, OneState) else None  # asked once: for a protocol that takes long
        info = None if one is not None else self.head(key)
        state: str | None = None
        failure: TransientError | None = None
        delivered = 0
        is_other = False
        patience = self._retrier.patience()
        while True:
            seen = 0
            try:
                for block in blocks:
                    if one is not None:
                        is_other = delivered > 0 and (state is None or one.etag != state)
                        if is_other and failure is not None:
                            raise failure
                        state = one.etag
                    fresh = block[max(delivered - seen, 0) :]
                    seen += len(block)
                    if fresh:
                        patience = self._retrier.patience()  # it goes on: what failed before no longer counts
                        delivered += len(fresh)
                        yield fresh
                    del block, fresh  # no longer valid: its memory may be the next one's
            except TransientError as error:
                failure = error
                patience.wait_after(error)
                now = None if info is None else self.head(key)
                if is_other or (delivered > 0 and now != info):
                    raise
                info = now
                blocks = self.inner.stream(key, block_bytes=block_bytes, uncached=uncached)
                one = blocks if isinstance(blocks, OneState) else None
            else:
                if failure is not None and seen < delivered:
                    raise failure  # shorter than before: another one
                return

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        return self._retrier.call(lambda: self.inner.head(key))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`."""
        patience = self._retrier.patience()
        while True:
            try:
                for info in self.inner.list(prefix, after=after):
                    patience = self._retrier.patience()
                    after = info.key
                    yield info
            except TransientError as error:
                patience.wait_after(error)
            else:
                return

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every kept version, newest first; see `wsistore.storage.base.Storage.versions`."""
        patience = self._retrier.patience()
        last_key = b""
        seen: set[str | None] = set()
        """Versions of the last key that were yielded: a listing that broke off may have stopped among them."""
        while True:
            try:
                for info in self.inner.versions(prefix):
                    key = info.key.encode()
                    if key < last_key or (key == last_key and info.version in seen):
                        continue
                    patience = self._retrier.patience()
                    seen = {info.version} if key != last_key else seen | {info.version}
                    last_key = key
                    yield info
            except TransientError as error:
                patience.wait_after(error)
            else:
                return

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object or one version of it; see `wsistore.storage.base.Storage.delete`."""
        self._retrier.call(lambda: self.inner.delete(key, version=version))

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete objects; see `wsistore.storage.base.DeletesMany`."""
        self._retrier.call(lambda: delete_many(self.inner, keys))

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Return an object's class and state; see `wsistore.storage.archive.SupportsArchive.look`."""
        act = super().look
        return self._retrier.call(lambda: act(key, version=version))

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Ask for a temporary copy; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        act = super().begin_restore
        return self._retrier.call(lambda: act(key, days=days, retrieval=retrieval, version=version))

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Move an object to another class; see `wsistore.storage.archive.SupportsArchive.transition`."""
        act = super().transition
        return self._retrier.call(lambda: act(key, storage_class, version=version, etag=etag))

    def _own(self, key: str, data: Buffer) -> ObjectInfo | None:
        """Return the object under `key` if its bytes are `data`: then an attempt whose reply was lost wrote it."""
        wanted = flat(data)
        with suppress(ObjectMissingError):  # gone again: whoever took it away was there after us
            info = self.head(key)
            if info.size_bytes == len(wanted) and self.get(key) == wanted:
                return info
        return None


class RetryUpload(WrappedUpload):
    """Repeats `complete` and `abort` of one upload, which may be repeated; not `write`, which may not."""

    def __init__(self, inner: Upload, retrier: Retrier) -> None:
        super().__init__(inner)
        self._retrier = retrier

    def complete(self) -> ObjectInfo:
        """Make the object visible and durable."""
        return self._retrier.call(super().complete)

    def abort(self) -> None:
        """Give up and leave nothing behind."""
        self._retrier.call(super().abort)
