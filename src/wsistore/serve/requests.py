"""One request, with what becomes known of it on its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from wsistore.ops.research_access import Caller, ProjectView, SharedSlide
from wsistore.serve.access_log import Visit
from wsistore.serve.answers import Answer, Refusal, invalid
from wsistore.serve.paths import Kind, parse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
"""As ASGI has them."""

MOST_BODY_BYTES = 64 * 1024
"""Of a request: tokens and lists of keys, nothing else is ever sent to a gateway."""
_BODY_SECONDS = 10.0
_ONCE = (b"authorization", b"host", b"origin", b"range", b"if-range")
_REMEDY = "Send a JSON object as /openapi.json describes it."


class Request:
    """A request.

    Parameters
    ----------
    scope, receive
        As ASGI gives them.
    visit
        What is logged of it.

    """

    __slots__ = ("caller", "entered", "headers", "method", "receive", "scope", "slide", "target", "view", "visit")

    def __init__(self, scope: Scope, receive: Receive, visit: Visit) -> None:
        self.scope, self.receive, self.visit = scope, receive, visit
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        if len(self.headers) != len(scope["headers"]):
            self._drop_twofold([name for name, _ in scope["headers"]])
        self.target = parse(scope.get("raw_path") or scope["path"].encode())
        self.caller: Caller | None = None
        self.view: ProjectView | None = None
        self.slide: SharedSlide | None = None
        self.entered: str | None = None
        """Whose limits it counts for."""

    @property
    def is_head(self) -> bool:
        """Whether only the headers are asked for."""
        return self.method == "HEAD"

    @property
    def is_secure(self) -> bool:
        """Whether it came over TLS, here or at the proxy in front."""
        return self.scope["scheme"] == "https" or self.headers.get(b"x-forwarded-proto") == b"https"

    @property
    def wants_page(self) -> bool:
        """Whether a browser asks for the page of a slide."""
        return self.target.kind is Kind.PAGE and b"text/html" in self.headers.get(b"accept", b"")

    @property
    def query(self) -> bytes:
        """The URL's query, as sent."""
        found: bytes = self.scope["query_string"]
        return found

    def is_same_origin(self) -> bool:
        """Say whether a browser sent this from one of our own pages; without a browser's word, that is not so."""
        origin, host = self.headers.get(b"origin"), self.headers.get(b"host")
        return origin is not None and host is not None and origin.lower().partition(b"://")[2] == host.lower()

    async def json(self) -> Mapping[str, Any]:
        """Return the body, a JSON object; an empty body is an empty one.

        Raises
        ------
        Refusal
            If it is anything else, too long, or does not come.

        """
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                data = await self._body()
        except TimeoutError:
            raise Refusal(_cut("The body did not come in time.")) from None
        try:
            document = json.loads(data) if data else {}
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Refusal(invalid("The body is no JSON object.", _REMEDY))
        return document

    def _drop_twofold(self, names: list[bytes]) -> None:
        """Forget what must be said once and was said twice: others on the way may have believed the other one."""
        for name in _ONCE:
            if names.count(name) > 1:
                self.headers[name] = b""

    async def _body(self) -> bytes:
        data = b""
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Refusal(_cut("The body is not whole."))
            data += bytes(message.get("body", b""))
            if len(data) > MOST_BODY_BYTES:
                raise Refusal(_cut("The body is too long."))
            if not message.get("more_body"):
                return data


def _cut(message: str) -> Answer:
    """Return the answer after which nothing more is heard of a client: the rest of its body is not waited for."""
    answer = invalid(message, _REMEDY)
    answer.headers.append((b"connection", b"close"))
    return answer
