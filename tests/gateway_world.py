"""A hospital's site with projects, tokens and a gateway that runs, for tests that attack it."""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import hmac
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tests.attack_kit import Wire, until
from tests.site_kit import ingest, listing, new_site, picture
from wsistore import ops
from wsistore.keys import pseudonyms
from wsistore.keys.pseudonyms import Subject
from wsistore.ops import objecting, projects, tokens
from wsistore.ops.metadata import read_metadata
from wsistore.testing.clock import ManualClock
from wsistore.testing.tiffs import write_generic_tiff, write_svs
from wsistore.tiers import commits

NOBODYS = "a234567bcdefghijklmnopqrst"
"""Of a pseudonym's form, and of no slide."""

SEND_SECONDS = 8.0
"""How long the gateways of tests wait for a reader who does not read; real ones wait for longer."""
HEAD_SECONDS = 6.0
"""And for a request's head."""

WRITTEN_LATER = {"grant_usage"}
"""What answered requests took is written some seconds after them."""
VOLATILE = {"tokens": ("last_used_at",)}
"""What of the catalogue being asked changes: when a token was used last."""


@dataclass
class World:
    """A site whose gateway runs."""

    site: Path
    address: tuple[str, int]
    process: subprocess.Popen
    tokens: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What projects' tables say, by project."""
    objected: dict[str, str] = field(default_factory=dict)
    """By project the pseudonym, as it was, of a slide whose patient objects."""
    large: str = ""
    """Pseudonym, in the project lung, of a slide with a large object."""
    files_before: dict[str, str] = field(default_factory=dict)
    granted: dict[str, list[str]] = field(default_factory=dict)
    """Projects by the users that may see them."""

    # --- what an administrator sees -----------------------------------------------------------------------------------

    send_timeout_seconds = SEND_SECONDS
    request_timeout_seconds = HEAD_SECONDS

    @property
    def log(self) -> Path:
        """The access log."""
        return self.site.parent / "access.jsonl"

    @property
    def slides(self) -> dict[str, list[str]]:
        """Pseudonyms by project."""
        return {project: [str(row["slide"]) for row in rows] for project, rows in self.rows.items()}

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """Slides' keys by their names."""
        with ops.open_site(self.site, read_only=True) as site:
            return {row.name: row.slide for row in site.catalog.slides()}

    @property
    def attempts(self) -> dict[str, str]:
        """Attempts' keys by slides' names."""
        with ops.open_site(self.site, read_only=True) as site:
            return {row.name: copy.attempt for row in site.catalog.slides() for copy in site.catalog.copies(row.slide)}

    def object_hashes(self) -> set[str]:
        """Return the SHA-256 of all stored objects and sources."""
        with ops.open_site(self.site, read_only=True) as site:
            storage = site.tier("hot")
            found = [commits.read(storage, key) for key in commits.find(storage)]
            return {record.sha256 for one in found for record in one.objects} | {one.fingerprint for one in found}

    def lines(self, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Return the lines of the access log, once there are so many."""

        def read() -> list[dict[str, Any]]:
            return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()] if self.log.exists() else []

        until(lambda: len(read()) >= at_least, f"{at_least} access lines")
        time.sleep(0.05)
        return read()

    def output(self) -> str:
        """Return what the gateway printed."""
        return (self.site.parent / "output.txt").read_text("utf-8", "replace")

    def state(self) -> dict[str, Any]:
        """Return all that a refused request must not change: files of the site, and the catalogue's rows."""
        return {"files": self.files(), "catalog": catalog_rows(self.site / "catalog.db")}

    def files(self) -> dict[str, str]:
        """Return the hashes of the site's files; the catalogue's file changes by being opened."""
        return listing(self.site)

    def memory_bytes(self) -> int:
        """Return what the gateway's processes have in memory."""
        pids, total = [self.process.pid], 0
        for pid in pids:
            with contextlib.suppress(OSError):
                pids += [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
                status = Path(f"/proc/{pid}/status").read_text()
                total += 1024 * int(status.partition("VmRSS:")[2].split()[0])
        return total

    # --- what an administrator does -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def opened(self) -> Iterator[ops.Site]:
        """Open the site, beside the gateway."""
        with ops.open_site(self.site) as site:
            yield site

    def new_token(self, user: str, *, project: str = "colon") -> str:
        """Grant a project to somebody, and return a token of theirs."""
        with self.opened() as site:
            projects.grant_project(site, project, user)
            return tokens.create_token(site, user, expires_at=tomorrow()).text

    def revoke_token(self, token: str) -> None:
        """Revoke a token."""
        with self.opened() as site:
            tokens.revoke_token(site, token)

    def revoke_grant(self, user: str, project: str) -> None:
        """Take a project from somebody."""
        with self.opened() as site:
            projects.revoke_grant(site, project, user)

    def object(self, patient: str) -> None:
        """Note that a patient objects."""
        with self.opened() as site:
            objecting.object_to_research(site, [patient])

    def withdraw_objection(self, patient: str) -> None:
        """Note that a patient does not object any more."""
        with self.opened() as site:
            objecting.withdraw_objection(site, [patient])

    @contextlib.contextmanager
    def hidden_tier(self) -> Iterator[None]:
        """Take all objects of the tier away for a while."""
        tier = self.site / "tiers/hot"
        away = self.site / "tiers/away"
        tier.rename(away)
        tier.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(tier)
            away.rename(tier)

    # --- what a researcher does ---------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read the projects' tables anew, as those to whom they are granted."""
        with Wire(self.address) as wire:
            for user, projects in self.granted.items():
                for project in projects:
                    reply = wire.ask(f"/projects/{project}/slides?limit=1000", bearer(self.tokens[user]))
                    assert reply.status == 200, (project, reply)
                    self.rows[project] = reply.json()["slides"]

    def slide_of(self, project: str, name: str) -> str:
        """Return the pseudonym of a slide of this name, which no researcher can find out."""
        with self.opened() as site:
            keys = pseudonyms.load(site.folder / "keys", project)
        return keys.pseudonym(Subject.SLIDE, self.keys[name])


def bearer(token: str) -> dict[str, str]:
    """Return a token as a header."""
    return {"Authorization": f"Bearer {token}"}


# --- what there is to ask for -----------------------------------------------------------------------------------------


def endpoints(project: str, slide: str) -> list[tuple[str, str]]:
    """Return method and target of everything that there is of a project and a slide."""
    base = f"/projects/{project}"
    one = f"{base}/slides/{slide}"
    stores = [f"{one}{view}/{key}" for view in (".zarr", ".jpeg.zarr", ".zstd.zarr") for key in KEYS]
    gets = [
        base,
        f"{base}/slides",
        f"{base}/slides?format=arrow",
        one,
        *stores,
        f"{one}/tiles",
        f"{one}/tiles/0/0/0.jpeg",
    ]
    gets += [f"{one}/view", f"{one}/recall"]
    posts = [f"{one}/recall", f"{one}/presign"]
    return [*(("GET", t) for t in gets), *(("HEAD", t) for t in gets), *(("POST", t) for t in posts)]


KEYS = ("zarr.json", "0/zarr.json", "0/image/zarr.json", "0/image/c/0/0/0", "0/x/c/0", "thumbnail/zarr.json")


# --- tokens that nobody gave ------------------------------------------------------------------------------------------


def jwt(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """Return a token of three parts, signed with whatever bytes."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def forged(algorithm: str, **claims: Any) -> str:
    """Return a token that nobody signed, or one signed by HMAC with nothing."""
    now = int(time.time())
    usual = {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "nbf": now - 60, "exp": now + 600}
    text = jwt({"alg": algorithm, "typ": "JWT", "kid": KEY_ID}, {**usual, **claims})
    if algorithm.startswith("HS"):
        signed = text[:-1]
        mac = hmac.digest(b"", signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    return text


ISSUER, AUDIENCE, KEY_ID = "https://login.example/realms/hospital", "wsistore", "key-1"


# --- making -----------------------------------------------------------------------------------------------------------


def catalog_rows(path: Path) -> dict[str, list[str]]:
    """Return all rows of a catalogue, but for what being asked changes by itself."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            if table in WRITTEN_LATER:
                continue
            rows = [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
            for name in VOLATILE.get(table, ()):
                for row in rows:
                    row.pop(name)
            found[table] = sorted(map(str, rows))
        return found


def tomorrow() -> datetime:
    """Return a moment that is to come."""
    return datetime.now(UTC) + timedelta(days=1)


_SERVER = """
import os, sys
from functools import partial
from pathlib import Path
os.fsync = os.fstat
from wsistore.serve import gateway, protocol, server
from wsistore.serve.limits import new_table
from wsistore.serve.making import Shared, make
from wsistore.serve.sessions import new_key
gateway.SEND_SECONDS, protocol.HEAD_SECONDS = float(sys.argv[2]), float(sys.argv[3])
server._STALLED_MS = int(1000 * gateway.SEND_SECONDS)
site = Path(sys.argv[1])
listening = server._listen("127.0.0.1", 0)
shared = Shared(site, new_table(site.parent / "limits"), new_key())
print(listening.getsockname()[1], flush=True)
server.server(server.configured(partial(make, shared))).run(sockets=[listening])
"""
"""One process of a gateway, as the command starts several, with less patience."""


@contextlib.contextmanager
def running(site: Path) -> Iterator[World]:
    """Run the gateway of a site."""
    command = [sys.executable, "-c", _SERVER, str(site), str(SEND_SECONDS), str(HEAD_SECONDS)]
    with (site.parent / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output)
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        assert port, (site.parent / "output.txt").read_text()
        yield World(site, ("127.0.0.1", int(port)), process)
        assert process.poll() is None, "the gateway did not live through its test"
    finally:
        process.terminate()
        try:
            process.wait(timeout=240)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def settle(site: Path, *, oidc: Mapping[str, str] | None = None, **more: object) -> None:
    """Write what the site decides of its gateway."""
    lines = {"access_log": str(site.parent / "access.jsonl"), "requests_per_second": 100_000.0, "concurrent": 1000,
             "cohort_refresh_seconds": 0, **more}  # fmt: skip
    with (site / "wsistore.toml").open("a", encoding="utf-8") as file:
        file.write("\n[serve]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
        if oidc is not None:
            file.write("\n[serve.oidc]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in oidc.items()))


@contextlib.contextmanager
def serve(folder: Path, cohorts: Mapping[str, str], granted: Mapping[str, Sequence[str]]) -> Iterator[World]:
    """Make projects of conditions, grant them, and serve them."""
    settle(folder)
    with ops.open_site(folder) as site:
        given = {}
        for project, condition in cohorts.items():
            projects.create_project(site, project, purpose="a study")
            projects.set_cohort(site, project, where=condition)
        for user, names in granted.items():
            given[user] = tokens.create_token(site, user, expires_at=tomorrow(), scopes=["recall"]).text
            for project in names:
                projects.grant_project(site, project, user, scopes=["recall"])
    with running(folder) as world:
        world.tokens, world.granted = given, {user: list(names) for user, names in granted.items()}
        world.refresh()
        yield world


# --- the usual world --------------------------------------------------------------------------------------------------


_SLIDES = {
    "lung.svs": ("PATIENT-0001", "LUNG"),
    "lung-2.svs": ("PATIENT-0002", "LUNG"),
    "large.tiff": ("PATIENT-0002", "LUNG"),
    "colon.svs": ("PATIENT-0003", "COLON"),
    "objecting.svs": ("PATIENT-0004", "LUNG"),
}
"""Name, patient and organ of each."""
_LUNG, _COLON = "organ = 'LUNG'", "organ = 'COLON'"
_COHORTS = {
    "lung": _LUNG, "colon": f"{_LUNG} or {_COLON}", "closed": _LUNG, "over": _LUNG, "coarse": _COLON, "tight": _COLON,
}  # fmt: skip
_ENDED = {"closed", "over"}
_GRANTED = {
    "alice": ["lung", "closed", "over"], "bob": ["colon"], "dora": ["coarse"], "limited": ["tight"], "slow": ["lung"],
    "reader": ["lung"], "revoked": ["lung"], "expired": ["lung", "over"],
}  # fmt: skip


@contextlib.contextmanager
def world_of(folder: Path, *, oidc: Mapping[str, str] | None = None) -> Iterator[World]:
    """Make the usual world: projects of several kinds, people with and without rights, a patient who objects."""
    site = Path(shutil.copytree(_filled(), folder / "site"))
    settle(site, oidc=oidc)
    with ops.open_site(site) as opened:
        given = _people(opened)
    with running(site) as world:
        world.tokens = given
        known = {user: names for user, names in _GRANTED.items() if user not in {"revoked", "expired"}}
        world.granted = {user: [one for one in names if one not in _ENDED] for user, names in known.items()}
        world.refresh()
        for name in _ENDED:
            world.rows[name] = [{"slide": world.slide_of(name, "lung.svs")}]
        world.objected = {project: world.slide_of(project, "objecting.svs") for project in ("lung", "colon")}
        world.object("PATIENT-0004")
        world.refresh()
        world.large = world.slide_of("lung", "large.tiff")
        first = world.slide_of("lung", "lung.svs")
        world.rows["lung"].sort(key=lambda row: row["slide"] != first)
        world.files_before = world.files()
        yield world


@functools.cache
def _filled() -> Path:
    """Make a site with the slides, once for all tests of the process."""
    folder = Path(tempfile.mkdtemp(prefix="wsistore-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    site, sources = new_site(folder / "site"), folder / "sources"
    sources.mkdir()
    lines = ["file,patient_id,case_id,block,organ,stain"]
    for seed, (name, (patient, organ)) in enumerate(_SLIDES.items(), 1):
        lines.append(f"{name},{patient},CASE-{seed},A1,{organ},HE")
        if name.endswith(".svs"):
            levels = [picture(320, 400, seed), picture(80, 100, seed)]
            write_svs(sources / name, levels, tile=128, properties={"Title": patient})
        else:
            noise = np.random.default_rng(seed).integers(0, 255, (1792, 1792, 3), np.uint8)
            write_generic_tiff(sources / name, [noise, noise[::8, ::8].copy()], codec="none", tile=(256, 256))
    table = folder / "table.csv"
    table.write_text("\n".join(lines) + "\n", "utf-8")
    with ops.open_site(site) as opened:
        ingest(opened, *sorted(sources.iterdir()), metadata=read_metadata(table))
    return site


def _people(site: ops.Site) -> dict[str, str]:
    """Make projects, grants and tokens, some of which are over already."""
    before = datetime.now(UTC) - timedelta(days=30)
    with ops.open_site(site.folder, clock=ManualClock(before)) as past:
        end = before + timedelta(days=1)
        projects.create_project(past, "over", purpose="a study that ended", expires_at=end)
        given = {"expired": tokens.create_token(past, "expired", expires_at=end, scopes=["recall"]).text}
    projects.create_project(site, "coarse", purpose="a study", first_level=1)
    projects.create_project(site, "tight", purpose="a study", limits={"requests_per_second": 5.0, "concurrent": 2})
    for project in ("lung", "colon", "closed"):
        projects.create_project(site, project, purpose="a study")
    for project, condition in _COHORTS.items():
        projects.set_cohort(site, project, where=condition)
    for user, names in _GRANTED.items():
        scopes = [] if user == "reader" else ["recall"]
        if user != "expired":
            given[user] = tokens.create_token(site, user, expires_at=tomorrow(), scopes=scopes).text
        for project in names:
            projects.grant_project(site, project, user, scopes=scopes)
    projects.close_project(site, "closed")
    tokens.revoke_token(site, given["revoked"])
    return given
