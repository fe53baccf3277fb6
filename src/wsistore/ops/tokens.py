"""Tokens of the gateway: made, listed, revoked. Their secrets are shown once and never kept."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from wsistore.catalog import tokens
from wsistore.catalog.tokens import TokenRow
from wsistore.clock import iso
from wsistore.errors import InputError, Kind
from wsistore.model import random_key
from wsistore.ops.research_values import READ, RECALL
from wsistore.ops.site import Site, read_only_error

SCOPES = (READ, RECALL)
PREFIX = "wst"
_SECRET_BYTES = 32
_TOKEN = re.compile(r"wst_([0-9a-z]{12})_([A-Za-z0-9_-]{43})")
_USER = re.compile(r"[^\s\x00-\x1f\x7f](?:.{0,126}[^\s\x00-\x1f\x7f])?")
_NOBODY = sha256(b"nobody").hexdigest()


@dataclass(frozen=True, slots=True, repr=False)
class NewToken:
    """A token that was just made."""

    text: str
    """What its owner shows. It is nowhere else."""
    row: TokenRow

    def __repr__(self) -> str:
        return f"NewToken({self.row.token})"


def create_token(site: Site, user: str, *, expires_at: datetime, scopes: Iterable[str] = (READ,)) -> NewToken:
    """Make a token for a user, whose grants it gives access to.

    Raises
    ------
    InputError
        If the user's name, the scopes or the end cannot be.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    user, now = checked_user(user), site.clock.now()
    if expires_at <= now:
        msg = f"A token cannot end on {iso(expires_at)}: that is past."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give a day that is to come.")
    name, secret = random_key(12), secrets.token_urlsafe(_SECRET_BYTES)
    row = TokenRow(
        token=name,
        user=user,
        digest=digest(secret),
        scopes=checked_scopes(scopes),
        created_at=iso(now),
        created_by=site.actor,
        expires_at=iso(expires_at),
    )
    tokens.create(site.catalog, row)
    return NewToken(f"{PREFIX}_{name}_{secret}", row)


def list_tokens(site: Site) -> list[TokenRow]:
    """Return all tokens, oldest first, also those that are not in force any more."""
    return tokens.every(site.catalog)


def revoke_token(site: Site, token: str) -> TokenRow:
    """Revoke a token, by its public part or by itself; `MissingError` if there is none."""
    parts = split(token)
    return tokens.revoke(site.catalog, parts[0] if parts else token)


def split(token: str) -> tuple[str, str] | None:
    """Return the public part of a token and its secret; None if it has not the form of one."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else (match[1], match[2])


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


def is_secret_of(row: TokenRow | None, secret: str) -> bool:
    """Say whether a secret is a token's; it takes as long where there is no such token."""
    kept = _NOBODY if row is None else row.digest
    return hmac.compare_digest(kept, digest(secret)) and row is not None


def checked_user(user: str) -> str:
    """Return a user's or group's name, or raise `InputError`."""
    if not _USER.fullmatch(user.strip()) or not user.strip().isprintable():
        msg = f"{user!r:.60} is no name of a user or group."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give 1 to 128 characters on one line.")
    return user.strip()


def checked_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes in their order, `READ` always among them, or raise `InputError`."""
    wanted = {READ, *scopes}
    for scope in wanted - set(SCOPES):
        msg = f"There is no scope {scope!r:.40}."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy=f"Scopes are: {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in wanted)
