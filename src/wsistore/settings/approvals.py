"""Who has to approve what: the table ``[approvals]`` of a site's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""Names of roles. Sites choose them; only `ADMINISTRATOR` means something by itself."""
ADMINISTRATOR = "administrator"
"""Whoever may change the roster."""
LEAST_FOR_DELETIONS = 2


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """An identity provider whose ID tokens prove who approves (OpenID Connect)."""

    issuer: str
    """As the tokens' ``iss`` says it, to the letter."""
    audience: str
    """As whom wsistore is registered there: the tokens' ``aud``."""
    jwks: str
    """The provider's public keys: an absolute path, or an https:// URL."""


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """Which plans need whose approval. The defaults are those of a French public hospital."""

    free_moves_bytes: int = 10**12
    """A plan that deletes nothing and touches no more than so much needs nobody's approval: one terabyte is a day's
    scanning, and nothing is lost by a move."""
    moves: tuple[str, ...] = ("approver",)
    """Roles that have to approve what moves, copies, re-encodes or drops copies: one person for each."""
    deletions: tuple[str, ...] = ("approver", "dim-physician")
    """Roles that have to approve what cannot be undone (delete, detach-identity): one person for each, at least two."""
    visas: tuple[str, ...] = ("director", "dim-physician", "departmental-archives")
    """Visas that have to be recorded before anything is deleted, as for French public archives."""
    valid: timedelta = timedelta(days=90)
    """How long an approval counts: the visas of an elimination take weeks to come."""
    roster: str = ""
    """Digest of the first entry of the roster of approvers, if the site pins it."""
    oidc: OidcSettings | None = None
    """Who else can prove who approves, beside people's own keys."""


def is_safe_url(url: str) -> bool:
    """Say whether nobody between here and there can alter what a URL gives: https, or this machine itself."""
    return re.match(r"https://[^/]|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", url) is not None
