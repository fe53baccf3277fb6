"""What back ends can do that keep objects where they cannot be read at once: archive classes, tape libraries.

An object is archived by `transition` (the back end moves it itself, so that its bytes need not travel) or by being
written in such a class. It comes back in two steps that may be days and processes apart: `begin_restore` asks for a
temporary copy and returns at once; `look` tells how far it is. Until it is there every read raises
`wsistore.errors.ObjectArchivedError`; nothing ever waits for an archive.

Rules that hold for all of them, and that `wsistore.testing.storage_archive` checks:

* **Metadata stays at hand.** `head`, `look`, `list` and `versions` answer for archived objects as for others.
* **Idempotent.** `begin_restore` of what is being restored changes nothing; of what is restored it moves the end of
  the copy, never nearer; of what is readable anyway it does nothing. `transition` to the class that the object is in
  returns it as it is. After a lost reply the caller may repeat either.
* **Same bytes.** `transition` keeps the bytes or fails. The caller compares size and, where it is kept, ETag.
* **The copy ends by itself.** When its time is over the object is archived again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, runtime_checkable

from wsistore.errors import Kind, StorageError
from wsistore.storage.base import ArchiveState, ObjectInfo, Storage


class Retrieval(StrEnum):
    """How fast an object is brought back. Prices and times are those of `wsistore.tiers.retrievals`."""

    EXPEDITED = "expedited"
    STANDARD = "standard"
    BULK = "bulk"


@runtime_checkable
class SupportsArchive(Protocol):
    """Ability of back ends with objects that must be restored before they can be read."""

    def retrievals(self, storage_class: str | None) -> tuple[Retrieval, ...]:
        """Return the ways back from a class, the slowest last; none for a class that can be read at once."""
        ...

    def look(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Return what is known of an object or version, with its class and whether it can be read now.

        Raises
        ------
        ObjectMissingError
            If there is no such object or version.

        """
        ...

    def begin_restore(self, key: str, *, days: int, retrieval: Retrieval, version: str | None = None) -> ArchiveState:
        """Ask for a temporary copy of an archived object, and return at once.

        Parameters
        ----------
        key, version
            The object; without a version the newest.
        days
            How long the copy is to stay readable, at least 1.
        retrieval
            How fast; one of `retrievals` of its class.

        Returns
        -------
        ArchiveState
            How it stands now: being restored, or readable already.

        Raises
        ------
        ObjectMissingError
            If there is no such object or version.
        TransientError
            If the back end has no room for it now, as for expedited retrievals (`Kind.RETRIEVAL_REFUSED`).
        StorageError
            If it cannot be restored in this way.

        """
        ...

    def transition(
        self, key: str, storage_class: str, *, version: str | None = None, etag: str | None = None
    ) -> ObjectInfo:
        """Have the back end move an object to another class; its bytes stay as they are.

        Parameters
        ----------
        key, version
            The object; without a version the newest. Where versions are kept the result may be a new one, and then
            the one before stays until the caller deletes it.
        storage_class
            Where to.
        etag
            What the object's ETag must be now; by default whatever it is.

        Returns
        -------
        ObjectInfo
            The object as it is now, asked for anew, to be compared with what it was.

        Raises
        ------
        ObjectArchivedError
            If it lies in an archive already, in another class.
        StorageError
            If it was replaced, or cannot be moved.

        """
        ...


def archive_of(storage: Storage) -> SupportsArchive | None:
    """Return `storage` as one that archives, if it does."""
    return storage if storage.properties.archive and isinstance(storage, SupportsArchive) else None


def same_bytes(before: ObjectInfo, after: ObjectInfo) -> bool:
    """Return whether the back end itself says that two states of an object have the same bytes.

    That is evidence only where the ETag is of the bytes, as it is where the service encrypts with no key of a key
    service; where it is not, the two differ, and nothing was said.
    """
    return before.etag is not None and (before.size_bytes, before.etag) == (after.size_bytes, after.etag)


def check_restore(url: str, key: str, days: int, retrieval: Retrieval, ways: tuple[Retrieval, ...]) -> None:
    """Refuse a restore that no back end could carry out.

    Raises
    ------
    StorageError
        If `days` is not 1 or more, or `retrieval` is none of `ways`.

    """
    if days < 1:
        msg = f"{key!r} in {url} cannot be restored for {days} days."
        raise StorageError(msg, kind=Kind.INTERNAL, remedy="Ask for a day or more.")
    if retrieval not in ways:
        known = ", ".join(ways) or "none"
        msg = f"{key!r} in {url} cannot be restored by {retrieval!s} retrieval."
        raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"Its class has: {known}.")


def no_archive(url: str, key: str) -> StorageError:
    """Return the error for a back end without archive classes that is asked to use them."""
    return StorageError(
        f"{url} has no archive where {key!r} could lie.",
        kind=Kind.INTERNAL,
        remedy="Ask Properties.archive first.",
    )
