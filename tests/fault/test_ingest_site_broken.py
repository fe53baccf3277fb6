"""A site that is not in order: tiers gone or mixed up, read-only, catalogue locked or lost, settings broken."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.site_kit import (
    Ran,
    as_nobody,
    assert_sound,
    cli,
    files_of,
    listing,
    memory_site,
    new_site,
    state_of,
    tiny_svs,
    tiny_tiff,
)
from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.errors import Kind, SiteError


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return tiny_svs(tmp_path / "in" / "a.svs")


@pytest.fixture
def site(tmp_path: Path, slide: Path) -> Path:
    """Return a site with one slide."""
    folder = new_site(tmp_path / "site")
    assert cli(folder, "ingest", slide).code == 0
    return folder


def check_error(done: Ran, code: int, kind: str, *words: object) -> None:
    assert done.code == code, done
    assert done.error["kind"] == kind
    for word in words:
        assert str(word) in done.error["message"], done
    assert done.error["message"].count(".") >= 2, f"no remedy: {done}"
    assert done.err == ""


# --- tiers ------------------------------------------------------------------------------------------------------------


def test_tier_folder_that_vanished(tmp_path: Path, site: Path) -> None:
    other = tiny_tiff(tmp_path / "in" / "b.tiff")
    hot, away = site / "tiers" / "hot", tmp_path / "away"
    hot.rename(away)
    check_error(cli(site, "ingest", other, "--json"), 6, "tier-missing", hot)
    assert not hot.exists()  # and nothing was made in its place
    (result,) = cli(site, "verify", "--all", "--json").lines
    assert (result["ok"], result["error"]["kind"]) == (False, "tier-missing")
    check_error(cli(site, "restore", "a.svs", "--to", tmp_path / "out", "--json"), 6, "tier-missing", hot)
    assert cli(site, "ls", "--json").code == 0
    hot.mkdir()  # the bare mount point
    check_error(cli(site, "ingest", other, "--json"), 6, "tier-missing", hot)
    assert list(hot.iterdir()) == []
    hot.rmdir()
    away.rename(hot)
    assert cli(site, "ingest", other, "--json").code == 0
    with ops.open_site(site) as opened:
        assert_sound(opened)


def test_tier_that_vanishes_meanwhile(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    slides = [tiny_svs(tmp_path / "in" / f"{n}.svs", seed=n) for n in range(3)]
    hot, away = folder / "tiers" / "hot", tmp_path / "away"

    def vanish(*_: object) -> None:
        if hot.exists():
            hot.rename(away)

    with ops.open_site(folder) as opened:
        results = list(ops.ingest(opened, slides, jobs=1, progress=vanish))
        assert [result.status for result in results] == ["failed"] * 3
        assert {result.error.kind for result in results if result.error} == {"tier-missing"}
        assert len(opened.catalog.open_attempts()) == 1
        assert opened.catalog.slides() == []
        away.rename(hot)
        results = list(ops.ingest(opened, slides, jobs=1))
        assert [result.status for result in results] == ["ingested"] * 3
        # A file that this process could not remove while its folder was away waits for a later process.
        assert_sound(opened, unfinished_files=True)


def test_another_tier_in_its_place(tmp_path: Path, site: Path, slide: Path) -> None:
    hot, warm = site / "tiers" / "hot", site / "tiers" / "warm"
    hot.rename(tmp_path / "x")
    warm.rename(hot)
    before = listing(site)
    done = cli(site, "ingest", tiny_tiff(tmp_path / "in" / "b.tiff"), "--json")
    check_error(done, 6, "tier-missing", hot, "warm")
    assert listing(site) == before


def test_unknown_tier(site: Path, slide: Path) -> None:
    before = state_of(site)
    check_error(cli(site, "ingest", slide, "--tier", "hott", "--json"), 8, "tier-unknown", "hott", "'hot'", "cold")
    assert state_of(site) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only the administrator can become another user")
def test_tier_that_cannot_be_written(tmp_path: Path, site: Path) -> None:
    other = tiny_tiff(tmp_path / "in" / "b.tiff")
    cli(new_site(tmp_path / "elsewhere"), "ingest", other)
    hot = site / "tiers" / "hot"
    with as_nobody(site):
        pass
    os.chown(hot, 0, 0)
    for path in hot.iterdir():
        os.chown(path, 0, 0)
    before = state_of(site)
    with as_nobody(site / "wsistore.toml"):
        done = cli(site, "ingest", other, "--json")
    assert done.code == 6, done
    assert [line["error"]["kind"] for line in done.lines] == ["storage-denied"]
    after = state_of(site)
    assert after["files"] == before["files"]
    assert after["slides"] == before["slides"]


# --- read-only sites --------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only(tmp_path: Path, site: Path) -> Iterator[Path]:
    """Mount the site read-only."""
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "--bind", str(site), str(place)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def check_read_only(folder: Path, tmp_path: Path, slide: Path) -> None:
    (shown,) = cli(folder, "ls", "--json").lines
    assert cli(folder, "show", shown["slide"]).code == 0
    assert cli(folder, "events", "--check").code == 0
    assert cli(folder, "restore", "a.svs", "--to", tmp_path / "out").code == 0
    assert files_of(tmp_path / "out") == files_of(slide)
    assert cli(folder, "export", "a.svs", "--to", tmp_path / "x.ozx").code == 0
    check_error(cli(folder, "ingest", slide, "--json"), 8, "site-read-only", folder)
    check_error(cli(folder, "verify", "--all", "--json"), 8, "site-read-only", folder)


def test_read_only_mount(tmp_path: Path, read_only: Path, slide: Path) -> None:
    before = listing(read_only)
    check_read_only(read_only, tmp_path, slide)
    assert listing(read_only) == before


def test_site_of_another_user(tmp_path: Path, site: Path, slide: Path) -> None:
    check_out = tmp_path / "to"
    check_out.mkdir()
    for arguments in (("restore", "a.svs", "--to", tmp_path / "warm"), ("export", "a.svs", "--to", tmp_path / "w.ozx")):
        assert cli(site, *arguments).code == 0  # loads what is needed
    before = state_of(site)
    with as_nobody(check_out):
        check_read_only(site, check_out, slide)
    assert state_of(site)["files"] == before["files"]


def test_site_opened_for_reading_refuses_to_ingest(site: Path, slide: Path) -> None:
    with ops.open_site(site, read_only=True) as opened, pytest.raises(SiteError) as caught:
        list(ops.ingest(opened, [slide]))
    assert caught.value.kind is Kind.SITE_READ_ONLY


# --- catalogue and settings -------------------------------------------------------------------------------------------


def test_catalogue_locked(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = SimpleNamespace(open=partial(Catalog.open, busy_timeout_seconds=0.2))
    monkeypatch.setattr("wsistore.ops.site.Catalog", impatient)
    other = tiny_tiff(tmp_path / "in" / "b.tiff")
    before = state_of(site)
    locker = sqlite3.connect(site / "catalog.db", isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    done = cli(site, "ingest", other, "--json")
    assert done.code == 5
    (line,) = done.lines
    assert line["error"]["kind"] == "busy"
    assert "catalog.db" in line["error"]["message"]
    locker.execute("ROLLBACK")
    locker.close()
    assert state_of(site) == before
    assert cli(site, "ingest", other).code == 0


def test_catalogue_missing(site: Path, slide: Path) -> None:
    shutil.move(site / "catalog.db", site / "away")
    before = listing(site)
    for arguments in (("ingest", slide), ("ls",), ("verify", "--all"), ("events",)):
        check_error(cli(site, *arguments, "--json"), 8, "catalog-failed", site / "catalog.db")
    # A new, empty one would hide what is there.
    check_error(cli(None, "init", site, "--json"), 8, "site-exists", site)
    assert listing(site) == before
    shutil.move(site / "away", site / "catalog.db")
    assert len(cli(site, "verify", "--all", "--json").lines) == 1


def test_catalogue_damaged(site: Path, slide: Path) -> None:
    (site / "catalog.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    for suffix in ("-wal", "-shm"):
        (site / f"catalog.db{suffix}").unlink(missing_ok=True)
    check_error(cli(site, "ls", "--json"), 8, "catalog-failed", site / "catalog.db")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense [", ["wsistore.toml"]),
        ("version = 99\n", ["version", "99"]),
        ("version = 1\n", ["tiers"]),
        ('version = 1\nspeed = "fast"\n', ["speed"]),
        ("\xff", ["wsistore.toml"]),
    ],
)
def test_settings_broken(site: Path, slide: Path, text: str, words: list[str]) -> None:
    good = (site / "wsistore.toml").read_bytes()
    (site / "wsistore.toml").write_bytes(text.encode("latin-1"))
    for arguments in (("ingest", slide), ("ls",)):
        check_error(cli(site, *arguments, "--json"), 8, "settings-invalid", site / "wsistore.toml", *words)
    (site / "wsistore.toml").write_bytes(good)
    assert cli(site, "ls").code == 0


def test_no_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_error(cli(None, "ls", "--json"), 8, "site-missing", "WSISTORE_HOME")
    check_error(cli(tmp_path / "x", "ls", "--json"), 8, "site-missing", tmp_path / "x")
    monkeypatch.setenv("WSISTORE_HOME", str(tmp_path / "y"))
    check_error(cli(None, "ls", "--json"), 8, "site-missing", tmp_path / "y", "WSISTORE_HOME")


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_finds_out_where_it_may_not(tmp_path: Path, site: Path) -> None:
    before = state_of(site)
    check_error(cli(None, "init", site, "--json"), 8, "site-exists", site)
    assert state_of(site) == before
    (tmp_path / "file").write_bytes(b"x")
    check_error(cli(None, "init", tmp_path / "file", "--json"), 8, "site-read-only", tmp_path / "file")
    other = tmp_path / "other"
    (other / "tiers").mkdir(parents=True)
    shutil.copytree(site / "tiers" / "hot", other / "tiers" / "hot")
    done = cli(None, "init", other, "--json")
    assert (done.code, done.error["kind"]) == (5, "target-exists")


@pytest.mark.parametrize("lost", [("catalog.db",), ("catalog.db", "tiers/cold"), ("catalog.db", "tiers")])
def test_interrupted_init_is_finished(tmp_path: Path, slide: Path, lost: tuple[str, ...]) -> None:
    folder = new_site(tmp_path / "site")
    ids = [tier.id for tier in ops.open_site(folder).settings.tiers]
    for name in lost:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert cli(None, "init", folder).code == 0
    with ops.open_site(folder) as opened:
        assert [tier.id for tier in opened.settings.tiers] == ids
    assert cli(folder, "ingest", slide).code == 0
    assert cli(None, "init", folder).code == 8


def test_actor_is_the_account_not_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    with memory_site(tmp_path / "site") as opened:
        assert opened.actor != "somebody-else"


# --- what is left behind in the process -------------------------------------------------------------------------------


_MOST_THREADS = 40
"""The pools that stay, for a machine of few cores: two slides at a time, each object of a slide, undoing, decoding."""


def test_no_open_files_are_left_and_threads_do_not_grow_in_number(tmp_path: Path, site: Path) -> None:
    def held() -> tuple[set[str], set[str]]:
        gc.collect()
        files = set()
        for link in Path("/proc/self/fd").iterdir():
            try:
                files.add(str(link.readlink()))
            except OSError:
                continue
        return {name for name in files if str(tmp_path) in name}, {thread.name for thread in threading.enumerate()}

    good, bad = tiny_tiff(tmp_path / "in" / "b.tiff"), tmp_path / "in" / "bad.svs"
    bad.write_bytes(good.read_bytes()[:800])
    flat_before = held()
    assert flat_before[0] == set()
    for _ in range(6):
        _use_everything(site, good, bad, tmp_path)
        files, threads = held()
        assert files == set()
        assert sum(name.startswith("wsistore") for name in threads) <= _MOST_THREADS


def _use_everything(site: Path, good: Path, bad: Path, folder: Path) -> None:
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "x.ozx").unlink(missing_ok=True)
    with ops.open_site(site) as opened:
        list(ops.ingest(opened, [good, bad], jobs=2))
        list(ops.verify(opened, ["a.svs"]))
        ops.restore(opened, "a.svs", folder / "out")
        ops.export(opened, "a.svs", folder / "x.ozx", codec=ops.ExportCodec.ZSTD, with_private=True)
        with ops.open_slide("a.svs", site=opened) as slide:
            slide.read_region(0, 0, 0, 50, 50)
            dict(slide.associated)
        with ops.open_source("a.svs", site=opened) as file:
            file.read()
        with ops.open_slide(folder / "x.ozx") as slide:
            slide.read_region(0, 0, 0, 50, 50)
        with ops.open_slide(good) as slide:
            slide.read_region(0, 0, 0, 50, 50)
