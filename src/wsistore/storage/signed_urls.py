"""URLs that anybody may read an object by for a short while, of services that sign them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from wsistore.storage.base import Storage
from wsistore.storage.wrapper import WrappedStorage


@runtime_checkable
class SignsUrls(Protocol):
    """Ability of back ends whose service lets the owner of a key sign requests for others."""

    def sign_urls(self, keys: Sequence[str], seconds: int) -> list[str]:
        """Return a URL for each key, by which its object can be read (GET) for `seconds` from now on.

        The service is not asked whether there are such objects.

        Raises
        ------
        StorageError
            If there are no credentials to sign with.

        """
        ...


def signed_urls(storage: Storage, keys: Sequence[str], seconds: int) -> list[str] | None:
    """Return URLs of objects as they lie in the service; None if it signs none.

    Decorators see nothing of what is read by these URLs: neither meter nor limit count it.
    """
    while isinstance(storage, WrappedStorage):
        storage = storage.inner
    return storage.sign_urls(keys, seconds) if isinstance(storage, SignsUrls) else None
