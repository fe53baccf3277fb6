"""The site's signing key (Ed25519): what it signs can be checked by everybody who has the public keys.

A key's id is the first 32 hexadecimal digits of the SHA-256 of its 32 public bytes, so that a public key that lies
somewhere else proves by itself whose it is. Rotation replaces the private key and keeps all public keys.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from wsistore.clock import Clock, iso
from wsistore.errors import IntegrityError, Kind
from wsistore.keys import folder as files

_FILE, _PUBLIC, _KIND = "signing.key", "public", "wsistore-signing-key"


class Signer:
    """Signs with the site's private key, which it never shows and which does not pickle.

    Parameters
    ----------
    private
        The 32 private bytes.

    """

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public: bytes = self._key.public_key().public_bytes_raw()
        """The 32 public bytes."""
        self.key_id: str = id_of(self.public)
        """Names the key; see the module's docstring."""

    def __repr__(self) -> str:
        return f"Signer({self.key_id})"

    def __reduce__(self) -> tuple[Any, ...]:
        msg = "Keys are not pickled: they are read from the folder of keys of the machine that needs them."
        raise TypeError(msg)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`, 64 bytes; the same for the same data."""
        return self._key.sign(data)

    def secret(self) -> bytes:
        """Return the 32 private bytes, for the recovery sheets."""
        return self._key.private_bytes_raw()


def id_of(public: bytes) -> str:
    """Return the id of a public key of 32 bytes."""
    return hashlib.sha256(public).hexdigest()[:32]


def verify(public_keys: Mapping[str, bytes], key_id: str, data: bytes, signature: bytes) -> bool:
    """Say whether `signature` is that of `data` by the key `key_id`.

    Parameters
    ----------
    public_keys
        Public keys of 32 bytes by their ids, as `public_keys` returns them. A key under a wrong id counts as none.
    key_id
        The key that is said to have signed.
    data, signature
        What was signed, and the 64 bytes of the signature.

    Returns
    -------
    bool
        False also for a key that is not known.

    """
    public = public_keys.get(key_id)
    if public is None or len(public) != 32 or id_of(public) != key_id:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def open_signer(folder: Path) -> Signer | None:
    """Return what signs for the site whose keys lie in `folder`, or None if no key was ever made.

    Raises
    ------
    SiteError
        If the key is damaged, cannot be read, or others may read it.

    """
    path = folder / _FILE
    content = files.read(path)
    if content is None:
        return None
    files.check_private(folder)
    files.check_private(path)
    fields = files.decode(path, content, _KIND)
    try:
        signer = Signer(base64.b64decode(fields["private"], validate=True))
    except (ValueError, LookupError, TypeError) as error:
        raise files.damaged(path) from error
    if signer.key_id != fields.get("id"):
        raise files.damaged(path)
    return signer


def make_signer(folder: Path, clock: Clock) -> Signer:
    """Return what signs for the site, after making its key (and the folder) if there is none. Processes may race.

    Whoever finds signatures of the site by a key that is not among `public_keys` must say so: the folder of keys was
    lost, and this made a new key.

    Raises
    ------
    SiteError
        As `open_signer`, or if nothing can be written.

    """
    found = open_signer(folder)
    if found is not None:
        _publish(folder, found)
        return found
    files.make_folder(folder)
    with files.locked(folder, ".making"):  # a key that lost a race would leave its public half behind
        found = open_signer(folder)
        if found is None:
            found = Signer(Ed25519PrivateKey.generate().private_bytes_raw())
            put_signer(folder, found, clock)
    return found


def put_signer(folder: Path, signer: Signer, clock: Clock, *, replace: bool = False) -> None:
    """Lay a signing key down; one that is there already stays unless `replace`.

    Raises
    ------
    SiteError
        If it cannot be written.

    """
    # The public half first: no signature may exist that nobody can check.
    _publish(folder, signer)
    made = iso(clock.now())
    private = base64.b64encode(signer.secret()).decode()
    content = files.encode(_KIND, {"id": signer.key_id, "made": made, "private": private})
    if replace:
        files.replace(folder / _FILE, content)
    else:
        files.write_new(folder / _FILE, content)


def rotate_signer(folder: Path, clock: Clock) -> Signer:
    """Replace the signing key by a new one; what the old one signed stays valid.

    Raises
    ------
    SiteError
        As `make_signer`.

    """
    make_signer(folder, clock)
    put_signer(folder, Signer(Ed25519PrivateKey.generate().private_bytes_raw()), clock, replace=True)
    return make_signer(folder, clock)


def public_keys(folder: Path) -> dict[str, bytes]:
    """Return all public keys of the site, 32 bytes each, by their ids; none if no key was ever made.

    Raises
    ------
    IntegrityError
        If a file among them is none, or another than its name says.
    SiteError
        If one cannot be read.

    """
    found = {}
    for path in sorted((folder / _PUBLIC).glob("*.pem")):
        public = decode_public(files.read(path) or b"", where=str(path))
        if id_of(public) != path.stem:
            msg = f"{path} holds the key {id_of(public)}, not the one that its name says."
            raise IntegrityError(msg, remedy="Restore it from the backup of the site's keys.")
        found[path.stem] = public
    return found


def encode_public(public: bytes) -> bytes:
    """Return a public key of 32 bytes as PEM (SubjectPublicKeyInfo), as other software reads it."""
    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def decode_public(pem: bytes, *, where: str) -> bytes:
    """Return the 32 bytes of a public key from its PEM; `where` it lies, for messages.

    Raises
    ------
    IntegrityError
        If it is none.

    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    msg = f"{where} is no public signing key."
    raise IntegrityError(msg, kind=Kind.CORRUPT, remedy="Restore it from the backup of the site's keys.")


def _publish(folder: Path, signer: Signer) -> None:
    public = folder / _PUBLIC
    files.make_folder(public)
    files.write_new(public / f"{signer.key_id}.pem", encode_public(signer.public), mode=0o644)
