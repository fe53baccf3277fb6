"""Where checks of a tier try things out: keys of their own, which are removed again whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from wsistore.clock import Clock
from wsistore.errors import WsistoreError
from wsistore.model import random_key
from wsistore.settings import TierSettings
from wsistore.storage.base import ObjectInfo, Storage
from wsistore.storage.s3_values import BucketAbilities

CHECK_PREFIX = "check/"
"""What the keys of everything that checks write start with; then comes a random part for each run."""

_log = logging.getLogger(__name__)


@runtime_checkable
class SupportsAbilities(Protocol):
    """Ability of back ends that can be asked what they are set to do."""

    def abilities(self) -> BucketAbilities:
        """Return what the bucket is set to do, asked anew."""
        ...


@dataclass(slots=True)
class Bench:
    """A tier under test."""

    tier: TierSettings
    plain: Storage
    """Its back end as it is; asked for abilities only."""
    storage: Storage
    """The same as it is worked with, but without Object Lock."""
    locking: Storage | None
    """The same with Object Lock, where it is configured and may be tried out."""
    clock: Clock
    size_bytes: int
    """Of the large object."""
    denied: list[str] = field(default_factory=list)
    """What the tier forbade."""
    kept: set[str] = field(default_factory=set)
    """Keys of objects that stay, since nobody can remove them."""
    prefix: str = field(default_factory=lambda: f"{CHECK_PREFIX}{random_key()}/")
    _keys: set[str] = field(default_factory=set)
    _abilities: BucketAbilities | None = None

    def key(self, name: str) -> str:
        """Return the key of an object that is about to be written."""
        key = self.prefix + name
        self._keys.add(key)
        return key

    def abilities(self) -> BucketAbilities | None:
        """Return what the bucket is set to do, or None for what is no bucket.

        Raises
        ------
        StorageError
            If it cannot be asked.

        """
        if self._abilities is None and isinstance(self.plain, SupportsAbilities):
            self._abilities = self.plain.abilities()
        return self._abilities

    def remove(self, key: str) -> None:
        """Remove an object, with all its versions where they are kept: a mark of a deletion would stay for good."""
        if not self.storage.properties.versions:
            self.storage.delete(key)
            return
        for info in list(self.storage.versions(key)):
            if info.key == key:
                self.storage.delete(key, version=info.version)

    def left(self) -> Iterator[ObjectInfo]:
        """Yield what still lies under the prefix and is not to stay."""
        return (info for info in self.storage.versions(self.prefix) if info.key not in self.kept)

    def clean(self) -> str:
        """Remove everything that was written; return why not, in words, or nothing.

        A listing may lag: what was written is removed by name, what is listed beside.
        """
        wrong = ""
        for key in sorted(self._keys):
            try:
                self.remove(key)
            except WsistoreError as error:
                wrong = wrong or str(error)
            else:
                self._keys.discard(key)
        with suppress(WsistoreError):
            for info in list(self.left()):
                with suppress(WsistoreError):
                    self.storage.delete(info.key, version=info.version)
        return wrong

    def close(self) -> None:
        """Remove what is left, if the check was interrupted."""
        if self._keys:
            wrong = self.clean()
            if wrong:
                _log.warning("%s: objects under %s could not be removed: %s", self.tier.name, self.prefix, wrong)
