"""``wsistore serve`` as a process: several workers, limits over all of them, an end that lets answers end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.site_kit import cli, command, ingest, new_site, tiny_svs
from wsistore import ops
from wsistore.ops.projects import create_project, grant_project, set_cohort
from wsistore.ops.tokens import create_token


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_site(tmp_path_factory.mktemp("site"))
    with (folder / "wsistore.toml").open("a") as settings:
        settings.write('\n[serve]\naccess_log = "access.jsonl"\n')
    with ops.open_site(folder) as opened:
        (result,) = ingest(opened, tiny_svs(folder / "in" / "a.svs"))
        create_project(opened, "study", purpose="a test", limits={"requests_per_second": 0.2})
        create_project(opened, "free", purpose="a test")
        for project in ("study", "free"):
            set_cohort(opened, project, slides=[str(result.slide)])
            grant_project(opened, project, "researcher-1")
        made = create_token(opened, "researcher-1", expires_at=opened.clock.now() + timedelta(days=1))
    (folder / "token").write_text(made.text)
    return folder


@contextmanager
def serving(site: Path, *more: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    started = subprocess.Popen(
        command(site, "serve", "--port", 0, "--json", *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        yield started, json.loads(started.stdout.readline())["url"]
    finally:
        started.terminate()
        _, said = started.communicate(timeout=240)
        assert "Traceback" not in said


def test_workers_share_limits_and_log_and_are_started_again(site: Path) -> None:
    mine = {"Authorization": f"Bearer {(site / 'token').read_text()}"}
    with serving(site, "--workers", 2) as (started, url):
        (slide,) = httpx.get(f"{url}/projects/free/slides", headers=mine, timeout=240).json()["slides"]
        chunk = f"{url}/projects/free/slides/{slide['slide']}.zarr/0/image/c/0/0/0"
        assert httpx.get(chunk, headers=mine, timeout=240).status_code == 200
        # A connection for each request: both workers answer some of them.
        codes = [httpx.get(f"{url}/projects/study", headers=mine, timeout=240).status_code for _ in range(40)]
        assert codes.count(200) < 30
        assert set(codes) == {200, 429}
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        workers = [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        time.sleep(0.5)
        for _ in range(5):
            assert httpx.get(chunk, headers=mine, timeout=240).status_code == 200
    assert started.returncode == 0
    lines = [json.loads(line) for line in (site / "access.jsonl").read_text().splitlines()]
    assert len(lines) == 47
    assert {line["user"] for line in lines} == {"researcher-1"}
    assert not list(site.glob("**/limits"))


def test_an_end_does_not_wait_for_a_worker_that_starts(site: Path) -> None:
    with serving(site, "--workers", 2) as (started, _):
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        (first, second) = [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        # As one that has not begun yet: it answers nothing.
        os.kill(first, signal.SIGSTOP)
        time.sleep(1)
        started.terminate()
        end = time.monotonic() + 240
        while Path(f"/proc/{second}/exe").exists():
            assert time.monotonic() < end, "the other worker was not told to end"
            time.sleep(0.1)
        os.kill(first, signal.SIGKILL)
    assert started.returncode == 0


def test_a_port_that_is_taken_is_told(site: Path) -> None:
    with serving(site, "--workers", 1) as (_, url):
        done = cli(site, "serve", "--port", url.rpartition(":")[2], "--json")
    assert done.code == 8
    assert done.error["kind"] == "settings-invalid"
