"""An identity provider's public keys: read when they are needed, not for everybody who asks; not believed for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

from joserfc.jwk import KeySet

from wsistore.clock import Clock
from wsistore.errors import SiteError, TransientError, WsistoreError
from wsistore.keys.provider_documents import MALFORMED, MOST_BYTES, fetch, signing_keys
from wsistore.settings import ServeOidcSettings
from wsistore.settings.approvals import is_safe_url

RENEW_SECONDS = 600.0
"""How old keys become before they are read anew: so long one that the provider withdrew is still taken."""
BELIEVED_SECONDS = 3600.0
"""How old keys may be while the provider cannot be read: then nobody is let in."""
AGAIN_SECONDS = 60.0
"""How old keys are before they are read anew only because a token names one that is not among them."""
FAILED_SECONDS = 15.0
"""How long it is remembered that they could not be read: nobody tries meanwhile."""
_PATIENCE_SECONDS, _MOST_WAITING = 2.0, 4
"""How long, and how many, wait for somebody else who reads them."""
_FETCH_SECONDS = 5.0

FetchJwks = Callable[[str], bytes]
"""Gets the document under a URL: the issuer's configuration, and its keys (JWKS)."""


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """The provider's keys as they were at one moment; each reading gives others."""

    found: KeySet
    ids: frozenset[str]
    read_at: float
    """By the monotonic clock."""


class ProviderKeys:
    """Keeps them. Thread-safe; at most one thread reads at a time.

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
        self._settings, self._clock, self._fetch = settings, clock, fetch or fetch_document
        self._keys: Keys | None = None
        self._failure: WsistoreError | None = None
        self._failed_at = float("-inf")
        self._reading, self._waiting = Lock(), BoundedSemaphore(_MOST_WAITING)

    def current(self, key_id: object = None) -> Keys:
        """Return the provider's keys.

        Parameters
        ----------
        key_id
            The key that a token names; they may be read anew if it is not among them.

        Raises
        ------
        SiteError, TransientError
            If they cannot be had, or others wait for them already.

        """
        if self._is_due(key_id):
            self._renew(key_id)
        keys = self._keys
        if keys is not None and self._age(keys) < BELIEVED_SECONDS:
            return keys
        raise _again(self._failure)

    def _is_due(self, key_id: object) -> bool:
        if self._clock.monotonic_seconds() - self._failed_at < FAILED_SECONDS:
            return False
        keys = self._keys
        return keys is None or self._age(keys) >= (AGAIN_SECONDS if _is_new(keys, key_id) else RENEW_SECONDS)

    def _renew(self, key_id: object) -> None:
        keys = self._keys
        is_usable = keys is not None and self._age(keys) < BELIEVED_SECONDS and not _is_new(keys, key_id)
        is_mine = self._reading.acquire(blocking=False) if is_usable else self._wait()
        if not is_mine:
            return  # somebody else reads them, and those that are known will do
        try:
            if self._is_due(key_id):
                self._read_or_note()
        finally:
            self._reading.release()

    def _wait(self) -> bool:
        """Wait for a turn to read."""
        is_one_of_few = self._waiting.acquire(blocking=False)
        try:
            if is_one_of_few and self._reading.acquire(timeout=_PATIENCE_SECONDS):
                return True
        finally:
            if is_one_of_few:
                self._waiting.release()
        msg = "The identity provider's keys are being read."
        raise TransientError(msg, remedy="Try again in some seconds.")

    def _read_or_note(self) -> None:
        try:
            self._keys = self._read()
        except WsistoreError as error:
            self._failure, self._failed_at = error, self._clock.monotonic_seconds()

    def _age(self, keys: Keys) -> float:
        return self._clock.monotonic_seconds() - keys.read_at

    def _read(self) -> Keys:
        place = self._settings.jwks or self._discovered()
        began = self._clock.monotonic_seconds()
        document = self._document(place)
        try:
            found = signing_keys(document)
        except ValueError as error:
            raise _no_keys(place) from error
        return Keys(found, frozenset(key.kid for key in found.keys if key.kid), began)

    def _discovered(self) -> str:
        place = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            document: Any = json.loads(self._document(place))
            if document["issuer"] == self._settings.issuer and is_safe_url(str(document["jwks_uri"])):
                return str(document["jwks_uri"])
        except MALFORMED as error:
            raise _no_keys(place) from error
        raise _no_keys(place)

    def _document(self, place: str) -> bytes:
        if "://" in place:
            return self._fetch(place)
        try:
            with Path(place).open("rb") as file:
                return file.read(MOST_BYTES)
        except (OSError, ValueError) as error:
            raise _no_keys(place) from error


def fetch_document(url: str) -> bytes:
    """Return what lies under a URL; `TransientError` if it cannot be had."""
    return fetch(url, seconds=_FETCH_SECONDS, remedy="Try again; or mend [serve.oidc] in wsistore.toml.")


def _is_new(keys: Keys, key_id: object) -> bool:
    return isinstance(key_id, str) and key_id not in keys.ids


def _again(failure: WsistoreError | None) -> WsistoreError:
    """Return a failure for one caller more."""
    if failure is None:
        return TransientError("The identity provider's keys are not known yet.", remedy="Try again in some seconds.")
    return type(failure)(failure.message, kind=failure.kind, remedy=failure.remedy)


def _no_keys(place: str) -> SiteError:
    msg = f"{place} holds no public keys of an identity provider (JSON Web Key Set)."
    return SiteError(msg, remedy="Mend [serve.oidc] in wsistore.toml.")
