"""Restoring: the same names and bytes or nothing, and never in another file's place."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.site_kit import (
    as_nobody,
    cli,
    files_of,
    ingest,
    listing,
    memory_site,
    new_site,
    restored,
    tiny_series,
    tiny_svs,
)
from wsistore import ops
from wsistore.errors import ConflictError, FullError, IntegrityError, Kind, StorageError
from wsistore.ops import targets
from wsistore.ops.stored import safe_target


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_site(tmp_path / "site") as opened:
        ingest(opened, tiny_svs(tmp_path / "in" / "a.svs"), tiny_series(tmp_path / "in" / "series"))
        yield opened


def test_repeated_restore_changes_nothing(site: ops.Site, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ops.restore(site, "series", out)
    assert files_of(out) == files_of(tmp_path / "in" / "series")
    assert first.bytes_written == sum(map(len, files_of(out).values()))
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    second = ops.restore(site, "series", out)
    assert (second.files, second.bytes_written) == (first.files, 0)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    # One that is gone is written again, the others are left.
    next(out.iterdir()).unlink()
    assert 0 < ops.restore(site, "series", out).bytes_written < first.bytes_written


@pytest.mark.parametrize("other", [b"", b"another file"])
def test_another_file_is_never_replaced(site: ops.Site, tmp_path: Path, other: bytes) -> None:
    out = tmp_path / "out"
    out.mkdir()
    victim = out / max(files_of(tmp_path / "in" / "series"))
    victim.write_bytes(other)
    with pytest.raises(ConflictError) as caught:
        ops.restore(site, "series", out)
    assert caught.value.kind is Kind.TARGET_EXISTS
    assert str(victim) in caught.value.message
    assert files_of(out) == {victim.name: other}  # and nothing else was written


def test_same_size_but_other_bytes_is_another_file(site: ops.Site, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ops.restore(site, "a.svs", out)
    data = bytearray((out / "a.svs").read_bytes())
    data[100] ^= 1
    (out / "a.svs").write_bytes(data)
    with pytest.raises(ConflictError):
        ops.restore(site, "a.svs", out)
    assert (out / "a.svs").read_bytes() == data


@pytest.mark.parametrize("what", ["folder", "link to nothing", "link elsewhere", "pipe"])
def test_what_is_no_file_is_in_the_way(site: ops.Site, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    victim, outside = out / "a.svs", tmp_path / "outside"
    if what == "folder":
        victim.mkdir()
    elif what == "pipe":
        os.mkfifo(victim)
    else:
        if what == "link elsewhere":
            outside.write_bytes(b"precious")
        victim.symlink_to(outside)
    with pytest.raises(ConflictError):
        ops.restore(site, "a.svs", out)
    assert not outside.exists() or outside.read_bytes() == b"precious"


def test_file_appearing_meanwhile_is_kept(site: ops.Site, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def appear(_: int) -> None:
        (out / "a.svs").write_bytes(b"somebody else's")

    with pytest.raises(ConflictError) as caught:
        ops.restore(site, "a.svs", out, progress=appear)
    assert caught.value.kind is Kind.TARGET_EXISTS
    assert files_of(out) == {"a.svs": b"somebody else's"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_disk_without_hard_links(site: ops.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    out = tmp_path / "out"
    ops.restore(site, "a.svs", out)
    assert files_of(out) == files_of(tmp_path / "in" / "a.svs")
    (out / "a.svs").write_bytes(b"another")
    with pytest.raises(ConflictError), targets.new_file(out / "a.svs") as file:
        file.write(b"x")
    assert files_of(out) == {"a.svs": b"another"}


def test_permissions_are_those_of_a_new_file(site: ops.Site, tmp_path: Path) -> None:
    ops.restore(site, "a.svs", tmp_path / "out")
    (tmp_path / "new").write_bytes(b"")
    assert (tmp_path / "out" / "a.svs").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_interruption_leaves_nothing(site: ops.Site, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ops.restore(site, "a.svs", tmp_path / "out", progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_full_disk(site: ops.Site, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        with pytest.raises(FullError) as caught:
            ops.restore(site, "a.svs", place)
        assert str(place / "a.svs") in caught.value.message
        assert caught.value.remedy
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_target_that_cannot_be_written(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    assert cli(folder, "ingest", tiny_svs(tmp_path / "a.svs")).code == 0
    assert cli(folder, "restore", "a.svs", "--to", tmp_path / "first").code == 0  # loads what is needed
    closed = tmp_path / "closed"
    closed.mkdir(0o755)
    (tmp_path / "file").write_bytes(b"x")
    with as_nobody(folder):
        done = cli(folder, "restore", "a.svs", "--to", closed, "--json")
        into_file = cli(folder, "restore", "a.svs", "--to", tmp_path / "file" / "sub", "--json")
    assert (done.code, done.error["kind"]) == (6, "storage-denied")
    assert str(closed / "a.svs") in done.error["message"]
    assert (into_file.code, into_file.error["kind"]) == (5, "target-exists")
    assert list(closed.iterdir()) == []


def test_file_in_the_way_that_cannot_be_read(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    slide = tiny_svs(tmp_path / "a.svs")
    assert cli(folder, "ingest", slide).code == 0
    out = tmp_path / "out"
    assert cli(folder, "restore", "a.svs", "--to", out).code == 0
    (out / "a.svs").chmod(0)
    with as_nobody(folder):
        done = cli(folder, "restore", "a.svs", "--to", out, "--json")
    assert done.code == 6
    assert str(out / "a.svs") in done.error["message"]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".", "..", "a/..", "a\0b"])
def test_hostile_stored_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError):
        safe_target(tmp_path, name)


def test_names_with_subfolders(tmp_path: Path) -> None:
    # As of vendors that keep a slide in a file and a folder beside it.
    series = tiny_series(tmp_path / "in" / "series")
    with memory_site(tmp_path / "site") as site:
        ingest(site, series)
        out = tmp_path / "out"
        assert safe_target(out, "a/b/c.dat") == out / "a" / "b" / "c.dat"
        with targets.new_file(out / "a" / "b" / "c.dat") as file:
            file.write(b"x")
    assert files_of(out) == {"a/b/c.dat": b"x"}


# --- damaged copies ---------------------------------------------------------------------------------------------------


def test_every_damaged_object_is_noticed_and_nothing_wrong_is_restored(site: ops.Site, tmp_path: Path) -> None:
    (row,) = [row for row in site.catalog.slides() if row.name == "a.svs"]
    good = files_of(tmp_path / "in" / "a.svs")
    storage = site.tier("hot")
    keys = [info.key for info in storage.list() if row.slide in info.key]
    assert len(keys) > 10
    for key in keys:
        data = storage.get(key)
        for number, damaged in enumerate(_damaged(data)):
            if damaged is None:
                storage.delete(key)
            else:
                storage.put(key, damaged)
            (verdict,) = ops.verify(site, [row.slide])
            assert not verdict.ok, key
            assert verdict.error is not None
            assert verdict.error.exit_code == 7, (key, verdict.error)
            out = tmp_path / "out" / f"{keys.index(key)}-{number}"
            try:
                ops.restore(site, row.slide, out)
            except IntegrityError:
                assert not out.exists() or files_of(out) == {}, key
            else:
                assert files_of(out) == good, key  # what was damaged is not needed for the file
        storage.put(key, data)
    (verdict,) = ops.verify(site, [row.slide])
    assert verdict.ok
    assert restored(site, row.slide) == good
    kinds = {event.kind for event in site.catalog.events(row.slide)}
    assert {"verification-failed", "verified", "restored"} <= kinds
    assert site.catalog.check_chains() == []


def _damaged(data: bytes) -> Iterator[bytes | None]:
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x10
    yield bytes(flipped)
    yield data[: len(data) // 2]
    yield b""
    yield data + b"x"
    yield None


def test_failing_tier_is_named(site: ops.Site, tmp_path: Path) -> None:
    class Gone:
        def get(self, *_: Any, **__: Any) -> bytes:
            msg = "the tier is gone"
            raise StorageError(msg)

        def __getattr__(self, name: str) -> Any:
            return self.get

    site._tiers["hot"] = Gone()
    before = listing(tmp_path / "in")
    with pytest.raises(StorageError, match="gone"):
        ops.restore(site, "a.svs", tmp_path / "out")
    assert listing(tmp_path / "in") == before
    assert not (tmp_path / "out").exists()
