"""The cache on disk: bounded, oldest first, shared, and never the reason that a read fails."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.client import gateway_store
from wsistore.client.cache import ChunkCache
from wsistore.errors import SiteError


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@given(sizes=st.lists(st.integers(0, 400), max_size=40), most=st.integers(1, 2000))
@settings(max_examples=25, deadline=None)
def test_no_more_is_kept_than_was_said(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = ChunkCache(folder, most)
    for number, size in enumerate(sizes):
        data = bytes([number % 256]) * size
        cache.put(f"{number}", data)
        assert size_of(folder) <= most
        assert cache.get(f"{number}") == (data if size + 4 <= most else None)
    assert ChunkCache(folder, most).size_bytes == size_of(folder)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1000)
    for number in range(9):
        cache.put(str(number), bytes(100))
    for when, path in enumerate(sorted((p for p in tmp_path.rglob("*") if p.is_file()), key=os.fspath)):
        os.utime(path, (when, when))
    assert cache.get("3") is not None  # used now: newer than all others
    cache.put("more", bytes(100))
    assert cache.get("3") is not None
    assert cache.get("more") is not None
    assert sum(cache.get(str(number)) is not None for number in range(9)) < 9


def test_what_is_dropped_makes_room(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1000)
    for name in ("a", "b"):
        cache.put(name, bytes(400))
    cache.drop("a")
    cache.drop("a")
    cache.drop("never there")
    assert cache.get("a") is None
    assert cache.size_bytes == size_of(tmp_path) == 404
    cache.put("c", bytes(400))
    assert cache.get("b") is not None, "there was room"


@given(payloads=st.lists(st.none() | st.binary(max_size=20), max_size=9))
def test_folds_that_were_undone_come_back_as_they_were(payloads: list[bytes | None]) -> None:
    packed = gateway_store._packed(payloads)
    assert gateway_store._unpacked(packed) == payloads
    assert gateway_store._unpacked(packed + b"x") is None
    assert gateway_store._unpacked(packed[:-1]) is None


@given(data=st.binary(max_size=40))
def test_what_is_no_fold_is_not_taken_for_one(data: bytes) -> None:
    found = gateway_store._unpacked(data)
    assert found is None or gateway_store._packed(found).endswith(b"".join(one for one in found if one))


def test_two_programs_share_a_folder(tmp_path: Path) -> None:
    one, other = ChunkCache(tmp_path, 10_000), ChunkCache(tmp_path, 10_000)
    one.put("a", b"x" * 100)
    assert other.get("a") == b"x" * 100
    again = pickle.loads(pickle.dumps(other))
    assert again.get("a") == b"x" * 100
    one.clear()
    assert other.get("a") is None
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: one.put("same", b"y" * 50), range(100)))
        list(pool.map(lambda n: other.put(f"{n}", bytes(n)), range(100)))
        assert set(pool.map(lambda n: other.get("same"), range(20))) <= {b"y" * 50, None}
    assert not list(tmp_path.rglob("*.part"))


def test_a_cache_that_cannot_be_is_said_and_one_that_breaks_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SiteError, match="cannot be used"):
        ChunkCache(tmp_path / "file" / "below", 1000)
    cache = ChunkCache(tmp_path / "cache", 1000)
    cache.put("a", b"1")
    for folder in (tmp_path / "cache").iterdir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_bytes(b"")
    assert cache.get("a") is None
    cache.put("a", b"1")
    assert cache.get("a") is None


def test_a_name_is_no_path(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path / "cache", 1000)
    for name in ("../../x", "/etc/passwd", "a\0b", "\udcff", "é" * 5000, ""):
        cache.put(name, b"data")
        assert cache.get(name) == b"data"
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
