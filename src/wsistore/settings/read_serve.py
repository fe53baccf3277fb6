"""From the table ``[serve]`` of ``wsistore.toml`` to settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from wsistore.settings.approvals import is_safe_url
from wsistore.settings.serve import DATES, ServeOidcSettings, ServeSettings
from wsistore.settings.table import TableReader
from wsistore.settings.values import absolute

_KEYS = (
    *("address", "port", "access_log", "requests_per_second", "bytes_per_second", "concurrent", "presign"),
    *("cohort_refresh_seconds", "dates", "workers", "tell_organs", "tell_diagnoses", "tell_stains", "oidc"),
)
_TOLD = {"organ": "tell_organs", "diagnoses": "tell_diagnoses", "stain": "tell_stains"}
_LONGEST_TOLD = 100
_OIDC = ("issuer", "audience", "jwks", "user_claim", "groups_claim", "client_id")
_ADDRESS = r"[A-Za-z0-9.:_-]+"
_CLAIM = r"[A-Za-z0-9_:/-]+(\.[A-Za-z0-9_:/-]+)*"
_MOST_REQUESTS, _MOST_CONCURRENT, _MOST_REFRESH, _MOST_WORKERS = 1_000_000, 10_000, 24 * 3600, 256


class ServeReader(TableReader):
    """Reads the table ``[serve]``."""

    def serve(self, folder: Path, document: Mapping[str, Any]) -> ServeSettings:
        """Return what `document` says of the gateway, for a site in `folder` (absolute)."""
        table, default = self.table(document, "", "serve", _KEYS), ServeSettings()
        seconds = int(default.cohort_refresh.total_seconds())
        refresh = self.integer(table, "serve", "cohort_refresh_seconds", seconds, 0, _MOST_REFRESH)
        address = self.matching(table, "serve", "address", _ADDRESS, "an address such as '127.0.0.1' or '::'")
        return ServeSettings(
            address=address or default.address,
            port=self.integer(table, "serve", "port", default.port, 0, 65535),
            access_log=self._path(folder, table, "access_log"),
            requests_per_second=self._requests(table, default.requests_per_second),
            bytes_per_second=self.rate(table, "serve", "bytes_per_second"),
            concurrent=self.integer(table, "serve", "concurrent", default.concurrent, 1, _MOST_CONCURRENT),
            presign=self.flag(table, "serve", "presign", default.presign),
            cohort_refresh=timedelta(seconds=refresh),
            dates=self.one_of(table, "serve", "dates", default.dates, DATES),
            workers=self.integer(table, "serve", "workers", default.workers, 0, _MOST_WORKERS),
            told={column: self._told(table, key) for column, key in _TOLD.items() if key in table},
            oidc=self._oidc(folder, table),
        )

    def _told(self, table: Mapping[str, Any], key: str) -> frozenset[str]:
        values = table[key]
        for value in values if isinstance(values, list) else [values]:
            good = isinstance(value, str) and 0 < len(value) <= _LONGEST_TOLD and value.isprintable()
            if not good or not isinstance(values, list):
                raise self.wrong(value, f"a list of texts of at most {_LONGEST_TOLD} characters", "serve", key)
        return frozenset(values)

    def _requests(self, table: Mapping[str, Any], default: float) -> float:
        value = table.get("requests_per_second", default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _MOST_REQUESTS:
            raise self.wrong(value, "a number above 0", "serve", "requests_per_second")
        return float(value)

    def _oidc(self, folder: Path, parent: Mapping[str, Any]) -> ServeOidcSettings | None:
        if "oidc" not in parent:
            return None
        where, table = "serve.oidc", self.table(parent, "serve", "oidc", _OIDC)
        issuer, jwks = self.text(table, where, "issuer", None), self.text(table, where, "jwks", "")
        if "\x00" in jwks or ("://" in jwks and not is_safe_url(jwks)):
            raise self.wrong(jwks, "a path, or a URL that begins with https://", where, "jwks")
        if not jwks and not is_safe_url(issuer):
            raise self.wrong(
                issuer, "a URL that begins with https://, for its keys are looked up there", where, "issuer"
            )
        default = ServeOidcSettings("", "")
        return ServeOidcSettings(
            issuer=issuer,
            audience=self.text(table, where, "audience", None),
            jwks=jwks if "://" in jwks or not jwks else str(folder / jwks),
            user_claim=self._claim(table, where, "user_claim") or default.user_claim,
            groups_claim=self._claim(table, where, "groups_claim"),
            client_id=self.text(table, where, "client_id", ""),
        )

    def _claim(self, table: Mapping[str, Any], where: str, key: str) -> str:
        return self.matching(table, where, key, _CLAIM, "the name of a claim such as 'realm_access.roles'")

    def _path(self, folder: Path, table: Mapping[str, Any], key: str) -> str:
        name = self.text(table, "serve", key, "")
        if "\x00" in name or "://" in name:
            raise self.wrong(name, "the path of a file of this machine", "serve", key)
        return str(absolute(folder / os.path.expanduser(name))) if name else ""  # noqa: PTH111 - Path's own may raise
