"""Files and folders that people are given: they appear whole or not at all, and never in another one's place."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsistore.catalog.owner import Owner, is_gone
from wsistore.errors import ConflictError, FullError, Kind, StorageError
from wsistore.model import random_key

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
_PREFIX, _SUFFIX = ".wsistore-", ".part"
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What sticks with FAT and some shares answer."""


@contextmanager
def translated(target: Path) -> Iterator[None]:
    """Turn what the operating system says of `target` into errors of ours.

    Raises
    ------
    ConflictError
        If something is in the way.
    FullError
        If there is no space left.
    StorageError
        If it cannot be written for another reason.

    """
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _in_the_way(target) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise _cannot_write(target, error) from error


def _in_the_way(target: Path) -> ConflictError:
    if os.path.lexists(target):
        msg = f"There is something at {target} already."
    else:
        msg = f"{target} cannot be made: a part of its path is a file, not a folder."
    return ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Give another name, or move it away.")


def _cannot_write(target: Path, error: OSError | ValueError) -> StorageError:
    number = error.errno if isinstance(error, OSError) else None
    msg = f"{target} cannot be written: {os.strerror(number) if number else error}."
    if number in _FULL:
        return FullError(msg, remedy="Make room or give another place, and run again.")
    if number in _DENIED:
        return StorageError(msg, kind=Kind.STORAGE_DENIED, remedy="Give a place that this account may write to.")
    return StorageError(msg, remedy="Look at the place and its disk, or give another one, and run again.")


def require_free(target: Path) -> None:
    """Raise `ConflictError` if there is something at `target`."""
    if os.path.lexists(target):
        raise _in_the_way(target)


def _unfinished(target: Path) -> Path:
    """Return a name beside `target` for what is not finished; it says which process it is that writes there."""
    owner = str(Owner.current()).replace("/", "+").replace(":", ",")  # what sticks with FAT have no names with colons
    return target.with_name(f"{_PREFIX}{owner}-{random_key()}{_SUFFIX}")


def _clean(folder: Path) -> None:
    """Remove what dead processes of this machine left unfinished in `folder`; what cannot be removed now stays."""
    with suppress(OSError):
        for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            owner = path.name.removeprefix(_PREFIX).rpartition("-")[0].replace(",", ":").replace("+", "/")
            if not is_gone(owner):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def new_file(target: Path, *, flush: bool = True) -> Iterator[io.FileIO]:
    """Open a file that gets its name when the block ends without an error, and else leaves nothing behind.

    Parameters
    ----------
    target
        Its name.
    flush
        Wait for the disk before the file gets its name.

    Raises
    ------
    ConflictError, FullError, StorageError
        As `translated`; `ConflictError` also if `target` appeared meanwhile.

    """
    temporary = _unfinished(target)
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean(target.parent)
        # Made with the permissions that a new file has here, which a file of `tempfile` has not.
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with translated(target):
            with io.FileIO(handle, "w+b") as file:
                yield file
                if flush:
                    os.fsync(file.fileno())
            _name(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _name(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        require_free(target)
        temporary.rename(target)
    _flush(target.parent)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder on the file system of `target`; it is gone afterwards.

    Raises
    ------
    ConflictError, FullError, StorageError
        As `translated`, also for what the block meets.

    """
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean(target.parent)
        folder = _unfinished(target)
        folder.mkdir(mode=0o700)
    try:
        with translated(target):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_folder(made: Path, target: Path) -> None:
    """Give a finished folder its name.

    Raises
    ------
    ConflictError
        If there is something under that name.
    StorageError
        If it cannot be given.

    """
    with translated(target):
        require_free(target)
        try:
            made.rename(target)  # of many that try, one gets the name: no folder with content is ever replaced
        except OSError as error:
            if error.errno in _TAKEN:
                raise _in_the_way(target) from error
            raise
        _flush(target.parent)


def _flush(folder: Path) -> None:
    with suppress(OSError):  # not every file system can flush a folder
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
