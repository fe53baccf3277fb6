"""The wording of errors that several back ends raise, and what an operating system's error means for a tier."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from wsistore.errors import FullError, Kind, ObjectArchivedError, ObjectExistsError, ObjectMissingError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NAME = {errno.ENAMETOOLONG, errno.EILSEQ}


def object_missing(url: str, key: str, version: str | None = None) -> ObjectMissingError:
    """Return the error for an object or a version that is not there."""
    which = f" in version {version!r}" if version is not None else ""
    return ObjectMissingError(
        f"{url} has no object {key!r}{which}.", remedy="If it should be there, verify the tier and restore the copy."
    )


def object_exists(url: str, key: str) -> ObjectExistsError:
    """Return the error for a conditional write that came too late."""
    return ObjectExistsError(
        f"{url} already has an object {key!r}.", remedy="Somebody else wrote it first: read it and go on from there."
    )


def object_archived(url: str, key: str) -> ObjectArchivedError:
    """Return the error for an object that cannot be read before it was restored."""
    return ObjectArchivedError(
        f"{key!r} in {url} lies in an archive and cannot be read now.",
        remedy="Bring the slide back first, with 'wsistore recall'; that takes minutes to days and may cost money.",
    )


def tier_missing(url: str) -> StorageError:
    """Return the error for a tier whose folder is gone, or is not the tier's."""
    return StorageError(
        f"The folder of the tier, {url}, is not there, or is not the tier.",
        kind=Kind.TIER_MISSING,
        remedy="Mount it, then try again; nothing was created in its place.",
    )


def key_clash(url: str, key: str) -> StorageError:
    """Return the error for a key that a file system cannot hold beside the keys that it has."""
    return StorageError(
        f"{url} cannot hold {key!r}: a part of it is an object already, or it is a folder of other objects.",
        kind=Kind.KEY_INVALID,
        remedy="On a file system no key may be the folder of another key.",
    )


def translate(error: OSError, url: str, key: str, act: str) -> StorageError:
    """Return what `error`, met when `act` was tried on `key`, means for the caller.

    Parameters
    ----------
    error
        What the operating system said.
    url, key
        The tier and the object, for the message.
    act
        What could not be done, as a past participle: ``written``.

    """
    reason = error.strerror or str(error)
    message = f"{key!r} could not be {act} in {url}: {reason}."
    if error.errno in _FULL:
        return FullError(message, remedy="Make room on the tier, or raise its quota, and run the same again.")
    if error.errno in _DENIED:
        remedy = "Give the account that runs wsistore the right to do so, or mount the tier writable."
        return StorageError(message, kind=Kind.STORAGE_DENIED, remedy=remedy)
    if error.errno in _NAME:
        return StorageError(message, kind=Kind.KEY_INVALID, remedy="Use shorter or plainer names between the slashes.")
    return StorageError(message, remedy="Look at the medium and its connection, then run the same again.")


@contextmanager
def translated(url: str, key: str, act: str) -> Iterator[None]:
    """Turn every `OSError` of the block into the project's error; see `translate`."""
    try:
        yield
    except OSError as error:
        raise translate(error, url, key, act) from error
