"""A slide behind a gateway as a Zarr store: many parts of many objects at once, and names without a listing."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Any

from typing_extensions import override
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from wsistore.client.cache import ChunkCache
from wsistore.compress import threads
from wsistore.compress.chunk_bytes import Parts, Wanted
from wsistore.compress.coding import Payloads
from wsistore.compress.zarr_store import ReadOnlyStore, cut
from wsistore.errors import Kind, MissingError, ObjectMissingError, WsistoreError
from wsistore.storage.base import Span, Tail
from wsistore.storage.coalescing import Run
from wsistore.storage.http import HttpStorage, deal, grouped
from wsistore.units import MIB

_MOST_WHOLE_BYTES = 4 * MIB
"""Objects that are read whole and larger than this are not kept on disk: they are no single chunks."""
_ROOT = "zarr.json"
_UNDONE = "undone 1"
"""Stands in names of folds that were undone, with the number of the form that they are kept in."""
_LENGTH = struct.Struct("<i")
_CHILDREN = ("image", "y", "x")
_ARRAYS = ("thumbnail", "icc")


class GatewayStore(ReadOnlyStore):
    """The hierarchy of one slide. Threads share it.

    Parameters
    ----------
    storage
        Where it lies.
    cache
        Keeps the bytes of chunks on this machine; None keeps none.

    """

    at_once = True

    def __init__(self, storage: HttpStorage, cache: ChunkCache | None = None) -> None:
        super().__init__()
        self._storage, self._cache = storage, cache
        self._documents: dict[str, bytes | None] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where it lies: the token stays."""
        return (GatewayStore, (self._storage, self._cache))

    @override
    def __eq__(self, value: object) -> bool:
        return isinstance(value, GatewayStore) and value._storage.url == self._storage.url

    def __hash__(self) -> int:
        return hash(self._storage.url)

    @override
    def __str__(self) -> str:
        return self._storage.url

    @override
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        if key.rpartition("/")[2] == "zarr.json":
            document = self._document(key)
            return None if document is None else cut(document, request)
        parts: list[Span | Tail] | None = None
        if isinstance(request, RangeByteRequest):
            parts = [Span(request.start, request.end - request.start)]
        elif isinstance(request, SuffixByteRequest):
            parts = [Tail(request.suffix)]
        (found,) = self.get_many([(key, parts)])
        if found is None:
            return None
        return cut(found[0], request) if isinstance(request, OffsetByteRequest) else found[0]

    @override
    def read_many(self, key: str, parts: Sequence[Span | Tail]) -> list[bytes] | None:
        return self.get_many([(key, parts)])[0]

    def get_many(self, wanted: Sequence[Wanted]) -> list[Parts]:
        """Return parts of several objects, by requests that go out together; see `Objects`.

        Raises
        ------
        MissingError
            If the slide is not there any more, or not for the caller: what is missing is no background then.

        """
        found: list[Parts] = [None if parts is None else [b""] * len(parts) for _, parts in wanted]
        missing: set[int] = set()
        fresh: list[tuple[str, bytes]] = []
        jobs: list[Callable[[], None]] = []
        for position, (key, parts) in enumerate(wanted):
            if parts is None:
                jobs.extend(self._whole_jobs(key, found, position, fresh))
            else:
                jobs.extend(self._jobs(key, parts, found, position, missing))
        _together(jobs, self._storage.service.options.connections)
        self._keep_whole(fresh)
        answers = [None if position in missing else parts for position, parts in enumerate(found)]
        if any(parts is None for parts in answers):
            self._check_there()
        return answers

    def _check_there(self) -> None:
        """Raise if the whole slide is gone: to a gateway all that is missing, and all that is refused, is the same."""
        if self._whole("zarr.json") is None:
            msg = f"{self._storage.url} is not there any more, or not for you."
            raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="Ask whether the project or its grant has ended.")

    def _whole_jobs(
        self, key: str, found: list[Parts], position: int, fresh: list[tuple[str, bytes]]
    ) -> Iterable[Callable[[], None]]:
        """Yield what is to be done for a whole object; what was not in the cache will be in `fresh`."""
        name = self._whole_name(key)
        kept = None if self._cache is None or name is None else self._cache.get(name)
        if kept is not None:
            found[position] = [kept]
            return

        def whole() -> None:
            data = self._whole(key)
            found[position] = None if data is None else [data]
            if data is not None and name is not None and len(data) <= _MOST_WHOLE_BYTES:
                fresh.append((name, data))

        yield whole

    def _whole_name(self, key: str) -> str | None:
        """Return what a whole object is kept as; None if it is not to be kept.

        Its own ETag is not known before it is asked for; that of the root changes with it, whenever the copy that the
        gateway shows is another one.
        """
        tag = None if self._cache is None or key.endswith(_ROOT) else self._storage.etag(_ROOT)
        return None if tag is None else f"{self._storage.url}\0{key}\0of {tag}"

    def _keep_whole(self, fresh: Sequence[tuple[str, bytes]]) -> None:
        """Keep whole objects, if what they were named after is still so now that they have come."""
        if self._cache is None or not fresh:
            return
        with suppress(WsistoreError):  # then nothing is kept; who reads has what they asked for
            if self._storage.is_unchanged(_ROOT):
                for name, data in fresh:
                    self._cache.put(name, data)

    def undone(self, key: str, span: Span) -> Payloads | None:
        """Return the payloads of a fold that was undone before; None if they are not kept."""
        name = self._undone_name(key, span)
        data = None if self._cache is None or name is None else self._cache.get(name)
        return None if data is None else _unpacked(data)

    def keep_undone(self, key: str, span: Span, payloads: Payloads) -> None:
        """Keep the payloads of a fold in place of the fold."""
        name, tag = self._undone_name(key, span), self._storage.etag(key)
        if self._cache is not None and name is not None and tag is not None:
            self._cache.put(name, _packed(payloads))
            self._cache.drop(self._name(key, tag, span))

    def _undone_name(self, key: str, span: Span) -> str | None:
        tag = None if self._cache is None else self._storage.etag(key)
        return None if tag is None else f"{self._name(key, tag, span)}\0{_UNDONE}"

    def _jobs(
        self, key: str, parts: Sequence[Span | Tail], found: list[Parts], position: int, missing: set[int]
    ) -> Iterable[Callable[[], None]]:
        """Yield what is to be done for parts of one object."""

        def guarded(act: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    act()
                except ObjectMissingError:
                    missing.add(position)

            return run

        target = found[position] or []
        spans = {n: part for n, part in enumerate(parts) if isinstance(part, Span)}
        for n, part in enumerate(parts):
            if isinstance(part, Tail):
                yield guarded(partial(self._tail, key, part, target, n))
        left = self._from_cache(key, spans, target)
        for group in grouped([spans[n] for n in left]):
            yield guarded(partial(self._group, key, group, [spans[n] for n in left], left, target))

    def _tail(self, key: str, part: Tail, target: list[bytes], position: int) -> None:
        target[position] = self._storage.get(key, part)

    def _from_cache(self, key: str, spans: dict[int, Span], target: list[bytes]) -> list[int]:
        """Take from the cache what it has; return which spans are left."""
        tag = self._storage.etag(key) if self._cache is not None else None
        if self._cache is None or tag is None:
            return list(spans)
        left = []
        for position, span in spans.items():
            data = self._cache.get(self._name(key, tag, span))
            if data is None or len(data) != span.length_bytes:
                left.append(position)
            else:
                target[position] = data
        return left

    def _group(
        self, key: str, group: Sequence[Run], spans: Sequence[Span], left: Sequence[int], target: list[bytes]
    ) -> None:
        found = [b""] * len(spans)
        members: list[int] = []
        for run, data in zip(group, self._storage.runs(key, group), strict=True):
            deal(run, data, spans, found)
            members.extend(run.members)
        tag = self._storage.etag(key)
        for member in members:
            target[left[member]] = found[member]
            if self._cache is not None and tag is not None and len(found[member]) == spans[member].length_bytes:
                self._cache.put(self._name(key, tag, spans[member]), found[member])

    def _whole(self, key: str) -> bytes | None:
        """Return a whole object; None if there is none."""
        try:
            return self._storage.get(key)
        except ObjectMissingError:
            return None

    def _name(self, key: str, tag: str, span: Span) -> str:
        return f"{self._storage.url}\0{key}\0{tag}\0{span.start}\0{span.length_bytes}"

    def _document(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._documents:
                return self._documents[key]
        data = self._whole(key)
        with self._lock:
            self._documents[key] = data
        return data

    @override
    def names(self, prefix: str) -> Iterable[str]:
        found = self._consolidated()
        paths = self._usual() if found is None else found
        return [name for name in (f"{path}/zarr.json".lstrip("/") for path in ("", *paths)) if name.startswith(prefix)]

    def _consolidated(self) -> list[str] | None:
        """Return the paths that the root's consolidated metadata name; None if it has none."""
        try:
            metadata = json.loads(self._document("zarr.json") or b"{}")["consolidated_metadata"]["metadata"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return [path for path in metadata if isinstance(path, str)] if isinstance(metadata, dict) else None

    def _usual(self) -> list[str]:
        """Return which of the paths that a slide has are there."""
        try:
            root: Any = json.loads(self._document("zarr.json") or b"{}")
            datasets = root["attributes"]["ome"]["multiscales"][0]["datasets"]
            levels = list(dict.fromkeys(str(one["path"]).partition("/")[0] for one in datasets))
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            levels = []
        paths = [*_ARRAYS, *levels, *(f"{level}/{child}" for level in levels for child in _CHILDREN)]
        there: dict[str, bool] = {}

        def look(path: str) -> None:
            there[path] = self._document(f"{path}/zarr.json") is not None

        _together([partial(look, path) for path in paths], self._storage.service.options.connections)
        return [path for path in paths if there[path]]


def _packed(payloads: Payloads) -> bytes:
    """Return payloads as bytes: how many there are, the length of each or -1 where there is none, all of them."""
    lengths = [-1 if one is None else len(one) for one in payloads]
    head = b"".join(_LENGTH.pack(number) for number in (len(lengths), *lengths))
    return b"".join((head, *(one for one in payloads if one is not None)))


def _unpacked(data: bytes) -> Payloads | None:
    """Return what was packed; None if `data` is not that."""
    try:
        (count,) = _LENGTH.unpack_from(data)
        lengths = struct.unpack_from(f"<{max(0, count)}i", data, _LENGTH.size)
    except struct.error:
        return None
    at, found = _LENGTH.size * (1 + len(lengths)), []
    if at + sum(max(0, length) for length in lengths) != len(data):
        return None
    for length in lengths:
        found.append(None if length < 0 else data[at : at + length])
        at += max(0, length)
    return found


def _together(jobs: Sequence[Callable[[], None]], connections: int) -> None:
    """Run jobs that wait for a server; one is run by the caller itself."""
    if len(jobs) == 1:
        jobs[0]()
    elif jobs:
        threads.for_each(threads.shared_pool("gateway", connections), _run, jobs)


def _run(job: Callable[[], None]) -> None:
    job()
