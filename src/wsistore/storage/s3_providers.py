"""What differs between S3 services in how they archive, as data. docs/archive.md has the sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from wsistore.storage.archive import Retrieval

_STANDARD_ONLY = (Retrieval.STANDARD,)


@dataclass(frozen=True, slots=True)
class Provider:
    """Manners of one service."""

    hosts: tuple[str, ...]
    """Ends of the host names of its endpoints."""
    classes: Mapping[str, tuple[Retrieval, ...]]
    """Classes that must be restored before they can be read, and the ways back, the slowest last."""
    is_tier_sent: bool = True
    """Whether a restore request names its retrieval; where there is only one way it is left out."""


PROVIDERS: Mapping[str, Provider] = {
    "aws": Provider(
        (".amazonaws.com", ".amazonaws.com.cn"),
        {
            "GLACIER": (Retrieval.EXPEDITED, Retrieval.STANDARD, Retrieval.BULK),
            "DEEP_ARCHIVE": (Retrieval.STANDARD, Retrieval.BULK),
        },
    ),
    # The guide names the class, "Cold Archive", and not what it is called in requests: both names of S3 count.
    "ovh": Provider(
        (".ovh.net", ".ovh.us"), {"GLACIER": _STANDARD_ONLY, "DEEP_ARCHIVE": _STANDARD_ONLY}, is_tier_sent=False
    ),
    "scaleway": Provider((".scw.cloud",), {"GLACIER": _STANDARD_ONLY}, is_tier_sent=False),
    # Ceph RGW and MinIO: a class is another pool of disks, and read at once.
    "other": Provider((), {}),
}
"""By the names that a tier's setting ``provider`` takes."""


def provider_of(name: str | None, endpoint: str) -> Provider:
    """Return the manners of a service: those called `name`, else those that its endpoint's host has."""
    if name is not None:
        return PROVIDERS[name]
    host = urlsplit(endpoint).hostname or ""
    return next((known for known in PROVIDERS.values() if host.endswith(known.hosts)), PROVIDERS["other"])
