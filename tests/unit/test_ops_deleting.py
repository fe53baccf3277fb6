"""What is deleted is gone: with all its versions, and not because a tier says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.move_kit import TIERS, assert_at_rest, bare, drop, in_process, moved, tiered_site
from tests.site_kit import files_of, ingest, tiny_svs
from wsistore.errors import StorageError
from wsistore.model import Preset
from wsistore.ops.deleting import delete_all, delete_exactly
from wsistore.storage.base import MARKER_KEY, ObjectInfo
from wsistore.storage.erasing import erase, lying, versions_of
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import WrappedStorage


def versioned(*keys: str) -> MemoryStorage:
    storage = MemoryStorage(versions=True)
    for key in keys:
        storage.put(key, b"old")
        storage.put(key, b"new")
    return storage


def test_moves_and_drops_leave_no_version_behind(tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "in" / "a.svs")
    with tiered_site(tmp_path / "site", versions=True) as site, in_process():
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "warm", preset=Preset.FOLD)
        moved(site, slide, "cold", preset=Preset.PACK)
        moved(site, slide, "warm", keep_source=True)
        for info in list(bare(site, "cold").list()):  # written twice, as after a lost reply
            bare(site, "cold").put(info.key, bare(site, "cold").get(info.key))
        assert drop(site, slide, "cold").status == "dropped"
        assert_at_rest(site, slide, files_of(path), "warm")
        for tier in TIERS:
            kept = [info.key for info in bare(site, tier).versions()]
            assert set(kept) == {info.key for info in bare(site, tier).list()}
        assert {info.key for info in bare(site, "cold").versions()} == {MARKER_KEY}
        assert {info.key for info in bare(site, "hot").versions()} == {MARKER_KEY}


def test_exactly_these_objects_are_deleted() -> None:
    for storage in (MemoryStorage(), versioned("a/1", "a/10", "a/2")):
        for key in ("a/1", "a/10", "a/2"):
            storage.put(key, b"newest")
        delete_exactly(storage, ["a/1", "a/2", "a/missing"], ["a/"])
        assert {info.key for info in lying(storage, "")} == {"a/10"}


def test_what_a_listing_does_not_know_yet_is_deleted_too() -> None:
    class Blind(WrappedStorage):
        def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
            return iter(())

    inner = MemoryStorage(versions=True)
    inner.put("a/1", b"x")
    delete_exactly(Blind(inner), ["a/1"], ["a/"])
    assert list(inner.versions()) == []


def test_a_tier_that_only_says_so_is_not_believed() -> None:
    class Liar(WrappedStorage):
        def delete(self, key: str, *, version: str | None = None) -> None:
            pass

    with pytest.raises(StorageError, match="still has 2 versions"):
        delete_exactly(Liar(versioned("a/1", "a/2")), ["a/1"], ["a/"])


def test_hidden_versions_are_found_and_erased() -> None:
    storage = versioned("a", "ab")
    storage.delete("a")
    assert len(versions_of(storage, "a")) == 2
    assert [info.key for info in lying(storage, "")] == ["a", "a", "ab", "ab"]
    erase(storage, "a")
    erase(storage, "a")
    assert delete_all(storage, lying(storage, "")) == 1
    assert list(storage.versions()) == []
    assert versions_of(MemoryStorage(), "a") == [None]
