"""Re-encoding in real processes on real disks: killed, raced, out of space; and workers that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.site_kit import (
    assert_sound,
    command,
    files_of,
    ingest,
    new_site,
    reencode,
    reencoded,
    restored,
    store_hashes,
)
from wsistore import ops
from wsistore.model import Preset
from wsistore.testing.tiffs import write_generic_tiff
from wsistore.testing.tissue import tissue

REPOSITORY = Path(__file__).parents[2]

# Small shards, so that there are many; and no cluster, so that it is known who works.
SERIAL = """
import sys
from pathlib import Path
from wsistore import ops
from wsistore.compress import reencoding
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
reencoding.LEAST_SHARD_BYTES = 20_000
with ops.open_site(Path(sys.argv[1])) as site:
    print("ready", flush=True)
    for result in ops.reencode(site, [sys.argv[2]], Preset(sys.argv[3]), executor=SerialExecutor()):
        print(result.status, result.error.kind if result.error else "", result.shards, result.shards_resumed)
"""


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a slide whose copies have many shards, if these are small."""
    path = tmp_path_factory.mktemp("in") / "tissue.tiff"
    write_generic_tiff(path, [tissue(1536, 2048, seed=5)], tile=(128, 128))
    return path


@pytest.fixture
def folder(tmp_path: Path, slide: Path) -> Path:
    """Return a site that has the slide."""
    made = new_site(tmp_path / "site")
    with ops.open_site(made) as site:
        ingest(site, slide)
    return made


def start(folder: Path, preset: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERIAL, str(folder), "tissue.tiff", preset],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def until(is_so: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def notes(folder: Path, tier: str = "hot") -> int:
    """Return how many notes of shards are in a tier; 0 where they are just being swept."""
    with suppress(FileNotFoundError):
        return sum(1 for _ in (folder / "tiers" / tier / "private").glob("*/*/notes/**/*.json"))
    return 0


def assert_one_copy(folder: Path, slide: Path, preset: Preset) -> None:
    with ops.open_site(folder) as site:
        ops.recover(site)
        (copy,) = site.catalog.copies(site.catalog.resolve("tissue.tiff"))
        assert (copy.preset, copy.state) == (preset, "committed")
        assert_sound(site)
        assert restored(site, copy.slide) == files_of(slide)


@pytest.mark.slow
def test_kill_9_and_go_on(folder: Path, slide: Path) -> None:
    with ops.open_site(folder) as site:
        first = store_hashes(site, site.catalog.resolve("tissue.tiff"))
    process = start(folder, "fold")
    until(lambda: notes(folder) >= 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = notes(folder)
    assert there >= 3, "it was over too soon to be killed"
    with ops.open_site(folder) as site:
        key = site.catalog.resolve("tissue.tiff")
        assert restored(site, key) == files_of(slide)
        assert [copy.preset for copy in site.catalog.copies(key)] == [Preset.KEEP]
    process = start(folder, "fold")
    out, err = process.communicate(timeout=240)
    status, _, shards, resumed = out.split(" ")
    assert (status, int(resumed)) == ("reencoded", there), err
    assert int(shards) > there
    assert_one_copy(folder, slide, Preset.FOLD)
    with ops.open_site(folder) as site:
        reencoded(site, "tissue.tiff", Preset.KEEP)
        assert store_hashes(site, site.catalog.resolve("tissue.tiff")) == first


@pytest.mark.slow
def test_two_processes_at_once(folder: Path, slide: Path) -> None:
    pair = [start(folder, "fold"), start(folder, "fold")]
    said = sorted(process.communicate(timeout=240)[0].split()[0] for process in pair)
    assert said in (["failed", "reencoded"], ["reencoded", "unchanged"])
    assert_one_copy(folder, slide, Preset.FOLD)


@pytest.fixture
def small_disk(tmp_path: Path, slide: Path) -> Iterator[Path]:
    """Mount a disk that holds the slide once, not twice; skip where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    size = slide.stat().st_size * 3 // 2
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk(tmp_path: Path, slide: Path, small_disk: Path) -> None:
    folder = new_site(tmp_path / "site")
    shutil.move(folder / "tiers/hot/wsistore-tier.json", small_disk / "wsistore-tier.json")
    settings = folder / "wsistore.toml"
    settings.write_text(settings.read_text().replace('url = "tiers/hot"', f'url = "{small_disk}"'))
    with ops.open_site(folder) as site:
        key = str(ingest(site, slide)[0].slide)
        before = site.catalog.copies(key)
        result = reencode(site, key, Preset.FOLD)
        assert result.error is not None
        assert result.error.kind == "storage-full"
        assert site.catalog.copies(key) == before
        assert site.catalog.open_attempts() == [], "nothing keeps the disk full"
        assert restored(site, key) == files_of(slide)
        subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
        reencoded(site, key, Preset.FOLD)
        assert restored(site, key) == files_of(slide)
        assert len(site.catalog.copies(key)) == 1


def dask_workers(parent: int) -> list[int]:
    """Return the worker processes under a process."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            line = (path / "cmdline").read_bytes().decode().replace("\0", " ")
            parents = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if "spawn_main" in line and parents == parent:
            found.append(int(path.name))
    return found


@pytest.mark.slow
def test_a_dask_worker_is_killed(folder: Path, slide: Path) -> None:
    script = "from wsistore.compress import reencoding; reencoding.LEAST_SHARD_BYTES = 20_000; "
    arguments = command(folder, "reencode", "tissue.tiff", "--preset", "fold", "--json", "--jobs", "2")
    arguments[2] = script + arguments[2]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: notes(folder) >= 1, process)
    assert process.poll() is None, process.communicate()
    victims = dask_workers(process.pid)
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    out, err = process.communicate(timeout=450)
    (line,) = [json.loads(text) for text in out.splitlines()]
    assert (process.returncode, line["status"]) == (0, "reencoded"), (line, err)
    assert_one_copy(folder, slide, Preset.FOLD)
