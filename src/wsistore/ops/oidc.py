"""Access tokens of an identity provider (OpenID Connect): who shows one, and the groups that it says they are in.

Taken are tokens that the provider signed with RS256 or ES256, for this gateway, and that are in force. What a token
says of algorithms or keys is believed only as far as the provider's own list of keys agrees.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from threading import Lock
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from wsistore.clock import Clock
from wsistore.errors import DeniedError, Kind
from wsistore.keys.provider_documents import MALFORMED
from wsistore.ops.oidc_keys import FetchJwks, Keys, ProviderKeys
from wsistore.settings import ServeOidcSettings

ALGORITHMS = ("RS256", "ES256")
LEEWAY_SECONDS = 60
"""By which the provider's clock may differ from ours."""
_MOST_TOKEN, _MOST_GROUPS, _MOST_KNOWN = 1 << 14, 1000, 4096
_ACCESS_HEADERS = frozenset({"at+jwt", "application/at+jwt"})
"""``typ`` in the head of access tokens (RFC 9068). That of others is ``JWT``, or nothing."""
_ACCESS = "bearer"
"""``typ`` among the claims of Keycloak's access tokens; its ID tokens have ``ID``, others ``Refresh`` or ``DPoP``."""
_SCOPES = ("scope", "scp")
"""Claims that say what a token gives access to."""
_OF_OTHERS = ("at_hash", "c_hash", "s_hash", "events", "cnf")
"""Claims of ID tokens, of notices that somebody signed out, and of tokens that are bound to a key that nobody shows."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a token says of who shows it."""

    user: str
    groups: frozenset[str]
    expires_at: datetime
    name: str
    """Names the token without saying anything of it."""


class OidcVerifier:
    """Verifies tokens of one provider. Thread-safe.

    Parameters
    ----------
    settings
        Who the provider is.
    clock
        Where the time comes from.
    fetch
        Gets the provider's documents; by default over HTTPS, without following it elsewhere.

    """

    def __init__(self, settings: ServeOidcSettings, clock: Clock, fetch: FetchJwks | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = Lock()
        self._keys = ProviderKeys(settings, clock, fetch)
        self._known: OrderedDict[bytes, tuple[Keys, Signed]] = OrderedDict()
        """By what they were verified with: other keys, and they are verified anew."""

    def verify(self, token: str) -> Signed:
        """Return who shows a token.

        Raises
        ------
        DeniedError
            If it is none that is in force; the kind says why, for the log.
        WsistoreError
            If the provider's keys cannot be had: `SiteError`, or `TransientError`.

        """
        if len(token) > _MOST_TOKEN or not token.isascii():
            raise denied(Kind.TOKEN_INVALID)
        name = sha256(token.encode()).digest()
        known = self._known.get(name)
        is_good = known is not None and known[0] is self._keys.current()
        signed = known[1] if known is not None and is_good else self._verified(token, name)
        if signed.expires_at.timestamp() + LEEWAY_SECONDS <= self._clock.now().timestamp():
            raise denied(Kind.TOKEN_EXPIRED)
        return signed

    def _verified(self, token: str, name: bytes) -> Signed:
        try:
            header = jws.extract_compact(token.encode()).headers()
            if header.get("alg") not in ALGORITHMS or "crit" in header:
                raise denied(Kind.TOKEN_INVALID)
            keys = self._keys.current(header.get("kid"))
            claims = _decoded(token, keys.found, header.get("kid"))
            if not _is_access_token(header, claims):
                raise denied(Kind.TOKEN_INVALID)
            self._check(claims)
            signed = self._signed(claims, name)
        except (JoseError, *MALFORMED) as error:
            kind = Kind.TOKEN_EXPIRED if getattr(error, "error", "") == "expired_token" else Kind.TOKEN_INVALID
            raise denied(kind) from error
        with self._lock:
            self._known[name] = (keys, signed)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return signed

    def _check(self, claims: Mapping[str, Any]) -> None:
        registry = jwt.JWTClaimsRegistry(
            now=int(self._clock.now().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.audience},
            exp={"essential": True},
        )
        registry.validate(dict(claims))

    def _signed(self, claims: Mapping[str, Any], name: bytes) -> Signed:
        user = _at(claims, self._settings.user_claim)
        groups = _at(claims, self._settings.groups_claim) if self._settings.groups_claim else ()
        if not isinstance(user, str) or not user.strip() or not user.isprintable():
            msg = "no user"
            raise ValueError(msg)
        named = groups if isinstance(groups, list | tuple) else ()
        return Signed(
            user=user,
            groups=frozenset(group for group in named[:_MOST_GROUPS] if isinstance(group, str)),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
            name=f"oidc-{name.hex()[:12]}",
        )


def _decoded(token: str, keys: KeySet, key_id: object) -> Mapping[str, Any]:
    """Return the claims of a token that one of the provider's keys has signed: the one that it names, if it does."""
    meant = [key for key in keys.keys if key_id is None or key.kid == key_id]
    failure: Exception = ValueError("no such key")
    for key in meant:
        try:
            return dict(jwt.decode(token, key, algorithms=list(ALGORITHMS)).claims)
        except (JoseError, *MALFORMED) as error:
            failure = error
    raise failure


def denied(kind: Kind) -> DeniedError:
    """Return the one refusal of callers: only its kind says why, which no answer may tell."""
    return DeniedError(
        "This needs a token that is in force.", kind=kind, remedy="Ask the site's administrators for one."
    )


def _is_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Say whether a token says itself that it is made for access: an ID token tells a program who somebody is.

    It need not be told from its audience: where a site uses one name for gateway and notebooks that is the same.
    """
    kind, said = str(header.get("typ", "JWT")).lower(), claims.get("typ", "Bearer")
    if kind not in {"jwt", *_ACCESS_HEADERS} or str(said).lower() not in {_ACCESS, *_ACCESS_HEADERS}:
        return False
    if any(name in claims for name in _OF_OTHERS):
        return False
    return (
        kind in _ACCESS_HEADERS or "typ" in claims or any(isinstance(claims.get(name), str | list) for name in _SCOPES)
    )


def _at(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:  # some providers name claims like URLs, dots and all
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
