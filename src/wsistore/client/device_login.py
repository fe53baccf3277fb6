"""Logging in from a notebook (OAuth 2.0 device flow, RFC 8628): a link is shown, and confirmed in a browser."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any
from urllib.parse import urlencode, urlsplit

from wsistore.clock import Clock, SystemClock
from wsistore.errors import DeniedError, Kind, StorageError
from wsistore.storage.http_service import HttpOptions, HttpService

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_EARLY_SECONDS = 30.0
"""A token is renewed so long before it expires."""
_SLOWER_SECONDS = 5.0
"""More between questions after ``slow_down``, as the standard wants."""
_REFUSALS = frozenset({400, 401, 403})

Tell = Callable[[str], None]


class DeviceLogin:
    """Gets tokens of an OpenID Connect issuer, and renews them. Threads share it; it does not pickle.

    Parameters
    ----------
    issuer
        Its address, e.g. ``https://login.example.org/realms/research``.
    client_id
        Name by which the issuer knows this program: a public client with the device flow.
    tell
        Shows a line to the person.
    scope
        What is asked for.
    options
        How the issuer is spoken to.
    clock
        Measures and waits.

    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        tell: Tell = print,
        scope: str = "openid",
        options: HttpOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._options, self._clock = options or HttpOptions(), clock or SystemClock()
        self._issuer = HttpService(issuer, options=self._options, clock=self._clock)
        self._client, self._tell, self._scope = client_id, tell, scope
        self._lock = Lock()
        self._found: dict[str, Any] | None = None
        self._access, self._refresh, self._until = "", "", 0.0

    def __call__(self) -> str:
        """Return a token that is in force; asks the person where there is no other way.

        Raises
        ------
        DeniedError
            If the person refuses, or lets the time pass.
        StorageError
            If the issuer cannot be reached, or has no device flow.

        """
        with self._lock:
            old = not self._access or self._clock.monotonic_seconds() > self._until - _EARLY_SECONDS
            if old and not (self._refresh and self._renewed()):
                self._log_in()
            return self._access

    def __reduce__(self) -> tuple[Any, ...]:
        """Refuse: what was logged in stays in this process."""
        msg = "A login stays in its process."
        raise DeniedError(msg, kind=Kind.TOKEN_MISSING, remedy="Send the token to the workers by share_token().")

    def _log_in(self) -> None:
        grant = self._post("device_authorization_endpoint", {"client_id": self._client, "scope": self._scope})
        try:
            code, link = str(grant["device_code"]), str(grant.get("verification_uri_complete") or "")
            line = link or f"{grant['verification_uri']} and enter {grant['user_code']}"
            pause, end = float(grant.get("interval", 5)), float(grant["expires_in"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd(what="device authorization") from error
        self._tell(f"To log in, open {line}")
        end += self._clock.monotonic_seconds()
        while self._clock.monotonic_seconds() < end:
            self._clock.sleep(pause)
            said = self._post("token_endpoint", {"grant_type": _GRANT, "device_code": code, "client_id": self._client})
            match said.get("error"):
                case None:
                    self._keep(said)
                    return
                case "authorization_pending":
                    pass
                case "slow_down":
                    pause += _SLOWER_SECONDS
                case _:
                    break
        msg = "The login was not confirmed."
        raise DeniedError(msg, kind=Kind.TOKEN_MISSING, remedy="Connect again and confirm it in the browser.")

    def _renewed(self) -> bool:
        form = {"grant_type": "refresh_token", "refresh_token": self._refresh, "client_id": self._client}
        said = self._post("token_endpoint", form)
        if "error" in said:
            self._refresh = ""
            return False
        self._keep(said)
        return True

    def _keep(self, said: dict[str, Any]) -> None:
        try:
            self._access, life = str(said["access_token"]), float(said.get("expires_in", 60))
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd(what="token") from error
        self._refresh = str(said.get("refresh_token") or self._refresh)
        self._until = self._clock.monotonic_seconds() + life

    def _post(self, endpoint: str, form: dict[str, str]) -> dict[str, Any]:
        url = self._configuration().get(endpoint)
        if not isinstance(url, str):
            msg = f"{self._issuer.url} has no device flow."
            raise StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Use a token, or have it enabled at the issuer.")
        parts = urlsplit(url)
        service = HttpService(f"{parts.scheme}://{parts.netloc}", options=self._options, clock=self._clock)
        try:
            reply = service.send("POST", parts.path, _FORM, urlencode(form).encode(), accept=_REFUSALS)
        finally:
            service.close()
        said = reply.json(url)
        return said if isinstance(said, dict) else {"error": "invalid"}

    def _configuration(self) -> dict[str, Any]:
        if self._found is None:
            found = self._issuer.get("/.well-known/openid-configuration").json(self._issuer.url)
            if not isinstance(found, dict) or str(found.get("issuer", "")).rstrip("/") != self._issuer.url:
                raise self._odd(what="configuration")
            self._found = found
        return self._found

    def _odd(self, *, what: str) -> StorageError:
        msg = f"What {self._issuer.url} answers is no {what} of OpenID Connect."
        return StorageError(msg, kind=Kind.SETTINGS_INVALID, remedy="Check the issuer's address.")
