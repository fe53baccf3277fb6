"""A site with one slide in a research project, and its gateway for as long as a block lasts."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from bench.support.load import Request
from bench.support.servers import cores, free_port, listening
from bench.support.shards import Tile
from bench.support.worker import Worker, WorkerError

_START_SECONDS = 240.0
_CHECKED = 64
"""Requests whose answers are compared."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A slide that a project's members may see."""

    site: Path
    store: Path
    """Its store on this machine, as it is or was before it was moved."""
    slide: str
    project: str
    pseudonym: str
    token: str
    height: int
    width: int
    tiles: tuple[Tile, ...]
    """Of level 0."""
    edge: int
    """Of a tile, in pixels."""
    environment: Mapping[str, str]
    """Variables that its gateway needs."""

    @property
    def path(self) -> str:
        """Of the slide on a gateway."""
        return f"/projects/{self.project}/slides/{self.pseudonym}"

    def stored_tiles(self, count: int) -> list[Request]:
        """Return requests for tiles of level 0 as they lie, at random."""
        return [(f"{self.path}.zarr/{tile.key}", self.allowed() | _range(tile)) for tile in self.chosen(count)]

    def chosen(self, count: int) -> list[Tile]:
        """Return tiles of level 0 at random, always the same."""
        return random.Random(count).sample(self.tiles, min(count, len(self.tiles)))

    def allowed(self) -> dict[str, str]:
        """Return the header that shows the token."""
        return {"Authorization": f"Bearer {self.token}"}

    def logged(self) -> int:
        """Return how many lines the gateway's access log has."""
        log = self.site / "access.log"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def places(self, seed: object, count: int, edge: int) -> list[tuple[int, int]]:
        """Return the corners of squares at random places of level 0, y and x: the same for all who give a seed."""
        rng = random.Random(f"{seed} {edge}")
        return [(rng.randrange(self.height - edge + 1), rng.randrange(self.width - edge + 1)) for _ in range(count)]

    def touched(self, y: int, x: int, edge: int) -> list[Tile]:
        """Return the tiles that a square region needs."""
        rows = range(y // self.edge, (y + edge - 1) // self.edge + 1)
        columns = range(x // self.edge, (x + edge - 1) // self.edge + 1)
        return [tile for tile in self.tiles if tile.row in rows and tile.column in columns]

    def arguments(self, port: int) -> dict[str, Any]:
        """Return what a researcher's process needs to open it."""
        return {
            "url": f"http://127.0.0.1:{port}",
            "project": self.project,
            "token": self.token,
            "pseudonym": self.pseudonym,
        }


def _range(tile: Tile) -> dict[str, str]:
    return {"Range": f"bytes={tile.start}-{tile.start + tile.size - 1}"}


def ranged(path: str, tiles: list[Tile]) -> list[Request]:
    """Return requests for parts of one object: tiles of it."""
    return [(path, _range(tile)) for tile in tiles]


def check_same(
    asked: Sequence[tuple[str, Sequence[Request]]], *, headers: bool = False, files: Sequence[tuple[Path, Tile]] = ()
) -> int:
    """See that servers give the same bytes for requests that mean the same, over one connection that stays.

    Parameters
    ----------
    asked
        A server's URL and its requests, in the same order for each.
    headers
        Whether status and headers must be the same, too.
    files
        What the bytes must be: parts of files.

    Returns
    -------
    checked
        How many requests were sent to each server.

    Raises
    ------
    WorkerError
        If answers differ, or a server ends its connection.

    """
    answers = [_answers(url, requests[:_CHECKED]) for url, requests in asked]
    wanted = [_part(path, tile) for path, tile in files[:_CHECKED]] or [body for _, _, body in answers[0]]
    for (url, requests), found in zip(asked, answers, strict=True):
        if [body for _, _, body in found] != wanted:
            msg = f"{url}{requests[0][0]} and others are not the bytes that they should be"
            raise WorkerError(msg)
        if headers and found != answers[0]:
            differing = next((a[:2], b[:2]) for a, b in zip(found, answers[0], strict=True) if a != b)
            msg = f"{url} does not answer as the other does: {differing}"
            raise WorkerError(msg)
    return len(answers[0])


def status_of(url: str, path: str, headers: Mapping[str, str]) -> int:
    """Return the status of one answer."""
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().status


def _answers(url: str, requests: Sequence[Request]) -> list[tuple[int, dict[str, str], bytes]]:
    """Return status, headers and body of each answer; the moment of an answer is left out."""
    found = []
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        for path, headers in requests:
            connection.request("GET", path, headers=dict(headers))
            reply = connection.getresponse()
            if reply.will_close or reply.status not in {200, 206}:
                msg = f"{url}{path} was answered {reply.status}, and the connection stays: {not reply.will_close}"
                raise WorkerError(msg)
            told = {name.lower(): value for name, value in reply.getheaders() if name.lower() != "date"}
            found.append((reply.status, told, reply.read()))
    return found


def _part(path: Path, tile: Tile) -> bytes:
    with path.open("rb") as file:
        file.seek(tile.start)
        return file.read(tile.size)


def share(
    folder: Path, name: str, source: Path, *, tier: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Shared:  # fmt: skip
    """Take a slide into a new site, make a project with it and a token.

    Parameters
    ----------
    folder
        Where the site is made, and a log.
    name
        Of the site's folder.
    source
        The slide.
    tier
        Address of a tier in which the slide is to lie; by default on disk, in the site.
    environment
        Variables that the tier needs.

    """
    site = folder / name
    with Worker(Path(sys.executable), "bench.workers.sharing", folder / f"{name}.log", environment) as worker:
        made = worker.call("share", folder=site, source=source, tier=dict(tier) if tier else None)
    tiles = tuple(Tile(*tile) for tile in made.pop("tiles"))
    store = Path(made.pop("store"))
    return Shared(site=site, store=store, tiles=tiles, environment=dict(environment or {}), **made)


@contextmanager
def gateway(shared: Shared, folder: Path, *, controlled: bool = True) -> Iterator[tuple[int, int]]:
    """Serve a site by as many processes as there are processors; yield the port, and the id of the first process.

    Parameters
    ----------
    shared
        Its slide.
    folder
        For the log.
    controlled
        False: the same gateway without access control, limits and access log.

    """
    port = free_port()
    python = Path(sys.executable)
    command: list[str | Path]
    if controlled:
        command = [python.with_name("wsistore"), "serve", "--port", str(port), "--workers", str(cores())]
    else:
        names = (shared.project, shared.pseudonym, shared.slide)
        command = [python, "-m", "bench.workers.open_gateway", str(shared.site), str(port), str(cores())]
        command.extend(names)
    log = folder / f"gateway-{port}.log"
    with listening(command, port, log, {**shared.environment, "WSISTORE_HOME": str(shared.site)}) as process:
        _wait_for_answers(port, shared, log)
        yield port, process


def _wait_for_answers(port: int, shared: Shared, log: Path) -> None:
    """Wait until all processes have begun, and have the slide open: the socket is open before them."""
    end, answers = time.monotonic() + _START_SECONDS, 0
    ((path, headers),) = shared.stored_tiles(1)
    while answers < 4 * cores():
        with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", path, headers=dict(headers))
            answers += connection.getresponse().status == 206
        if time.monotonic() > end:
            msg = f"the gateway does not answer: {log.read_text(errors='replace')[-500:]}"
            raise WorkerError(msg)
