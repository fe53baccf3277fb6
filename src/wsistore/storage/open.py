"""A URL becomes a `Storage`, and a tier gets and proves its identity.

A tier is known by its marker, a small JSON object at its root. Whoever uses a tier checks the marker first: the folder
of a file server that is not mounted is an empty folder like any other, and a bucket's name can be mistyped.

Back ends with heavy libraries are imported only when one of their URLs is opened. Credentials never stand in a URL or
in the options: they come from the environment, or from files that the options name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import fsspec

from wsistore.clock import Clock, SystemClock
from wsistore.errors import ConflictError, Kind, ObjectExistsError, ObjectMissingError, StorageError
from wsistore.storage._errors import translated
from wsistore.storage._posix import flush_folder
from wsistore.storage.archive_sim import ArchiveStorage
from wsistore.storage.base import MARKER_KEY, Storage, SupportsLocalPath
from wsistore.storage.fsspec_store import FsspecStorage
from wsistore.storage.local import LocalStorage
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.s3_options import S3Options
from wsistore.storage.tape import TapeCommands, TapeStorage

MARKER_FORMAT = "wsistore-tier"
MARKER_VERSION = 1

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NO_STORAGE = {"http", "https", "data", "git", "github", "zip", "tar", "libarchive", "reference", "simplecache", "dask"}
"""What fsspec can only read, or only wraps."""
_NAMED_MEMORIES: dict[str, MemoryStorage] = {}
"""A URL names a place: opened twice in one process, ``memory://name`` is the same one."""


@dataclass(frozen=True, slots=True)
class TierMarker:
    """What a tier says of itself."""

    tier_id: str
    """Random, never used again."""
    name: str
    """What people called it when it was created; the site's settings may have another name by now."""


def open_storage(url: str, options: Mapping[str, Any] | None = None, *, clock: Clock | None = None) -> Storage:
    """Return the storage that `url` names; nothing is created or asked yet.

    Parameters
    ----------
    url
        A path, ``file:///path``, ``memory://name`` (one place per name and process; without a name a new one),
        ``s3://bucket/prefix``, or a URL of another scheme that fsspec knows.
    options
        Settings of the back end: the fields of `wsistore.storage.s3_options.S3Options` for ``s3://``, what fsspec's
        file system takes for the others. Memories take none; folders with a tape library behind them the fields of
        `wsistore.storage.tape.TapeCommands`. With ``simulated_speed`` the place becomes a rehearsed archive
        (`wsistore.storage.archive_sim`) that runs so many times faster than the clock.
    clock
        What archives tell the time by; by default the machine's.

    Raises
    ------
    StorageError
        If the URL is none of these, or the options do not fit, of kind ``settings-invalid``.

    """
    left = dict(options or {})
    speed = left.pop("simulated_speed", None)
    storage = _opened(url, left, clock or SystemClock())
    return storage if speed is None else ArchiveStorage(storage, clock or SystemClock(), speed=float(speed))


def _opened(url: str, options: Mapping[str, Any], clock: Clock) -> Storage:
    scheme = _SCHEME.match(url)
    kind = "file" if scheme is None else scheme[1].lower()
    if kind == "file" and "recall" in options:
        folder = Path(_required(url, url)) if scheme is None else _file_path(url)
        return TapeStorage(folder, TapeCommands(**options), clock=clock)
    if kind in {"file", "memory"} and options:
        msg = f"{_without_credentials(url)!r} takes no options, but has {', '.join(map(repr, options))}."
        raise _invalid(msg, "Leave them out.")
    if scheme is None:
        return LocalStorage(Path(_required(url, url)))
    match kind:
        case "file":
            return LocalStorage(_file_path(url))
        case "memory":
            name = url[scheme.end() :]
            return _NAMED_MEMORIES.setdefault(name, MemoryStorage(name)) if name else MemoryStorage()
        case "s3":
            from wsistore.storage.s3 import S3Storage  # obstore and botocore take half a second to load

            return S3Storage(S3Options.of(url, options))
        case other:
            return _by_fsspec(url, other, options)


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
    place = storage.inner if isinstance(storage, ArchiveStorage) else storage
    if isinstance(place, SupportsLocalPath) and (place.properties.local_files or isinstance(place, TapeStorage)):
        _create_folder(place.local_path(MARKER_KEY).parent, storage.url)
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


def _by_fsspec(url: str, scheme: str, options: Mapping[str, Any] | None) -> Storage:
    if scheme in _NO_STORAGE or scheme not in fsspec.available_protocols():
        msg = f"{scheme}:// in {_without_credentials(url)!r} is no kind of storage that wsistore knows."
        raise _invalid(msg, "Known are plain paths, file://, memory://, s3:// and what fsspec can write to.")
    if ":" in urlsplit(url).netloc.rpartition("@")[0]:
        msg = f"{_without_credentials(url)!r} was given with a password in it."
        raise _invalid(msg, "Use keys, or the files and variables where the file system looks for its credentials.")
    return FsspecStorage(url, options)


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
