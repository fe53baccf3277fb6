"""What an S3 service says of a bucket and of what lies in it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wsistore.storage.base import ObjectInfo


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted; its parts are stored, paid for and not listed."""

    key: str
    upload_id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class BucketAbilities:
    """What a bucket is set to do."""

    versions: bool
    """It keeps versions, or kept them and is suspended: then old ones are still there."""
    object_lock: bool
    default_lock: str | None
    """The bucket's own retention, such as ``COMPLIANCE 30 days``."""
    skew_seconds: float | None
    """The service's clock minus this machine's, to a second; None where the service does not say."""


def info_of(entry: Mapping[str, Any], version: str | None) -> ObjectInfo:
    """Return what an entry of a listing says of an object."""
    # The header that a HEAD answers with knows whole seconds; both are to say the same.
    modified = entry["LastModified"].astimezone(UTC).replace(microsecond=0)
    found = entry.get("StorageClass")
    storage_class = None if found == "STANDARD" else found
    return ObjectInfo(entry["Key"], entry["Size"], modified, entry.get("ETag"), version, storage_class)
