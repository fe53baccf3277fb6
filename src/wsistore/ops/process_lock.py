"""One process at a time, by a lock of the operating system: it ends with its process, however that ends.

Where the file system has no locks, two at once do some work twice, and no harm.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsistore.errors import Kind, SiteError


@contextmanager
def process_lock(path: Path) -> Iterator[bool]:
    """Hold the lock of a file for as long as the block lasts, if nobody else does; say whether that is so.

    Raises
    ------
    SiteError
        If the file, which is in the site's folder, cannot be written.

    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror})."
        raise SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Make the site's folder writable.") from error
    try:
        yield _locked(handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # some network file systems have no locks
    return True
