"""URLs signed with the site's own credentials, by which others read objects of a bucket for a while."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from wsistore.storage.s3_objects import S3Objects


class S3Signing(ABC):
    """What `wsistore.storage.s3.S3Storage` can do for those who have no credentials; see `SignsUrls`."""

    @property
    @abstractmethod
    def _objects(self) -> S3Objects: ...

    @abstractmethod
    def _full(self, key: str) -> str: ...

    def sign_urls(self, keys: Sequence[str], seconds: int) -> list[str]:
        """Return URLs that read objects for a while; see `wsistore.storage.signed_urls.SignsUrls`."""
        return self._objects.sign([self._full(key) for key in keys], seconds) if keys else []
