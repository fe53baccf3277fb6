"""Objects as files under a folder: the back end for disks, file servers and the `hot` tier of most sites.

An object is written into a hidden folder of the tier first and gets its name in one atomic step, so that a reader sees
all of it or nothing, and what a crash leaves is never listed.

What a file system cannot do, and a bucket can: hold ``a`` beside ``a/b``. Such a key is refused (``key-invalid``).
Names that belong to the file system (``lost+found``, ``.nfs…``) and to this module are refused too. Below the root
there are no symbolic links; they are neither listed nor followed by `LocalStorage.list`.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import Buffer

from wsistore.errors import Kind, StorageError
from wsistore.storage import _posix
from wsistore.storage._errors import object_missing, tier_missing, translate, translated
from wsistore.storage._listing import walk
from wsistore.storage._local_upload import LocalUpload
from wsistore.storage._naming import NameTree
from wsistore.storage._ranges import bounds, check_block_bytes
from wsistore.storage.base import MARKER_KEY, ByteRange, ObjectInfo, Properties, Span, check_key
from wsistore.storage.buffers import buffer
from wsistore.storage.coalescing import coalesce

TEMPORARY_FOLDER = ".wsistore-tmp"
"""Where objects are written before they get their names: in the tier, so that renaming stays on one file system."""

RECALLS_FOLDER = ".wsistore-recalls"
"""Where `wsistore.storage.tape` notes what it asked the library for."""

GAP_BYTES = 64 * 1024
"""Parts nearer to each other than this are read at once: cheaper than a second trip to a disk or a file server."""

_RUN_BYTES = 8 * 1024 * 1024
_SMALL_BYTES = 128 * 1024
"""As much as one read of the system fetches anyway."""


class LocalStorage:
    """The storage contract on a folder.

    Parameters
    ----------
    root
        The tier's folder. It is never created here (see `wsistore.storage.open.create_tier`): a folder that is not
        there is a disk that is not mounted.
    durable
        Whether what was written survives a power cut. False only for tests and scratch space.

    Raises
    ------
    StorageError
        If `root` cannot be the name of a folder. Whether it is there is seen by each call: kind ``tier-missing``.

    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        if "\0" in str(root):
            msg = f"{str(root)!r} cannot be the folder of a tier."
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Name a folder without null characters.")
        absolute = root.absolute()
        self._root = os.fsencode(absolute)
        self._url = absolute.as_uri()
        self._durable = durable
        self._temporary = os.path.join(self._root, TEMPORARY_FOLDER.encode())
        self._marker = os.path.join(self._root, MARKER_KEY.encode())
        # Once a tier's marker was seen, a folder without it is not the tier: the bare mount point of a file server
        # that went away. (Without a marker all that can be asked is whether there is a folder.)
        self._is_marked = os.path.exists(self._marker)
        self._names = NameTree(self._root, self._url, self._require_tier, durable=durable)

    def __repr__(self) -> str:
        return f"LocalStorage({self._url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # What is known of the folders of this machine means nothing on another; that it is a tier does.
        return (_rebuild, (Path(os.fsdecode(self._root)), self._durable, self._is_marked))

    @property
    def url(self) -> str:
        """``file://`` and the absolute path."""
        return self._url

    @property
    def properties(self) -> Properties:
        """Conditional, local, and uncached where the system has `posix_fadvise` that works (Linux)."""
        uncached = sys.platform == "linux"
        return Properties(conditional_put=True, versions=False, local_files=True, uncached_reads=uncached)

    def local_path(self, key: str) -> Path:
        """Return the path of an object's file, whether it is there or not; it is read, never written, by the caller."""
        return Path(os.fsdecode(self._path(key)))

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, *, if_absent: bool = False) -> ObjectInfo:
        """Write a whole object; see `wsistore.storage.base.Storage.put`."""
        with self._writer(key, if_absent=if_absent) as upload:
            upload.write(data)
            return upload.complete()

    def upload(self, key: str) -> LocalUpload:
        """Start writing a large object in parts; see `wsistore.storage.base.Storage.upload`."""
        return self._writer(key, if_absent=False)

    def delete(self, key: str, *, version: str | None = None) -> None:
        """Delete one object, and the folders that it leaves empty; see `wsistore.storage.base.Storage.delete`."""
        path = self._path(key)
        if version is not None:
            return  # there are no versions, so this one is not there
        if key == MARKER_KEY:
            self._is_marked = False
        try:
            self._names.remove(path)
        except (FileNotFoundError, NotADirectoryError):
            self._require_tier()
        except OSError as error:
            if not os.path.isdir(path):  # a folder of other objects is no object of this name
                raise translate(error, self._url, key, "deleted") from error

    def clean_temporary(self, older_than: datetime, *, crashed_here: bool = False) -> int:
        """Remove what dead processes left of objects that they never finished.

        Parameters
        ----------
        older_than
            Files changed since then are left alone, and so are those of processes that still run on this machine.
            The time of change is the file server's: leave a margin of a day where other machines write to the tier.
        crashed_here
            Also remove, whatever their age, the files of processes of this machine that have certainly ended.

        Returns
        -------
        int
            Number of files removed.

        Raises
        ------
        StorageError
            If the hidden folder cannot be read or a file in it not be removed.

        """
        removed = 0
        with translated(self._url, TEMPORARY_FOLDER, "cleaned"):
            try:
                names = os.listdir(self._temporary)
            except FileNotFoundError:
                self._require_tier()
                return 0
            for name in names:
                path = os.path.join(self._temporary, name)
                with suppress(FileNotFoundError):  # its own process was faster
                    modified = _posix.moment(os.stat(path, follow_symlinks=False).st_mtime_ns)
                    text = os.fsdecode(name)
                    is_due = modified < older_than or (crashed_here and _posix.is_of_this_machine(text))
                    if is_due and _posix.is_abandoned(text):
                        os.unlink(path)
                        removed += 1
        return removed

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        """Return an object or a part of it; see `wsistore.storage.base.Storage.get`."""
        with self._opened(key, version) as descriptor:
            start, length = bounds(byte_range, os.fstat(descriptor).st_size)
            return _posix.read_at(descriptor, start, length)

    def get_many(self, key: str, spans: Sequence[Span]) -> list[bytes]:
        """Return several parts of one object; see `wsistore.storage.base.Storage.get_many`."""
        with self._opened(key) as descriptor:
            size = os.fstat(descriptor).st_size
            wanted = [bounds(span, size) for span in spans]
            parts = [b""] * len(wanted)
            for run in coalesce(wanted, gap_bytes=GAP_BYTES, limit_bytes=_RUN_BYTES):
                data = _posix.read_at(descriptor, run.start, run.length_bytes)
                for member in run.members:
                    offset = wanted[member][0] - run.start
                    parts[member] = data[offset : offset + wanted[member][1]]
            return parts

    def stream(self, key: str, *, block_bytes: int = 8 * 1024 * 1024, uncached: bool = False) -> Iterator[memoryview]:
        """Yield an object in blocks; see `wsistore.storage.base.Storage.stream`."""
        check_block_bytes(block_bytes)
        with self._opened(key) as descriptor:
            if uncached:
                _posix.forget_cached(descriptor)
            size = os.fstat(descriptor).st_size
            block, place = buffer(min(block_bytes, size)), 0
            if uncached and size > _SMALL_BYTES:
                _posix.read_ahead(descriptor, 0, 2 * block_bytes)
            while count := _posix.read_into(descriptor, block):
                place += count
                # The medium fetches the next blocks while the caller works on this one; one more than that is on its
                # way already, so that the medium has something to do while this one is copied.
                ahead = place + block_bytes if uncached else place
                if ahead < size:
                    _posix.read_ahead(descriptor, ahead, block_bytes)
                yield block[:count].toreadonly()

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object; see `wsistore.storage.base.Storage.head`."""
        with self._opened(key) as descriptor:
            return _info(key, os.fstat(descriptor))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in order of their keys; see `wsistore.storage.base.Storage.list`."""
        self._require_tier()
        with translated(self._url, prefix, "listed"):
            try:
                yield from walk(self._root, prefix, after, _is_reserved)
            except FileNotFoundError as error:
                raise tier_missing(self._url) from error
        # Folders that vanish meanwhile are left out; that must not hide that the whole tier did.
        self._require_tier()

    def versions(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects, for there are no versions; see `wsistore.storage.base.Storage.versions`."""
        return self.list(prefix)

    # --- how ---------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> bytes:
        if _is_reserved(check_key(key)):
            msg = f"The key {key!r} cannot be stored in {self._url}: the name is the file system's or wsistore's own."
            raise StorageError(msg, kind=Kind.KEY_INVALID, remedy="Choose another name.")
        return os.path.join(self._root, key.encode("utf-8"))

    def _require_tier(self) -> None:
        """Raise if the folder is gone, or is no longer what it was; asked only where something was not found."""
        try:
            status = os.stat(self._marker if self._is_marked else self._root)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise tier_missing(self._url) from error
        except OSError as error:  # the way there is closed, or the file server does not answer
            raise translate(error, self._url, MARKER_KEY, "looked for") from error
        if not self._is_marked and not stat.S_ISDIR(status.st_mode):
            raise tier_missing(self._url)

    @contextmanager
    def _opened(self, key: str, version: str | None = None) -> Iterator[int]:
        path = self._path(key)
        if version is not None:
            raise object_missing(self._url, key, version)
        with translated(self._url, key, "read"):
            try:
                descriptor = _posix.open_regular(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                self._require_tier()
                raise object_missing(self._url, key) from error
            if key == MARKER_KEY:
                self._is_marked = True
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def _writer(self, key: str, *, if_absent: bool) -> LocalUpload:
        path = self._path(key)
        with translated(self._url, key, "written"):
            try:
                temporary = _posix.TemporaryFile(self._temporary)
            except FileNotFoundError:
                self._require_tier()
                try:
                    os.mkdir(self._temporary)  # needs no flush: what is in it is lost in a power cut by intent
                except FileExistsError:  # another thread or process was faster
                    pass
                except FileNotFoundError as error:
                    raise tier_missing(self._url) from error
                temporary = _posix.TemporaryFile(self._temporary)
            except NotADirectoryError as error:
                raise tier_missing(self._url) from error
        publish = partial(self._publish, key, path, if_absent=if_absent)
        return LocalUpload(self._url, key, temporary, publish, durable=self._durable)

    def _publish(self, key: str, path: bytes, temporary: _posix.TemporaryFile, *, if_absent: bool) -> ObjectInfo:
        """Give a finished temporary file its name, for good."""
        # First the bytes are flushed: a name on the medium without them would be an object full of nothing.
        status = temporary.seal(durable=self._durable)
        self._names.place(key, path, temporary.path, if_absent=if_absent)
        if key == MARKER_KEY:
            self._is_marked = True
        return _info(key, status)


def _rebuild(root: Path, durable: bool, is_marked: bool) -> LocalStorage:
    storage = LocalStorage(root, durable=durable)
    storage._is_marked |= is_marked
    return storage


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, _posix.moment(status.st_mtime_ns))


def _is_reserved(key: str) -> bool:
    """Return whether a key, or a folder's key with a slash behind it, names what is no object's."""
    first, _, _ = key.partition("/")
    if first in {TEMPORARY_FOLDER, RECALLS_FOLDER, "lost+found"}:
        return True
    # NFS renames a deleted file that is still open to .nfs and a number.
    return ".nfs" in key and any(part.startswith(".nfs") for part in key.split("/"))
