"""Walking a folder tree in the order of object keys, one folder in memory at a time.

Keys sort as whole strings, so ``a-b`` comes before ``a/b`` ("-" is less than "/") although a folder ``a`` would be met
before a file ``a-b``. Within one folder the entries come in key order if each sub-folder is compared as its name with
a slash behind it: that is what all keys below it start with.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from wsistore.errors import StorageError
from wsistore.storage._posix import moment
from wsistore.storage.base import MAX_KEY_BYTES, ObjectInfo, check_key


def walk(root: bytes, prefix: str, after: str, is_reserved: Callable[[str], bool]) -> Iterator[ObjectInfo]:
    """Yield the objects under `root` whose keys start with `prefix` and sort after `after`.

    Symbolic links are no objects and are not followed. Files whose names are no keys were put there by somebody else
    and are not named. What vanishes meanwhile is left out.

    Raises
    ------
    OSError
        If a folder cannot be read for another reason than that it has vanished.

    """
    folder, _, _ = prefix.rpartition("/")
    if folder and not _is_key(folder):
        return  # nothing can be there; and what looks like "../" must not lead out of the tier
    start, low = prefix.encode("utf-8", "surrogatepass"), after.encode("utf-8", "surrogatepass")
    pending = [_entries(root, folder.encode() + b"/" if folder else b"", start, low)]
    while pending:
        key_bytes = next(pending[-1], None)
        if key_bytes is None:
            pending.pop()
        elif key_bytes.endswith(b"/"):
            if len(key_bytes) <= MAX_KEY_BYTES and not is_reserved(os.fsdecode(key_bytes)):
                pending.append(_entries(root, key_bytes, start, low))
        elif (info := _info(root, key_bytes)) is not None and not is_reserved(info.key):
            yield info


def _entries(root: bytes, folder: bytes, start: bytes, low: bytes) -> Iterator[bytes]:
    """Return the keys of the files, and with a slash behind them of the folders, of one folder, in order."""
    keys = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    key = folder + entry.name + b"/"
                    wanted = key > low or low.startswith(key)
                elif not entry.is_symlink():
                    key = folder + entry.name
                    wanted = key > low
                else:
                    continue
                if wanted and key.startswith(start):
                    keys.append(key)
    except (FileNotFoundError, NotADirectoryError):
        if not folder:
            raise  # the root itself: the tier is gone, which is no empty tier
    return iter(sorted(keys))


def _info(root: bytes, key_bytes: bytes) -> ObjectInfo | None:
    try:
        key = check_key(key_bytes.decode("utf-8"))
        status = os.stat(os.path.join(root, key_bytes), follow_symlinks=False)
    except (UnicodeDecodeError, StorageError, FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(key, status.st_size, moment(status.st_mtime_ns))


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except StorageError:
        return False
    return True
