"""Objects behind a web server, read only: ranges, several of them in one request, and always of one state.

A key's first answer tells its ETag; a later answer of another state is refused, so that the index of a shard is never
used with the bytes of the shard that replaced it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import quote

from typing_extensions import Buffer

from wsistore.errors import ConflictError, Kind, StorageError
from wsistore.storage._ranges import check_block_bytes
from wsistore.storage.base import ByteRange, ObjectInfo, Properties, Span, Tail, Upload, check_key
from wsistore.storage.coalescing import Run, coalesce
from wsistore.storage.http_service import HttpService, Reply, is_too_long

GAP_BYTES, RUN_BYTES = 512, 8 * 1024 * 1024
"""Parts nearer than this are read at once, up to so many bytes. A further range in a request costs some hundred
bytes, so that hardly anything need be read for nothing."""
MOST_RANGES = 16
"""In one request: more are refused by gateways, and by others that fear them."""
_SLACK_BYTES = 512
"""Of a part's header in an answer with several parts."""
_PAST_END = frozenset({416})
_NOT_MODIFIED = 304
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PART_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(?:\d+|\*)")
_BOUNDARY = re.compile(r'multipart/byteranges\s*;.*?boundary="?([^";]+)"?', re.IGNORECASE)


class HttpStorage:
    """The objects below a path of a server. Threads share it.

    Parameters
    ----------
    service
        The server.
    path
        Begins with a slash, encoded; keys follow behind another one.

    """

    def __init__(self, service: HttpService, path: str = "") -> None:
        self.service, self._path = service, path.rstrip("/")
        self._etags: dict[str, str] = {}
        self._takes_many = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as server and path."""
        return (HttpStorage, (self.service, self._path))

    @property
    def url(self) -> str:
        """Where it is."""
        return self.service.url + self._path

    @property
    def properties(self) -> Properties:
        """It reads, and nothing else."""
        return Properties(conditional_put=False, versions=False, local_files=False, uncached_reads=False)

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        match byte_range:
            case None:
                return self._asked(key, {}, accept=frozenset()).body
            case Span(start=start, length_bytes=length):
                return self.runs(key, [Run(start, length, (0,))])[0] if length > 0 else b""
            case Tail(length_bytes=length):
                if length <= 0:
                    return b""
                try:
                    return self._ranged(key, f"bytes=-{length}", length).body[-length:]
                except _PastEndError:
                    return b""

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        found = [b""] * len(spans)
        for group in grouped(spans):
            for run, data in zip(group, self.runs(key, group), strict=True):
                deal(run, data, spans, found)
        return found

    def runs(self, key: str, group: Sequence[Run]) -> list[bytes]:
        """Return parts of one object by one request, short where it ends before.

        Parameters
        ----------
        key
            Of the object.
        group
            At most `MOST_RANGES`, in order and apart.

        """
        if len(group) > 1 and not self._takes_many:
            return [self.runs(key, [run])[0] for run in group]
        wanted = sum(run.length_bytes for run in group)
        ranges = ",".join(f"{run.start}-{run.start + run.length_bytes - 1}" for run in group)
        try:
            reply = self._ranged(key, f"bytes={ranges}", wanted + (len(group) > 1) * len(group) * _SLACK_BYTES)
        except _PastEndError:
            return [b""] * len(group)
        except StorageError as error:
            if len(group) == 1 or not is_too_long(error):
                raise
            self._takes_many = False  # one range at a time then
            return self.runs(key, group)
        return [_cut(run, _parts(reply, self._where(key))) for run in group]

    def etag(self, key: str) -> str | None:
        """Return the ETag of an object that was read; None before, or where the server tells none."""
        return self._etags.get(key)

    def is_unchanged(self, key: str) -> bool:
        """Say whether an object is as it was when it was first read; one request, which moves nothing if it is.

        Raises
        ------
        StorageError
            As `get`.

        """
        tag = self.etag(key)
        if tag is None:
            return False
        try:
            reply = self._asked(key, {"If-None-Match": tag}, accept=frozenset())
        except ConflictError:
            return False
        return reply.status == _NOT_MODIFIED or reply.headers.get("ETag") == tag

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        reply = self.service.send("HEAD", self._target(key))
        length, modified = reply.headers.get("Content-Length", ""), reply.headers.get("Last-Modified")
        if not length.isdecimal():
            msg = f"{self._where(key)} does not tell its size."
            raise StorageError(msg, remedy="Check that the address is a wsistore gateway's.")
        try:
            when = parsedate_to_datetime(modified or "").astimezone(UTC)
        except (ValueError, TypeError):
            when = datetime.fromtimestamp(0, UTC)
        return ObjectInfo(key, int(length), when, reply.headers.get("ETag"))

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`."""
        check_block_bytes(block_bytes)
        start = 0
        while block := self.get(key, Span(start, block_bytes)):
            yield memoryview(block)
            if len(block) < block_bytes:
                return
            start += len(block)

    def list(self, prefix: str = "", *, after: str = "") -> NoReturn:
        """Refuse: web servers list nothing."""
        self._refuse(prefix, "listed")

    def versions(self, prefix: str = "") -> NoReturn:
        """Refuse: web servers list nothing."""
        self._refuse(prefix, "listed")

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> NoReturn:
        """Refuse."""
        self._refuse(key, "written")

    def upload(self, key: str) -> Upload:
        """Refuse."""
        self._refuse(key, "written")

    def delete(self, key: str, *, version: str | None = None) -> NoReturn:
        """Refuse."""
        self._refuse(key, "deleted")

    def _ranged(self, key: str, ranges: str, most_bytes: int) -> Reply:
        reply = self._asked(key, {"Range": ranges}, most_bytes)
        if reply.status in _PAST_END:
            raise _PastEndError
        return reply

    def _asked(
        self, key: str, headers: Mapping[str, str], most_bytes: int | None = None, accept: frozenset[int] = _PAST_END
    ) -> Reply:
        reply = self.service.get(self._target(key), headers, most_bytes=most_bytes, accept=accept)
        tag = None if reply.status in _PAST_END else reply.headers.get("ETag")
        if tag is not None and self._etags.setdefault(key, tag) != tag:
            msg = f"{self._where(key)} was written anew while it was read."
            raise ConflictError(msg, kind=Kind.SOURCE_CHANGED, remedy="Open the slide again.")
        return reply

    def _target(self, key: str) -> str:
        return f"{self._path}/{quote(check_key(key))}"

    def _where(self, key: str) -> str:
        return f"{self.url}/{key}"

    def _refuse(self, key: str, act: str) -> NoReturn:
        msg = f"{key!r} was not {act}: {self.url} can only be read."
        raise StorageError(msg, kind=Kind.STORAGE_DENIED, remedy="Ask those who keep the slides.")


class _PastEndError(Exception):
    """The range begins past the object's end (status 416)."""


def grouped(spans: Sequence[Span]) -> Iterator[list[Run]]:
    """Yield what is asked for by one request each."""
    found = coalesce([(one.start, one.length_bytes) for one in spans], gap_bytes=GAP_BYTES, limit_bytes=RUN_BYTES)
    group: list[Run] = []
    size = 0
    for run in found:
        if group and (len(group) == MOST_RANGES or size + run.length_bytes > RUN_BYTES):
            yield group
            group, size = [], 0
        group.append(run)
        size += run.length_bytes
    if group:
        yield group


def deal(run: Run, data: bytes, spans: Sequence[Span], found: list[bytes]) -> None:
    """Put the spans that a run serves into `found`."""
    for member in run.members:
        start = spans[member].start - run.start
        found[member] = data[start : start + spans[member].length_bytes]


def _cut(run: Run, parts: Mapping[int, bytes]) -> bytes:
    """Return a run's bytes from parts by their start; servers may join parts that lie near each other."""
    data = parts.get(run.start)
    if data is not None:
        return data[: run.length_bytes]
    for start, data in parts.items():
        if start <= run.start < start + len(data):
            return data[run.start - start : run.start - start + run.length_bytes]
    return b""


def _parts(reply: Reply, where: str) -> dict[int, bytes]:
    """Return the parts of an answer by the byte that they begin at."""
    if reply.status == 200:
        return {0: reply.body}
    boundary = _BOUNDARY.match(reply.headers.get("Content-Type", ""))
    if boundary is None:
        found = _CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        if found is None or int(found[2]) - int(found[1]) + 1 != len(reply.body):
            raise _garbled(where)
        return {int(found[1]): reply.body}
    return _multipart(reply.body, boundary[1].encode("latin-1"), where)


def _multipart(body: bytes, boundary: bytes, where: str) -> dict[int, bytes]:
    # Patches come in such answers, sixteen parts in each: nothing is copied but the parts themselves.
    parts: dict[int, bytes] = {}
    mark = b"--" + boundary
    following, at = b"\r\n" + mark, body.find(mark)
    while at >= 0 and not body.startswith(b"--", at + len(mark)):
        end = body.find(b"\r\n\r\n", at)
        found = _PART_RANGE.search(body, at, end) if end >= 0 else None
        if found is None:
            raise _garbled(where)
        start, length = int(found[1]), int(found[2]) - int(found[1]) + 1
        data = body[end + 4 : end + 4 + length]
        if len(data) != length or not body.startswith(following, end + 4 + length):
            raise _garbled(where)
        parts[start] = data
        at = end + 6 + length
    if at < 0:
        raise _garbled(where)
    return parts


def _garbled(where: str) -> StorageError:
    return StorageError(f"What {where} answered is not the parts that were asked for.", remedy="Check the address.")
