"""What lies in a tier with all its versions, and its deletion for good.

Where versions are kept, a plain delete only hides an object: its bytes stay, are paid for, and can be read by their
version. What is to be gone is therefore deleted version by version.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsistore.errors import ObjectMissingError
from wsistore.storage.base import ObjectInfo, Storage


def lying(storage: Storage, prefix: str) -> Iterator[ObjectInfo]:
    """Yield every object under `prefix`; where versions are kept, every version of it, hidden ones too."""
    return storage.versions(prefix) if storage.properties.versions else storage.list(prefix)


def versions_of(storage: Storage, key: str) -> list[str | None]:
    """Return the versions of one object, newest first; ``[None]`` where none are kept, whether it is there or not.

    A listing may not know yet of what was written a moment ago, so the object itself is asked for too.
    """
    if not storage.properties.versions:
        return [None]
    found = [info.version for info in storage.versions(key) if info.key == key]
    try:
        newest = storage.head(key).version
    except ObjectMissingError:
        return found
    return found if newest in found else [newest, *found]


def erase(storage: Storage, key: str) -> None:
    """Delete one object for good, with all versions of it. No error if it is not there."""
    for version in versions_of(storage, key):
        storage.delete(key, version=version)
