"""Identities of patients, sealed one value at a time: what a catalogue, its ledgers and its backups hold of them.

A site has one *identity key*, a data key as companions have, wrapped by the site key. Two keys are derived from it:
one that seals (AES-256-GCM, a random nonce for each value), one for blind indexes (HMAC-SHA-256), by which a value can
be looked up that nobody can read. A sealed value is a text::

    wsistore-sealed:1:<id of the identity key>:<nonce, ciphertext and tag in URL-safe base 64 without padding>

It is bound to what it is about, so that one person's identity cannot be put in another's place, and padded to whole
blocks of 16 bytes, so that its length tells little.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wsistore.errors import IntegrityError, Kind, SiteError
from wsistore.keys import site_keys
from wsistore.keys.site_keys import KEY_BYTES, SiteKeys, WrappedKey

OWNER = "identities"
"""What identity keys are wrapped for, where data keys of companions name a slide."""
_SEALED = re.compile(r"wsistore-sealed:1:([0-9a-z]{1,64}):([A-Za-z0-9_-]+)")
_NONCE_BYTES, _BLOCK_BYTES = 12, 16
_REMEDY = "The catalogue was altered or damaged: put back its last backup, or run 'wsistore catalog rebuild'."


class IdentityCipher:
    """Seals, opens and indexes identities by the identity keys that are at hand. It does not pickle.

    Parameters
    ----------
    keys
        32 bytes each, by their ids.
    current
        Id of the one that seals from now on.

    """

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        self.current = current
        self._ciphers = {name: AESGCM(_derived(key, "seal")) for name, key in keys.items()}
        self._indexes = {name: _derived(key, "index") for name, key in keys.items()}

    def __repr__(self) -> str:
        return f"IdentityCipher({sorted(self._ciphers)})"

    def __reduce__(self) -> tuple[Any, ...]:
        msg = "Keys are not pickled: they are read from the folder of keys of the machine that needs them."
        raise TypeError(msg)

    def seal(self, text: str, about: str) -> str:
        """Return a text sealed; each time another one."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self.current].encrypt(nonce, _padded(text), _about(about, self.current))
        data = base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")
        return f"wsistore-sealed:1:{self.current}:{data}"

    def open(self, sealed: str, about: str) -> str:
        """Return what was sealed.

        Raises
        ------
        SiteError
            If it was sealed by a key that is not at hand (`Kind.KEY_MISSING`).
        IntegrityError
            If it is damaged, or about something else.

        """
        match = _SEALED.fullmatch(sealed)
        if match is None:
            msg = f"A sealed identity ({about}) is damaged, or of a newer release."
            raise IntegrityError(msg, remedy=_REMEDY)
        cipher = self._ciphers.get(match[1])
        if cipher is None:
            msg = f"An identity ({about}) is sealed by the key {match[1]}, which is not at hand."
            raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Restore keyring/identities/ of a tier from a backup.")
        try:
            data = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
            padded = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _about(about, match[1]))
            return padded.rstrip(b"\0")[:-1].decode("utf-8", "surrogatepass")
        except (InvalidTag, binascii.Error, ValueError) as error:
            msg = f"A sealed identity ({about}) was altered, or moved here from elsewhere."
            raise IntegrityError(msg, remedy=_REMEDY) from error

    def indexes(self, text: str) -> tuple[str, ...]:
        """Return the blind indexes that a value may have, whatever its capitals; the current key's first."""
        folded = text.casefold().encode("utf-8", "surrogatepass")
        names = sorted(self._indexes, key=lambda name: (name != self.current, name))
        return tuple(hmac.digest(self._indexes[name], folded, "sha256").hex() for name in names)


def key_of(sealed: str) -> str:
    """Return the id of the key that a value is sealed by; nothing if it is none."""
    match = _SEALED.fullmatch(sealed)
    return "" if match is None else match[1]


def unlock(folder: Path, wrapped: Mapping[str, str]) -> IdentityCipher:
    """Return what opens identities.

    Parameters
    ----------
    folder
        Of the site's keys.
    wrapped
        Identity keys as they are kept, by their ids; the last one seals.

    Raises
    ------
    SiteError
        If the site key is not at hand, or no identity key was ever made (`Kind.KEY_MISSING`).
    IntegrityError
        If an identity key is damaged, or another site's.

    """
    keys = required(folder)
    if not wrapped:
        msg = "encrypt_identities is set, and the site has no identity key yet."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Open the site for writing once: wsistore keys seal.")
    opened = {name: _unwrapped(keys, name, text) for name, text in wrapped.items()}
    return IdentityCipher(opened, list(wrapped)[-1])


def required(folder: Path) -> SiteKeys:
    """Return the site's keys.

    Raises
    ------
    SiteError
        If there is none (`Kind.KEY_MISSING`), or one cannot be read.

    """
    keys = site_keys.load(folder)
    if keys is None:
        msg = f"Identities of patients are to be encrypted (encrypt_identities), and there is no site key in {folder}."
        remedy = "Make keys: wsistore keys init. If it had keys, bring them back: wsistore keys recover."
        raise SiteError(msg, kind=Kind.KEY_MISSING, remedy=remedy)
    return keys


def new_key(keys: SiteKeys, name: str) -> str:
    """Return a new identity key as it is kept."""
    return keys.wrap(site_keys.new_data_key(), OWNER, name).encode().decode()


def rewrapped(keys: SiteKeys, name: str, text: str) -> str | None:
    """Return an identity key wrapped by the current version of the site key; None if it is."""
    if _decoded(name, text).site_key == keys.current:
        return None
    return keys.wrap(_unwrapped(keys, name, text), OWNER, name).encode().decode()


def _unwrapped(keys: SiteKeys, name: str, text: str) -> bytes:
    return keys.unwrap(_decoded(name, text), where=f"The identity key {name}")


def _decoded(name: str, text: str) -> WrappedKey:
    return WrappedKey.decode(text.encode(), OWNER, name, where=f"The identity key {name}")


def _derived(key: bytes, what: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"wsistore identities 1 {what}".encode()).derive(key)


def _padded(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass") + b"\x80"
    return data + bytes(-len(data) % _BLOCK_BYTES)


def _about(about: str, key: str) -> bytes:
    return f"wsistore identity 1\0{key}\0{about}".encode("utf-8", "surrogatepass")
