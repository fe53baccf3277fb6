"""A folder with a tape library behind it: files that look like files, and some of which are on tape only.

Reading such a file would block until a robot has fetched the tape, for minutes or hours, in every thread that reads. So
it is asked first whether the file is offline, and a recall is a command of the library's, started and not waited for.
The library decides how long a recalled file stays on disk; there is no copy with an end of its own.

Commands are lists of arguments, in which ``{path}`` stands for the file; no shell sees them.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from wsistore.clock import Clock, SystemClock, iso
from wsistore.errors import Kind, StorageError
from wsistore.storage._errors import object_archived, object_missing, translated
from wsistore.storage.archive import Retrieval, check_restore
from wsistore.storage.base import ArchiveState, ByteRange, ObjectInfo, Properties, Readiness, Span
from wsistore.storage.local import RECALLS_FOLDER, LocalStorage

TAPE = "TAPE"
"""The class of a file that is offline; one that is on disk has none."""

_ANSWER_SECONDS = 60.0
"""Longest time in which a command must have told whether a file is offline, or have sent one to tape."""
_START_SECONDS = 0.5
"""How long a recall is watched for failing at once; some libraries' commands end when the file is there."""
_GIVE_UP = timedelta(hours=48)
"""A recall that was queued and has brought nothing after so long may be asked for again."""


@dataclass(frozen=True, slots=True)
class TapeCommands:
    """How a library is asked; see `wsistore.settings.archive.TapeSettings`."""

    recall: tuple[str, ...]
    offline: tuple[str, ...] = ("blocks",)
    release: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A recall that was started."""

    at: str
    host: str
    pid: int | None
    """The command's process while it runs; None for one that had ended well, having queued the recall."""


class TapeStorage(LocalStorage):
    """The storage contract on a folder whose files may be offline; see `wsistore.storage.archive`.

    Parameters
    ----------
    root, durable
        As for `LocalStorage`.
    commands
        How the library is asked.
    clock
        For how long ago a recall was asked for.

    """

    def __init__(self, root: Path, commands: TapeCommands, *, clock: Clock | None = None, durable: bool = True) -> None:
        super().__init__(root, durable=durable)
        self._commands = commands
        self._tape_clock = clock or SystemClock()
        self._folder = root.absolute()

    def __repr__(self) -> str:
        return f"TapeStorage({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self._folder, self._commands, self._tape_clock, self._durable))

    @property
    def properties(self) -> Properties:
        """As those of a folder, but its files are not for others to open: that might block for hours."""
        return replace(super().properties, local_files=False, archive=True)

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        self._require_online(key)
        return super().get(key, byte_range, version=version)

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        self._require_online(key)
        return super().get_many(key, spans)

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`."""
        self._require_online(key)
        yield from super().stream(key, block_bytes=block_bytes, uncached=uncached)

    # --- the library -------------------------------------------------------------------------------------------------

    def retrievals(self, storage_class: str | None) -> tuple[Retrieval, ...]:
        """Return the one way back from tape."""
        return (Retrieval.STANDARD,) if storage_class == TAPE else ()

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Return whether a file is on disk; see `wsistore.storage.archive.SupportsArchive.look`."""
        if version is not None:
            raise object_missing(self.url, key, version)
        info = self.head(key)
        if not self._is_offline(key):
            with suppress(OSError):  # nobody asked; or it may not be written here, and the note does no harm
                self._note(key).unlink()
            return info
        state = Readiness.RESTORING if self._is_recalling(key) else Readiness.ARCHIVED
        return replace(info, storage_class=TAPE, archive=ArchiveState(state))

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Start the recall of a file; see `wsistore.storage.archive.SupportsArchive.begin_restore`."""
        info = self.look(key, version=version)
        if info.archive.readiness is Readiness.READABLE:
            return info.archive
        check_restore(self.url, key, days, retrieval, self.retrievals(TAPE))
        if info.archive.readiness is Readiness.RESTORING:
            return info.archive
        pid = self._start(key)
        with translated(self.url, key, "recalled"):
            note = self._note(key)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps(asdict(_Asked(iso(self._tape_clock.now()), socket.gethostname(), pid))))
        return self.look(key).archive

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Send a file to tape now (class ``TAPE``), where there is a command for it.

        Raises
        ------
        StorageError
            If there is none, the command fails, or the class is another one.

        """
        info = self.look(key, version=version)
        if info.storage_class == storage_class:
            return info
        if storage_class != TAPE or not self._commands.release or etag is not None:
            msg = f"{key!r} in {self.url} cannot be sent to {storage_class}."
            remedy = f"Name a command 'release' for {TAPE}, or leave it to the library's own rules."
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy=remedy)
        status, said = self._run(self._commands.release, key)
        if status != 0:
            raise self._failed(key, self._commands.release, status, said)
        return self.look(key)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _require_online(self, key: str) -> None:
        if self._is_offline(key):
            raise object_archived(self.url, key)

    def _is_offline(self, key: str) -> bool:
        """Ask whether a file is on tape only; one that is not there is not."""
        path = os.fsencode(self.local_path(key))
        match self._commands.offline:
            case ("blocks",):
                with translated(self.url, key, "looked at"):
                    try:
                        status = os.stat(path, follow_symlinks=False)
                    except (FileNotFoundError, NotADirectoryError):
                        return False
                return status.st_size > 0 and status.st_blocks == 0
            case ("xattr", name):
                try:
                    os.getxattr(path, name, follow_symlinks=False)
                except OSError:  # it has none, or is not there, which reading it says
                    return False
                return True
            case (_, *command):
                if not os.path.isfile(path):
                    return False
                status_code, said = self._run(command, key)
                if status_code in {0, 1}:
                    return status_code == 1
                raise self._failed(key, command, status_code, said)
        raise AssertionError

    def _is_recalling(self, key: str) -> bool:
        try:
            asked = _Asked(**json.loads(self._note(key).read_text()))
            age = self._tape_clock.now() - datetime.fromisoformat(asked.at)
        except (OSError, ValueError, TypeError):
            return False  # nobody asked, or what was noted is lost: asking again does no harm
        if age >= _GIVE_UP:
            return False
        return asked.pid is None or asked.host != socket.gethostname() or self._runs(asked.pid)

    def _runs(self, pid: int) -> bool:
        """Return whether a recall's process runs; one that ended without bringing the file has failed."""
        if self._ended(pid) is not None:
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def _start(self, key: str) -> int | None:
        """Start a recall, see that it does not fail at once, and return its process if it still runs."""
        command = self._arguments(self._commands.recall, key)
        nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        with translated(self.url, key, "recalled"):
            # No `subprocess.Popen`, which minds being forgotten: the recall outlives this command.
            pid = os.posix_spawnp(command[0], command, os.environ, file_actions=nothing, setsid=True)
        clock, end = SystemClock(), SystemClock().monotonic_seconds() + _START_SECONDS
        while (status := self._ended(pid)) is None:
            if clock.monotonic_seconds() >= end:
                return pid
            clock.sleep(0.01)
        if status != 0:
            raise self._failed(key, self._commands.recall, status, "")
        return None

    def _ended(self, pid: int) -> int | None:
        """Return the status with which a process that this one started has ended; None if it has not."""
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None  # another process started it, or it was asked for before
        return os.waitstatus_to_exitcode(status) if ended else None

    def _run(self, command: Sequence[str], key: str) -> tuple[int, str]:
        with translated(self.url, key, "asked for"):
            try:
                done = subprocess.run(  # noqa: S603  (as above)
                    self._arguments(command, key),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_ANSWER_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                msg = f"The command {command[0]!r} did not answer for {key!r} in {self.url} in {_ANSWER_SECONDS:.0f} s."
                raise StorageError(msg, remedy="Look at the tape library and its log.") from None
        return done.returncode, done.stderr.decode("utf-8", "replace").strip()[-500:]

    def _arguments(self, command: Sequence[str], key: str) -> list[str]:
        path = str(self.local_path(key))
        return [part.replace("{path}", path) for part in command]

    def _failed(self, key: str, command: Sequence[str], status: int, said: str) -> StorageError:
        told = f": {said}" if said else "."
        msg = f"The command {command[0]!r} failed with status {status} for {key!r} in {self.url}{told}"
        return StorageError(msg, remedy="Run it by hand, and look at the tape library and its log.")

    def _note(self, key: str) -> Path:
        """Return where it is noted that a recall was started; no listing shows it."""
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / RECALLS_FOLDER / name


def _rebuild(root: Path, commands: TapeCommands, clock: Clock, durable: bool) -> TapeStorage:
    return TapeStorage(root, commands, clock=clock, durable=durable)
