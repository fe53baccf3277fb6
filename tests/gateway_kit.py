"""A gateway in a thread, over a site and an access that tests decide themselves."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httptools  # noqa: F401 - what the server speaks with must be there
import httpx
import pyarrow as pa

from wsistore import ops
from wsistore.errors import DeniedError, Kind
from wsistore.model import Mode
from wsistore.ops.research_access import READ, RECALL, SLIDE_COLUMNS, Caller, Limits, ProjectView, SharedSlide
from wsistore.serve.gateway import Gateway
from wsistore.serve.limits import new_table
from wsistore.serve.making import Shared, of_site
from wsistore.serve.server import configured, server
from wsistore.serve.sessions import new_key

TOKEN = "wst_test_secret"
PROJECT = "study"
LIMITS = Limits(requests_per_second=100_000, bytes_per_second=None, concurrent=1000, bytes_quota=None)


@dataclass
class MadeAccess:
    """Who may see what, as a test says."""

    tokens: dict[str, Caller] = field(default_factory=dict)
    views: dict[str, ProjectView] = field(default_factory=dict)
    bytes_spent: int = 0

    def caller(self, authorization: str | None) -> Caller:
        token = (authorization or "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise DeniedError("A valid token is needed.", kind=Kind.TOKEN_INVALID)
        return self.tokens[token]

    def admit(self, authorization: str | None, project: str) -> tuple[Caller, ProjectView | None]:
        found = self.caller(authorization)
        return found, self.views.get(project) if project in found.projects else None

    def projects(self, caller: Caller) -> list[ProjectView]:
        return [self.views[name] for name in sorted(caller.projects)]

    def spend(self, caller: Caller, project: str, size_bytes: int) -> None:
        self.bytes_spent += size_bytes

    def spent(self, caller: Caller, project: str) -> int:
        return self.bytes_spent

    def close(self) -> None:
        pass

    def limit(self, name: str = PROJECT, **values: Any) -> None:
        """Change a project's limits."""
        view = self.views[name]
        self.views[name] = replace(view, limits=replace(view.limits, **values))


def caller(user: str = "researcher-1", *projects: str, scopes: frozenset[str] = frozenset({READ, RECALL})) -> Caller:
    """Return a caller with a token of its own."""
    expires: datetime | None = None
    return Caller(user, f"id-of-{user}", frozenset(projects or (PROJECT,)), expires, scopes)


def row(pseudonym: str, **values: Any) -> dict[str, Any]:
    """Return a row of a project's table."""
    common = {"slide": pseudonym, "readiness": "ready", "mode": "tiles", "preset": "keep"}
    return dict.fromkeys(SLIDE_COLUMNS.names) | common | values


def project_view(slides: Mapping[str, str], *, name: str = PROJECT, first_level: int = 0, **values: Any) -> ProjectView:
    """Return a project of slides, given by pseudonym and key."""
    rows = pa.Table.from_pylist([row(pseudonym) for pseudonym in sorted(slides)], schema=SLIDE_COLUMNS)
    shared = {p: SharedSlide(p, key, Mode.TILES, first_level) for p, key in slides.items()}
    view = ProjectView(name, "research", None, first_level, LIMITS, frozenset({READ, RECALL}), rows, shared)
    return replace(view, **values)


def access_to(slides: Mapping[str, str], **values: Any) -> MadeAccess:
    """Return an access with one token and one project."""
    return MadeAccess({TOKEN: caller()}, {PROJECT: project_view(slides, **values)})


@dataclass(frozen=True)
class Running:
    """A gateway that answers."""

    url: str
    log: Path
    access: MadeAccess

    def client(self, token: str | None = TOKEN) -> httpx.Client:
        """Return a client that shows a token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=240)

    def lines(self, count: int) -> list[dict[str, Any]]:
        """Return the access log's lines, of which there are to be `count`: the last comes after its answer."""
        end = time.monotonic() + 60
        while len(found := self.log.read_text().splitlines()) < count and time.monotonic() < end:
            time.sleep(0.01)
        assert len(found) == count
        return [json.loads(line) for line in found]


@contextmanager
def running(site: ops.Site, access: MadeAccess, folder: Path, **settings: Any) -> Iterator[Running]:
    """Serve a site in a thread for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "access.jsonl"
    served = replace(site.settings.serve, access_log=str(log), **settings)
    site.settings = replace(site.settings, serve=served)
    shared = Shared(site.folder, new_table(folder / "limits"), new_key())
    with serving(lambda: of_site(site, access, shared)) as url:
        yield Running(url, log, access)


@contextmanager
def serving(make: Any) -> Iterator[str]:
    """Serve a gateway in a thread; yield its URL."""
    listening = socket.socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.bind(("127.0.0.1", 0))
    runner = server(configured(make))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(runner._serve([listening]))
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    end = time.monotonic() + 120
    while not runner.started and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    assert runner.started, failures
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        runner.should_exit = True
        thread.join(240)
        listening.close()
        assert not thread.is_alive()


def made_gateway(make: Any) -> Gateway:
    """Return what a factory makes."""
    gateway = make()
    assert isinstance(gateway, Gateway)
    return gateway
