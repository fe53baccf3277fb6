"""Commits: what makes a slide be there comes back as it was, is written once, and nothing forged is believed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.errors import ConflictError, IntegrityError, Kind, ObjectMissingError, StorageError, TransientError
from wsistore.model import Evidence, Mode, ObjectRecord, Preset
from wsistore.storage.base import ObjectInfo, check_key
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.wrapper import WrappedStorage
from wsistore.tiers import commits
from wsistore.tiers.commits import Commit

HASH = "0123456789abcdef" * 4
OBJECTS = (
    ObjectRecord("private/slide0key/attempt0key/files.json.zst", 975, HASH),
    ObjectRecord("store/slide0key/attempt0key/0/image/c/0/0/0", 33_554_432, HASH[::-1]),
    ObjectRecord("store/slide0key/attempt0key/zarr.json", 0, HASH),
)
COMMIT = Commit(
    slide="slide0key",
    number=3,
    version=2,
    attempt="attempt0key",
    mode=Mode.TILES,
    preset=Preset.KEEP,
    fingerprint=HASH,
    bytes_source=33_555_000,
    evidence=Evidence.READ_BACK,
    verified_at="2031-05-14T10:11:12.000000Z",
    objects=OBJECTS,
)
KEY = "commits/slide0key/00000003.json"


def same(one: Commit, other: Commit) -> bool:
    return replace(one, objects=()) == replace(other, objects=()) and set(one.objects) == set(other.objects)


def test_a_commit_lies_under_its_slide_and_number() -> None:
    assert COMMIT.key == KEY
    assert COMMIT.bytes_stored == 33_554_432 + 975
    assert COMMIT.place.store == "store/slide0key/attempt0key/"
    numbers = [1, 9, 10, 99_999, 1_000_000]
    keys = [replace(COMMIT, number=number).key for number in numbers]
    assert keys == sorted(keys), "listed in order of their numbers"


names = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=1, max_size=20)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(
    slide=names,
    attempt=names,
    number=st.integers(1, 10**9),
    mode=st.sampled_from(Mode),
    files=st.lists(st.tuples(st.sampled_from(["store", "private"]), paths, st.integers(0, 2**45)), max_size=8),
    size=st.integers(0, 2**45),
    expires_at=st.sampled_from(["", "2031-05-28T10:11:12.000000Z"]),
)
def test_a_commit_comes_back_as_it_was(
    slide: str,
    attempt: str,
    number: int,
    mode: Mode,
    files: list[tuple[str, str, int]],
    size: int,
    expires_at: str,
) -> None:
    objects = tuple(ObjectRecord(f"{tree}/{slide}/{attempt}/{path}", length, HASH) for tree, path, length in files)
    made = replace(COMMIT, slide=slide, attempt=attempt, number=number, mode=mode, objects=objects, bytes_source=size)
    made = replace(made, expires_at=expires_at)
    again = commits.decode(commits.encode(made), where=made.key)
    assert same(again, made)
    assert commits.encode(commits.decode(commits.encode(made), where=made.key)) == commits.encode(again)


def test_an_object_outside_the_attempt_cannot_be_committed() -> None:
    """It would be left out, and nothing would ever move, verify or delete it."""
    for key in ("store/slide0key/attempt1key/zarr.json", "store/other/attempt0key/zarr.json", "elsewhere"):
        with pytest.raises(IntegrityError, match="does not lie under"):
            commits.encode(replace(COMMIT, objects=(*OBJECTS, ObjectRecord(key, 1, HASH))))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_writing_again_is_success() -> None:
    storage = MemoryStorage()
    assert commits.write(storage, COMMIT) == commits.write(storage, COMMIT) == len(storage.get(KEY))
    assert same(commits.read(storage, KEY), COMMIT)


@pytest.mark.parametrize(
    "other",
    [
        replace(COMMIT, attempt="attempt1key", objects=()),
        replace(COMMIT, verified_at="2031-05-14T10:11:13.000000Z"),
        replace(COMMIT, objects=OBJECTS[:2]),
    ],
)
def test_another_commit_in_the_place_is_a_conflict_and_stays(other: Commit) -> None:
    storage = MemoryStorage()
    commits.write(storage, other)
    before = storage.get(KEY)
    with pytest.raises(ConflictError, match="somebody else"):
        commits.write(storage, COMMIT)
    assert storage.get(KEY) == before


class LostReply(WrappedStorage):
    """Writes, and then the line is cut."""

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> ObjectInfo:
        super().put(key, data, if_absent=if_absent)
        raise TransientError("the line is cut")


def test_a_lost_reply_is_neither_success_nor_conflict() -> None:
    storage = MemoryStorage()
    with pytest.raises(TransientError):
        commits.write(LostReply(storage), COMMIT)
    commits.write(storage, COMMIT)


def test_commits_are_found_in_order() -> None:
    storage = MemoryStorage()
    for slide, number in (("b", 1), ("a", 2), ("a", 10), ("a", 1), ("ab", 1)):
        commits.write(storage, replace(COMMIT, slide=slide, number=number, objects=()))
    assert list(commits.find(storage, "a")) == [f"commits/a/{n:08d}.json" for n in (1, 2, 10)]
    assert len(list(commits.find(storage))) == 5
    assert list(commits.find(storage, "nobody")) == []


# --- what is not believed ---------------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(commits.encode(COMMIT))
    return found


def test_a_commit_that_is_not_there() -> None:
    with pytest.raises(ObjectMissingError):
        commits.read(MemoryStorage(), KEY)


def test_a_newer_format_is_said_to_be_newer() -> None:
    versions: tuple[object, ...] = (2, "1", None, {}, 1e999)
    for version in versions:
        data = json.dumps({**document(), "format": version}).encode()
        with pytest.raises(IntegrityError, match=f"{KEY} has format") as caught:
            commits.decode(data, where=KEY)
        assert caught.value.kind is Kind.FORMAT_UNKNOWN


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"7", b"[" * 100_000, b"\xff", b"{" + b'"a":{' * 50_000, b'"' + b"a" * 10**6]
)
def test_damaged_commits_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=KEY):
        commits.decode(data, where=KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"slide": "other"},
        {"slide": "../../private/x"},
        {"slide": "slide0key/attempt0key"},
        {"slide": ""},
        {"slide": 7},
        {"number": 4},
        {"number": 0},
        {"number": "3"},
        {"number": True},
        {"version": 0},
        {"version": "2"},
        {"version": None},
        {"attempt": ".."},
        {"attempt": "a/b"},
        {"attempt": "A"},
        {"attempt": "a\n"},
        {"attempt": None},
        {"mode": "folded?"},
        {"preset": "other"},
        {"evidence": "hearsay"},
        {"fingerprint": "x"},
        {"fingerprint": HASH.upper()},
        {"bytes_source": -1},
        {"bytes_source": 1.5},
        {"verified_at": 7},
        {"objects": []},
        {"objects": {"store": []}},
        {"objects": {"store": 7, "private": []}},
        {"objects": {"store": [[]], "private": []}},
        {"objects": {"store": [["zarr.json", -1, HASH]], "private": []}},
        {"objects": {"store": [["zarr.json", 1, "hash"]], "private": []}},
        {"objects": {"store": [["../../../x", 1, HASH]], "private": []}},
        {"objects": {"store": [["/etc/passwd", 1, HASH]], "private": []}},
        {"objects": {"store": [["a//b", 1, HASH]], "private": []}},
        {"objects": {"store": [["a\x00b", 1, HASH]], "private": []}},
        {"objects": {"store": [["a/./b", 1, HASH]], "private": []}},
        {"objects": {"store": [["", 1, HASH]], "private": []}},
        {"objects": {"store": [["x" * 2000, 1, HASH]], "private": []}},
        {"expires_at": 7},
        {"expires_at": "tomorrow"},
        {"expires_at": "2031-05-14"},
        {"expires_at": "2031-05-14T10:11:12.000000"},
        {"expires_at": "2031-13-14T10:11:12.000000Z"},
        {"more": 1},
    ],
)
def test_forged_commits_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=KEY):
        commits.decode(json.dumps({**document(), **change}).encode(), where=KEY)


def test_a_commit_without_one_of_its_fields_is_refused() -> None:
    for name in document().keys() - {"version"}:
        rest = {key: value for key, value in document().items() if key != name}
        with pytest.raises(IntegrityError, match=KEY):
            commits.decode(json.dumps(rest).encode(), where=KEY)


def test_a_commit_from_before_versions_is_of_the_version_of_its_number() -> None:
    rest = {key: value for key, value in document().items() if key != "version"}
    assert commits.decode(json.dumps(rest).encode(), where=KEY) == replace(
        commits.decode(commits.encode(COMMIT), where=KEY), version=3
    )


def test_the_next_number_follows_the_highest_that_is_there() -> None:
    storage = MemoryStorage()
    assert commits.next_number(storage, "a") == 1
    for slide, number in (("a", 1), ("a", 3), ("b", 7)):
        commits.write(storage, replace(COMMIT, slide=slide, number=number, objects=()))
    storage.put("commits/a/00000009.json.part", b"")
    storage.put("commits/a/x.json", b"")
    assert commits.next_number(storage, "a") == 4


def test_a_commit_under_another_key_is_refused() -> None:
    with pytest.raises(IntegrityError, match="is the commit"):
        commits.decode(commits.encode(COMMIT), where="commits/slide0key/00000004.json")


@settings(max_examples=200)
@given(st.data())
def test_whatever_is_read_names_only_keys_of_its_own(data: st.DataObject) -> None:
    garbled = bytearray(commits.encode(COMMIT))
    for _ in range(data.draw(st.integers(1, 3))):
        garbled[data.draw(st.integers(0, len(garbled) - 1))] = data.draw(
            st.integers(32, 126) | st.sampled_from(list(b'./\\"[]{},:0'))
        )
    with contextlib.suppress(IntegrityError):
        found = commits.decode(bytes(garbled), where=KEY)
        assert found.key == KEY
        for record in found.objects:
            assert record.key.startswith((found.place.store, found.place.private))
            assert ".." not in check_key(record.key).split("/")


def test_a_tier_that_fails_is_not_a_commit_that_is_damaged() -> None:
    class Failing(WrappedStorage):
        def get(self, *args: Any, **kwargs: Any) -> bytes:
            raise TransientError("the line is cut")

    with pytest.raises(StorageError):
        commits.read(Failing(MemoryStorage()), KEY)
