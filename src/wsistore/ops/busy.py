"""Is somebody still writing this file? Asked of the kernel, where it can tell."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

_F_SETSIG = 10
"""``F_SETSIG`` of fcntl(2), which the standard library does not name."""


def is_being_written(path: Path) -> bool:
    """Say whether a process has `path` open for writing.

    Linux grants a read lease only on a file that nobody has open for writing (fcntl(2), "Leases"). Where leases are
    not to be had (network file systems, files of other users) the answer is False: a file that changes during ingest
    is found by comparing it before and after.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A writer that comes within these microseconds breaks the lease: the signal must be one that does nothing.
        fcntl.fcntl(handle, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    else:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(handle)
