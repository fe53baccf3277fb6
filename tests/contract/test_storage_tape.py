"""The contract of archives, kept by a folder with a tape library behind it: a program that takes files' bytes away."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.contract.test_storage_backends import OnLocal
from wsistore.errors import Kind, ObjectArchivedError, StorageError
from wsistore.settings.archive import TapeSettings
from wsistore.storage import tape
from wsistore.storage.archive import Retrieval
from wsistore.storage.base import Readiness, Storage
from wsistore.storage.local import LocalStorage
from wsistore.storage.open import check_tier, create_tier, open_storage
from wsistore.storage.tape import TapeCommands, TapeStorage
from wsistore.testing.clock import ManualClock
from wsistore.testing.storage import StorageContract
from wsistore.testing.storage_archive import DATA, KEY, ArchiveContract

LIBRARY = '''#!{python}
"""A tape library: 'release' takes a file's blocks away, 'recall' brings them back when the robot is free."""
import hashlib, os, sys, time
from pathlib import Path

act, path = sys.argv[1], Path(sys.argv[2])
shelf = Path({shelf!r})
tape = shelf / hashlib.sha256(os.fsencode(path)).hexdigest()
if act == "offline":
    sys.exit(1 if tape.exists() and path.stat().st_blocks == 0 else 0)
status = path.stat()
if act == "release":
    tape.write_bytes(path.read_bytes())
    os.truncate(path, 0)
    os.truncate(path, status.st_size)
    {mark}
elif act == "recall":
    if (shelf / "jammed").exists():
        sys.exit(5)
    while not (shelf / "free").exists():
        if (shelf / "drop").exists():
            sys.exit(7)
        time.sleep(0.01)
    with path.open("r+b") as file:
        file.write(tape.read_bytes())
    {unmark}
    tape.unlink()
os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
'''


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    yield folder
    (folder / "drop").touch()  # recalls that still wait end


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "_START_SECONDS", 0.15)


def library(tmp_path: Path, shelf: Path, way: str) -> TapeCommands:
    """Return the commands of a library; `way` is how it shows that a file is offline."""
    program = tmp_path / "library with a space"
    mark, unmark = ("os.setxattr(path, 'user.tape', b'1')", "os.removexattr(path, 'user.tape')")
    if way != "xattr":
        mark = unmark = "pass"
    program.write_text(LIBRARY.format(python=sys.executable, shelf=str(shelf), mark=mark, unmark=unmark))
    program.chmod(0o755)
    shows = {
        "blocks": ("blocks",),
        "xattr": ("xattr", "user.tape"),
        "command": ("command", str(program), "offline", "{path}"),
    }
    return TapeCommands((str(program), "recall", "{path}"), shows[way], (str(program), "release", "{path}"))


def has_xattrs(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.probe", b"1")
    except OSError:
        return False
    return True


def finished(storage: TapeStorage, key: str) -> None:
    """Wait until a recall is over."""
    end = time.monotonic() + 120
    while storage.look(key).archive.readiness is Readiness.RESTORING:
        assert time.monotonic() < end
        time.sleep(0.02)


class TestTape(ArchiveContract):
    @pytest.fixture(params=["blocks", "xattr", "command"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path, shelf: Path) -> Storage:
        if request.param == "xattr" and not has_xattrs(tmp_path):
            pytest.skip("no extended attributes here")
        (tmp_path / "tier").mkdir()
        return TapeStorage(tmp_path / "tier", library(tmp_path, shelf, request.param))

    @pytest.fixture
    def archive_class(self) -> str:
        return "TAPE"

    @pytest.fixture
    def finish(self, storage: Storage, shelf: Path) -> Callable[[], None]:
        def finish() -> None:
            (shelf / "free").touch()
            assert isinstance(storage, TapeStorage)
            finished(storage, KEY)

        return finish


class TestOnline(OnLocal, StorageContract):
    """What is on disk is as in any folder."""

    @pytest.fixture
    def inner(self, root: Path, tmp_path: Path) -> Storage:
        return TapeStorage(root, TapeCommands(("false", "{path}")))

    @pytest.fixture
    def storage(self, inner: Storage) -> Storage:
        return inner


class TestLibrary:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def storage(self, tmp_path: Path, shelf: Path, clock: ManualClock) -> TapeStorage:
        (tmp_path / "tier").mkdir()
        storage = TapeStorage(tmp_path / "tier", library(tmp_path, shelf, "blocks"), clock=clock)
        storage.put(KEY, DATA)
        storage.transition(KEY, "TAPE")
        return storage

    def test_a_recall_that_fails_at_once_is_told(
        self, storage: TapeStorage, shelf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tape, "_START_SECONDS", 20.0)
        (shelf / "jammed").touch()
        with pytest.raises(StorageError, match="failed with status 5") as caught:
            storage.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        assert KEY in caught.value.message
        assert storage.look(KEY).archive.readiness is Readiness.ARCHIVED

    def test_a_recall_that_fails_later_can_be_asked_for_again(self, storage: TapeStorage, shelf: Path) -> None:
        state = storage.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        assert state.readiness is Readiness.RESTORING
        (shelf / "drop").touch()
        finished(storage, KEY)
        assert storage.look(KEY).archive.readiness is Readiness.ARCHIVED
        (shelf / "drop").unlink()
        (shelf / "free").touch()
        storage.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        finished(storage, KEY)
        assert storage.get(KEY) == DATA

    def test_another_process_sees_the_recall(self, storage: TapeStorage, tmp_path: Path, shelf: Path) -> None:
        storage.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        other = TapeStorage(tmp_path / "tier", library(tmp_path, shelf, "blocks"), clock=ManualClock())
        assert other.look(KEY).archive.readiness is Readiness.RESTORING

    def test_a_queued_recall_that_brings_nothing_is_given_up(
        self, storage: TapeStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tape, "_START_SECONDS", 120.0)  # its program ends at once, but when a busy machine lets it
        queued = TapeStorage(storage.local_path(KEY).parents[2], TapeCommands(("true", "{path}")), clock=clock)
        assert queued.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD).readiness is Readiness.RESTORING
        clock.advance(timedelta(hours=48).total_seconds() - 1)
        assert queued.look(KEY).archive.readiness is Readiness.RESTORING
        clock.advance(1)
        assert queued.look(KEY).archive.readiness is Readiness.ARCHIVED

    def test_a_program_that_is_not_there_is_told(self, storage: TapeStorage) -> None:
        broken = TapeStorage(storage.local_path(KEY).parents[2], TapeCommands(("/no/such/program", "{path}")))
        with pytest.raises(StorageError, match="No such file"):
            broken.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        asks = TapeCommands(("true", "{path}"), ("command", "/no/such/program", "{path}"))
        with pytest.raises(StorageError, match="No such file"):
            TapeStorage(storage.local_path(KEY).parents[2], asks).get(KEY)
        says_nothing = TapeCommands(("true", "{path}"), ("command", "sh", "-c", "echo why >&2; exit 9", "{path}"))
        with pytest.raises(StorageError, match=r"status 9.*why"):
            TapeStorage(storage.local_path(KEY).parents[2], says_nothing).get(KEY)

    def test_without_a_command_nothing_is_sent_to_tape(self, tmp_path: Path) -> None:
        storage = TapeStorage(tmp_path, TapeCommands(("true", "{path}")))
        storage.put(KEY, DATA)
        for storage_class in ("TAPE", "GLACIER"):
            with pytest.raises(StorageError, match=storage_class) as caught:
                storage.transition(KEY, storage_class)
            assert caught.value.kind is Kind.SETTINGS_INVALID
        assert storage.get(KEY) == DATA

    def test_notes_of_recalls_are_no_objects(self, storage: TapeStorage) -> None:
        storage.begin_restore(KEY, days=1, retrieval=Retrieval.STANDARD)
        assert [info.key for info in storage.list()] == [KEY]
        assert storage.clean_temporary(storage.head(KEY).modified + timedelta(days=999)) == 0
        with pytest.raises(StorageError) as caught:
            storage.put(".wsistore-recalls/x", b"")
        assert caught.value.kind is Kind.KEY_INVALID

    def test_a_name_is_never_a_shells(self, tmp_path: Path, shelf: Path) -> None:
        (tmp_path / "tier").mkdir()
        storage = TapeStorage(tmp_path / "tier", library(tmp_path, shelf, "command"))
        key = "a; touch x $(touch y) 'b' \"c\"/-rf"
        storage.put(key, DATA)
        storage.transition(key, "TAPE")
        with pytest.raises(ObjectArchivedError):
            storage.get(key)
        (shelf / "free").touch()
        storage.begin_restore(key, days=1, retrieval=Retrieval.STANDARD)
        finished(storage, key)
        assert storage.get(key) == DATA


@pytest.mark.parametrize(
    "options", [{"recall": ("true", "{path}")}, {"simulated_speed": 10.0}], ids=["tape", "rehearsed"]
)
def test_a_url_with_options_becomes_a_tier(tmp_path: Path, options: dict[str, object]) -> None:
    storage = open_storage((tmp_path / "new").as_uri(), options)
    create_tier(storage, "0123456789", "cold")
    assert check_tier(open_storage(str(tmp_path / "new"), options), "0123456789").name == "cold"
    assert storage.properties.archive
    assert not LocalStorage(tmp_path / "new").properties.archive


def test_settings_are_the_commands() -> None:
    assert TapeSettings.__slots__ == TapeCommands.__slots__
