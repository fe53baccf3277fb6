"""Sessions of browsers: a cookie that holds the token, sealed with a key that only the running gateway has.

So nothing is kept anywhere: a token that is revoked ends its sessions, and a gateway that is started anew has none.
"""

from __future__ import annotations

import base64
import json
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wsistore.clock import Clock

COOKIE = b"wsistore_session"
LIFE_SECONDS = 8 * 3600
"""A working day; after it the page asks for the token again."""
_NONCE_BYTES = 12
_MOST_BYTES = 3000
"""Of a cookie's value: browsers keep 4096 bytes. Tokens of OpenID Connect may be long."""
_PURPOSE = b"wsistore session 1"


def new_key() -> bytes:
    """Return a key for all processes of one gateway."""
    return AESGCM.generate_key(256)


class Sessions:
    """Seals and opens cookies.

    Parameters
    ----------
    key
        Of `new_key`.
    clock
        Tells when a session is over.

    """

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._cipher, self._clock = AESGCM(key), clock

    def seal(self, authorization: str) -> str | None:
        """Return the value of a cookie for a token that was found good; None if it is too long for one."""
        until = int(self._clock.now().timestamp()) + LIFE_SECONDS
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps([until, authorization]).encode(), _PURPOSE)
        value = base64.urlsafe_b64encode(nonce + sealed).decode()
        return value if len(value) <= _MOST_BYTES else None

    def open(self, value: str) -> str | None:
        """Return the ``Authorization`` that a cookie stands for; None if it is none of ours, or over."""
        if len(value) > _MOST_BYTES:
            return None
        try:
            data = base64.b64decode(value.encode("ascii"), altchars=b"-_", validate=True)
            text = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _PURPOSE)
        except (ValueError, InvalidTag):
            return None
        until, authorization = json.loads(text)
        return str(authorization) if self._clock.now().timestamp() < until else None


def cookie_of(header: bytes) -> str | None:
    """Return the value of our cookie in a ``Cookie`` header; None if it is not there, or twice."""
    found = []
    for part in header.split(b";"):
        name, _, value = part.strip().partition(b"=")
        if name == COOKIE:
            found.append(value.decode("latin-1"))
    return found[0] if len(found) == 1 else None


def set_cookie(value: str, *, secure: bool, seconds: int = LIFE_SECONDS) -> bytes:
    """Return a ``Set-Cookie`` header: no script reads it, no other site sends it; with no seconds it is deleted."""
    text = f"{COOKIE.decode()}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return (text + "; Secure" if secure else text).encode("ascii")
