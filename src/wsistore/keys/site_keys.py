"""The site key: it encrypts the data keys of companions, and nothing else. It has versions, of which the highest holds.

A data key encrypts one companion and lies, wrapped by the site key, on the same tier as a small object of its own: so
that the tiers and the site key are all it takes to read everything, that a new version of the site key costs a few
small writes, and that deleting this one object makes a companion unreadable for good.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wsistore.clock import Clock, iso
from wsistore.errors import IntegrityError, Kind, SiteError
from wsistore.keys import folder as files
from wsistore.model import random_key

KEY_BYTES = 32
_KIND = "wsistore-site-key"
_NAME = re.compile(r"site-key-(\d{4})\.key")
_NONCE_BYTES = 12
_WRAPPED_BYTES = KEY_BYTES + 16
FORMAT = 1
"""Of a wrapped data key."""
_REMEDY = "Restore the folder keyring/ of the tier from a backup, or the slide from another copy."


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it lies on a tier, or the note that it was destroyed."""

    slide: str
    attempt: str
    site_key: int
    """Version of the site key that it is wrapped by; 0 where it was destroyed."""
    nonce: bytes = b""
    wrapped: bytes = b""
    destroyed: str = ""
    """When it was destroyed, ISO 8601; else nothing."""

    def encode(self) -> bytes:
        """Return the object as it lies on the tier."""
        document: dict[str, Any] = {"format": FORMAT, "slide": self.slide, "attempt": self.attempt}
        if self.destroyed:
            document["destroyed"] = self.destroyed
        else:
            document["site_key"] = self.site_key
            document["nonce"] = base64.b64encode(self.nonce).decode()
            document["wrapped"] = base64.b64encode(self.wrapped).decode()
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, slide: str, attempt: str, *, where: str) -> WrappedKey:
        """Return what lies on a tier for a companion; `where`, for messages.

        Raises
        ------
        IntegrityError
            If it is damaged, of another companion, or of a newer format.

        """
        try:
            document: Any = json.loads(data)
            version = document["format"]
            if version != FORMAT:
                msg = f"{where} has format {version!r:.20}; this wsistore reads format {FORMAT}."
                raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="Read it with a newer wsistore.")
            if (document["slide"], document["attempt"]) == (slide, attempt):
                return cls._from_json(document)
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        msg = f"{where} is damaged, or another companion's."
        raise IntegrityError(msg, remedy=_REMEDY)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> WrappedKey:
        slide, attempt = document["slide"], document["attempt"]
        if "destroyed" in document:
            if not isinstance(document["destroyed"], str) or not document["destroyed"]:
                msg = "no moment"
                raise ValueError(msg)
            return cls(slide, attempt, 0, destroyed=document["destroyed"])
        version = document["site_key"]
        nonce, wrapped = (base64.b64decode(document[name], validate=True) for name in ("nonce", "wrapped"))
        if type(version) is not int or version < 1 or (len(nonce), len(wrapped)) != (_NONCE_BYTES, _WRAPPED_BYTES):
            msg = "no wrapped key"
            raise ValueError(msg)
        return cls(slide, attempt, version, nonce, wrapped)


class SiteKeys:
    """All versions of a site's key that are at hand. It never shows them and does not pickle.

    Parameters
    ----------
    site
        Random name of the site, the same in all versions.
    versions
        32 bytes each, by version from 1; at least one.
    made
        When each was made, ISO 8601.

    """

    def __init__(self, site: str, versions: Mapping[int, bytes], made: Mapping[int, str]) -> None:
        self.site = site
        self.made = dict(made)
        self._versions = dict(versions)
        self._ciphers = {version: AESGCM(key) for version, key in versions.items()}
        self.current = max(versions)
        """The version that new data keys are wrapped by."""

    def __repr__(self) -> str:
        return f"SiteKeys({self.site}, versions {sorted(self._versions)})"

    def __reduce__(self) -> tuple[Any, ...]:
        msg = "Keys are not pickled: they are read from the folder of keys of the machine that needs them."
        raise TypeError(msg)

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that are at hand, ascending."""
        return tuple(sorted(self._versions))

    def secret(self, version: int) -> bytes:
        """Return a version's 32 bytes, for the recovery sheets."""
        return self._versions[version]

    def name(self, version: int) -> str:
        """Return a short name of a version that tells nothing of it, for people to compare."""
        return key_name(self._versions[version])

    def wrap(self, data_key: bytes, slide: str, attempt: str) -> WrappedKey:
        """Return a data key wrapped by the current version, for one companion only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        about = _about(slide, attempt, self.current)
        return WrappedKey(
            slide, attempt, self.current, nonce, self._ciphers[self.current].encrypt(nonce, data_key, about)
        )

    def unwrap(self, wrapped: WrappedKey, *, where: str) -> bytes:
        """Return a data key of 32 bytes.

        Raises
        ------
        SiteError
            If the version that it is wrapped by is not at hand (`Kind.KEY_MISSING`).
        IntegrityError
            If it is not what was wrapped, for this companion, by this site.

        """
        cipher = self._ciphers.get(wrapped.site_key)
        if cipher is None:
            msg = f"{where} is encrypted by version {wrapped.site_key} of the site key, which is not at hand."
            raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Bring it back: wsistore keys recover.")
        about = _about(wrapped.slide, wrapped.attempt, wrapped.site_key)
        try:
            return cipher.decrypt(wrapped.nonce, wrapped.wrapped, about)
        except InvalidTag as error:
            msg = f"{where} was altered, or was written by another site."
            raise IntegrityError(msg, remedy=_REMEDY) from error


def new_data_key() -> bytes:
    """Return a random data key."""
    return secrets.token_bytes(KEY_BYTES)


def key_name(key: bytes) -> str:
    """Return a short name of a secret that tells nothing of it."""
    return hashlib.sha256(b"wsistore key name\0" + key).hexdigest()[:12]


def _about(slide: str, attempt: str, version: int) -> bytes:
    return f"wsistore data key 1\0{slide}\0{attempt}\0{version}".encode()


# --- in the folder ----------------------------------------------------------------------------------------------------


def has_site_key(folder: Path) -> bool:
    """Say whether there is any version of a site key in a folder; nothing is read."""
    try:
        return any(_NAME.fullmatch(path.name) for path in folder.iterdir())
    except OSError:
        return False


def load(folder: Path) -> SiteKeys | None:
    """Return all versions of the site key that lie in `folder`; None if there is none.

    Raises
    ------
    SiteError
        If one is damaged, of another site, cannot be read, or others may read it.

    """
    if not has_site_key(folder):
        return None
    files.check_private(folder)
    versions, made, sites = {}, {}, set()
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        files.check_private(path)
        number = int(match[1])
        site, versions[number], made[number] = _decode(path, files.read(path) or b"", number)
        sites.add(site)
    if len(sites) != 1:
        msg = f"{folder} holds versions of the site keys of several sites."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Remove those that are not this site's.")
    return SiteKeys(sites.pop(), versions, made)


def _decode(path: Path, content: bytes, number: int) -> tuple[str, bytes, str]:
    fields = files.decode(path, content, _KIND)
    try:
        site, made = str(fields["site"]), str(fields["made"])
        key = base64.b64decode(fields["key"], validate=True)
        is_good = len(key) == KEY_BYTES and fields["name"] == key_name(key) and fields["version"] == number
    except (ValueError, LookupError, TypeError) as error:
        raise files.damaged(path) from error
    if not is_good:
        raise files.damaged(path)
    return site, key, made


def make(folder: Path, clock: Clock) -> SiteKeys:
    """Return the site's keys, after making the first version (and the folder) if there is none. Processes may race.

    Raises
    ------
    SiteError
        As `load`, or if nothing can be written.

    """
    if load(folder) is None:
        files.make_folder(folder)
        put(folder, random_key(), 1, secrets.token_bytes(KEY_BYTES), clock)
    return _loaded(folder)


def add_version(folder: Path, clock: Clock) -> SiteKeys:
    """Return the site's keys after adding a new version, by which new data keys are wrapped from now on.

    Raises
    ------
    SiteError
        As `make`.

    """
    keys = make(folder, clock)
    put(folder, keys.site, keys.current + 1, secrets.token_bytes(KEY_BYTES), clock)
    return _loaded(folder)


def forget_version(folder: Path, version: int) -> None:
    """Remove a version from the folder: what is still wrapped by it is lost."""
    files.remove(folder / f"site-key-{version:04d}.key")


def put(folder: Path, site: str, version: int, key: bytes, clock: Clock, made: datetime | None = None) -> bool:
    """Lay a version down, unless it is there; say whether this call did."""
    fields = {
        "site": site,
        "version": version,
        "made": iso(made or clock.now()),
        "name": key_name(key),
        "key": base64.b64encode(key).decode(),
    }
    return files.write_new(folder / f"site-key-{version:04d}.key", files.encode(_KIND, fields))


def _loaded(folder: Path) -> SiteKeys:
    found = load(folder)
    if found is None:
        msg = f"The site key is missing from {folder}."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Bring it back: wsistore keys recover.")
    return found
