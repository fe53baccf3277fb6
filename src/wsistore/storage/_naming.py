"""Giving finished files their names in a folder tree, and taking names away, so that a power cut undoes neither.

Other threads and processes may do the same at the same time, without locks: every step is one atomic act of the file
system, and every race is answered by looking again. The methods raise `OSError` besides the project's errors; the
caller translates.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from wsistore.errors import StorageError
from wsistore.storage._errors import key_clash, object_exists
from wsistore.storage._posix import flush_folder

_ATTEMPTS = 100
_KNOWN_FOLDERS = 10_000


class NameTree:
    """The folders and names below a tier's root.

    Parameters
    ----------
    root
        The tier's folder; it is never created or removed.
    url
        The tier, for messages.
    require_tier
        Raises if the root is gone; asked before a folder is created.
    durable
        Whether names are flushed to the medium.

    """

    def __init__(self, root: bytes, url: str, require_tier: Callable[[], None], *, durable: bool) -> None:
        self._root = root
        self._url = url
        self._require_tier = require_tier
        self._durable = durable
        # Folders whose own entries, up to the root, are known to be on the medium: (device, inode).
        self._flushed: set[tuple[int, int]] = set()

    def place(self, key: str, path: bytes, temporary: bytes, *, if_absent: bool) -> None:
        """Give the finished file `temporary` the name `path`, creating the folders above it.

        Raises
        ------
        ObjectExistsError
            If `if_absent` and the name is taken.
        StorageError
            If the key cannot lie beside those that are there, or the tier is gone.

        """
        folder = os.path.dirname(path)
        try:
            self._name(key, path, temporary, if_absent=if_absent)
        except BaseException:
            with suppress(OSError):  # the first error tells more
                self._prune(folder)  # folders created for an object that did not come
            raise
        if self._durable:
            self._flush_names(folder)

    def remove(self, path: bytes) -> None:
        """Remove a file and the folders that it leaves empty."""
        os.unlink(path)
        folder = self._prune(os.path.dirname(path))
        if self._durable:
            # A deletion that a certificate speaks of must not be undone by a power cut: one flush of the lowest
            # folder that is left covers the file and the folders removed below it.
            while flush_folder(folder) is None and folder != self._root:
                folder = os.path.dirname(folder)

    def _name(self, key: str, path: bytes, temporary: bytes, *, if_absent: bool) -> None:
        for _ in range(_ATTEMPTS):
            try:
                try:
                    if if_absent:
                        self._link(key, path, temporary)
                    else:
                        os.rename(temporary, path)
                except FileNotFoundError:
                    # The folder is not there yet, or a deletion that emptied it has just removed it: create it (again).
                    # But nothing may be created in the bare mount point of a tier that went away.
                    self._require_tier()
                    self._make_folder(os.path.dirname(path))
                else:
                    return
            except (NotADirectoryError, IsADirectoryError) as error:
                raise key_clash(self._url, key) from error
        msg = f"{key!r} could not be written in {self._url}: its folder, or the file being written, vanishes again."
        raise StorageError(msg, remedy="Find out which other program removes files there, then run the same again.")

    def _link(self, key: str, path: bytes, temporary: bytes) -> None:
        """Give the file its name only if that is free: of many racing links the file system lets one succeed."""
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
            # A file server may have done it and lost the reply, so that the repeated request met its own link: then
            # the file has two names, the temporary one and the object's.
            if os.stat(temporary).st_nlink == 1:
                raise object_exists(self._url, key) from error
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
            msg = f"{key!r} could not be written in {self._url}: its file system refuses hard links."
            remedy = "Keep tiers on a file system with hard links (ext4, XFS, ZFS, NFS): commits rely on them."
            raise StorageError(msg, remedy=remedy) from error
        with suppress(OSError):  # the object is there; a second name in the hidden folder harms nobody
            os.unlink(temporary)

    def _make_folder(self, folder: bytes) -> None:
        """Create a folder and those above it, but never the root."""
        if folder == self._root:
            return
        try:
            os.mkdir(folder)
        except FileExistsError:
            pass  # as wanted; or it is a file, which the next attempt to use it as a folder meets
        except FileNotFoundError:
            self._make_folder(os.path.dirname(folder))
            with suppress(FileNotFoundError, FileExistsError):  # a race, met by the next attempt
                os.mkdir(folder)

    def _flush_names(self, folder: bytes) -> None:
        """Flush a new name, and the names of the folders above it that the object may be the first to rely on."""
        # The folder's entry in its own parent may be as new as the object's: created by us or, a moment ago and not
        # flushed yet, by somebody else; an object in a folder that is lost is lost too. So parents are flushed up to
        # the first that was flushed before, known by its inode (its path could be a new folder of the old name).
        # A folder that is known stays on the medium: it is not empty while it is there, and `_prune` forgets it.
        found = []
        while (identity := flush_folder(folder)) is not None and folder != self._root:
            if identity in self._flushed:
                break
            found.append(identity)
            folder = os.path.dirname(folder)
        if identity is None:
            return  # somebody deleted the object and its folder already
        if len(self._flushed) > _KNOWN_FOLDERS:
            self._flushed.clear()  # costs some flushes more, never one too few
        self._flushed.update(found)

    def _prune(self, folder: bytes) -> bytes:
        """Remove folders that are empty, from `folder` upwards, and return the first that is not."""
        while folder != self._root:
            try:
                self._remove_folder(folder)
            except FileNotFoundError:
                pass  # somebody else removed it, and may not have come to its parent yet
            except OSError:
                break
            folder = os.path.dirname(folder)
        return folder

    def _remove_folder(self, folder: bytes) -> None:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        known = identity in self._flushed
        self._flushed.discard(identity)  # before: its inode may be a new folder's the moment that it is gone
        try:
            os.rmdir(folder)
        except OSError:
            if known:  # still there, so still on the medium
                self._flushed.add(identity)
            raise
