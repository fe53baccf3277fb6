"""From the table ``[approvals]`` of ``wsistore.toml`` to settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from wsistore.settings.approvals import LEAST_FOR_DELETIONS, ROLE, ApprovalSettings, OidcSettings, is_safe_url
from wsistore.settings.table import TableReader
from wsistore.units import parse_bytes

_KEYS = ("free_moves", "moves", "deletions", "visas", "valid_days", "roster", "oidc")
_OIDC = ("issuer", "audience", "jwks")
_MOST_ROLES = 16


class ApprovalReader(TableReader):
    """Reads the table ``[approvals]``."""

    def approvals(self, folder: Path, document: Mapping[str, Any]) -> ApprovalSettings:
        """Return what `document` says of approvals, for a site in `folder` (absolute)."""
        table, default = self.table(document, "", "approvals", _KEYS), ApprovalSettings()
        days = self.integer(table, "approvals", "valid_days", default.valid.days, 1, 3650)
        expected = "64 hexadecimal digits, as 'wsistore approver ls' prints them"
        return ApprovalSettings(
            free_moves_bytes=self._free(table, default.free_moves_bytes),
            moves=self._roles(table, "moves", default.moves, 0),
            deletions=self._roles(table, "deletions", default.deletions, LEAST_FOR_DELETIONS),
            visas=self._roles(table, "visas", default.visas, 0, once=True),
            valid=timedelta(days=days),
            roster=self.matching(table, "approvals", "roster", "[0-9a-f]{64}", expected),
            oidc=self._oidc(folder, table),
        )

    def _free(self, table: Mapping[str, Any], default: int) -> int:
        value = table.get("free_moves")
        if value is None:
            return default
        try:
            return parse_bytes(value if isinstance(value, str) else "")
        except ValueError:
            expected = "a size such as '5 TB'; '0 B' lets nothing be moved without approval"
            raise self.wrong(value, expected, "approvals", "free_moves") from None

    def _roles(
        self, table: Mapping[str, Any], key: str, default: tuple[str, ...], least: int, *, once: bool = False
    ) -> tuple[str, ...]:
        value = table.get(key)
        if value is None:
            return default
        are_names = isinstance(value, list) and all(isinstance(one, str) and ROLE.fullmatch(one) for one in value)
        if not are_names or not least <= len(value) <= _MOST_ROLES or (once and len(set(value)) != len(value)):
            few = f" of {least} or more" if least else ""
            each = ", each once" if once else ""
            example = '["approver", "dim-physician"]'
            raise self.wrong(value, f"a list{few} roles in small letters such as {example}{each}", "approvals", key)
        return tuple(value)

    def _oidc(self, folder: Path, parent: Mapping[str, Any]) -> OidcSettings | None:
        if "oidc" not in parent:
            return None
        where = "approvals.oidc"
        table = self.table(parent, "approvals", "oidc", _OIDC)
        jwks = self.text(table, where, "jwks", None)
        if "\x00" in jwks or ("://" in jwks and not is_safe_url(jwks)):
            raise self.wrong(jwks, "a path, or a URL that begins with https://", where, "jwks")
        return OidcSettings(
            issuer=self.text(table, where, "issuer", None),
            audience=self.text(table, where, "audience", None),
            jwks=jwks if "://" in jwks else str(folder / jwks),
        )
