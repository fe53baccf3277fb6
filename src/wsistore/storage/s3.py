"""Objects in a bucket of an S3 service: obstore moves the bytes, botocore does what obstore cannot.

What the contract rests on was tried on Ceph RGW (docs/s3.md):

* ``put(..., if_absent=True)`` is always one PUT with ``If-None-Match: *``. A multipart upload is completed in spite of
  such a header, so nothing that must not be replaced is written by one.
* Bodies are guarded by what services check: the SHA-256 that is part of the signature (obstore), and Content-MD5
  (botocore). The newer ``x-amz-checksum`` headers are ignored by some.
* A read asks for ranges of at most 8 MiB. What spans several is read from one state of the object only (If-Match);
  fewer bytes than announced are an error.

Whoever opens one wraps it in `wsistore.storage.retry.RetryStorage`: neither library repeats anything by itself. Only
the parts of an upload and of a stream are repeated here, one by one.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from typing_extensions import Buffer

from wsistore.clock import Clock, SystemClock
from wsistore.errors import ObjectMissingError, StorageError
from wsistore.storage._errors import object_exists
from wsistore.storage._ranges import bounds, check_block_bytes, flat
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, Tail, check_key
from wsistore.storage.coalescing import coalesce
from wsistore.storage.retry import Retrier, RetryPolicy
from wsistore.storage.s3_archive import S3Archive
from wsistore.storage.s3_control import S3Control
from wsistore.storage.s3_errors import changed
from wsistore.storage.s3_objects import Piece, S3Objects
from wsistore.storage.s3_options import S3Options
from wsistore.storage.s3_pieces import PIECE_BYTES, Fetch, Pieces, pieces, serve
from wsistore.storage.s3_upload import S3Upload
from wsistore.storage.s3_values import BucketAbilities, Unfinished
from wsistore.units import MIB

GAP_BYTES = MIB
"""Parts nearer to each other than this are read at once: cheaper than one more request."""

_PIECE_RETRIES = RetryPolicy(attempts=3, total_seconds=30.0)
_ANYTHING = 2**62
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What XML cannot say, so that no listing can be asked to begin there."""


class S3Storage(S3Archive):
    """The storage contract on a bucket, or on a prefix of one.

    `Properties.uncached_reads` is true in that nothing between the service and this process keeps bytes; what the
    service reads from its own caches, only the service knows. In a bucket that keeps versions a plain `delete` hides
    the object behind a mark; only deleting the version frees its bytes.

    Nothing is asked when it is made. Pickled it carries its options, no credentials.

    Parameters
    ----------
    options
        The place, and how it is spoken to.
    clock
        For pauses, and for what depends on today's date.

    """

    def __init__(self, options: S3Options, *, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._prefix = f"{options.prefix}/" if options.prefix else ""
        self._lock = threading.Lock()
        self._opened: tuple[S3Control, S3Objects] | None = None
        # Uploads have threads of their own, so that parts that wait for a service do not keep reads waiting.
        self._readers = ThreadPoolExecutor(options.concurrency, "s3-read")
        self._writers = ThreadPoolExecutor(options.concurrency, "s3-write")
        rng = random.Random()  # noqa: S311  (spreads retries, hides nothing)
        self._piece_retrier = Retrier(self._clock, rng, _PIECE_RETRIES)
        self._part_retrier = Retrier(self._clock, rng, RetryPolicy())

    def __repr__(self) -> str:
        return f"S3Storage({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (S3Storage, (self._options,))

    @property
    def url(self) -> str:
        """``s3://``, bucket and prefix."""
        return self._options.url

    @property
    def properties(self) -> Properties:
        """Conditional; with versions if the bucket keeps them, which is asked once.

        Raises
        ------
        StorageError
            If the bucket cannot be asked.

        """
        versions = self._versioning() is not None
        can = {"archive": True, "deletes_many": not versions}
        return Properties(True, versions, local_files=False, uncached_reads=True, **can)

    def abilities(self) -> BucketAbilities:
        """Return what the bucket is set to do, and how far the service's clock is from this machine's, asked anew.

        Raises
        ------
        StorageError
            If the bucket cannot be asked.

        """
        return self._control.abilities()

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object with one request; see `wsistore.storage.base.Storage.put`."""
        content = flat(data)
        if if_absent and self._versioning() == "Enabled":
            etag, version = self._put_first(key, content)
        else:
            etag, version = self._put(key, content, if_absent=if_absent)
        if if_absent:
            return self._described(key, etag, version, len(content))
        return self._told(key, etag, version, len(content))

    def upload(self, key: str) -> S3Upload:
        """Start writing a large object in parts; see `wsistore.storage.base.Storage.upload`."""

        def describe(etag: str | None, version: str | None, size_bytes: int) -> ObjectInfo:
            return self._described(key, etag, version, size_bytes)

        return S3Upload(self._control, self._full(key), self._part_retrier, self._writers, describe)

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object or one version of it; see `wsistore.storage.base.Storage.delete`."""
        full = self._full(key)
        if version is not None and not self.properties.versions:
            return  # this version is not there
        if not self.properties.versions:
            self.delete_many([key])
            return
        if version is None:
            try:
                self.head(key)
            except ObjectMissingError:
                return  # each further mark of a deletion would stay for good
        with suppress(ObjectMissingError):
            self._control.delete(full, version)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete objects, in a bucket without versions by one request; see `wsistore.storage.base.DeletesMany`."""
        if not self.properties.versions:
            self._objects.delete([self._full(key) for key in keys])
            return
        for key in keys:
            self.delete(key)

    def unfinished(self, older_than: datetime) -> Iterator[Unfinished]:
        """Yield the multipart uploads of this tier that were started before `older_than` and never ended."""
        for found in self._control.unfinished(self._prefix):
            if found.started < older_than:
                yield found

    def clean_temporary(self, older_than: datetime, *, crashed_here: bool = False) -> int:
        """Throw away the parts of uploads that were started before `older_than` and never ended.

        Nothing tells whose an upload is: one that is still being written fails, so `older_than` leaves a margin longer
        than any upload takes. `crashed_here` is therefore without effect.

        Returns
        -------
        int
            Number of uploads thrown away.

        Raises
        ------
        StorageError
            If they cannot be listed or thrown away.

        """
        return self.abort_uploads("", older_than)

    def abort_uploads(
        self, prefix: str, older_than: datetime | None = None, spares: Callable[[str], bool] = lambda _: False
    ) -> int:
        """Throw away the parts of uploads of keys that start with `prefix`; return how many uploads.

        See `wsistore.storage.base.KeepsParts`.
        """
        found = self._piece_retrier.call(lambda: list(self._control.unfinished(self._prefix + prefix)))
        count = 0
        for upload in found:
            is_young = older_than is not None and upload.started >= older_than
            if is_young or spares(upload.key.removeprefix(self._prefix)):
                continue
            self._piece_retrier.call(partial(self._control.abort, upload.key, upload.upload_id))
            count += 1
        return count

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        start, length = bounds(byte_range, _ANYTHING)  # refuses what is negative
        if isinstance(byte_range, Tail) and 0 < byte_range.length_bytes <= PIECE_BYTES:
            return bytes(self._objects.tail(self._full(key), byte_range.length_bytes, version=version))
        if isinstance(byte_range, Tail) or length == 0:
            start, length = bounds(byte_range, self._head(key, version).size_bytes)
        if length == 0:
            return b""
        return b"".join(piece.data for piece in pieces(self._fetcher(key, version), start, length, self._readers))

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        fetch = self._fetcher(key, None)
        wanted = [bounds(span, _ANYTHING) for span in spans]
        runs = coalesce(wanted, gap_bytes=GAP_BYTES, limit_bytes=PIECE_BYTES)
        if not runs:
            self._head(key)  # what is not there has no parts, not even empty ones
        many = self._readers.map if len(runs) > 1 else map
        found = list(many(partial(serve, fetch), runs))
        parts = [b""] * len(wanted)
        for run, piece in zip(runs, found, strict=True):
            for member in run.members:
                offset = wanted[member][0] - run.start
                parts[member] = bytes(piece.data[offset : offset + wanted[member][1]])
        if len({piece.etag for piece in found if piece.data}) > 1:
            raise changed(self._control.asked(self._full(key), "read"))
        return parts

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks, a few requests ahead; see `wsistore.storage.base.Storage.stream`.

        Raises
        ------
        TransientError
            If a part cannot be had after three attempts, or the object was replaced meanwhile.

        """
        check_block_bytes(block_bytes)
        once = self._fetcher(key, None)

        def fetch(start: int, length: int, etag: str | None) -> Piece:
            return self._piece_retrier.call(lambda: once(start, length, etag))

        return Pieces(fetch, _ANYTHING, self._readers, block_bytes)

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        return self._head(key)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`.

        Where the bucket keeps versions each is named with its newest one. Keys that other programs made, and that
        wsistore could not name, are left out.
        """
        if not _may_begin_a_key(prefix):
            return
        low = after.encode("utf-8", "surrogatepass")
        start = self._prefix + _sendable(after) if after else ""
        if self.properties.versions:
            found = self._control.versions(self._prefix + prefix, start, latest_only=True)
        else:
            found = self._objects.list(self._prefix + prefix, start)
        for info in self._named(found):
            if info.key.encode() > low:
                yield info

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every kept version, newest first within a key; see `wsistore.storage.base.Storage.versions`."""
        if not self.properties.versions:
            yield from self.list(prefix)
        elif _may_begin_a_key(prefix):
            yield from self._named(self._control.versions(self._prefix + prefix))

    # --- how ---------------------------------------------------------------------------------------------------------

    @property
    def _control(self) -> S3Control:
        return self._libraries()[0]

    @property
    def _objects(self) -> S3Objects:
        return self._libraries()[1]

    def _libraries(self) -> tuple[S3Control, S3Objects]:
        with self._lock:
            if self._opened is None:
                control = S3Control(self._options, self._clock)
                self._opened = control, S3Objects(self._options, control, self._clock)
            return self._opened

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _versioning(self) -> str | None:
        return self._piece_retrier.call(self._control.versioning)

    def _head(self, key: str, version: str | None = None) -> ObjectInfo:
        info = self._objects.head(self._full(key), version)
        if info.version is None and self._versioning() is not None:
            # What was written while no versions were kept; not all services say so.
            info = replace(info, version="null")
        return replace(info, key=key)

    def _put(self, key: str, content: memoryview, *, if_absent: bool) -> tuple[str | None, str | None]:
        full = self._full(key)
        if len(content) > PIECE_BYTES or self._options.lock_mode != "none":
            return self._control.put(full, bytearray(content), if_absent=if_absent)
        return self._objects.put(full, content, if_absent=if_absent)

    def _put_first(self, key: str, content: memoryview) -> tuple[str | None, str | None]:
        """Write an object if it is absent, where the bucket keeps versions.

        Some services (Ceph RGW 16 among them) ignore If-None-Match in such buckets and write one more version. So the
        bucket's index is looked at before and after: of those that raced only the oldest version stays, and each
        writer that finds an older one than its own takes its own away again.
        """
        full = self._full(key)
        before, is_there = self._control.lineage(full)
        if is_there:
            raise object_exists(self.url, key)
        if self._options.lock_mode == "none":
            etag, version = self._put(key, content, if_absent=True)
        else:  # locked once it has won: a locked one could not be taken away
            etag, version = self._control.put(full, bytearray(content), if_absent=True, lock=False)
        raced = [found for found in self._control.lineage(full)[0] if found not in before]
        if version is not None and version in raced and raced[-1] != version:
            self._control.delete(full, version)
            raise object_exists(self.url, key)
        self._control.retain(full, version)
        return etag, version

    def _described(self, key: str, etag: str | None, version: str | None, size_bytes: int) -> ObjectInfo:
        """Return what is known of an object that was written a moment ago.

        Its time of change is the service's, so it is asked for; by then somebody else may have replaced the object.
        """
        try:
            info = self._head(key, version)
        except StorageError:
            info = None
        told = self._told(key, etag, version, size_bytes)
        if info is None or (told.etag is not None and info.etag != told.etag):
            return told
        if info.size_bytes != size_bytes:
            msg = f"{key!r} in {self.url} has {info.size_bytes} bytes, but {size_bytes} were written."
            raise StorageError(msg, remedy="The service lost bytes: look at its log before you trust it with slides.")
        return info

    def _told(self, key: str, etag: str | None, version: str | None, size_bytes: int) -> ObjectInfo:
        """Return what is known of an object from the answer to its being written."""
        tag = '"' + etag.strip('"') + '"' if etag else None  # not all services quote it in all their answers
        if version in {None, "null"}:  # not all services say so, and some say so where versions were never kept
            version = None if self._versioning() is None else "null"
        return ObjectInfo(key, size_bytes, self._clock.now(), tag, version)

    def _fetcher(self, key: str, version: str | None) -> Fetch:
        full = self._full(key)
        return lambda start, length, etag: self._objects.fetch(full, start, length, version=version, etag=etag)

    def _named(self, found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Yield what lies in the tier by the tier's keys."""
        for info in found:
            key = info.key.removeprefix(self._prefix)
            if _is_key(key):
                yield replace(info, key=key)


def _may_begin_a_key(prefix: str) -> bool:
    """Return whether any key can start with `prefix`; a service is not asked for others, which it may not even take."""
    folder, _, name = prefix.rpartition("/")
    return ((not folder and not prefix.startswith("/")) or _is_key(folder)) and (
        name in {"", ".", ".."} or _is_key(name)
    )


def _sendable(after: str) -> str:
    """Return the longest start of `after` that a service takes; the caller leaves out what sorts between the two."""
    return _UNSENDABLE.split(after, maxsplit=1)[0]


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except StorageError:
        return False
    return True
