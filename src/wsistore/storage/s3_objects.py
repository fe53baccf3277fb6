"""What obstore asks of an S3 service: small PUTs, HEADs, and ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from wsistore.clock import Clock
from wsistore.errors import ObjectMissingError, StorageError, TransientError
from wsistore.storage.base import ObjectInfo
from wsistore.storage.s3_control import S3Control
from wsistore.storage.s3_errors import Answer, Asked, changed, cut_short, meaning, of_obstore
from wsistore.storage.s3_options import S3Options

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig, S3Config, S3Credential

T = TypeVar("T")

_CREDENTIALS_LIFE = timedelta(minutes=5)
_LONGEST_REQUEST = timedelta(hours=1)
_PAGE = 1000
"""Objects that a service names at once, and deletes by one request."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one GET gave."""

    data: memoryview
    """As many bytes as were asked for, or fewer at the object's end."""
    size_bytes: int
    """The whole object's; 0 where the range began past its end."""
    etag: str | None


class S3Objects:
    """One bucket, through obstore. Threads may share it. Keys are those of the bucket, with the tier's prefix.

    Nothing is repeated. Failed requests are explained through `control` where obstore tells too little.
    """

    def __init__(self, options: S3Options, control: S3Control, clock: Clock) -> None:
        self._control = control
        self._attributes = {"Storage-Class": options.storage_class} if options.storage_class else None
        self._store = _open(options, control, clock)

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> tuple[str | None, str | None]:
        """Write an object in one request; return its ETag and version."""
        asked = self._control.asked(key, "written", if_absent=if_absent)
        result = self._call(
            key,
            asked,
            lambda: obstore.put(
                self._store,
                key,
                data,
                attributes=self._attributes,
                mode="create" if if_absent else "overwrite",
                use_multipart=False,
            ),
        )
        return result["e_tag"], result["version"]

    def head(self, key: str, version: str | None = None) -> ObjectInfo:
        """Return what is known of an object; its key is that of the bucket."""
        options: GetOptions = {"head": True} if version is None else {"head": True, "version": version}
        asked = self._control.asked(key, "looked at", version=version)
        meta = self._call(key, asked, lambda: obstore.get(self._store, key, options=options).meta)
        return _info(key, meta)

    def fetch(self, key: str, start: int, length: int, *, version: str | None = None, etag: str | None = None) -> Piece:
        """Return up to `length` bytes from `start`; with `etag` only of this state of the object."""
        asked = self._control.asked(key, "read", version=version)
        options: GetOptions = {"range": (start, start + length)}
        if version is not None:
            options["version"] = version
        if etag is not None:
            options["if_match"] = etag
        try:
            return self._call(key, asked, lambda: self._fetched(key, start, length, options, asked))
        except _PastEndError:
            return Piece(memoryview(b""), 0, None)

    def tail(self, key: str, length: int, *, version: str | None = None) -> memoryview:
        """Return the last `length` bytes, at least one, or all of an object that is shorter."""
        asked = self._control.asked(key, "read", version=version)
        options: GetOptions = {"range": {"suffix": length}}
        if version is not None:
            options["version"] = version

        def act() -> memoryview:
            result = obstore.get(self._store, key, options=options)
            data = memoryview(result.bytes())
            wanted = min(length, result.meta["size"])
            if len(data) != wanted or result.range[1] != result.meta["size"]:
                raise cut_short(asked, len(data), wanted)
            return data

        try:
            return self._call(key, asked, act)
        except _PastEndError:
            return memoryview(b"")  # the object is empty

    def sign(self, keys: Sequence[str], seconds: int) -> list[str]:
        """Return a URL for each key, by which it can be read for `seconds`."""
        asked = self._control.asked(keys[0], "signed")
        life = timedelta(seconds=seconds)
        return list(self._call(keys[0], asked, lambda: obstore.sign(self._store, "GET", list(keys), life)))

    def list(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix` and sort after `after`.

        By obstore as far as it can: it takes a seventh of botocore's time, but knows only prefixes that end a segment,
        fails at keys that other programs made (``a//b``), and takes the slash from the end of a folder's mark, which is
        an empty object.
        """
        if not prefix or prefix.endswith("/"):
            try:
                for info in _sure(obstore.list(self._store, prefix, offset=after or None, chunk_size=_PAGE)):
                    after = info.key
                    yield info
            except (BaseError, OSError, ValueError, _UnsureError):
                pass  # botocore goes on from here, and tells what is wrong if something is
            else:
                return
        yield from self._control.list(prefix, after)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, those that are there, by one request; in a bucket with versions this would hide them.

        Whatever is wrong with it, each is asked for by itself then: some services know no such request, and what was
        refused is told by the answer to its own.
        """
        try:
            obstore.delete(self._store, list(keys))
        except (BaseError, OSError, ValueError):
            for key in keys:
                with suppress(ObjectMissingError):
                    self._control.delete(key)

    def _fetched(self, key: str, start: int, length: int, options: GetOptions, asked: Asked) -> Piece:
        result = obstore.get(self._store, key, options=options)
        meta = result.meta
        data = memoryview(result.bytes())
        wanted = min(length, meta["size"] - start)
        if result.range[0] != start or len(data) != wanted:
            raise cut_short(asked, len(data), wanted)
        etag = options.get("if_match")
        if etag is not None and etag != meta["e_tag"]:  # a service that ignores If-Match
            raise changed(asked)
        return Piece(data, meta["size"], meta["e_tag"])

    def _call(self, key: str, asked: Asked, act: Callable[[], T]) -> T:
        try:
            return act()
        except (BaseError, OSError, ValueError) as error:
            answer = of_obstore(error)
            if answer.status == 416:
                raise _PastEndError from None
            # Without its cause: that quotes the service's answer, which may hold the access key.
            raise self._explained(key, answer, asked) from None

    def _explained(self, key: str, answer: Answer, asked: Asked) -> StorageError:
        """Return what a failure means, asking a second time where obstore tells too little."""
        is_busy = answer.status in {429, 503}  # obstore keeps Retry-After to itself
        is_mute = 300 <= (answer.status or 0) < 500 and not answer.code  # an answer to HEAD has no body
        if is_busy or is_mute:
            try:
                self._control.explain(key, asked.act, asked.version)
            except StorageError as error:
                if is_mute or isinstance(error, TransientError):
                    return error
        return meaning(answer, asked)


class _UnsureError(Exception):
    """What a listing says is not sure to be so."""


class _PastEndError(Exception):
    """The range begins past the object's end (status 416)."""


def _open(options: S3Options, control: S3Control, clock: Clock) -> S3Store:
    """Return obstore's view of the bucket, with endpoint, region and credentials as botocore found them."""

    def credentials() -> S3Credential:
        found = control.credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": clock.now() + _CREDENTIALS_LIFE,  # then asked for again: botocore renews what expires
        }

    endpoint = control.endpoint
    if not options.path_style:
        parts = urlsplit(endpoint)
        endpoint = f"{parts.scheme}://{options.bucket}.{parts.netloc}"
    config: S3Config = {
        "endpoint": endpoint,
        "region": control.region,
        "virtual_hosted_style_request": not options.path_style,
    }
    if options.encryption != "none":
        config["server_side_encryption"] = options.encryption
    if options.kms_key is not None:
        config["sse_kms_key_id"] = options.kms_key
    client: ClientConfig = {
        "allow_http": options.allow_http,
        "connect_timeout": timedelta(seconds=options.connect_timeout_seconds),
        "read_timeout": timedelta(seconds=options.read_timeout_seconds),
        "timeout": _LONGEST_REQUEST,
    }
    if (bundle := control.ca_bundle) is not None:
        client["root_certificate"] = Path(bundle).expanduser().read_bytes()
    return S3Store(
        options.bucket,
        config=config,
        client_options=client,
        retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
        credential_provider=credentials,
    )


def _sure(pages: Iterable[Sequence[ObjectMeta]]) -> Iterator[ObjectInfo]:
    """Yield what a listing says, until it says something of which obstore may have changed the name."""
    for page in pages:
        for meta in page:
            if not meta["size"]:
                raise _UnsureError
            found = _info(meta["path"], meta)
            yield replace(found, modified=found.modified.replace(microsecond=0))  # as a HEAD knows it


def _info(key: str, meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["last_modified"].astimezone(UTC), meta["e_tag"], meta["version"])
