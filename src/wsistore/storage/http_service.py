"""One HTTP server: requests over connections that are kept, repeated where that may help, with errors of ours.

The token goes to this server only, never into an error, and no redirection is followed: it would carry it elsewhere.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from wsistore.clock import Clock, SystemClock
from wsistore.errors import (
    ConflictError,
    DeniedError,
    Kind,
    MissingError,
    ObjectArchivedError,
    ObjectMissingError,
    StorageError,
    TransientError,
    WsistoreError,
)
from wsistore.storage.retry import Retrier, RetryPolicy

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_GOOD = frozenset({200, 202, 204, 206, 304})
_MOST_ERROR_BYTES = 64 * 1024
_LONGEST_WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How a server is spoken to."""

    connections: int = 16
    """Requests at once; so many connections are kept."""
    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    """Without a byte."""
    allow_http: bool = False
    """Whether a token may go over an unencrypted connection to another machine."""
    ca_bundle: str | None = None
    """File of certificates to trust instead of the system's."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes

    def json(self, where: str) -> Any:
        """Return the body as JSON; `StorageError` if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            msg = f"{where} did not answer with JSON."
            raise StorageError(msg, remedy="Check that the address is a wsistore gateway's.") from error


class HttpService:
    """One server. Threads and forked processes may share it; it pickles without connections.

    Parameters
    ----------
    url
        ``https://host/prefix``; ``http://`` to this machine, or where the options allow it.
    authorization
        Returns the header ``Authorization``, asked before each request; None sends none. Must pickle if this should.
    options
        How it is spoken to.
    clock
        Measures and waits.

    Raises
    ------
    StorageError
        If the URL is none, or unencrypted without leave, of kind ``settings-invalid``.

    """

    def __init__(
        self,
        url: str,
        *,
        authorization: Callable[[], str | None] = lambda: None,
        options: HttpOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.options = options or HttpOptions()
        self.url = _checked(url, self.options)
        self._authorization, self._clock = authorization, clock or SystemClock()
        self._prefix = urlsplit(self.url).path
        self._lock = Lock()
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._owner = 0
        self.requests = 0
        """Requests that were sent, repeated ones included."""
        self.bytes_received = 0
        """Of bodies."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without connections; `authorization` pickles as how to find the token, not as the token."""
        return (_service, (self.url, self._authorization, self.options))

    def get(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        most_bytes: int | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Reply:
        """Return what a path has.

        Parameters
        ----------
        path
            Below the service's URL, beginning with a slash, encoded.
        headers
            Further ones.
        most_bytes
            A longer body is not read; see `is_too_long`.
        accept
            Statuses that are answers too, not errors.

        Raises
        ------
        ObjectMissingError, ObjectArchivedError, DeniedError, StorageError
            As the server says; `TransientError` when repeating did not help.

        """
        return self.send("GET", path, headers, most_bytes=most_bytes, accept=accept)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        most_bytes: int | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Reply:
        """Send a request that may be repeated; see `get`."""
        # A generator of its own would be seeded anew for every request.
        retrier = Retrier(self._clock, random.SystemRandom(), self.options.retry)
        bounds = _Bounds(most_bytes, _GOOD | accept)
        return retrier.call(lambda: self._once(method, path, dict(headers or {}), body, bounds))

    def close(self) -> None:
        """Close the connections; they are opened again if there is another request."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._owner == os.getpid():
            pool.close()

    def _once(self, method: str, path: str, headers: dict[str, str], body: bytes | None, bounds: _Bounds) -> Reply:
        where = f"{self.url}{path}"
        token = self._authorization()
        if token is not None:
            headers["Authorization"] = token
        try:
            response = self._connections().urlopen(
                method,
                self._prefix + path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=True,
            )
            return self._read(response, where, bounds)
        except WsistoreError:
            raise
        except SSLError as error:
            msg = f"{self.url} cannot be trusted: its certificate does not verify."
            raise StorageError(msg, remedy="Name the authority's certificates as ca_bundle.") from error
        except (HTTPError, OSError) as error:
            msg = f"{where} cannot be reached ({type(error).__name__})."
            raise TransientError(msg, remedy="Check the address and the network, and try again.") from error

    def _read(self, response: urllib3.BaseHTTPResponse, where: str, bounds: _Bounds) -> Reply:
        self.requests += 1
        most = bounds.most_bytes
        if response.status in bounds.good:
            length = response.headers.get("Content-Length", "")
            if most is not None and length.isdecimal() and int(length) > most:
                raise _too_long(response, where, most)
            data = response.read(None if most is None else most + 1)
            if most is not None and len(data) > most:
                raise _too_long(response, where, most)
            response.release_conn()
            self.bytes_received += len(data)
            return Reply(response.status, response.headers, data)
        text = response.read(_MOST_ERROR_BYTES)
        response.close()
        raise _meaning(response.status, response.headers, text, where, self._clock)

    def _connections(self) -> urllib3.HTTPConnectionPool:
        """Return this process's connections: a forked one must not share its parent's."""
        with self._lock:
            if self._pool is None or self._owner != os.getpid():
                self._pool, self._owner = _pool(self.url, self.options), os.getpid()
            return self._pool


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What is taken for an answer."""

    most_bytes: int | None
    good: frozenset[int]


class _TooLongError(StorageError):
    """An answer is longer than what was asked for."""


def _too_long(response: urllib3.BaseHTTPResponse, where: str, most: int) -> _TooLongError:
    response.close()
    msg = f"{where} answered with more than the {most} bytes that were asked for."
    return _TooLongError(msg, remedy="The server must answer byte ranges.")


def is_too_long(error: StorageError) -> bool:
    """Say whether an answer was refused because it is longer than what was asked for: ranges are ignored."""
    return isinstance(error, _TooLongError)


def _service(url: str, authorization: Callable[[], str | None], options: HttpOptions) -> HttpService:
    return HttpService(url, authorization=authorization, options=options)


def _pool(url: str, options: HttpOptions) -> urllib3.HTTPConnectionPool:
    more: dict[str, Any] = {"ca_certs": options.ca_bundle} if options.ca_bundle else {}
    if not url.startswith("https:"):
        more = {}
    return urllib3.connectionpool.connection_from_url(
        url,
        maxsize=options.connections,
        block=True,
        timeout=urllib3.Timeout(connect=options.connect_seconds, read=options.read_seconds),
        **more,
    )


def _checked(url: str, options: HttpOptions) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    good = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    if not good or port == 0 or "@" in parts.netloc:
        shown = url.rpartition("@")[2][:200]
        msg = f"{shown!r} is no address of a server."
        raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Write https://host, without name and password.")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not options.allow_http:
        msg = f"{url} is not encrypted: everybody on the way could read the token."
        raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Use https://, or allow it with allow_http=True.")
    return url.rstrip("/")


def _meaning(status: int, headers: Mapping[str, str], body: bytes, where: str, clock: Clock) -> WsistoreError:
    """Return the error that an answer stands for, with what a gateway says of it."""
    said = _said(body)
    message, remedy = said.get("message"), said.get("remedy")
    text = message if isinstance(message, str) and message else f"{where} answered with HTTP status {status}."
    hint = remedy if isinstance(remedy, str) else ""
    if status in _TRANSIENT:
        wait = _retry_after(headers.get("Retry-After"), clock)
        return TransientError(text, remedy=hint or "Try again later.", retry_after_seconds=wait)
    match status:
        case 401:
            return DeniedError(text, remedy=hint or "Give a token that is in force.")
        case 403:
            return StorageError(text, kind=Kind.STORAGE_DENIED, remedy=hint or "Ask for the right to do so.")
        case 404 | 410:
            return ObjectMissingError(f"There is nothing at {where}.", remedy=hint or "Check the name and the project.")
        case 409 if said.get("error") == "cold":
            hours = said.get("expected_hours")
            much = f" That takes about {hours:g} hours." if isinstance(hours, int | float) else ""
            return ObjectArchivedError(
                f"{where} lies in an archive and cannot be read now.", remedy=f"Ask for its recall first.{much}"
            )
        case 409 | 412:
            return ConflictError(text, remedy=hint or "Open it again.")
        case 400 | 422:
            return MissingError(text, kind=Kind.CONDITION_INVALID, remedy=hint or "Check what was asked for.")
        case _:
            return StorageError(text, remedy=hint or "Check the address.")


def _said(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after(text: str | None, clock: Clock) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or a date; at most ten minutes."""
    if not text:
        return None
    if text.strip().isdecimal():
        return min(float(text), _LONGEST_WAIT_SECONDS)
    try:
        wait = (parsedate_to_datetime(text) - clock.now()).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT_SECONDS)
