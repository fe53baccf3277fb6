"""Documents that an identity provider publishes, read from where the settings say, or not at all."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from wsistore.errors import TransientError

MOST_BYTES = 1 << 20
"""Of a document."""
_KEY_TYPES = frozenset({"RSA", "EC"})
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)
"""What documents and tokens of others may raise."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the settings say, or not at all."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nowhere."""


def fetch(url: str, *, seconds: float, remedy: str) -> bytes:
    """Return what lies under a URL, as far as `MOST_BYTES`; no redirection is followed.

    Parameters
    ----------
    url
        That the settings allow.
    seconds
        How long to wait for it.
    remedy
        What to do about it if it cannot be had.

    Raises
    ------
    TransientError
        If it cannot be had.

    """
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=seconds) as answer:
            content: bytes = answer.read(MOST_BYTES)
            return content
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        msg = f"The identity provider's document cannot be read from {url} ({error})."
        raise TransientError(msg, remedy=remedy) from error


def signing_keys(document: bytes) -> KeySet:
    """Return the public keys of a JSON Web Key Set (RFC 7517) that verify signatures.

    A shared secret among them would let whoever knows it sign for everybody; a key that encrypts says nothing of who
    signs. Neither is taken.

    Raises
    ------
    ValueError
        If there are none.

    """
    try:
        keys: list[dict[str, Any]] = [dict(key) for key in json.loads(document)["keys"]]
        public = [key for key in keys if key["kty"] in _KEY_TYPES and "d" not in key and key.get("use", "sig") == "sig"]
        if public:
            return KeySet.import_key_set({"keys": public})
    except (JoseError, *MALFORMED) as error:
        msg = "no key set"
        raise ValueError(msg) from error
    msg = "no public keys"
    raise ValueError(msg)
