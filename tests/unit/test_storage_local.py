"""What `LocalStorage` promises beyond the contract: flushes, foreign files, lost mounts, leftovers."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wsistore.clock import SystemClock
from wsistore.errors import FullError, Kind, ObjectExistsError, ObjectMissingError, StorageError
from wsistore.storage import _errors, _posix
from wsistore.storage.base import Span, Storage
from wsistore.storage.local import TEMPORARY_FOLDER, LocalStorage
from wsistore.storage.open import create_tier


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tier"
    folder.mkdir()
    return folder


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root)


def _files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}


ACTS: dict[str, Callable[[Storage], object]] = {
    "put": lambda s: s.put("a/b", b"x"),
    "put if absent": lambda s: s.put("a/b", b"x", if_absent=True),
    "upload": lambda s: s.upload("a/b"),
    "get": lambda s: s.get("a/b"),
    "get_many": lambda s: s.get_many("a/b", [Span(0, 1)]),
    "stream": lambda s: next(s.stream("a/b")),
    "head": lambda s: s.head("a/b"),
    "list": lambda s: list(s.list()),
    "versions": lambda s: list(s.versions()),
    "delete": lambda s: s.delete("a/b"),
}


# --- a tier that is not there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_folder_that_is_not_there_is_not_created(root: Path, act: Callable[[Storage], object]) -> None:
    storage = LocalStorage(root)
    storage.put("a/b", b"x")
    storage.delete("a/b")
    (root / TEMPORARY_FOLDER).rmdir()
    root.rmdir()
    with pytest.raises(StorageError) as caught:
        act(storage)
    assert caught.value.kind is Kind.TIER_MISSING
    assert "Mount it" in caught.value.remedy
    assert not root.exists()


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_bare_mount_point_of_a_tier_is_not_taken_for_the_tier(
    root: Path, act: Callable[[Storage], object], pickled: bool
) -> None:
    storage = LocalStorage(root)
    create_tier(storage, "id-1", "hot")
    root.rename(root.with_name("unmounted"))
    root.mkdir()
    if pickled:  # as a worker gets it on whose machine the tier is not mounted
        storage = pickle.loads(pickle.dumps(storage))
    with pytest.raises(StorageError) as caught:
        act(storage)
    assert caught.value.kind is Kind.TIER_MISSING
    assert list(root.iterdir()) == []


def test_tier_that_is_mounted_again_works_again(root: Path, storage: LocalStorage) -> None:
    create_tier(storage, "id-1", "hot")
    storage.put("a", b"x")
    root.rename(root.with_name("unmounted"))
    with pytest.raises(StorageError):
        storage.get("a")
    root.with_name("unmounted").rename(root)
    assert storage.get("a") == b"x"


def test_upload_does_not_follow_a_tier_that_vanishes(root: Path, storage: LocalStorage) -> None:
    create_tier(storage, "id-1", "hot")
    with storage.upload("a/b") as upload:
        upload.write(b"x")
        root.rename(root.with_name("unmounted"))
        root.mkdir()
        with pytest.raises(StorageError) as caught:
            upload.complete()
    assert caught.value.kind is Kind.TIER_MISSING
    assert list(root.iterdir()) == []


def test_listing_does_not_end_quietly_when_the_tier_vanishes(root: Path, storage: LocalStorage) -> None:
    for key in ("a/1", "b/1", "c/1"):
        storage.put(key, b"x")
    listing = storage.list()
    assert next(listing).key == "a/1"
    root.rename(root.with_name("unmounted"))
    with pytest.raises(StorageError) as caught:
        list(listing)
    assert caught.value.kind is Kind.TIER_MISSING


def test_root_that_is_a_file_is_no_tier(tmp_path: Path) -> None:
    (tmp_path / "tier").write_bytes(b"")
    for act in ACTS.values():
        with pytest.raises(StorageError) as caught:
            act(LocalStorage(tmp_path / "tier"))
        assert caught.value.kind is Kind.TIER_MISSING


def test_root_that_is_no_path_is_refused() -> None:
    with pytest.raises(StorageError) as caught:
        LocalStorage(Path("a\0b"))
    assert caught.value.kind is Kind.SETTINGS_INVALID


# --- keys that a file system cannot hold -----------------------------------------------------------------------------


@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize(("there", "key"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_key_that_is_the_folder_of_another_is_refused(
    root: Path, storage: LocalStorage, there: str, key: str, if_absent: bool
) -> None:
    storage.put(there, b"first")
    with pytest.raises(StorageError) as caught:
        storage.put(key, b"second", if_absent=if_absent)
    assert caught.value.kind is Kind.KEY_INVALID
    assert not isinstance(caught.value, ObjectExistsError)
    assert _files(root) == {there}
    assert storage.get(there) == b"first"


@pytest.mark.parametrize(
    "key", [".wsistore-tmp", ".wsistore-tmp/a", "lost+found", "lost+found/a", "a/.nfs01", ".nfs/a"]
)
def test_key_that_belongs_to_somebody_else_is_refused(root: Path, storage: LocalStorage, key: str) -> None:
    for act in (storage.get, storage.head, storage.delete, storage.upload, lambda k: storage.put(k, b"x")):
        with pytest.raises(StorageError) as caught:
            act(key)
        assert caught.value.kind is Kind.KEY_INVALID
    assert list(root.iterdir()) == []


def test_name_longer_than_the_file_system_takes_is_refused(root: Path, storage: LocalStorage) -> None:
    with pytest.raises(StorageError) as caught:
        storage.put("k" * 300, b"x")
    assert caught.value.kind is Kind.KEY_INVALID
    assert _files(root) == set()


# --- what others put there -------------------------------------------------------------------------------------------


def test_what_is_no_object_is_neither_listed_nor_read(root: Path, storage: LocalStorage) -> None:
    storage.put("a/b", b"x")
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to(root / "a")
    (root / "a" / "link").symlink_to(root)
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "lost+found").mkdir()
    (root / "lost+found" / "x").write_bytes(b"x")
    (root / "a" / ".nfs0123").write_bytes(b"x")
    (root / "a\\b").write_bytes(b"x")
    (root / "a\nb").write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_bytes(b"x")
    with storage.upload("c") as upload:
        upload.write(b"x")
        assert [info.key for info in storage.list()] == ["a/b"]
        assert list(storage.list(".")) == []
        assert list(storage.list(f"{TEMPORARY_FOLDER}/")) == []
    for key in ("pipe", "dangling"):
        with pytest.raises(ObjectMissingError):
            storage.get(key)


def test_deep_tree_is_listed(root: Path) -> None:
    storage = LocalStorage(root, durable=False)
    key = "/".join(["d"] * 500)
    storage.put(key, b"x")
    assert [info.key for info in storage.list()] == [key]
    storage.delete(key)
    assert list(root.iterdir()) == [root / TEMPORARY_FOLDER]


def test_listing_reads_folders_as_it_comes_to_them(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(50):
        storage.put(f"{n:02d}/x/y", b"x")
    visited: list[bytes] = []
    scandir = os.scandir

    def spy(path: bytes) -> object:
        visited.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    listing = storage.list()
    assert next(listing).key == "00/x/y"
    assert len(visited) == 3
    assert [info.key for info in storage.list(after="47/z")] == ["48/x/y", "49/x/y"]
    assert len(visited) == 3 + 6  # the root, 47, and two for each of 48 and 49
    assert len(list(storage.list("31/x"))) == 1
    assert len(visited) == 3 + 6 + 2
    assert len(list(storage.list("3"))) == 10
    assert len(visited) == 3 + 6 + 2 + 21  # the root, and two for each from 30 to 39


@pytest.mark.parametrize(
    ("mtime_ns", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_767_268_800_123_456_789, datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        (10**21, datetime.max.replace(tzinfo=UTC)),
        (-(10**21), datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_time_of_change_that_no_calendar_has_is_the_nearest(mtime_ns: int, expected: datetime) -> None:
    assert _posix.moment(mtime_ns) == expected


# --- flushes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Keep what is flushed, named and removed, in order, with paths relative to the tier."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name what is flushed")
    entries: list[str] = []
    fsync, rename, link, rmdir = os.fsync, os.rename, os.link, os.rmdir

    def name(path: bytes | str) -> str:
        relative = Path(os.fsdecode(path)).relative_to(root)
        return "temporary" if relative.parts[:1] == (TEMPORARY_FOLDER,) else relative.as_posix()

    def record_fsync(descriptor: int) -> None:
        entries.append(f"flush {name(Path(f'/proc/self/fd/{descriptor}').readlink().as_posix())}")
        fsync(descriptor)

    def record_rename(source: bytes, target: bytes) -> None:
        rename(source, target)
        entries.append(f"name {name(target)}")

    def record_link(source: bytes, target: bytes) -> None:
        link(source, target)
        entries.append(f"name {name(target)}")

    def record_rmdir(path: bytes) -> None:
        rmdir(path)
        entries.append(f"remove {name(path)}")

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    monkeypatch.setattr(os, "link", record_link)
    monkeypatch.setattr(os, "rmdir", record_rmdir)
    return iter([entries])


@pytest.mark.parametrize("if_absent", [False, True])
def test_put_flushes_bytes_then_name_then_new_folders(
    storage: LocalStorage, journal: Iterator[list[str]], if_absent: bool
) -> None:
    entries = next(journal)
    storage.put("a/b/c", b"x", if_absent=if_absent)
    assert entries == ["flush temporary", "name a/b/c", "flush a/b", "flush a", "flush ."]


def test_upload_flushes_as_put_does(storage: LocalStorage, journal: Iterator[list[str]]) -> None:
    entries = next(journal)
    with storage.upload("a/b") as upload:
        upload.write(b"x")
        upload.complete()
    assert entries == ["flush temporary", "name a/b", "flush a", "flush ."]


def test_known_folders_are_not_flushed_again(storage: LocalStorage, journal: Iterator[list[str]]) -> None:
    entries = next(journal)
    storage.put("a/b/c", b"x")
    entries.clear()
    storage.put("a/b/d", b"x")
    assert entries == ["flush temporary", "name a/b/d", "flush a/b"]
    entries.clear()
    storage.put("a/e/f", b"x")
    assert entries == ["flush temporary", "name a/e/f", "flush a/e", "flush a"]


def test_folder_that_somebody_else_made_is_flushed_into_its_parent(
    root: Path, storage: LocalStorage, journal: Iterator[list[str]]
) -> None:
    entries = next(journal)
    (root / "a").mkdir()  # as another process did a moment ago, and has not flushed it
    storage.put("a/b", b"x")
    assert entries == ["flush temporary", "name a/b", "flush a", "flush ."]


def test_folder_that_was_removed_is_not_known_any_more(storage: LocalStorage, journal: Iterator[list[str]]) -> None:
    entries = next(journal)
    storage.put("a/b/c", b"x")
    entries.clear()
    storage.delete("a/b/c")
    assert entries == ["remove a/b", "remove a", "flush ."]
    assert storage._names._flushed == set()  # the next folder may get the inode of one that was removed
    entries.clear()
    storage.put("a/b/c", b"x")
    assert entries == ["flush temporary", "name a/b/c", "flush a/b", "flush a", "flush ."]


def test_folder_that_stays_is_still_known_after_a_delete(storage: LocalStorage, journal: Iterator[list[str]]) -> None:
    entries = next(journal)
    storage.put("a/b", b"x")
    storage.put("a/c", b"x")
    entries.clear()
    storage.delete("a/b")
    assert entries == ["flush a"]
    entries.clear()
    storage.put("a/d", b"x")
    assert entries == ["flush temporary", "name a/d", "flush a"]


def test_storage_that_need_not_last_flushes_nothing(root: Path, journal: Iterator[list[str]]) -> None:
    entries = next(journal)
    storage = LocalStorage(root, durable=False)
    storage.put("a/b", b"x")
    storage.delete("a/b")
    assert entries == ["name a/b", "remove a"]


def test_uncached_stream_forgets_after_a_flush(
    storage: LocalStorage, journal: Iterator[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not storage.properties.uncached_reads:
        pytest.skip("this system cannot read past its cache")
    entries = next(journal)
    storage.put("a", b"x" * 100)
    entries.clear()
    advise = os.posix_fadvise

    def record(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        entries.append("forget")
        advise(descriptor, offset, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", record)
    assert b"".join(bytes(block) for block in storage.stream("a", uncached=True)) == b"x" * 100
    assert entries == ["flush a", "forget"]
    entries.clear()
    assert b"".join(bytes(block) for block in storage.stream("a")) == b"x" * 100
    assert entries == []


# --- errors of the operating system ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error", "kind"),
    [
        (errno.ENOSPC, FullError, Kind.STORAGE_FULL),
        (errno.EDQUOT, FullError, Kind.STORAGE_FULL),
        (errno.EFBIG, FullError, Kind.STORAGE_FULL),
        (errno.EACCES, StorageError, Kind.STORAGE_DENIED),
        (errno.EPERM, StorageError, Kind.STORAGE_DENIED),
        (errno.EROFS, StorageError, Kind.STORAGE_DENIED),
        (errno.ENAMETOOLONG, StorageError, Kind.KEY_INVALID),
        (errno.EIO, StorageError, Kind.STORAGE_FAILED),
        (errno.ESTALE, StorageError, Kind.STORAGE_FAILED),
        (errno.EMFILE, StorageError, Kind.STORAGE_FAILED),
    ],
)
def test_error_of_the_system_is_told_in_words(number: int, error: type[StorageError], kind: Kind) -> None:
    told = _errors.translate(OSError(number, os.strerror(number)), "file:///tier", "a/b", "written")
    assert type(told) is error
    assert told.kind is kind
    assert told.message == f"'a/b' could not be written in file:///tier: {os.strerror(number)}."
    assert told.remedy


@pytest.mark.parametrize("call", ["write", "fsync", "close", "rename", "mkdir", "open"])
def test_write_that_fails_leaves_nothing(
    root: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    storage.put("old", b"x")
    genuine = getattr(os, call)

    def fail(*args: object, **kwargs: object) -> None:
        if call == "close":
            genuine(*args, **kwargs)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError) as caught:
            storage.put("a/b", b"x")
    assert type(caught.value) is StorageError
    assert caught.value.kind is Kind.STORAGE_FAILED
    assert _files(root) == {"old"}
    assert not (root / "a").exists()
    assert storage.put("a/b", b"x").size_bytes == 1


def test_part_that_failed_half_way_is_never_completed(
    root: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage.upload("a") as upload:
        upload.write(b"first")
        with monkeypatch.context() as patch:

            def full(descriptor: int, data: memoryview) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(os, "write", full)
            with pytest.raises(FullError):
                upload.write(b"second")
        for act in (upload.complete, lambda: upload.write(b"second")):
            with pytest.raises(StorageError):
                act()
    assert _files(root) == set()


def test_link_whose_reply_a_file_server_lost_is_a_success(
    root: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def lose_reply(source: bytes, target: bytes) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    storage.put("a/z", b"x")
    monkeypatch.setattr(os, "link", lose_reply)
    assert storage.put("a/b", b"mine", if_absent=True).size_bytes == 4
    assert _files(root) == {"a/b", "a/z"}
    with pytest.raises(ObjectExistsError):
        storage.put("a/b", b"other", if_absent=True)
    assert storage.get("a/b") == b"mine"


def test_file_system_without_links_is_named(root: Path, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: bytes, target: bytes) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="hard links"):
        storage.put("a", b"x", if_absent=True)
    assert _files(root) == set()


# --- ranges ----------------------------------------------------------------------------------------------------------


def test_neighbouring_parts_are_read_at_once(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1_000_000)
    storage.put("a", data)
    reads: list[tuple[int, int]] = []
    pread = os.pread

    def record(descriptor: int, length: int, offset: int) -> bytes:
        reads.append((offset, length))
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", record)
    near = 64 * 1024 - 1
    spans = [Span(500_000, 10), Span(0, 10), Span(10 + near, 10), Span(5, 3), Span(20 + near + 64 * 1024, 10)]
    assert storage.get_many("a", spans) == [data[s.start : s.start + s.length_bytes] for s in spans]
    assert reads == [(0, 20 + near), (20 + near + 64 * 1024, 10), (500_000, 10)]


def test_short_reads_of_a_file_server_are_made_whole(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1000)
    storage.put("a", data)
    pread, readv = os.pread, os.readv

    def stutter(descriptor: int, buffers: list[memoryview]) -> int:
        return readv(descriptor, [buffers[0][:3]])

    monkeypatch.setattr(os, "pread", lambda descriptor, length, offset: pread(descriptor, min(length, 7), offset))
    monkeypatch.setattr(os, "readv", stutter)
    assert storage.get("a", Span(5, 800)) == data[5:805]
    assert storage.get_many("a", [Span(1, 100), Span(300, 20)]) == [data[1:101], data[300:320]]
    blocks = [bytes(block) for block in storage.stream("a", block_bytes=64)]
    assert b"".join(blocks) == data
    assert {len(block) for block in blocks[:-1]} == {64}


# --- leftovers -------------------------------------------------------------------------------------------------------


def _leave(root: Path, name: str, age: timedelta) -> Path:
    path = root / TEMPORARY_FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    moment = (SystemClock().now() - age).timestamp()
    os.utime(path, (moment, moment))
    return path


def test_leftovers_of_dead_processes_are_cleaned(root: Path, storage: LocalStorage) -> None:
    day, week = timedelta(days=1), timedelta(days=7)
    host, pid, process = _posix._host(), os.getpid(), _posix._PROCESS
    dead_pid = 2**22 + 1  # beyond what Linux gives out
    gone = [
        _leave(root, f"{host}-{dead_pid}-00000000-aa", week),
        _leave(root, f"{host}-{pid}-00000000-ab", week),  # an earlier process of the same number
        _leave(root, f"otherhost-{pid}-00000000-ac", week),
        _leave(root, "what is this", week),
    ]
    kept = [
        _leave(root, f"{host}-{dead_pid}-00000000-ba", timedelta(hours=1)),
        _leave(root, f"{host}-{pid}-{process}-bb", week),
        _leave(root, f"{host}-1-00000000-bc", week),  # the first process always lives
        _leave(root, f"otherhost-{pid}-00000000-bd", timedelta(hours=1)),
    ]
    storage.put("a", b"x")
    assert storage.clean_temporary(SystemClock().now() - day) == len(gone)
    assert _files(root) == {"a", *(path.relative_to(root).as_posix() for path in kept)}


def test_upload_in_progress_outlives_cleaning(root: Path, storage: LocalStorage) -> None:
    with storage.upload("a") as upload:
        upload.write(b"x")
        assert storage.clean_temporary(SystemClock().now() + timedelta(days=1)) == 0
        upload.complete()
    assert storage.get("a") == b"x"


def test_cleaning_where_nothing_was_ever_written(root: Path, storage: LocalStorage) -> None:
    assert storage.clean_temporary(SystemClock().now()) == 0
    root.rmdir()
    with pytest.raises(StorageError) as caught:
        storage.clean_temporary(SystemClock().now())
    assert caught.value.kind is Kind.TIER_MISSING
