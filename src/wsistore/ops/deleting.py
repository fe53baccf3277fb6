"""Deleting many objects for good: side by side, for each waits for its tier most of the time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import TypeVar

from wsistore.compress.crew import Crew
from wsistore.errors import StorageError
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.erasing import erase, lying
from wsistore.storage.wrapper import delete_many

_DELETERS = 8
_AT_ONCE = 1000
"""Objects that one request deletes, where a tier can."""

T = TypeVar("T")


def delete_all(storage: Storage, found: Iterable[ObjectInfo]) -> int:
    """Delete what `wsistore.storage.erasing.lying` found, each in the version found; return how many objects.

    Raises
    ------
    StorageError
        The first failure; what was not begun then is still there.

    """
    seen = list(found)
    if storage.properties.deletes_many:
        _many(storage, [info.key for info in seen])
    else:
        _each(seen, lambda info: storage.delete(info.key, version=info.version))
    return len({info.key for info in seen})


def delete_exactly(storage: Storage, keys: Collection[str], prefixes: Sequence[str]) -> None:
    """Delete these objects and no others, and where versions are kept, see that none of any of them is left.

    Parameters
    ----------
    storage
        The tier.
    keys
        The objects; they need not be there.
    prefixes
        What their keys start with: where versions are kept they are found by listing these.

    Raises
    ------
    StorageError
        The first failure, or if something is still there although the tier said that it was deleted. What was not begun
        then is still there.

    """
    if not storage.properties.versions:
        if storage.properties.deletes_many:
            _many(storage, list(keys))
        else:
            _each(keys, storage.delete)
        return
    wanted = set(keys)
    found = [info for prefix in prefixes for info in lying(storage, prefix) if info.key in wanted]
    delete_all(storage, found)
    _each(wanted - {info.key for info in found}, lambda key: erase(storage, key))  # lists may lag
    left = [info.key for prefix in prefixes for info in lying(storage, prefix) if info.key in wanted]
    if left:
        msg = f"{storage.url} still has {len(left)} versions of what it deleted, such as {left[0]!r}."
        raise StorageError(msg, remedy="'wsistore recover' tries again; look at the bucket's rules if this stays.")


def _many(storage: Storage, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), _AT_ONCE):
        delete_many(storage, keys[start : start + _AT_ONCE])


def _each(items: Iterable[T], act: Callable[[T], object]) -> None:
    with Crew(_DELETERS) as crew:
        running = [crew.submit(act, item) for item in items]
        _, waiting = wait(running, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in running:
            if not future.cancelled():
                future.result()
