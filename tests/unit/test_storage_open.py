"""URLs name storages; tiers say who they are."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from wsistore.errors import ConflictError, Kind, StorageError
from wsistore.storage.base import MARKER_KEY
from wsistore.storage.fault import FailAfter, FaultStorage, Rule
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.meter import MeterStorage
from wsistore.storage.open import TierMarker, check_tier, create_tier, open_storage, read_marker
from wsistore.storage.readonly import ReadOnlyStorage

# --- open ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "with space", "ü 試", "100%", "a#b?c", "%41"])
def test_path_and_its_url_open_the_same_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    by_path, by_url = open_storage(str(folder)), open_storage(folder.as_uri())
    by_path.put("a", b"x")
    assert by_url.get("a") == b"x"
    assert by_path.url == by_url.url == folder.as_uri()
    assert (folder / "a").read_bytes() == b"x"


def test_relative_path_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("tiers/hot")
    monkeypatch.chdir("/")
    assert storage.url == (tmp_path / "tiers" / "hot").as_uri()


def test_opening_creates_nothing(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "hot"))
    assert list(tmp_path.iterdir()) == []


def test_localhost_is_this_machine(tmp_path: Path) -> None:
    assert open_storage(f"FILE://localhost{tmp_path}").url == tmp_path.as_uri()


def test_memory_of_one_name_is_one_place() -> None:
    open_storage("memory://test-open/one").put("a", b"x")
    assert open_storage("memory://test-open/one").get("a") == b"x"
    assert list(open_storage("memory://test-open/other").list()) == []
    assert open_storage("memory://") is not open_storage("memory://")


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("s3:///tier", "bucket"),
        ("s3://key:secret@bucket/tier", "credentials"),
        ("https://example.org/tier", "memory://"),
        ("file://server/share", "this machine"),
        ("file:///tier?x=1", "this machine"),
        ("file://[/tier", "URL"),
        ("file://", "no folder"),
        ("", "no folder"),
        ("a\0b", "tier"),
        ("file:///a%00b", "tier"),
    ],
)
def test_url_that_names_no_storage_is_refused(url: str, part: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert part in str(caught.value)
    assert caught.value.remedy


def test_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(StorageError) as caught:
        open_storage("ftp://user:secret@example.org/tier")
    assert "secret" not in str(caught.value)


# --- tiers -----------------------------------------------------------------------------------------------------------


def test_tier_says_who_it_is(tmp_path: Path) -> None:
    storage = MeterStorage(LocalStorage(tmp_path / "site" / "tiers" / "hot"))
    assert create_tier(storage, "id-1", "hot ü") == TierMarker("id-1", "hot ü")
    assert check_tier(storage, "id-1") == TierMarker("id-1", "hot ü")
    assert check_tier(ReadOnlyStorage(storage), "id-1").name == "hot ü"
    record = json.loads((tmp_path / "site" / "tiers" / "hot" / "wsistore-tier.json").read_bytes())
    assert record == {"format": "wsistore-tier", "version": 1, "id": "id-1", "name": "hot ü"}


def test_tier_may_be_anywhere() -> None:
    storage = MemoryStorage()
    create_tier(storage, "id-1", "hot")
    assert check_tier(storage, "id-1").tier_id == "id-1"


def test_creating_may_be_repeated(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "hot")
    create_tier(storage, "id-1", "hot")
    before = (tmp_path / "hot" / MARKER_KEY).stat()
    create_tier(storage, "id-1", "hot")
    assert (tmp_path / "hot" / MARKER_KEY).stat()[stat.ST_INO] == before[stat.ST_INO]


def test_creating_whose_reply_was_lost_may_be_repeated() -> None:
    storage = FaultStorage(MemoryStorage(), [Rule(FailAfter(StorageError("lost")))])
    with pytest.raises(StorageError, match="lost"):
        create_tier(storage, "id-1", "hot")
    assert create_tier(storage, "id-1", "hot") == check_tier(storage, "id-1")


def test_tier_is_not_made_another(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    create_tier(storage, "id-1", "hot")
    for tier_id, name in (("id-2", "hot"), ("id-1", "warm")):
        with pytest.raises(ConflictError) as caught:
            create_tier(storage, tier_id, name)
        assert caught.value.kind is Kind.TARGET_EXISTS
        assert "'hot' (id-1)" in caught.value.message
    assert check_tier(storage, "id-1") == TierMarker("id-1", "hot")


def test_tier_cannot_be_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "hot"):
        with pytest.raises(StorageError):
            create_tier(LocalStorage(path), "id-1", "hot")


def test_other_tier_is_not_the_tier(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    create_tier(storage, "id-1", "hot")
    with pytest.raises(StorageError) as caught:
        check_tier(storage, "id-2")
    assert caught.value.kind is Kind.TIER_MISSING
    assert "'hot' (id-1), not the tier id-2" in caught.value.message


@pytest.mark.parametrize("exists", [False, True])
def test_folder_without_a_marker_is_no_tier(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "hot"
    if exists:
        folder.mkdir()
    with pytest.raises(StorageError) as caught:
        check_tier(LocalStorage(folder), "id-1")
    assert caught.value.kind is Kind.TIER_MISSING
    assert caught.value.remedy
    assert folder.exists() == exists


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"format": "other", "version": 1, "id": "id-1", "name": "hot"}',
        b'{"format": "wsistore-tier", "version": 1, "id": "id-1"}',
        b'{"format": "wsistore-tier", "version": 1, "id": 1, "name": "hot"}',
        b'{"format": "wsistore-tier", "version": "1", "id": "id-1", "name": "hot"}',
    ],
    ids=lambda content: repr(content)[:30],
)
def test_marker_that_cannot_be_understood_is_no_marker(content: bytes) -> None:
    storage = MemoryStorage()
    storage.put(MARKER_KEY, content)
    with pytest.raises(StorageError) as caught:
        read_marker(storage)
    assert caught.value.kind is Kind.TIER_MISSING
    with pytest.raises(StorageError):
        create_tier(storage, "id-1", "hot")
    assert storage.get(MARKER_KEY) == content


def test_marker_of_a_newer_version_asks_for_it() -> None:
    storage = MemoryStorage()
    storage.put(MARKER_KEY, b'{"format": "wsistore-tier", "version": 2, "identity": {}}')
    with pytest.raises(StorageError) as caught:
        check_tier(storage, "id-1")
    assert caught.value.kind is Kind.FORMAT_UNKNOWN
