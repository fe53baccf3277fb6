"""Pseudonyms that a site was given, such as those of a research data warehouse: sealed in the folder of keys."""

from __future__ import annotations

import hmac
import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wsistore.errors import SiteError
from wsistore.keys import folder as files
from wsistore.keys.pseudonyms import Given, ProjectKeys, Subject

_NONCE_BYTES = 12
_MOST_BYTES = 1 << 30


def put(folder: Path, keys: ProjectKeys, given: Given) -> ProjectKeys:
    """Keep the pseudonyms that a project is to use, in the place of those that were given before.

    Raises
    ------
    SiteError
        If the folder cannot be written.

    """
    rows = [[str(subject), identity, name] for (subject, identity), name in sorted(given.items())]
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = _cipher(keys).encrypt(nonce, json.dumps(rows).encode(), keys.project.encode())
    files.replace(_path(folder, keys), nonce + sealed)
    return replace(keys, given=dict(given))


def with_given(folder: Path, keys: ProjectKeys) -> ProjectKeys:
    """Return a project's key with the pseudonyms that it was given, if any.

    Raises
    ------
    SiteError
        If they are damaged, sealed by another key, or others may read them (`Kind.KEY_MISSING`).

    """
    path = _path(folder, keys)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return keys
    except OSError as error:
        msg = f"{path}, of the site's keys, cannot be read ({error.strerror or error})."
        raise SiteError(msg, remedy="Mend its permissions.") from error
    files.check_private(path)
    try:
        plain = _cipher(keys).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], keys.project.encode())
        rows: Any = json.loads(plain)
        return replace(keys, given={(Subject(kind), str(identity)): str(name) for kind, identity, name in rows})
    except (InvalidTag, ValueError, TypeError) as error:
        raise files.damaged(path) from error


def _path(folder: Path, keys: ProjectKeys) -> Path:
    return folder / f"project-{keys.project}.table"


def _cipher(keys: ProjectKeys) -> AESGCM:
    return AESGCM(hmac.digest(keys.generations[0].key, b"given pseudonyms", "sha256"))
