"""`LocalStorage` on real file systems and between real processes: full disks, read-only mounts, races, kills."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from wsistore.clock import SystemClock
from wsistore.errors import FullError, Kind, StorageError
from wsistore.storage import _posix
from wsistore.storage.base import Storage, Upload
from wsistore.storage.local import TEMPORARY_FOLDER, LocalStorage
from wsistore.units import MIB

Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount small file systems, with the options given."""
    mounted: list[Path] = []

    def act(options: str) -> Path:
        folder = tmp_path / f"mount-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"only root may mount a file system: {getattr(error, 'stderr', '') or error}")
        mounted.append(folder)
        return folder

    yield act
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path != root / TEMPORARY_FOLDER}


# --- no room ---------------------------------------------------------------------------------------------------------


def test_full_disk_leaves_nothing(mount: Mount) -> None:
    root = mount("size=2m")
    storage = LocalStorage(root)
    storage.put("kept/small", b"x" * 1000)
    for if_absent in (False, True):
        with pytest.raises(FullError) as caught:
            storage.put("a/b", bytes(3 * MIB), if_absent=if_absent)
        assert "'a/b'" in caught.value.message
        assert _files(root) == {"kept", "kept/small"}
    with storage.upload("a/b") as upload:
        with pytest.raises(FullError):
            _write_without_end(upload)
        assert _files(root) == {"kept", "kept/small"}
    assert _files(root) == {"kept", "kept/small"}
    with pytest.raises(FullError):  # what was there stays as it was
        storage.put("kept/small", bytes(3 * MIB))
    assert storage.get("kept/small") == b"x" * 1000
    assert storage.put("a/b", bytes(MIB)).size_bytes == MIB


def test_disk_without_inodes_leaves_no_folders(mount: Mount) -> None:
    root = mount("size=2m,nr_inodes=8")
    storage = LocalStorage(root)
    storage.put("kept", b"x")
    with pytest.raises(FullError):
        storage.put("a/b/c/d/e/f/g/h/i/j", b"x")
    assert _files(root) == {"kept"}
    assert storage.put("a/b", b"x").size_bytes == 1


def test_quota_leaves_nothing(tmp_path: Path) -> None:
    done = _run(
        """
        import resource
        from wsistore.errors import FullError
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        storage.put("small", b"x")
        acts = [lambda: storage.put("a/b", bytes(100_001)), lambda: storage.put("a/b", bytes(100_001), if_absent=True)]
        for act in acts:
            try:
                act()
            except FullError as error:
                print(error.kind)
        try:
            with storage.upload("a/b") as upload:
                for _ in range(3):
                    upload.write(bytes(40_000))
        except FullError as error:
            print(error.kind)
        """,
        tmp_path,
    )
    assert done.split() == ["storage-full"] * 3
    assert _files(tmp_path) == {"small"}


# --- no right --------------------------------------------------------------------------------------------------------


_AS_NOBODY = """
        import os
        from wsistore.errors import StorageError
        if os.getuid() == 0:  # whom permissions do not bind
            os.setgid(65534)
            os.setuid(65534)
"""


@pytest.fixture
def open_root() -> Iterator[Path]:
    """Give a tier's folder that every account can reach: the usual temporary folders are their owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield _made(Path(folder) / "tier")


def _assert_readable_only(storage: Storage) -> None:
    assert storage.get("a/b") == b"x"
    assert [info.key for info in storage.list()] == ["a/b"]
    assert b"".join(bytes(block) for block in storage.stream("a/b", uncached=True)) == b"x"
    acts: list[Callable[[], object]] = [
        lambda: storage.put("a/b", b"y"),
        lambda: storage.put("c/d", b"y", if_absent=True),
        lambda: storage.upload("c/d"),
        lambda: storage.delete("a/b"),
    ]
    for act in acts:
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.kind is Kind.STORAGE_DENIED
        assert caught.value.remedy
    assert storage.get("a/b") == b"x"


@pytest.mark.parametrize("had_written", [False, True])
def test_mount_that_is_read_only_is_read_only(mount: Mount, had_written: bool) -> None:
    root = mount("size=1m")
    (root / "a").mkdir()
    (root / "a" / "b").write_bytes(b"x")
    if had_written:
        LocalStorage(root).put("c", b"x")
        LocalStorage(root).delete("c")
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    _assert_readable_only(LocalStorage(root))


def test_folder_of_another_account_is_read_only(open_root: Path) -> None:
    root = open_root
    LocalStorage(root).put("a/b", b"x")
    for folder in (root / "a", root / TEMPORARY_FOLDER, root):
        folder.chmod(0o555)
    done = _run(
        _AS_NOBODY
        + """
        assert storage.get("a/b") == b"x"
        assert [info.key for info in storage.list()] == ["a/b"]
        acts = [
            lambda: storage.put("a/b", b"y"),
            lambda: storage.put("c/d", b"y", if_absent=True),
            lambda: storage.upload("c/d"),
            lambda: storage.delete("a/b"),
        ]
        for act in acts:
            try:
                act()
            except StorageError as error:
                print(error.kind)
        """,
        root,
    )
    for folder in (root, root / "a", root / TEMPORARY_FOLDER):
        folder.chmod(0o755)
    assert done.split() == ["storage-denied"] * 4
    assert LocalStorage(root).get("a/b") == b"x"


def test_object_that_may_not_be_read_is_denied_not_missing(open_root: Path) -> None:
    root = open_root
    LocalStorage(root).put("a", b"x")
    (root / "a").chmod(0)
    done = _run(
        _AS_NOBODY
        + """
        try:
            storage.get("a")
        except StorageError as error:
            print(error.kind)
        """,
        root,
    )
    assert done.split() == ["storage-denied"]


def test_folder_that_may_not_be_listed_is_not_taken_for_empty(open_root: Path) -> None:
    root = open_root
    LocalStorage(root).put("a/b", b"x")
    LocalStorage(root).put("c", b"x")
    (root / "a").chmod(0)
    done = _run(
        _AS_NOBODY
        + """
        try:
            print([info.key for info in storage.list()])
        except StorageError as error:
            print(error.kind)
        """,
        root,
    )
    (root / "a").chmod(0o755)
    assert done.split() == ["storage-denied"]


# --- several processes -----------------------------------------------------------------------------------------------


def test_of_racing_processes_one_writes_each_object(tmp_path: Path) -> None:
    script = """
        import pathlib, sys
        from wsistore.errors import ObjectExistsError
        go = pathlib.Path(sys.argv[1]).with_name("go")
        print("ready", flush=True)
        while not go.exists():
            pass
        for n in range(150):
            try:
                storage.put(f"commits/{n % 7}/{n}.json", f"{sys.argv[2]}".encode() * 50, if_absent=True)
                print(n)
            except ObjectExistsError:
                pass
        """
    root = _made(tmp_path / "tier")
    racers = [_start(script, root, str(number)) for number in range(3)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    won = [racer.communicate(timeout=240)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 3
    assert sorted(int(n) for numbers in won for n in numbers) == list(range(150))
    storage = LocalStorage(root)
    for number, numbers in enumerate(won):
        for n in map(int, numbers):
            assert storage.get(f"commits/{n % 7}/{n}.json") == f"{number}".encode() * 50
    assert list((root / TEMPORARY_FOLDER).iterdir()) == []


def test_writers_and_deleters_in_several_processes_do_not_harm_each_other(tmp_path: Path) -> None:
    script = """
        import sys
        for n in range(200):
            storage.put(f"a/b/c/{sys.argv[2]}", b"x", if_absent=n % 2 == 0)
            assert storage.get(f"a/b/c/{sys.argv[2]}") == b"x"
            storage.delete(f"a/b/c/{sys.argv[2]}")
        """
    racers = [_start(script, tmp_path, str(number)) for number in range(3)]
    for racer in racers:
        out, err = racer.communicate(timeout=240)
        assert (racer.returncode, out, err) == (0, "", "")
    assert _files(tmp_path) == set()


@pytest.mark.parametrize("replaces", [False, True])
def test_killed_upload_shows_nothing_and_is_cleaned(tmp_path: Path, replaces: bool) -> None:
    storage = LocalStorage(tmp_path)
    if replaces:
        storage.put("a/b", b"old")
    victim = _start(
        """
        import time
        upload = storage.upload("a/b")
        upload.write(bytes(5_000_000))
        print("written", flush=True)
        time.sleep(60)
        """,
        tmp_path,
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "written\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert [(info.key, info.size_bytes) for info in storage.list()] == ([("a/b", 3)] if replaces else [])
    assert sum(path.stat().st_size for path in (tmp_path / TEMPORARY_FOLDER).iterdir()) == 5_000_000
    assert storage.clean_temporary(SystemClock().now() - timedelta(minutes=5)) == 0
    assert storage.clean_temporary(SystemClock().now() + timedelta(minutes=5)) == 1
    assert _files(tmp_path) == ({"a", "a/b"} if replaces else set())


def test_process_killed_at_any_moment_leaves_whole_objects_only(tmp_path: Path) -> None:
    script = """
        n = 0
        print("ready", flush=True)
        while True:
            n += 1
            storage.put(f"{n % 5}/{n % 3}", bytes([n % 251]) * 70_000, if_absent=False)
        """
    storage = LocalStorage(tmp_path)
    for turn in range(6):
        victim = _start(script, tmp_path)
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(0.02 + 0.013 * turn)
        victim.kill()
        victim.communicate()
        for info in storage.list():
            data = storage.get(info.key)
            assert len(data) == 70_000
            assert len(set(data)) == 1
    storage.clean_temporary(SystemClock().now() + timedelta(minutes=5))
    assert list((tmp_path / TEMPORARY_FOLDER).iterdir()) == []


# --- the page cache --------------------------------------------------------------------------------------------------


def _cached_pages(path: Path) -> int:
    """Return how many pages of a file the system keeps in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapped:
        size = len(mapped)
        pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
        libc = ctypes.CDLL(None, use_errno=True)
        start = libc.mmap
        start.restype = ctypes.c_void_p
        start.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        address = start(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0)
        try:
            assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
        finally:
            libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    return sum(page & 1 for page in pages)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.usefixtures("real_flushes")
def test_uncached_reads_come_from_the_medium(tmp_path: Path, durable: bool) -> None:
    storage = LocalStorage(tmp_path, durable=durable)
    if not storage.properties.uncached_reads:
        pytest.skip("this system cannot read past its cache")
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    if kind.strip() == "tmpfs":
        pytest.skip("a file system in memory is its own medium")
    storage.put("a", os.urandom(4 * MIB))
    path = tmp_path / "a"
    assert _cached_pages(path) > 0
    with path.open("rb") as file:
        _posix.forget_cached(file.fileno())
    assert _cached_pages(path) == 0


# --- help ------------------------------------------------------------------------------------------------------------


def _write_without_end(upload: Upload) -> None:
    while True:
        upload.write(bytes(100_000))


def _made(folder: Path) -> Path:
    with suppress(FileExistsError):
        folder.mkdir()
    return folder


def _start(script: str, root: Path, *arguments: str) -> subprocess.Popen[str]:
    lines = script.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    preamble = [
        "import pathlib, sys",
        "from wsistore.storage.local import LocalStorage",
        "storage = LocalStorage(pathlib.Path(sys.argv[1]))",
    ]
    code = "\n".join([*preamble, *(line[indent:] for line in lines)])
    command = [sys.executable, "-c", code, str(root), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _run(script: str, root: Path) -> str:
    process = _start(script, root)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out
