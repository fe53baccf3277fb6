"""One line of JSON per request: who, what, how much. Nothing in it names a slide's key, a person or a path as sent."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from wsistore.clock import Clock, iso

_LOOK_SECONDS = 1.0
"""How often it is seen whether the file was moved away, as log rotation does."""
_MOST_WAITING_BYTES = 256 * 1024
"""Of lines that whoever reads the standard output has not taken yet; from there on requests are refused."""
_SECOND_HOLDS = 0.05
"""So long the wall clock goes as the monotonic one does: its text is not made anew for each line."""
_MOST_NOTED_BYTES = 64 * 1024
"""Of lines that are written together."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Visit:
    """What is known of a request. What it names is filled in only once it is known to be the caller's to name."""

    began_seconds: float
    """By the monotonic clock."""
    what: str = "nothing"
    user: str | None = None
    token: str | None = None
    """Public part of the token."""
    project: str | None = None
    pseudonym: str | None = None
    view: str | None = None
    status: int = 0
    """0: the client went away before there was an answer."""
    size_bytes: int = 0
    """Of the body, as far as it was sent."""
    reason: str | None = None
    """Why it was refused, as errors name it; inside only."""


class AccessLog:
    """Appends lines to a file, whole ones by one call of the system: several processes may write to it.

    A line that cannot be written is kept, as far as there are not too many, until the file can be written again.

    Parameters
    ----------
    path
        Of the file; None: lines go to standard output, which nobody waits for: who reads it may be slow, or have
        stopped.
    clock
        Tells the moment.

    """

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._descriptor = -1
        self._looked = clock.monotonic_seconds()
        self._is_torn = False
        """Whether the last line was written in part."""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        """Of lines that are still to be written."""
        self._second = (0.0, 1_000_000, "")
        """When the time was last looked at, by the monotonic clock; its microseconds, and its text without them."""
        self._output = Output(1) if path is None else None
        self.is_well = True
        """Whether the last line could be written: what cannot be logged is not to be answered."""
        self._open()

    def write(self, visit: Visit) -> None:
        """Write a visit's line, once it has ended. Never raises."""
        reason = "" if visit.reason is None else f',"reason":{_encode(visit.reason)}'
        self._keep(self._line(self.named(visit), visit.began_seconds, visit.status, visit.size_bytes, reason))
        self.flush()

    def named(self, visit: Visit) -> str:
        """Return the part of a visit's line that is the same for all requests of the kind, for `note`."""
        return _names(visit.user, visit.token, visit.project, visit.pseudonym, visit.what, visit.view)

    def note(self, named: str, began_seconds: float, status: int, size_bytes: int) -> None:
        """Keep the line of a visit that has ended, to be written by `flush` with those that follow. Never raises.

        Parameters
        ----------
        named
            As `named` returns it.
        began_seconds, status, size_bytes
            As of `Visit`.

        """
        self._keep(self._line(named, began_seconds, status, size_bytes, ""))
        if self._waiting_bytes >= _MOST_NOTED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the lines that were noted. Never raises."""
        if not self._waiting:
            return
        lines, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        self._append(lines)

    def _keep(self, line: bytes) -> None:
        if self._waiting_bytes < _MOST_WAITING_BYTES:
            self._waiting.append(line)
            self._waiting_bytes += len(line)

    def _line(self, named: str, began_seconds: float, status: int, size_bytes: int, reason: str) -> bytes:
        now = self._clock.monotonic_seconds()
        since, moment, text = self._second
        microsecond = moment + int((now - since) * 1e6)
        if not (since <= now < since + _SECOND_HOLDS and microsecond < 1_000_000):
            at = self._clock.now()
            microsecond, text = at.microsecond, iso(at)[:-7]
            self._second = now, microsecond, text
        milliseconds = round((now - began_seconds) * 1000, 2)
        return (
            f'{{"at":"{text}{microsecond:06}Z",{named},'
            f'"status":{status},"bytes":{size_bytes},"ms":{milliseconds}{reason}}}\n'
        ).encode("ascii")

    def check(self) -> bool:
        """Say whether lines can be written; tries again where the last one could not."""
        if self._output is not None:
            self._hand_out(self._output, b"")
            return self.is_well
        return self.is_well or self._begin_again()

    def close(self) -> None:
        """Write what was noted, and close the file."""
        self.flush()
        if self._output is not None:
            self._output.close()
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def _begin_again(self) -> bool:
        self._close()
        self._open()
        if self.is_well:  # a file that opens may be on a disk that is full
            self.write(Visit(self._clock.monotonic_seconds(), what="log begins again"))
        return self.is_well

    def _hand_out(self, output: Output, line: bytes) -> None:
        try:
            output.write(line)
        except OSError as error:
            self._fail(error)
        else:
            self.is_well = True

    def _append(self, lines: bytes) -> None:
        if self._output is not None:
            self._hand_out(self._output, lines)
            return
        now = self._clock.monotonic_seconds()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._reopen_if_moved()
        torn = b"\n" if self._is_torn else b""
        try:
            written = os.write(self._descriptor, torn + lines) - len(torn)
        except OSError as error:
            self._keep(lines)
            self._fail(error)
            return
        # Of a line that was written in part the whole is written once more, in a line of its own.
        whole = lines.rfind(b"\n", 0, max(0, written)) + 1
        self._is_torn = self._is_torn if written < 0 else written > whole
        if whole < len(lines):
            self._keep(lines[whole:])
            self._fail(OSError("the disk is full"))

    def _open(self) -> None:
        if self._path is None:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, 0o640)
        except OSError as error:
            self._fail(error)
        else:
            self.is_well = True

    def _reopen_if_moved(self) -> None:
        if self._path is None:
            return
        with suppress(OSError):
            here = os.fstat(self._descriptor)
            there = None
            with suppress(FileNotFoundError):
                there = self._path.stat()
            if there is None or (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                self._close()
                self._open()

    def _fail(self, error: OSError) -> None:
        if self.is_well:
            name = self._path or "on standard output"
            _log.error("the access log %s cannot be written (%s): requests are refused", name, error)
        self.is_well = False


class Output:
    """Writes to standard output what its reader takes at once, and keeps the rest for later.

    A pipe or a socket (as systemd's journal gives) that nobody reads would else stop the whole gateway.

    Parameters
    ----------
    descriptor
        Stays open.

    """

    def __init__(self, descriptor: int) -> None:
        self._waiting = bytearray()
        self._own = -1
        self._socket: socket.socket | None = None
        self._send: Callable[[bytearray], int] = partial(os.write, descriptor)
        kind = os.fstat(descriptor).st_mode
        # Not to wait is said of an opening of our own, or of a single call: others write to the same pipe or socket.
        if stat.S_ISFIFO(kind):
            with suppress(OSError):
                self._own = os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._send = partial(os.write, self._own)
        elif stat.S_ISSOCK(kind):
            self._socket = socket.socket(fileno=os.dup(descriptor))
            self._send = partial(_send_now, self._socket)

    def write(self, line: bytes) -> None:
        """Write a line behind those that wait.

        Raises
        ------
        OSError
            If it cannot be written, or too many wait. It waits with them then, unless they are too many already.

        """
        if len(self._waiting) < _MOST_WAITING_BYTES:
            self._waiting += line
        with suppress(BlockingIOError):
            while self._waiting:
                # Whole lines, as many as a pipe takes in one piece: other processes' lines come between, not into them.
                end = self._waiting.rfind(b"\n", 0, select.PIPE_BUF) + 1
                del self._waiting[: self._send(self._waiting[: end or None])]
        if len(self._waiting) >= _MOST_WAITING_BYTES:
            msg = "nobody reads it"
            raise OSError(msg)

    def close(self) -> None:
        """Write what waits as far as somebody takes it now; the rest is lost, and its length told."""
        with suppress(OSError):
            self.write(b"")
        if self._waiting:
            _log.error("%d bytes of access lines were lost: nobody reads standard output", len(self._waiting))
        if self._own >= 0:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()


def _send_now(to: socket.socket, data: bytearray) -> int:
    return to.send(data, socket.MSG_DONTWAIT)


@lru_cache(maxsize=4096)
def _names(
    user: str | None, token: str | None, project: str | None, pseudonym: str | None, what: str, view: str | None
) -> str:
    """Return the part of a line that is the same for thousands of requests, as JSON without braces."""
    named = {"user": user, "token": token, "project": project, "pseudonym": pseudonym, "what": what, "view": view}
    return _encode(named)[1:-1]
