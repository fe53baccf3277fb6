"""Tokens of the gateway, by the hashes of their secrets: functions over an open catalogue, each one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from wsistore.catalog.projects_state import bump
from wsistore.catalog.schema_projects import tokens
from wsistore.catalog.session import Session
from wsistore.errors import Kind, MissingError

_T = tokens


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token, without its secret. Moments are ISO 8601 in UTC."""

    token: str
    """Its public part."""
    user: str
    digest: str
    """SHA-256 of its secret, hexadecimal."""
    scopes: tuple[str, ...]
    created_at: str
    created_by: str
    expires_at: str
    revoked_at: str | None = None
    last_used_at: str | None = None


def create(catalog: Session, row: TokenRow) -> None:
    """Add a token."""
    with catalog._database.write() as connection:
        values = {name: getattr(row, name) for name in TokenRow.__slots__}
        connection.execute(_T.insert(), values | {"scopes": list(row.scopes)})
        bump(connection)


def revoke(catalog: Session, token: str) -> TokenRow:
    """Revoke a token, by its public part; `MissingError` (`Kind.TOKEN_INVALID`) if there is none."""
    with catalog._database.write() as connection:
        row = connection.execute(select(_T).where(_T.c.token == token)).first()
        if row is None:
            msg = f"There is no token {token!r:.40}."
            raise MissingError(msg, kind=Kind.TOKEN_INVALID, remedy="'wsistore token ls' lists the tokens.")
        if row.revoked_at is None:
            connection.execute(update(_T).where(_T.c.token == token).values(revoked_at=catalog._now()))
            bump(connection)
        return _row(connection.execute(select(_T).where(_T.c.token == token)).one())


def all_tokens(connection: Connection) -> list[TokenRow]:
    """Return all tokens, oldest first."""
    return [_row(row) for row in connection.execute(select(_T).order_by(_T.c.created_at, _T.c.token))]


def every(catalog: Session) -> list[TokenRow]:
    """Return all tokens, oldest first."""
    with catalog._database.read() as connection:
        return all_tokens(connection)


def note_use(catalog: Session, used: Mapping[str, str]) -> None:
    """Note when tokens were last used: by public part, the moments. It is no change that gateways have to see."""
    with catalog._database.write() as connection:
        for token, moment in used.items():
            connection.execute(update(_T).where(_T.c.token == token).values(last_used_at=moment))


def _row(row: Any) -> TokenRow:
    values = {name: getattr(row, name) for name in TokenRow.__slots__}
    return TokenRow(**(values | {"scopes": tuple(row.scopes or ())}))
