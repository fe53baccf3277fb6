"""Decorator: what is private lies on the tier encrypted; callers see it as it is, with its own sizes and ranges.

Which objects these are and by which keys they are encrypted is for a `DataKeys` to say; how they are encrypted is
`wsistore.storage.sealing`. Requests become few more: a range read asks for an object's header with it, once.

It goes around `RetryStorage` and `LimitStorage`: what is sent again is sent as it was encrypted, and what is limited
is what travels.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from typing_extensions import Buffer

from wsistore.errors import IntegrityError, Kind, StorageError
from wsistore.storage import sealing
from wsistore.storage._ranges import bounds, check_block_bytes, flat
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, Storage, Tail, Upload, check_key
from wsistore.storage.sealing import FRAME_BYTES, HEADER_BYTES, SEALED_BYTES, Frames, Sealer
from wsistore.storage.wrapper import WrappedStorage, WrappedUpload, delete_many
from wsistore.units import MIB

_MOST_KNOWN = 4096
"""Objects of which something is remembered at a time."""
_UNBOUNDED = 1 << 62
_REMEDY = "Restore the folder keyring/ of the tier from a backup, or the slide from another copy."


class DataKeys(Protocol):
    """Says which objects are encrypted, and has their keys. Threads share it; it pickles without any key."""

    def covers(self, key: str) -> bool:
        """Say whether the object may be encrypted at all; asks nothing."""
        ...

    def reading(self, key: str) -> bytes | None:
        """Return the data key of an object that `covers` names; None if it was written without one.

        Raises
        ------
        WsistoreError
            If there should be a key, and it is lost or was destroyed.

        """
        ...

    def writing(self, key: str) -> bytes | None:
        """Return the data key for an object to be written, made now if need be; None to write it as it is."""
        ...

    def is_sealed(self, key: str) -> bool:
        """Say whether an object is encrypted, also where its key was destroyed."""
        ...

    def sealed_within(self, prefix: str, after: str) -> Callable[[str], bool]:
        """Return what `is_sealed` says, for keys in ascending order that start with `prefix` and sort after `after`."""
        ...


class EncryptedStorage(WrappedStorage):
    """Encrypts what goes to `inner` and decrypts what comes from it; the module's docstring says more.

    Objects are not offered as files: they would be read past the decryption.

    Parameters
    ----------
    inner
        What keeps the objects.
    keys
        Has the keys.

    """

    def __init__(self, inner: Storage, keys: DataKeys) -> None:
        super().__init__(inner)
        self._keys = keys
        self._lock = threading.Lock()
        self._frames: dict[str, Frames] = {}
        self._plain: set[str] = set()
        """Objects that were seen to be not encrypted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (EncryptedStorage, (self.inner, self._keys))

    @property
    def keys(self) -> DataKeys:
        """Has the keys."""
        return self._keys

    @property
    def properties(self) -> Properties:
        """What the inner storage can do, without its files."""
        return replace(self.inner.properties, local_files=False)

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Encrypt and write; see `wsistore.storage.base.Storage.put`."""
        data_key = self._writing(key)
        if data_key is None:
            return self.inner.put(key, data, if_absent=if_absent)
        view = flat(data)
        info = self.inner.put(key, sealing.seal(data_key, key, view), if_absent=if_absent)
        self._forget(key)
        return replace(info, size_bytes=len(view))

    def upload(self, key: str) -> Upload:
        """Start writing; see `wsistore.storage.base.Storage.upload`."""
        data_key = self._writing(key)
        if data_key is None:
            return self.inner.upload(key)
        least = max(self.properties.min_part_bytes, MIB)
        return SealedUpload(self.inner.upload(key), Sealer(data_key, key), least, lambda: self._forget(key))

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete; see `wsistore.storage.base.Storage.delete`."""
        self.inner.delete(key, version=version)
        self._forget(key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete; see `wsistore.storage.base.DeletesMany`."""
        delete_many(self.inner, keys)
        for key in keys:
            self._forget(key)

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Read and decrypt; see `wsistore.storage.base.Storage.get`."""
        data_key = self._reading(key, version)
        if data_key is None:
            return self.inner.get(key, byte_range, version=version)
        if byte_range is None:
            return sealing.unseal(data_key, key, self.inner.get(key, version=version))
        if version is not None:
            # Read as a whole: only old versions are asked for by name, and few of them in parts.
            whole = sealing.unseal(data_key, key, self.inner.get(key, version=version))
            start, length = bounds(byte_range, len(whole))
            return whole[start : start + length]
        if isinstance(byte_range, Tail):
            start, length = bounds(byte_range, sealing.plain_size(self.inner.head(key).size_bytes))
            # A byte more than there seems to be, so that the frame which ends the object must be among those read.
            byte_range = Span(start, length + 1 if byte_range.length_bytes else 0)
        return self._parts(data_key, key, [byte_range])[0]

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Read and decrypt; see `wsistore.storage.base.Storage.get_many`."""
        data_key = self._reading(key) if spans else None
        return self.inner.get_many(key, spans) if data_key is None else self._parts(data_key, key, spans)

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield blocks of what is decrypted; see `wsistore.storage.base.Storage.stream`."""
        check_block_bytes(block_bytes)
        data_key = self._reading(key)
        if data_key is None:
            yield from self.inner.stream(key, block_bytes=block_bytes, uncached=uncached)
            return
        blocks = self.inner.stream(key, block_bytes=max(block_bytes, MIB), uncached=uncached)
        pending: builtins.list[bytes] = []
        size = 0
        for data in sealing.unsealed(data_key, key, blocks):
            pending.append(data)
            size += len(data)
            if size >= block_bytes:
                whole = memoryview(b"".join(pending))
                while len(whole) >= block_bytes:
                    yield whole[:block_bytes]
                    whole = whole[block_bytes:]
                pending, size = [bytes(whole)], len(whole)
        if size:
            yield memoryview(b"".join(pending))

    # --- looking -----------------------------------------------------------------------------------------------------

    def head(self, key: str) -> ObjectInfo:
        """Look; see `wsistore.storage.base.Storage.head`."""
        return self._own(self.inner.head(key), self._is_sealed)

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Look; see `wsistore.storage.archive.SupportsArchive.look`."""
        return self._own(super().look(key, version=version), self._is_sealed)

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Move to another class as it lies; see `wsistore.storage.archive.SupportsArchive.transition`."""
        return self._own(super().transition(key, storage_class, version=version, etag=etag), self._is_sealed)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """List; see `wsistore.storage.base.Storage.list`."""
        return self._listed(self.inner.list(prefix, after=after), prefix, after)

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List every kept version; see `wsistore.storage.base.Storage.versions`."""
        return self._listed(self.inner.versions(prefix), prefix, "")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _writing(self, key: str) -> bytes | None:
        return self._keys.writing(check_key(key)) if self._keys.covers(key) else None

    def _reading(self, key: str, version: str | None = None) -> bytes | None:
        """Return an object's data key; None if it lies as it is."""
        if not self._keys.covers(key) or key in self._plain:
            return None
        data_key = self._keys.reading(check_key(key))
        if data_key is None:
            if self.inner.get(key, Span(0, len(sealing.MAGIC)), version=version) == sealing.MAGIC:
                msg = f"{key} in {self.url} is encrypted, and its data key is missing from the tier."
                raise IntegrityError(msg, kind=Kind.KEY_MISSING, remedy=_REMEDY)
            with self._lock:
                if len(self._plain) >= _MOST_KNOWN:
                    self._plain.clear()
                self._plain.add(key)
        return data_key

    def _is_sealed(self, key: str) -> bool:
        return self._keys.covers(key) and key not in self._plain and self._keys.is_sealed(key)

    def _listed(self, infos: Iterator[ObjectInfo], prefix: str, after: str) -> Iterator[ObjectInfo]:
        is_sealed = self._keys.sealed_within(prefix, after)
        return (self._own(info, lambda key: self._keys.covers(key) and is_sealed(key)) for info in infos)

    def _own(self, info: ObjectInfo, is_sealed: Callable[[str], bool]) -> ObjectInfo:
        return replace(info, size_bytes=sealing.plain_size(info.size_bytes)) if is_sealed(info.key) else info

    def _forget(self, key: str) -> None:
        with self._lock:
            self._frames.pop(key, None)
            self._plain.discard(key)

    def _parts(self, data_key: bytes, key: str, spans: Sequence[Span]) -> builtins.list[bytes]:
        for span in spans:
            bounds(span, _UNBOUNDED)  # refuses what is negative
        known = self._frames.get(key)
        if known is not None:
            try:
                return self._read(known, key, spans, self.inner.get_many(key, [_sealed(span) for span in spans]))
            except IntegrityError:
                self._forget(key)  # another process may have written the object anew
        header, *parts = self.inner.get_many(key, [Span(0, HEADER_BYTES), *map(_sealed, spans)])
        frames = Frames(data_key, key, header)
        found = self._read(frames, key, spans, parts)
        with self._lock:
            if len(self._frames) >= _MOST_KNOWN:
                self._frames.clear()
            self._frames[key] = frames
        return found

    def _read(self, frames: Frames, key: str, spans: Sequence[Span], parts: Sequence[bytes]) -> builtins.list[bytes]:
        found = []
        is_end_sure = False
        for span, part in zip(spans, parts, strict=True):
            first, start = divmod(span.start, FRAME_BYTES)
            data = frames.open_some(first, part, _sealed(span).length_bytes)
            if span.length_bytes and not part and not is_end_sure:
                self._check_end(frames, key)
                is_end_sure = True
            found.append(data[start : start + span.length_bytes])
        return found

    def _check_end(self, frames: Frames, key: str) -> None:
        """See that an object ends where it was ended: nothing was said so far of bytes behind its end."""
        size = self.inner.head(key).size_bytes
        last = max(0, -(-(size - HEADER_BYTES) // SEALED_BYTES) - 1)
        frames.open(last, self.inner.get(key, Span(sealing.frame_start(last), SEALED_BYTES)), is_last=True)


class SealedUpload(WrappedUpload):
    """Encrypts what is appended, and passes it on in parts that the inner storage takes."""

    def __init__(self, inner: Upload, sealer: Sealer, least_part_bytes: int, done: Callable[[], None]) -> None:
        super().__init__(inner)
        self._sealer = sealer
        self._least = least_part_bytes
        self._done = done
        self._pending: list[bytes] = []
        self._size = 0
        self._is_sealed = self._is_broken = False

    def write(self, data: Buffer) -> None:
        """Encrypt and append."""
        if self._is_over or self._is_sealed:
            super().write(data)  # which refuses it
            return
        view = flat(data)
        self._pending += self._sealer.feed(view)
        self._size += len(view)
        if sum(map(len, self._pending)) >= self._least:
            self._send()

    def complete(self) -> ObjectInfo:
        """Append the last frame, and make the object visible and durable."""
        if not self._is_over and not self._is_sealed:
            self._is_sealed = True
            self._pending += self._sealer.finish()
            self._send()
        if self._is_broken:
            msg = "An encrypted upload of which a part was not sent cannot be completed."
            raise StorageError(msg, remedy="Write the object again.")
        info = super().complete()
        self._done()
        return replace(info, size_bytes=self._size)

    def _send(self) -> None:
        try:
            super().write(b"".join(self._pending))
        except BaseException:
            self._is_broken = True
            raise
        self._pending.clear()


def _sealed(span: Span) -> Span:
    """Return where the frames lie that hold the bytes of `span`."""
    if span.length_bytes == 0:
        return Span(0, 0)
    first, last = span.start // FRAME_BYTES, (span.start + span.length_bytes - 1) // FRAME_BYTES
    return Span(sealing.frame_start(first), (last - first + 1) * SEALED_BYTES)
