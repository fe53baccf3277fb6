"""Decorator: fails where a table says so, always in the same place; and keeps the trace of all calls.

A test first runs what it tests without faults and reads `FaultStorage.calls`; then it runs it again for each of these
calls with a fault there, and sees that nothing is lost::

    clean = FaultStorage(MemoryStorage())
    work(clean)
    for call in clean.calls:
        faulty = FaultStorage(MemoryStorage(), [Rule(FailAfter(TransientError("lost")), nth=call.number)])
        ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from typing_extensions import Buffer

from wsistore.errors import WsistoreError
from wsistore.storage._ranges import flat
from wsistore.storage.archive import Retrieval
from wsistore.storage.base import ArchiveState, ByteRange, ObjectInfo, Properties, Span, Storage, Upload
from wsistore.storage.wrapper import Verb, WrappedStorage, WrappedUpload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FailBefore:
    """Raise `error`; nothing was done."""

    error: WsistoreError


@dataclass(frozen=True, slots=True)
class FailAfter:
    """Do it all, then raise `error` instead of replying: a lost reply."""

    error: WsistoreError


@dataclass(frozen=True, slots=True)
class Cut:
    """Raise `error` part of the way.

    `put` sends `length` bytes of an object that then never appears, `Upload.write` appends `length` bytes of what it
    was given, `stream` delivers `length` bytes, `list` and `versions` name `length` objects. Other calls do nothing.
    """

    length: int
    error: WsistoreError


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Flip bit `bit` of the byte at `offset` (counted round) of what is read: of `get`, `get_many` and `stream`.

    Of several parts it is the first that is not empty, of a stream its first block.
    """

    offset: int = 0
    bit: int = 0


@dataclass(frozen=True, slots=True)
class RunBefore:
    """Call `action` first: `os._exit`, a signal to oneself, another writer's step."""

    action: Callable[[], None]


@dataclass(frozen=True, slots=True)
class RunAfter:
    """Call `action` when all is done, before the reply."""

    action: Callable[[], None]


Fault = FailBefore | FailAfter | Cut | Corrupt | RunBefore | RunAfter


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a fault strikes: from the `nth` on, for `times` calls, of those that match."""

    fault: Fault
    nth: int = 1
    """Counted from 1, over the calls that match this rule."""
    verb: Verb | None = None
    """Only this verb; without it, every call."""
    key_contains: str = ""
    """Only calls on keys (for listings: prefixes) that contain this."""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was made."""

    number: int
    """Counted from 1 over all calls."""
    verb: Verb
    key: str
    """For listings: the prefix."""


class FaultStorage(WrappedStorage):
    """Passes calls on to `inner`, except where a rule strikes; of several that strike the first does.

    Everything goes through the contract's verbs: there are no files to be read past it. A pickled copy starts counting
    anew.

    Parameters
    ----------
    inner
        What does the work.
    rules
        Where to fail. Calls of uploads count under their own verbs.

    """

    def __init__(self, inner: Storage, rules: Sequence[Rule] = ()) -> None:
        super().__init__(inner)
        self._rules = tuple(rules)
        self._lock = threading.Lock()
        self._matched = [0] * len(self._rules)
        self._calls: list[Call] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return (FaultStorage, (self.inner, self._rules))

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call so far, in order."""
        with self._lock:
            return tuple(self._calls)

    @property
    def properties(self) -> Properties:
        """What the inner storage can do, but for local files."""
        return replace(self.inner.properties, local_files=False)

    def strike(self, verb: Verb, key: str) -> Fault | None:
        """Record a call and return the fault that is to meet it."""
        with self._lock:
            self._calls.append(Call(len(self._calls) + 1, verb, key))
            found: Fault | None = None
            for number, rule in enumerate(self._rules):
                if rule.verb not in {None, verb} or rule.key_contains not in key:
                    continue
                self._matched[number] += 1
                if found is None and rule.nth <= self._matched[number] < rule.nth + rule.times:
                    found = rule.fault
        return found

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object, or fail; see `wsistore.storage.base.Storage.put`."""
        fault = self.strike(Verb.PUT, key)
        if isinstance(fault, Cut):
            with self.inner.upload(key) as upload:
                upload.write(flat(data)[: fault.length])
            raise fault.error
        return _act(fault, lambda: self.inner.put(key, data, if_absent=if_absent))

    def upload(self, key: str) -> FaultUpload:
        """Start writing, or fail; see `wsistore.storage.base.Storage.upload`."""
        return _act(self.strike(Verb.UPLOAD, key), lambda: FaultUpload(self.inner.upload(key), key, self))

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Read, or fail; see `wsistore.storage.base.Storage.get`."""
        fault = self.strike(Verb.GET, key)
        data = _act(fault, lambda: self.inner.get(key, byte_range, version=version))
        return _corrupted(data, fault) if isinstance(fault, Corrupt) else data

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Read, or fail; see `wsistore.storage.base.Storage.get_many`."""
        fault = self.strike(Verb.GET_MANY, key)
        parts = _act(fault, lambda: self.inner.get_many(key, spans))
        if isinstance(fault, Corrupt):
            victim = next((n for n, part in enumerate(parts) if part), None)
            return [_corrupted(part, fault) if n == victim else part for n, part in enumerate(parts)]
        return parts

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Read, or fail; see `wsistore.storage.base.Storage.stream`."""
        fault = self.strike(Verb.STREAM, key)
        _before(fault)
        left = fault.length if isinstance(fault, Cut) else None
        for number, block in enumerate(self.inner.stream(key, block_bytes=block_bytes, uncached=uncached)):
            if isinstance(fault, Cut) and left is not None:
                if left < len(block):
                    if left:
                        yield block[:left]
                    raise fault.error
                left -= len(block)
            is_victim = isinstance(fault, Corrupt) and number == 0
            yield memoryview(_corrupted(bytes(block), fault)) if isinstance(fault, Corrupt) and is_victim else block
        if isinstance(fault, Cut):
            raise fault.error
        _after(fault)

    def head(self, key: str) -> ObjectInfo:
        """Look, or fail; see `wsistore.storage.base.Storage.head`."""
        return _act(self.strike(Verb.HEAD, key), lambda: self.inner.head(key))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """List, or fail; see `wsistore.storage.base.Storage.list`."""
        return _listing(self.strike(Verb.LIST, prefix), self.inner.list(prefix, after=after))

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List, or fail; see `wsistore.storage.base.Storage.versions`."""
        return _listing(self.strike(Verb.VERSIONS, prefix), self.inner.versions(prefix))

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete, or fail; see `wsistore.storage.base.Storage.delete`."""
        _act(self.strike(Verb.DELETE, key), lambda: self.inner.delete(key, version=version))

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Look, or fail; see `wsistore.storage.archive.SupportsArchive.look`."""
        act = super().look
        return _act(self.strike(Verb.LOOK, key), lambda: act(key, version=version))

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Ask for a copy, or fail; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        act = super().begin_restore
        fault = self.strike(Verb.RESTORE, key)
        return _act(fault, lambda: act(key, days=days, retrieval=retrieval, version=version))

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Move, or fail; see `wsistore.storage.archive.SupportsArchive.transition`."""
        act = super().transition
        fault = self.strike(Verb.TRANSITION, key)
        return _act(fault, lambda: act(key, storage_class, version=version, etag=etag))


class FaultUpload(WrappedUpload):
    """Passes the calls of one upload on, except where a rule of its storage strikes."""

    def __init__(self, inner: Upload, key: str, storage: FaultStorage) -> None:
        super().__init__(inner)
        self._key = key
        self._storage = storage

    def write(self, data: Buffer) -> None:
        """Append, or fail."""
        fault = self._storage.strike(Verb.UPLOAD_WRITE, self._key)
        if isinstance(fault, Cut):
            super().write(flat(data)[: fault.length])
            raise fault.error
        write = super().write
        _act(fault, lambda: write(data))

    def complete(self) -> ObjectInfo:
        """Complete, or fail."""
        return _act(self._storage.strike(Verb.UPLOAD_COMPLETE, self._key), super().complete)

    def abort(self) -> None:
        """Abort, or fail."""
        _act(self._storage.strike(Verb.UPLOAD_ABORT, self._key), super().abort)


def _before(fault: Fault | None) -> None:
    match fault:
        case FailBefore(error=error):
            raise error
        case RunBefore(action=action):
            action()
        case _:
            pass


def _after(fault: Fault | None) -> None:
    match fault:
        case FailAfter(error=error):
            raise error
        case RunAfter(action=action):
            action()
        case _:
            pass


def _act(fault: Fault | None, act: Callable[[], T]) -> T:
    """Do `act` with the fault before or behind it."""
    _before(fault)
    if isinstance(fault, Cut):  # calls without a middle
        raise fault.error
    result = act()
    _after(fault)
    return result


def _listing(fault: Fault | None, infos: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
    _before(fault)
    for number, info in enumerate(infos):
        if isinstance(fault, Cut) and number >= fault.length:
            raise fault.error
        yield info
    if isinstance(fault, Cut):
        raise fault.error
    _after(fault)


def _corrupted(data: bytes, fault: Corrupt) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[fault.offset % len(data)] ^= 1 << fault.bit
    return bytes(changed)
