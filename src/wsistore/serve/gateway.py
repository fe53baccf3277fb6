"""The gateway as an ASGI application: who asks, whether they may, what for, and the line that is kept of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from wsistore.clock import Clock
from wsistore.errors import DeniedError, WsistoreError
from wsistore.ops.research_access import Caller, Limits, ProjectView
from wsistore.serve import answers, pages
from wsistore.serve.access_log import AccessLog, Visit
from wsistore.serve.answers import SAFE_HEADERS, Answer, Refusal
from wsistore.serve.files import OpenFiles
from wsistore.serve.limits import Limiter
from wsistore.serve.openapi import document as openapi_document
from wsistore.serve.paths import METHODS, Kind
from wsistore.serve.pool import Pool
from wsistore.serve.projects import ProjectRoutes
from wsistore.serve.quick import Quick
from wsistore.serve.requests import Receive, Request, Scope, Send
from wsistore.serve.sessions import COOKIE, Sessions, cookie_of
from wsistore.serve.signing_in import shown, sign_in, sign_out
from wsistore.settings.serve import ServeOidcSettings

SEND_SECONDS = 60.0
"""How long a client may take for a block of an answer; one that takes longer is cut off."""
_OPEN = frozenset({Kind.HEALTH, Kind.OPENAPI, Kind.STATIC, Kind.SESSION})
"""What is answered without a token: none of it says anything of a slide."""

_MET_SECONDS, _MOST_MET = 60.0, 4096
"""How long callers are taken to be known, and how many: only where it is looked up who they are depends on it."""

_TELL_SECONDS = 0.25
"""How long bytes that were sent may be counted here only, where no quota is looked at."""

_log = logging.getLogger(__name__)


class Access(Protocol):
    """Who may see what; `wsistore.ops.research_access.Access` is it."""

    def caller(self, authorization: str | None) -> Caller:
        """Return who shows a token."""
        ...

    def admit(self, authorization: str | None, project: str) -> tuple[Caller, ProjectView | None]:
        """Return who shows a token, and a project if they may see it."""
        ...

    def projects(self, caller: Caller) -> list[ProjectView]:
        """Return all of them."""
        ...

    def spend(self, caller: Caller, project: str, size_bytes: int) -> None:
        """Count bytes that were sent."""
        ...

    def spent(self, caller: Caller, project: str) -> int:
        """Return the bytes of this month."""
        ...

    def close(self) -> None:
        """Write what is still to be counted."""
        ...


class Gateway:
    """The application.

    Parameters
    ----------
    access
        Who may see what.
    routes
        What is answered of projects and slides.
    pool
        Where it is waited for what cannot be told from memory.
    limiter
        Of requests and bytes per token.
    own_limits
        Of requests that concern no project.
    sessions
        Of browsers.
    access_log
        One line per request.
    files
        Parts of local files that the system has in memory.
    clock
        The time.
    login
        Where people get tokens, if there is an identity provider.
    closing
        Called once the last request has ended.

    """

    def __init__(
        self,
        access: Access,
        routes: ProjectRoutes,
        *,
        pool: Pool,
        limiter: Limiter,
        own_limits: Limits,
        sessions: Sessions,
        access_log: AccessLog,
        files: OpenFiles,
        clock: Clock,
        login: ServeOidcSettings | None = None,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        self._access, self._routes, self._limiter, self._own_limits = access, routes, limiter, own_limits
        self._sessions, self._access_log, self._clock, self._closing = sessions, access_log, clock, closing
        self._pool = pool
        self._met: dict[tuple[str | None, str], float] = {}
        self._meeting: dict[tuple[str | None, str], asyncio.Future[None]] = {}
        """Who is looked up now; done when that has ended, however."""
        self._unspent: dict[tuple[str, str], tuple[Caller, int]] = {}
        """Bytes by token and project."""
        self._told_at = float("-inf")
        self.quick = Quick(access.admit, limiter, files, access_log, self._spend, clock)
        """Answers some requests before they come here."""
        self._login = None
        if login is not None:
            self._login = {"issuer": login.issuer, "client_id": login.client_id or login.audience}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._visit(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self.quick.end_turn()
                self._tell_spent()
                await asyncio.to_thread(self._closing)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def note(self, what: str, status: int, size_bytes: int) -> None:
        """Keep a line of a request that the server answered itself. Nothing of what was sent is known, or told."""
        self._access_log.write(Visit(self._clock.monotonic_seconds(), what, status=status, size_bytes=size_bytes))

    async def _visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = Visit(self._clock.monotonic_seconds())
        request = Request(scope, receive, visit)
        try:
            answer = await self._answer(request)
            visit.status = answer.status
            await _send(answer, request, send)
        except (OSError, TimeoutError, WsistoreError) as error:  # the client is gone, or what it was being sent
            visit.reason = type(error).__name__
            raise
        finally:
            self._leave(request)
            if request.target.kind is not Kind.HEALTH:
                self._access_log.write(visit)

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._allowed(request)
        except Refusal as refusal:
            return refusal.answer
        except WsistoreError as error:
            request.visit.reason = str(error.kind)
            if isinstance(error, DeniedError) and request.wants_page:
                return pages.sign_in_first(request.target)
            answer = answers.of_error(error)
            if answer.status >= 500:
                _log.warning("%s for the gateway: %s", error.kind, error)
            if answer.status == 409 and request.view is not None:
                return await self._routes.cold(request)
            return answer
        except Exception:
            request.visit.reason = "unexpected"
            _log.exception("a request failed in a way that is not known")
            return answers.failed()

    async def _allowed(self, request: Request) -> Answer:
        target, visit = request.target, request.visit
        visit.what = str(target.kind)
        if not self._access_log.check() and target.kind is not Kind.HEALTH:
            raise Refusal(answers.too_many("The gateway cannot keep its access log.", 10.0, status=503))
        if target.kind in _OPEN:
            return await self._open_to_all(request)
        caller, view = await self._admitted(request)
        self._named(request, caller)
        if target.project:
            self._enter_project(request, caller, view)
        else:
            self._enter(request, caller.token_id, self._own_limits)
        if target.kind is Kind.NOTHING:
            raise Refusal(answers.missing())
        _check_method(request)
        if target.kind is Kind.PROJECTS:
            return self._routes.projects(await self._pool.run(self._access.projects, caller))
        answer = await self._routes.answer(request)
        if answer.status in {200, 206} and answer.part_of is not None and answer.blocks is None:
            self.quick.learn(request, answer.part_of, [*answer.headers, *SAFE_HEADERS], answer.status)
        return answer

    async def _open_to_all(self, request: Request) -> Answer:
        _check_method(request)
        kind = request.target.kind
        if kind is Kind.HEALTH:
            status = "ok" if self._access_log.check() else "no access log"
            return answers.json_answer({"status": status, "login": self._login}, 200 if status == "ok" else 503)
        if kind is Kind.OPENAPI:
            return answers.json_answer(openapi_document())
        if kind is Kind.STATIC:
            return pages.static(request.target.key, request.headers)
        if request.method == "DELETE":
            return sign_out(request)
        authorization = await shown(request)
        caller = await self._pool.run(self._access.caller, authorization)
        self._named(request, caller)
        return sign_in(request, self._sessions, authorization, caller)

    async def _admitted(self, request: Request) -> tuple[Caller, ProjectView | None]:
        """Return who asks, and their project if the path names one and it is theirs.

        Who was here a moment ago is told from memory. What may have to be read or evaluated first is waited for in a
        thread, by one for all who show the same at that moment: hundreds of threads' turns would be too much to do.
        """
        authorization, project = self._authorization(request), request.target.project
        key = (authorization, project)
        if not self._is_met(key) and (meeting := self._meeting.get(key)) is not None:
            await asyncio.wait({meeting})
        if self._is_met(key):
            return self._access.admit(authorization, project)
        meeting = self._meeting[key] = asyncio.get_running_loop().create_future()
        try:
            found = await self._pool.run(self._access.admit, authorization, project)
        finally:
            meeting.set_result(None)
            if self._meeting.get(key) is meeting:
                del self._meeting[key]
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        self._met[key] = self._clock.monotonic_seconds()
        return found

    def _is_met(self, key: tuple[str | None, str]) -> bool:
        return self._clock.monotonic_seconds() - self._met.get(key, float("-inf")) < _MET_SECONDS

    def _authorization(self, request: Request) -> str | None:
        header = request.headers.get(b"authorization")
        if header is not None:
            return header.decode("latin-1")
        cookie = request.headers.get(b"cookie")
        value = None if cookie is None or COOKIE not in cookie else cookie_of(cookie)
        # Browsers send cookies by themselves: what changes something must come from a page of ours.
        if value is None or (request.method not in {"GET", "HEAD"} and not request.is_same_origin()):
            return None
        return self._sessions.open(value)

    def _named(self, request: Request, caller: Caller) -> None:
        request.caller = caller
        request.visit.user, request.visit.token = caller.user, caller.token_id

    def _enter_project(self, request: Request, caller: Caller, view: ProjectView | None) -> None:
        """Take note of project and slide, if they are the caller's to see."""
        target, visit = request.target, request.visit
        if view is None:
            self._enter(request, caller.token_id, self._own_limits)
            raise Refusal(answers.missing())
        request.view, visit.project = view, view.name
        self._enter(request, f"{caller.token_id}/{view.name}", view.limits)
        quota = view.limits.bytes_quota
        if quota is not None:
            self._tell_spent()
        if quota is not None and self._access.spent(caller, view.name) >= quota:
            raise Refusal(answers.over_quota(self._clock.now()))
        if target.pseudonym:
            request.slide = view.slide(target.pseudonym)
            if request.slide is None:
                raise Refusal(answers.missing())
            visit.pseudonym = target.pseudonym
            visit.view = str(target.view) or "raw" if target.kind is Kind.ZARR else None

    def _enter(self, request: Request, who: str, limits: Limits) -> None:
        wait = self._limiter.enter(who, limits)
        if wait:
            request.visit.reason = "limit"
            raise Refusal(answers.too_many("There are too many requests, or too many bytes.", wait))
        request.entered = who

    def _leave(self, request: Request) -> None:
        size = request.visit.size_bytes
        if request.entered is not None:
            self._limiter.leave(request.entered, size)
        if size and request.view is not None and request.caller is not None:
            self._spend(request.caller, request.view, size)

    def _spend(self, caller: Caller, view: ProjectView, size: int) -> None:
        key = (caller.token_id, view.name)
        self._unspent[key] = (caller, size + self._unspent.get(key, (caller, 0))[1])
        if self._clock.monotonic_seconds() - self._told_at > _TELL_SECONDS:
            self._tell_spent()

    def _tell_spent(self) -> None:
        """Tell what was sent since the last time."""
        self._told_at = self._clock.monotonic_seconds()
        unspent, self._unspent = self._unspent, {}
        for (_, project), (caller, size) in unspent.items():
            with suppress(WsistoreError):
                self._access.spend(caller, project, size)


def _login(settings: ServeOidcSettings) -> dict[str, str]:
    return {"issuer": settings.issuer, "client_id": settings.client_id or settings.audience}


def _check_method(request: Request) -> None:
    allowed = METHODS[request.target.kind]
    if request.method not in allowed:
        raise Refusal(answers.not_allowed(", ".join(allowed)))


async def _send(answer: Answer, request: Request, send: Send) -> None:
    """Send an answer, block by block, each once the client took the one before."""
    length = len(answer.body) if answer.length_bytes is None else answer.length_bytes
    headers = [*answer.headers, *SAFE_HEADERS]
    if answer.status != 304:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if request.method == "HEAD" or answer.blocks is None:
        body = b"" if request.method == "HEAD" else answer.body
        request.visit.size_bytes = len(body)
        await send({"type": "http.response.body", "body": body})
        return
    async for block in answer.blocks:
        async with asyncio.timeout(SEND_SECONDS):
            await send({"type": "http.response.body", "body": block, "more_body": True})
        request.visit.size_bytes += len(block)
    await send({"type": "http.response.body", "body": b""})
