"""Stored objects, and parts of them, that were asked for a moment ago: answered at once and whole, nothing waited for.

A training loop asks for the same few objects thousands of times a second, each time for another part. What the gateway
found out when it answered the first of these requests is remembered for a second. Who asks is admitted anew, counts for
the limits and gets a line in the access log. Whatever is unusual is left to the gateway itself.

A head that comes again, byte for byte but for the numbers of its range, is not parsed again either: it means what it
meant. And what was there to be read when the event loop last looked makes one turn of it: who asks several times in a
turn is looked up once, and the lines of a turn are written together at its end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wsistore.clock import Clock
from wsistore.errors import WsistoreError
from wsistore.ops.research_access import Caller, ProjectView
from wsistore.serve.access_log import AccessLog
from wsistore.serve.answers import Header
from wsistore.serve.files import OpenFiles
from wsistore.serve.limits import Limiter
from wsistore.serve.requests import Request, Scope
from wsistore.serve.views import StoredObject

MOST_BYTES = 256 * 1024
"""Of an answer; what is longer is sent with more care."""
_KEPT_SECONDS = 1.0
_MOST_KEPT = 4096
_MOST_HEADS, _MOST_HEAD_BYTES = 4096, 4096
_TURN_SECONDS = 0.002
"""A turn in which other things take longer than that is taken for several."""
_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{1,18})")
_RANGE_LINE = re.compile(rb"\r\n[Rr]ange: bytes=(\d{1,18})-(\d{1,18})\r\n")
_USUAL = frozenset(
    (b"authorization", b"range", b"host", b"connection", b"user-agent", b"accept", b"accept-encoding",
     b"accept-language", b"x-forwarded-for", b"x-forwarded-proto")
)  # fmt: skip
"""Headers besides which there are none in a request that is answered here."""

Admit = Callable[[str | None, str], tuple[Caller, ProjectView | None]]
"""As `wsistore.ops.research_access.Access.admit`."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the gateway found out about a request."""

    authorization: str
    caller: Caller
    view: ProjectView
    who: str
    named: str
    """Of its line in the access log."""
    stored: StoredObject
    head: bytes
    """Of the answer: lines, without what depends on the range."""
    until: float


class Quick:
    """Remembers and answers. For one thread, the event loop's.

    Parameters
    ----------
    admit
        Says who asks, and what they may see now.
    limiter
        Of requests and bytes per token.
    files
        Parts of files that the system has in memory.
    access_log
        One line per request.
    spend
        Counts bytes of a caller in a project.
    clock
        The time.

    """

    def __init__(
        self,
        admit: Admit,
        limiter: Limiter,
        files: OpenFiles,
        access_log: AccessLog,
        spend: Callable[[Caller, ProjectView, int], None],
        clock: Clock,
    ) -> None:
        self._admit, self._limiter, self._files, self._log = admit, limiter, files, access_log
        self._spend, self._clock = spend, clock
        self._known: dict[tuple[bytes, bytes, bool], _Known] = {}
        """By token, path, and whether a part is asked for."""
        self._heads: dict[bytes | tuple[bytes, bytes], _Known] = {}
        """By what a head says around the numbers of its range, or by all of it."""
        self._admitted: dict[tuple[str, str], tuple[Caller, ProjectView | None]] = {}
        """In this turn, by token and project."""
        self._spent: dict[str, tuple[Caller, ProjectView, int]] = {}
        """Bytes in this turn, by who is limited."""
        self._turn_until = float("-inf")
        self._is_turn = False
        self._own: tuple[Sequence[Header], bytes] = ((), b"")

    def learn(self, request: Request, stored: StoredObject, headers: Sequence[Header], status: int = 206) -> None:
        """Remember a request that was answered with an object or a part of it.

        Parameters
        ----------
        request
            Admitted; nothing is learnt of one without the header ``Authorization``.
        stored
            The object; nothing is learnt of one that is no local file.
        headers
            Of the answer.
        status
            Of the answer: 200 for the whole object, 206 for a part.

        """
        authorization, caller, view = request.headers.get(b"authorization"), request.caller, request.view
        if authorization is None or caller is None or view is None or request.entered is None or stored.path is None:
            return
        if view.limits.bytes_quota is not None:
            return  # whether it is used up is asked each time
        is_part = status == 206
        if is_part != any(name == b"content-range" for name, _ in headers):
            return  # several parts in one answer: its headers are not those of one
        if request.method != "GET" or is_part != (b"range" in request.headers):
            return  # what a range that means nothing leads to is no model
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        lines = b"".join(b"%b: %b\r\n" % header for header in headers if header[0] != b"content-range")
        self._known[authorization, request.scope["raw_path"], is_part] = _Known(
            authorization=authorization.decode("latin-1"),
            caller=caller,
            view=view,
            who=request.entered,
            named=self._log.named(request.visit),
            stored=stored,
            head=lines,
            until=self._clock.monotonic_seconds() + _KEPT_SECONDS,
        )

    def answer(self, scope: Scope, headers: Sequence[Header]) -> bytes | None:
        """Return the whole answer to a request, head and body; None: it is the gateway's to answer.

        Nothing was counted and no line written then.

        Parameters
        ----------
        scope
            As ASGI has it.
        headers
            The server's own, of every answer.

        """
        if scope["method"] != "GET":
            return None
        given: dict[bytes, bytes] = dict(scope["headers"])
        wanted = given.get(b"range")
        known = self._known.get((given.get(b"authorization", b""), scope["raw_path"], wanted is not None))
        # A header that is there twice is unusual, too.
        if known is None or len(given) != len(scope["headers"]) or not given.keys() <= _USUAL:
            return None
        if wanted is None:
            return self._whole(known, headers)
        span = _RANGE.fullmatch(wanted)
        return None if span is None else self._part(known, int(span[1]), int(span[2]), headers)

    def note(self, scope: Scope, head: bytes) -> None:
        """Remember the bytes of a request that `answer` has just answered: its head, and nothing else."""
        given: dict[bytes, bytes] = dict(scope["headers"])
        known = self._known.get((given.get(b"authorization", b""), scope["raw_path"], b"range" in given))
        if known is None or len(head) > _MOST_HEAD_BYTES:
            return
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        if b"range" not in given:
            self._heads[head] = known
            return
        found = _RANGE_LINE.search(head)
        # A line of the head can only be the header that it looks like, and there is one only.
        if found is not None:
            self._heads[head[: found.start(1)], head[found.end(2) :]] = known

    def repeat(self, head: bytes, headers: Sequence[Header]) -> bytes | None:
        """Return what `answer` does, for bytes that are a whole request if `note` knows them; else None."""
        found = _RANGE_LINE.search(head)
        key = head if found is None else (head[: found.start(1)], head[found.end(2) :])
        known = self._heads.get(key)
        if known is None:
            return None
        if found is None:
            told = self._whole(known, headers)
        else:
            told = self._part(known, int(found[1]), int(found[2]), headers)
        if told is None:
            self._heads.pop(key, None)
        return told

    def end_turn(self) -> None:
        """Forget who was admitted, count and write lines; before the event loop looks anew who says something."""
        self._is_turn, self._turn_until = False, float("-inf")
        self._admitted.clear()
        spent, self._spent = self._spent, {}
        for caller, view, size in spent.values():
            self._spend(caller, view, size)
        self._log.flush()

    def _part(self, known: _Known, first: int, last: int, headers: Sequence[Header]) -> bytes | None:
        size = known.stored.size_bytes
        if not first <= last < size:
            return None
        length = last - first + 1
        body = self._read(known, first, length, 206)
        if body is None:
            return None
        place = b"content-range: bytes %d-%d/%d\r\ncontent-length: %d\r\n\r\n" % (first, last, size, length)
        return b"".join((b"HTTP/1.1 206 Partial Content\r\n", self._lines(headers), known.head, place, body))

    def _whole(self, known: _Known, headers: Sequence[Header]) -> bytes | None:
        size = known.stored.size_bytes
        body = self._read(known, 0, size, 200)
        if body is None:
            return None
        place = b"content-length: %d\r\n\r\n" % size
        return b"".join((b"HTTP/1.1 200 OK\r\n", self._lines(headers), known.head, place, body))

    def _read(self, known: _Known, start: int, length: int, status: int) -> memoryview | None:
        """Return bytes of an object, admitted, counted and logged; None, and none of it, if it is not to be had now.

        They are to be used at once, see `OpenFiles.look`.
        """
        began, path = self._clock.monotonic_seconds(), known.stored.path
        if began > known.until or path is None or not 0 < length <= MOST_BYTES or not self._log.check():
            return None
        if not self._is_admitted(known, began):
            return None
        body = self._files.look(path, known.stored.start + start, length)
        if body is None or not self._limiter.pass_through(known.who, known.view.limits, length):
            return None
        spent = self._spent.get(known.who)
        self._spent[known.who] = (known.caller, known.view, length if spent is None else length + spent[2])
        self._log.note(known.named, began, status, length)
        return body

    def _is_admitted(self, known: _Known, now: float) -> bool:
        """Say whether who asks is who they were and sees what they saw.

        What was found out in this turn holds to its end: the requests of a turn were there when it began, so that
        whatever is revoked before a request is sent is revoked for it.
        """
        if now > self._turn_until:
            self._begin_turn(now)
        key = (known.authorization, known.view.name)
        found = self._admitted.get(key)
        if found is None:
            try:
                found = self._admitted[key] = self._admit(*key)
            except WsistoreError:
                return False
        return found[0] is known.caller and found[1] is known.view

    def _begin_turn(self, now: float) -> None:
        self._admitted.clear()
        self._turn_until = now + _TURN_SECONDS
        if not self._is_turn:
            self._is_turn = True
            asyncio.get_running_loop().call_soon(self.end_turn)

    def _lines(self, headers: Sequence[Header]) -> bytes:
        """Return the server's own headers as they are sent; they are the same ones for a second."""
        if headers is not self._own[0]:
            self._own = (headers, b"".join(b"%b: %b\r\n" % header for header in headers))
        return self._own[1]
