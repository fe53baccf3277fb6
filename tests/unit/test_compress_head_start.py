"""A hash that was begun while the file was still being looked at is the file's, or counts for nothing."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from wsistore.compress.head_start import HeadStart
from wsistore.compress.source_bytes import SourceBytes
from wsistore.compress.threads import shared_pool
from wsistore.errors import ConflictError
from wsistore.slides.base import source_files
from wsistore.units import MIB

CONTENT = random.Random(5).randbytes(9 * MIB + 17)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "slide"
    path.write_bytes(CONTENT)
    return path


def _through() -> None:
    """Wait for what was begun: its pool's threads have nothing else to do."""
    for task in [shared_pool("head-start", 1).submit(int) for _ in range(64)]:
        task.result()


def _hashed(path: Path, ahead: HeadStart | None, seen: list[int]) -> str:
    with SourceBytes(source_files(path.parent, [path]), ahead) as source:
        (record,) = source.hash_files(seen.append)
    assert record.size_bytes == path.stat().st_size
    return record.sha256


@pytest.mark.parametrize("through", [False, True])
def test_the_hash_is_the_same_however_far_it_had_come(path: Path, through: bool) -> None:
    seen: list[int] = []
    with HeadStart(path) as ahead:
        if through:
            _through()
        found = [_hashed(path, ahead, seen) for _ in range(2)]
    assert found == [hashlib.sha256(CONTENT).hexdigest()] * 2
    assert sum(seen) == 2 * len(CONTENT), "all bytes are told of, those that were hashed before too"


@pytest.mark.parametrize("how", ["written", "written, time put back", "replaced", "grown"])
def test_a_file_that_was_changed_since_is_hashed_from_its_start(path: Path, how: str) -> None:
    before = path.stat()
    with HeadStart(path) as ahead:
        _through()
        changed = CONTENT[::-1] if how != "grown" else CONTENT + b"more"
        if how == "replaced":
            other = path.with_name("other")
            other.write_bytes(changed)
            other.rename(path)
        else:
            path.write_bytes(changed)
        if how == "written, time put back":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert _hashed(path, ahead, []) == hashlib.sha256(changed).hexdigest()


def test_a_file_that_is_cut_meanwhile_is_said_to_have_changed(path: Path) -> None:
    with HeadStart(path) as ahead:
        files = source_files(path.parent, [path])
        with SourceBytes(files, ahead) as source:
            os.truncate(path, MIB)
            with pytest.raises(ConflictError, match="changed"):
                source.hash_files(lambda _: None)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "missing", "pipe", "with\0null"):
        with HeadStart(tmp_path / name) as ahead, (tmp_path / "one").open("wb") as other:
            assert ahead.of(other.fileno())[1] == 0
