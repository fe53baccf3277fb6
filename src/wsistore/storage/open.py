"""A URL becomes a `Storage`, and a tier gets and proves its identity.

A tier is known by its marker, a small JSON object at its root. Whoever uses a tier checks the marker first: the folder
of a file server that is not mounted is an empty folder like any other, and a bucket's name can be mistyped.

S3 is to come as one more scheme (``s3://bucket/prefix``). What it needs is in the contract: ranges and `get_many` are
GETs with a Range; `put` with `if_absent` is one PUT with ``If-None-Match: *``; an `Upload` collects
`Properties.min_part_bytes` into numbered parts, repeats each with `wsistore.storage.retry.Retrier`, and completes or
aborts them; `list` is ListObjectsV2 with StartAfter; versions are the bucket's. Its module is imported only when such a
URL is opened, since its libraries are heavy. Credentials come from the environment, never from the URL.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from wsistore.errors import ConflictError, Kind, ObjectExistsError, ObjectMissingError, StorageError
from wsistore.storage._errors import translated
from wsistore.storage._posix import flush_folder
from wsistore.storage.base import MARKER_KEY, Storage, SupportsLocalPath
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage

MARKER_FORMAT = "wsistore-tier"
MARKER_VERSION = 1

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NAMED_MEMORIES: dict[str, MemoryStorage] = {}
"""A URL names a place: opened twice in one process, ``memory://name`` is the same one."""


@dataclass(frozen=True, slots=True)
class TierMarker:
    """What a tier says of itself."""

    tier_id: str
    """Random, never used again."""
    name: str
    """What people called it when it was created; the site's settings may have another name by now."""


def open_storage(url: str) -> Storage:
    """Return the storage that `url` names; nothing is created or asked yet.

    Parameters
    ----------
    url
        A path, ``file:///path``, or ``memory://name`` (one place per name and process; without a name a new one).

    Raises
    ------
    StorageError
        If the URL is none of these, of kind ``settings-invalid``.

    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return LocalStorage(Path(_required(url, url)))
    match scheme[1].lower():
        case "file":
            return LocalStorage(_file_path(url))
        case "memory":
            name = url[scheme.end() :]
            return _NAMED_MEMORIES.setdefault(name, MemoryStorage(name)) if name else MemoryStorage()
        case other:
            msg = f"{other}:// in {_without_credentials(url)!r} is no kind of storage that wsistore knows."
            raise _invalid(msg, "Known are plain paths, file:// and memory://.")


def create_tier(storage: Storage, tier_id: str, name: str) -> TierMarker:
    """Make a place a tier: create its folder where there are folders, and write its marker.

    May be repeated with the same identity.

    Raises
    ------
    ConflictError
        If it is another tier already, of kind ``target-exists``.
    StorageError
        If it cannot be written.

    """
    if storage.properties.local_files and isinstance(storage, SupportsLocalPath):
        _create_folder(storage.local_path(MARKER_KEY).parent, storage.url)
    marker = TierMarker(tier_id, name)
    record = {"format": MARKER_FORMAT, "version": MARKER_VERSION, "id": tier_id, "name": name}
    try:
        storage.put(MARKER_KEY, json.dumps(record, indent=2).encode() + b"\n", if_absent=True)
    except ObjectExistsError as error:
        found = read_marker(storage)
        if found != marker:
            msg = f"{storage.url} is the tier {found.name!r} ({found.tier_id}) already."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Choose another place for the tier.") from error
    return marker


def check_tier(storage: Storage, expected_id: str) -> TierMarker:
    """Return the tier's marker if it is the tier that is expected.

    Raises
    ------
    StorageError
        If the marker is missing, unreadable or another tier's, of kind ``tier-missing``; if it cannot be read now.

    """
    marker = read_marker(storage)
    if marker.tier_id != expected_id:
        msg = f"{storage.url} is the tier {marker.name!r} ({marker.tier_id}), not the tier {expected_id} of this site."
        raise _missing(msg, "Mount the right medium there, or mend the tier's URL in the settings.")
    return marker


def read_marker(storage: Storage) -> TierMarker:
    """Return what the tier says of itself.

    Raises
    ------
    StorageError
        If the marker is missing or unreadable, of kind ``tier-missing``; if a newer wsistore wrote it, of kind
        ``format-unknown``.

    """
    try:
        record: Any = json.loads(storage.get(MARKER_KEY))
    except ObjectMissingError as error:
        msg = f"{storage.url} is no tier: it has no {MARKER_KEY}."
        raise _missing(msg, "Mount the tier's medium there; if it is a new tier, create it.") from error
    except (ValueError, RecursionError):
        record = None
    match record:
        case {"format": str(kind), "version": int(version), **rest} if kind == MARKER_FORMAT:
            if version > MARKER_VERSION:
                msg = f"{storage.url} was made a tier by a newer wsistore (marker version {version})."
                raise StorageError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Update wsistore.")
            match rest:
                case {"id": str(tier_id), "name": str(name)}:
                    return TierMarker(tier_id, name)
                case _:
                    pass
        case _:
            pass
    msg = f"{storage.url} is no tier, or a damaged one: its {MARKER_KEY} cannot be understood."
    raise _missing(msg, "Restore that object from a backup of the tier, or mount the right medium.")


def _file_path(url: str) -> Path:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        msg = f"{url!r} is no URL: {error}."
        raise _invalid(msg, "Write file:///path.") from error
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        msg = f"{url!r} does not name a folder of this machine."
        raise _invalid(msg, "Write file:/// and an absolute path, with %23 for # and %3F for ?.")
    return Path(os.fsdecode(unquote_to_bytes(_required(parts.path, url))))


def _required(path: str, url: str) -> str:
    if not path:
        msg = f"{url!r} names no folder."
        raise _invalid(msg, "Write a path, or file:/// and an absolute path.")
    return path


def _without_credentials(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _create_folder(folder: Path, url: str) -> None:
    """Create a tier's folder and those above it, for good."""
    with translated(url, folder.name, "created"):
        lowest = next(path for path in (folder, *folder.parents) if path.exists())
        folder.mkdir(parents=True, exist_ok=True)
        while folder != lowest:
            folder = folder.parent
            flush_folder(os.fsencode(folder))


def _missing(message: str, remedy: str) -> StorageError:
    return StorageError(message, kind=Kind.TIER_MISSING, remedy=remedy)


def _invalid(message: str, remedy: str) -> StorageError:
    return StorageError(message, kind=Kind.SETTINGS_INVALID, remedy=remedy)
