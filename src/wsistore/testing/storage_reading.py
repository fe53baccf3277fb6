"""The half of the storage contract suite that only reads; `wsistore.testing.storage` is the whole."""

# Tests: their names say what they test, and they assert.
# ruff: noqa: D102, S101

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import ClassVar

import numpy as np
import pytest

from wsistore.clock import SystemClock
from wsistore.errors import Kind, ObjectMissingError, StorageError
from wsistore.storage.base import (
    MAX_KEY_BYTES,
    ObjectInfo,
    Properties,
    Span,
    Storage,
    SupportsLocalPath,
    Tail,
)
from wsistore.units import MIB

RawGet = Callable[[str], bytes]
"""Returns an object's bytes as they lie, past the class under test."""
RawPut = Callable[[str, bytes], None]
"""Lays an object down, past the class under test."""
RawKeys = Callable[[], set[str]]
"""Returns the names of all that lies there, unfinished and temporary objects included."""

DATA = bytes(range(256)) * 5
SIZE = len(DATA)

BAD_KEYS = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/./b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\x7f",
    "\ud800",
    "k" * (MAX_KEY_BYTES + 1),
    "ü" * (MAX_KEY_BYTES // 2 + 1),
)
"""What no back end may keep."""

TRICKY_KEYS = (
    "a b",
    " a",
    "a ",
    "a.",
    ".a",
    "..a",
    "a-b",
    "a/b",
    "a/b.c",
    "a/b-c",
    "a0",
    "A/b",
    "~",
    "%2F",
    "a%20b",
    "a+b",
    "a?b=c&d",
    "#a",
    "'\"`$(a)",
    "*",
    "[a]",
    "\u00e9",
    "e\u0301",
    "試料/標本",
    "🔬",
    "\ufb01",
    "\U0001f600/\uffee",
)
"""What every back end must keep: among them pairs that a sloppy order, quoting or normalisation would confuse."""

RANGES = (
    (Span(0, 0), b""),
    (Span(0, 1), DATA[:1]),
    (Span(0, SIZE), DATA),
    (Span(0, SIZE + 1), DATA),
    (Span(7, 100), DATA[7:107]),
    (Span(SIZE - 1, 1), DATA[-1:]),
    (Span(SIZE - 1, 10), DATA[-1:]),
    (Span(SIZE, 1), b""),
    (Span(SIZE + 1, 1), b""),
    (Span(10**15, 1), b""),
    (Span(5, 10**15), DATA[5:]),
    (Tail(0), b""),
    (Tail(1), DATA[-1:]),
    (Tail(SIZE - 1), DATA[1:]),
    (Tail(SIZE), DATA),
    (Tail(SIZE + 1), DATA),
    (Tail(10**15), DATA),
)


class StorageReadContract:
    """What holds of reading, listing and naming."""

    survives_pickling: ClassVar[bool] = True
    """Whether a pickled copy is to see the same objects; False for what lives in one process."""

    # --- what it is --------------------------------------------------------------------------------------------------

    def test_url_and_properties_describe_it(self, storage: Storage) -> None:
        assert "://" in storage.url
        assert isinstance(storage.properties, Properties)
        assert storage.properties.min_part_bytes >= 0

    def test_pickled_copy_sees_the_same(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", DATA)
        if self.survives_pickling:
            copy: Storage = pickle.loads(pickle.dumps(storage))  # noqa: S301 - our own
            assert copy.get("a/b") == DATA
            assert copy.url == storage.url
        else:
            with pytest.raises(StorageError):
                pickle.dumps(storage)

    def test_local_files_are_the_objects(self, storage: Storage, raw_put: RawPut) -> None:
        if not storage.properties.local_files:
            pytest.skip("objects are no files")
        assert isinstance(storage, SupportsLocalPath)
        raw_put("a/b", DATA)
        assert storage.local_path("a/b").read_bytes() == DATA

    # --- get ---------------------------------------------------------------------------------------------------------

    def test_get_returns_what_lies_there(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", DATA)
        assert storage.get("a/b") == DATA

    def test_get_of_an_empty_object(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("empty", b"")
        assert storage.get("empty") == b""
        assert storage.get("empty", Span(0, 5)) == b""
        assert storage.get("empty", Tail(5)) == b""

    def test_get_of_a_part(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        for byte_range, expected in RANGES:
            assert storage.get("a", byte_range) == expected, byte_range

    def test_get_of_a_negative_part_is_refused(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        for byte_range in (Span(-1, 1), Span(0, -1), Span(-5, 10), Tail(-1)):
            with pytest.raises(StorageError):
                storage.get("a", byte_range)

    def test_get_of_what_is_not_there(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", DATA)
        for key in ("b", "a/bb", "a/b/c", "a", "b/c/d"):
            with pytest.raises(ObjectMissingError) as caught:
                storage.get(key)
            assert caught.value.kind is Kind.OBJECT_MISSING
            assert repr(key) in caught.value.message

    def test_get_of_an_unknown_version(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        with pytest.raises(ObjectMissingError):
            storage.get("a", version="no-such-version")

    # --- get_many ----------------------------------------------------------------------------------------------------

    def test_get_many_keeps_the_order_asked(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        spans = [Span(900, 10), Span(0, 5), Span(3, 400), Span(0, 5), Span(SIZE, 1), Span(SIZE - 2, 9), Span(8, 0)]
        assert storage.get_many("a", spans) == [storage.get("a", span) for span in spans]

    def test_get_many_of_parts_near_and_far(self, storage: Storage, raw_put: RawPut) -> None:
        data = np.random.default_rng(1).bytes(3 * MIB)
        raw_put("a", data)
        starts = [2 * MIB, 0, 10, 65_535, 65_546, 131_200, MIB, MIB + 70_000, 3 * MIB - 5]
        parts = storage.get_many("a", [Span(start, 11) for start in starts])
        assert parts == [data[start : start + 11] for start in starts]

    def test_get_many_of_nothing(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        assert storage.get_many("a", []) == []

    def test_get_many_of_what_is_not_there(self, storage: Storage) -> None:
        with pytest.raises(ObjectMissingError):
            storage.get_many("a", [Span(0, 1)])

    def test_get_many_of_a_negative_part_is_refused(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        with pytest.raises(StorageError):
            storage.get_many("a", [Span(0, 1), Span(-1, 1)])

    # --- stream ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("uncached", [False, True])
    def test_stream_gives_full_blocks_in_order(self, storage: Storage, raw_put: RawPut, uncached: bool) -> None:
        raw_put("a", DATA)
        for block_bytes in (1, 7, SIZE - 1, SIZE, SIZE + 1, 8 * MIB):
            # Copied at once: a block is valid only until the next is asked for.
            blocks = [bytes(block) for block in storage.stream("a", block_bytes=block_bytes, uncached=uncached)]
            assert b"".join(blocks) == DATA
            assert {len(block) for block in blocks[:-1]} <= {block_bytes}
            assert 0 < len(blocks[-1]) <= block_bytes

    def test_stream_of_an_empty_object(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("empty", b"")
        assert b"".join(bytes(block) for block in storage.stream("empty")) == b""

    def test_stream_of_what_is_not_there(self, storage: Storage) -> None:
        with pytest.raises(ObjectMissingError):
            next(storage.stream("a"))

    def test_stream_in_blocks_of_nothing_is_refused(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        for block_bytes in (0, -1):
            with pytest.raises(StorageError):
                next(storage.stream("a", block_bytes=block_bytes))

    def test_streams_do_not_share_their_blocks(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", b"a" * 100)
        raw_put("b", b"b" * 100)
        one, other = storage.stream("a", block_bytes=60), storage.stream("b", block_bytes=60)
        first = next(one)
        assert bytes(next(other)) == b"b" * 60
        assert bytes(first) == b"a" * 60

    def test_stream_can_be_left_early(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a", DATA)
        stream = storage.stream("a", block_bytes=10)
        assert bytes(next(stream)) == DATA[:10]
        del stream
        assert storage.get("a") == DATA

    # --- head --------------------------------------------------------------------------------------------------------

    def test_head_tells_size_and_time(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", DATA)
        info = storage.head("a/b")
        assert (info.key, info.size_bytes) == ("a/b", SIZE)
        assert info.modified.utcoffset() == timedelta(0)
        assert abs(info.modified - SystemClock().now()) < timedelta(hours=1)

    def test_head_of_what_is_not_there(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", DATA)
        for key in ("b", "a", "a/b/c"):
            with pytest.raises(ObjectMissingError):
                storage.head(key)

    # --- list --------------------------------------------------------------------------------------------------------

    def test_list_of_nothing(self, storage: Storage) -> None:
        assert list(storage.list()) == []
        assert list(storage.list("a/")) == []

    def test_list_is_in_order_of_the_keys_bytes(self, storage: Storage, raw_put: RawPut) -> None:
        for key in TRICKY_KEYS:
            raw_put(key, b"x")
        assert [info.key for info in storage.list()] == sorted(TRICKY_KEYS, key=str.encode)

    def test_list_order_is_not_that_of_a_walk(self, storage: Storage, raw_put: RawPut) -> None:
        # "-" and "." sort before "/", and "0" behind it.
        expected = ["a-b", "a-b.c/d", "a-b/c", "a.b", "a.b-x", "a/b", "a/c-d", "a/c/d", "a0", "ab/c"]
        for key in reversed(expected):
            if key != "a-b":  # on a file system no key may be the folder of another
                raw_put(key, b"x")
        assert [info.key for info in storage.list()] == expected[1:]

    def test_list_tells_what_head_tells(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", DATA)
        raw_put("c", b"")
        assert list(storage.list()) == [storage.head("a/b"), storage.head("c")]

    def test_list_of_a_prefix(self, storage: Storage, raw_put: RawPut) -> None:
        keys = ["a", "ab/c", "ab/cd/e", "ab/ce", "abc", "b/a", "b/ab/c"]
        for key in keys:
            raw_put(key, b"x")
        for prefix in ("", "a", "ab", "ab/", "ab/c", "ab/cd", "ab/cd/", "ab/cd/e", "ab/cd/ef", "b/", "c", "b/ab/c/"):
            expected = [key for key in sorted(keys) if key.startswith(prefix)]
            assert [info.key for info in storage.list(prefix)] == expected, prefix

    def test_list_of_a_prefix_that_no_key_has(self, storage: Storage, raw_put: RawPut) -> None:
        raw_put("a/b", b"x")
        for prefix in ("/", "../", "..", "./", "a//", "//", "a/../", "a/../a/", "\0", "a/\0", "\ud800", "a\\", "a/b/c"):
            assert list(storage.list(prefix)) == [], prefix

    def test_list_after_a_key(self, storage: Storage, raw_put: RawPut) -> None:
        keys = sorted(["a-b", "a/b", "a/c/d", "a/c/e", "a0", "b", "é/x"], key=str.encode)
        for key in keys:
            raw_put(key, b"x")
        for after in (*keys, "", "a", "a/", "a/c", "a/c/", "a/c/dd", "a/z", "a00", "z", "\uffff", "\ud800"):
            low = after.encode("utf-8", "surrogatepass")
            assert [info.key for info in storage.list(after=after)] == [k for k in keys if k.encode() > low], after
            inside = [k for k in keys if k.startswith("a/") and k.encode() > low]
            assert [info.key for info in storage.list("a/", after=after)] == inside, after

    def test_list_in_pages_names_each_object_once(self, storage: Storage, raw_put: RawPut) -> None:
        keys = {f"{n % 7}/{n % 3}-{n}" for n in range(60)}
        for key in keys:
            raw_put(key, b"x")
        seen: list[str] = []
        while page := _first(storage.list(after=seen[-1] if seen else ""), 7):
            seen += [info.key for info in page]
        assert seen == sorted(keys)

    def test_versions_of_a_prefix(self, storage: Storage, raw_put: RawPut) -> None:
        for key in ("a/b", "a/c", "b"):
            raw_put(key, DATA)
        assert [(info.key, info.size_bytes) for info in storage.versions("a/")] == [("a/b", SIZE), ("a/c", SIZE)]

    # --- keys --------------------------------------------------------------------------------------------------------

    def test_reading_a_bad_key_is_refused(self, storage: Storage) -> None:
        acts: list[Callable[[str], object]] = [
            storage.get,
            lambda key: storage.get_many(key, [Span(0, 1)]),
            lambda key: next(storage.stream(key)),
            storage.head,
        ]
        for key in BAD_KEYS:
            for act in acts:
                with pytest.raises(StorageError) as caught:
                    act(key)
                assert caught.value.kind is Kind.KEY_INVALID, key

    def test_reading_tricky_keys(self, storage: Storage, raw_put: RawPut) -> None:
        for key in TRICKY_KEYS:
            raw_put(key, key.encode())
        for key in TRICKY_KEYS:
            assert storage.get(key) == key.encode()
            assert storage.head(key).key == key
            expected = sorted((other for other in TRICKY_KEYS if other.startswith(key)), key=str.encode)
            assert [info.key for info in storage.list(key)] == expected

    # --- threads -----------------------------------------------------------------------------------------------------

    def test_many_threads_read_at_once(self, storage: Storage, raw_put: RawPut) -> None:
        for n in range(20):
            raw_put(f"{n}", bytes([n]) * 1000)
        with ThreadPoolExecutor(8) as pool:
            parts = list(pool.map(lambda n: storage.get(f"{n % 20}", Span(n, 10)), range(400)))
        assert parts == [bytes([n % 20]) * 10 for n in range(400)]


def assert_absent(storage: Storage, key: str) -> None:
    """Fail if any way of reading finds an object under `key`."""
    with pytest.raises(ObjectMissingError):
        storage.get(key)
    with pytest.raises(ObjectMissingError):
        storage.head(key)
    assert key not in {info.key for info in storage.list()}


def _first(infos: Iterator[ObjectInfo], count: int) -> list[ObjectInfo]:
    return [info for _, info in zip(range(count), infos, strict=False)]
