"""Who holds an attempt, and whether that process still lives.

An owner is the text ``host:boot:pid:start``: the machine's name with the number of its process namespace, the kernel's
random id of this boot, the process id and the process's start in clock ticks after boot. Together they name one process
for ever, though process ids are used again.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from wsistore.clock import iso

_PROC = Path("/proc")
_OWNER = re.compile(r"([^:]*):([^:]*):([0-9]{1,10}):([0-9]{1,20})")
_STATE_FIELD = 0
_START_FIELD = 19
"""Fields of ``/proc/<pid>/stat`` after the command's closing parenthesis (fields 3 and 22 of proc(5))."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One process, for ever."""

    host: str
    """Host name and process namespace, as ``name/4026531836``: containers may share a name, never their processes."""
    boot: str
    """Empty where the system does not tell."""
    pid: int
    start: int
    """Clock ticks after boot; 0 where the system does not tell."""

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        return cls(host=_host(), boot=_boot(), pid=pid, start=_start(pid) or 0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the owner that `text` names, or None if it names none."""
        match = _OWNER.fullmatch(text)
        return cls(match[1], match[2], int(match[3]), int(match[4])) if match else None

    def __str__(self) -> str:
        return f"{self.host}:{self.boot}:{self.pid}:{self.start}"


def is_alive(owner: str, now: datetime, lease_until: str) -> bool:
    """Say whether the process `owner` may still be at work.

    On this machine that is known whatever the lease says: a killed process is dead at once, a slow one is not. A
    process of an earlier boot of this machine is dead. Of another machine's process only the lease tells.

    Parameters
    ----------
    owner
        Text of an `Owner`.
    now
        The present, timezone-aware.
    lease_until
        End of the lease, ISO 8601 in UTC.

    """
    by_lease = iso(now) < lease_until
    known = Owner.parse(owner)
    if known is None or known.host != _host() or not known.boot or not known.start:
        return by_lease
    if known.boot != _boot():
        return False
    try:
        return _start(known.pid) == known.start
    except _HiddenError:
        return by_lease


def is_gone(owner: str) -> bool:
    """Say whether the process `owner` has certainly ended; of another machine's process that cannot be known."""
    known = Owner.parse(owner)
    if known is None or known.host != _host() or not known.boot or not known.start:
        return False
    try:
        return known.boot != _boot() or _start(known.pid) != known.start
    except _HiddenError:
        return False


def _host() -> str:
    try:
        namespace = (_PROC / "self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        namespace = ""
    return f"{socket.gethostname().replace(':', '_')}/{namespace}"


def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


class _HiddenError(Exception):
    """The system does not show processes of other users."""


def _start(pid: int) -> int | None:
    """Return when a living process started; None if there is none (one that waits to be reaped is none)."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[_STATE_FIELD] in {b"Z", b"X"} else int(fields[_START_FIELD])
    except PermissionError as error:
        raise _HiddenError from error
    except (OSError, ValueError, IndexError):
        if not (_PROC / str(pid)).exists() and _answers(pid):
            raise _HiddenError from None
        return None


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
