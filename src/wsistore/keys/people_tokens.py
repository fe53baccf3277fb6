"""ID tokens of an identity provider (OpenID Connect) as proofs of who says something.

A token proves one statement only: its ``nonce`` is the statement's SHA-256, which the person's sign-in has to ask for.
So a token that was given for anything else says nothing here, and one is as good as a signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from wsistore.errors import InputError, Kind, MissingError, SiteError
from wsistore.keys.provider_documents import MALFORMED, MOST_BYTES, fetch, signing_keys
from wsistore.settings import OidcSettings

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures that only the provider can make; never a shared secret, never none."""
_MOST_TOKEN = 1 << 16
_SECONDS = 10.0
LEEWAY_SECONDS = 120
"""By which the provider's clock may differ from ours."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A person as an identity provider knows them."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Proven:
    """What a token proves."""

    subject: Subject
    at: datetime
    """When the person signed in for it."""


def nonce_of(statement: str) -> str:
    """Return the nonce that a sign-in has to carry for its token to prove a statement."""
    return hashlib.sha256(b"wsistore statement\0" + statement.encode()).hexdigest()


class TokenVerifier:
    """Verifies tokens of one provider; its keys are read once, when they are first needed.

    Parameters
    ----------
    settings
        Who the provider is.

    """

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._keys: KeySet | None = None

    @property
    def issuer(self) -> str:
        """The provider."""
        return self._settings.issuer

    def verify(self, token: str, statement: str, now: datetime) -> Proven:
        """Return who says `statement`, by a token that is valid `now`.

        Raises
        ------
        InputError
            If the token proves nothing of the kind; the message says why (`Kind.SIGNATURE_INVALID`).
        WsistoreError
            If the provider's keys cannot be had: `MissingError`, `SiteError`, or `TransientError`.

        """
        keys = self._keys = self._keys or _key_set(self._settings.jwks)
        if len(token) > _MOST_TOKEN:
            raise _refused(why="is too long")
        try:
            claims: Any = jwt.decode(token.strip(), keys, algorithms=list(_ALGORITHMS)).claims
            _registry(self._settings, statement, now).validate(claims)
        except JoseError as error:
            raise _refused(why=f"is refused ({error.description or error.error})") from error
        except MALFORMED as error:
            raise _refused(why="is none") from error
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._settings.audience:
            raise _refused(why="was given to another application")
        try:
            at = datetime.fromtimestamp(int(claims["iat"]), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise _refused(why="was issued at no time") from error
        return Proven(Subject(self._settings.issuer, claims["sub"]), at)


def _registry(settings: OidcSettings, statement: str, now: datetime) -> jwt.JWTClaimsRegistry:
    return jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": settings.issuer},
        aud={"essential": True, "value": settings.audience},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce_of(statement)},
    )


def _key_set(place: str) -> KeySet:
    document = _read(place)
    try:
        return signing_keys(document)
    except ValueError as error:
        msg = f"{place} holds no public keys of an identity provider (JSON Web Key Set)."
        raise SiteError(msg, remedy="Mend 'jwks' under [approvals.oidc] in wsistore.toml.") from error


def _read(place: str) -> bytes:
    if "://" in place:
        return fetch(place, seconds=_SECONDS, remedy="Try again; or mend 'jwks' under [approvals.oidc].")
    try:
        with Path(place).open("rb") as file:
            return file.read(MOST_BYTES)
    except (OSError, ValueError) as error:
        msg = f"{place}, with the identity provider's keys, cannot be read ({error})."
        raise MissingError(msg, kind=Kind.KEY_MISSING, remedy="Mend 'jwks' under [approvals.oidc].") from error


def _refused(*, why: str) -> InputError:
    remedy = "Sign in again for this statement: 'wsistore approve PLAN --nonce' prints the nonce to ask for."
    return InputError(f"The identity provider's token {why}.", kind=Kind.SIGNATURE_INVALID, remedy=remedy)
