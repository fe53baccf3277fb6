"""HTTP/1.1 as uvicorn speaks it, with an end to the patience: heads that are long in coming or long themselves.

And with a shorter way for requests that can be answered at once, see `wsistore.serve.quick`.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from wsistore.serve.quick import Quick
from wsistore.serve.requests import Scope

HEAD_SECONDS = 20.0
"""How long a connection may take for the head of a request, from its first byte or from being made."""
MOST_HEAD_BYTES = 32 * 1024
"""Of a request's head: some kilobytes of token, and some headers."""


class PatientProtocol(HttpToolsProtocol):
    """Cuts connections that only hold a place."""

    _quick: Quick | None = None
    _head_timer: TimerHandle | None = None
    _block_bytes = _head_bytes = _later_bytes = 0
    """Of the block that is being parsed; of all blocks that the head lies in, and of those behind its first one."""
    _begun = 0
    """Requests whose first byte was in this block."""
    _is_head, _is_between = False, True
    """Where the parser is: within a head; behind a request, or before the first."""
    _is_short = False
    """Whether the last request was answered by the shorter way."""
    _answered_seconds = 0.0
    """When a request was last answered whose bytes were known."""

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's is narrower
        super().connection_made(transport)
        self._quick = getattr(self.app, "quick", None)
        self._wait_for_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def on_message_begin(self) -> None:
        self._head_bytes, self._later_bytes = self._block_bytes, 0
        self._is_head, self._is_between = True, False
        self._begun += 1
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._is_head = False
        self._stop_waiting()
        self._check_length()
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._is_between = not self.parser.should_upgrade()
        super().on_message_complete()

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_between and self._repeated(data):
            return
        was_between, self._begun, self._is_short = self._is_between, 0, False
        self._block_bytes = len(data)
        self._head_bytes += len(data)
        self._later_bytes += len(data)
        try:
            super().data_received(data)
            if self._is_head and not self.transport.is_closing():
                self._wait_for_head()
                self._check_length()
        except HeadTooLongError:
            self.send_400_response("The request's head is too long.")
            return
        if self._is_short and self._quick is not None and was_between and self._is_between and self._begun == 1:
            self._quick.note(cast(Scope, self.cycle.scope), data)

    @override
    def timeout_keep_alive_handler(self) -> None:
        left = self._answered_seconds + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _repeated(self, data: bytes) -> bool:
        """Answer a request whose bytes are known, if nothing else is going on; say whether it was."""
        quick, cycle = self._quick, cast(RequestResponseCycle | None, self.cycle)  # there is none before the first
        if quick is None or cycle is None or not cycle.response_complete or not cycle.keep_alive:
            return False
        if self.flow.write_paused or self.transport.is_closing() or not self._has_room():
            return False
        answer = quick.repeat(data, self.server_state.default_headers)
        if answer is None:
            return False
        self.transport.write(answer)
        self.server_state.total_requests += 1
        self._answered_seconds = self.loop.time()
        return True

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        quick = self._quick if app is self.app else None  # else the server has too many connections
        if quick is not None and cycle.keep_alive and not self.flow.write_paused:
            answer = quick.answer(cast(Scope, cycle.scope), cycle.default_headers)
            if answer is not None:
                self._is_short = True
                self.transport.write(answer)
                cycle.response_started = cycle.response_complete = True
                cycle.on_response()
                return
        if app is not self.app:
            self._note("too-many-connections", 503, 0)
        super()._start_asgi_task(cycle, app)

    @override
    def send_400_response(self, msg: str) -> None:
        self._note("malformed", 400, len(msg))
        super().send_400_response(msg)

    def _note(self, what: str, status: int, size_bytes: int) -> None:
        """Have a line kept of what the server answers itself, so that the gateway never hears of it."""
        note = getattr(self.app, "note", None)
        if note is not None:
            note(what, status, size_bytes)

    def _has_room(self) -> bool:
        """Say whether the server may answer at all, as it asks itself for every request."""
        most = self.limit_concurrency
        return most is None or (len(self.connections) < most and len(self.tasks) < most)

    def _check_length(self) -> None:
        """End a head that is too long, counted only once so many bytes came that it may be."""
        if self._head_bytes <= MOST_HEAD_BYTES:
            return
        told = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        # A header that is still coming is not among them: the parser has it.
        if told > MOST_HEAD_BYTES or (self._is_head and self._later_bytes > MOST_HEAD_BYTES):
            raise HeadTooLongError

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        transport: Any = self.transport
        if not transport.is_closing():
            transport.abort()


class HeadTooLongError(Exception):
    """The head of a request is longer than any that is meant."""
