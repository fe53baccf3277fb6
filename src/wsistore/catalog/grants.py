"""Grants: who may see a project. Functions over an open catalogue, each one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from wsistore.catalog.projects import needed
from wsistore.catalog.projects_state import bump
from wsistore.catalog.schema_projects import grant_usage, grants
from wsistore.catalog.session import Session
from wsistore.errors import ConflictError, Kind

_G, _U = grants, grant_usage
Used = Mapping[tuple[str, str], int]
"""Bytes by grant and user."""


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant. Moments are ISO 8601 in UTC."""

    grant: str
    project: str
    kind: str
    """``user`` or ``group``."""
    subject: str
    scopes: tuple[str, ...]
    bytes_quota: int | None
    granted_at: str
    granted_by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    revoked_by: str | None = None

    def is_in_force(self, now: str) -> bool:
        """Say whether it counts at a moment."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def give(catalog: Session, row: GrantRow) -> None:
    """Add a grant; one that the same user or group has is revoked by it.

    Raises
    ------
    MissingError
        If there is no such project (`Kind.PROJECT_MISSING`).
    ConflictError
        If it is closed.

    """
    with catalog._database.write() as connection:
        if needed(connection, row.project).closed_at is not None:
            msg = f"The project {row.project!r} is closed."
            raise ConflictError(msg, kind=Kind.NOT_ALLOWED, remedy="Make a new project.")
        _revoke(connection, row.project, row.kind, row.subject, row.granted_at, row.granted_by)
        values = {name: getattr(row, name) for name in GrantRow.__slots__}
        connection.execute(_G.insert(), values | {"scopes": list(row.scopes)})
        bump(connection)


def revoke(catalog: Session, project: str, kind: str, subject: str, actor: str) -> int:
    """Revoke what a user or group was granted; return how many grants were. `MissingError` if there is no project."""
    with catalog._database.write() as connection:
        needed(connection, project)
        count = _revoke(connection, project, kind, subject, catalog._now(), actor)
        if count:
            bump(connection)
        return count


def _revoke(connection: Connection, project: str, kind: str, subject: str, now: str, actor: str) -> int:
    which = (_G.c.project == project, _G.c.kind == kind, _G.c.subject == subject, _G.c.revoked_at.is_(None))
    return connection.execute(update(_G).where(*which).values(revoked_at=now, revoked_by=actor)).rowcount


def all_grants(connection: Connection) -> list[GrantRow]:
    """Return all grants, oldest first, also those that were revoked."""
    rows = connection.execute(select(_G).order_by(_G.c.granted_at, _G.c.grant))
    return [_row(row) for row in rows]


def every(catalog: Session) -> list[GrantRow]:
    """Return all grants, oldest first, also those that were revoked."""
    with catalog._database.read() as connection:
        return all_grants(connection)


def add_usage(catalog: Session, month: str, used: Used) -> None:
    """Add bytes that were sent."""
    with catalog._database.write() as connection:
        for (grant, user), size_bytes in used.items():
            which = (_U.c.grant == grant, _U.c.user == user, _U.c.month == month)
            changed = connection.execute(update(_U).where(*which).values(bytes=_U.c.bytes + size_bytes))
            if not changed.rowcount:
                values = {"grant": grant, "user": user, "month": month, "bytes": size_bytes}
                connection.execute(_U.insert(), values)


def usage(catalog: Session, month: str) -> dict[str, int]:
    """Return the bytes that were sent in a month, by grant."""
    query = select(_U.c.grant, func.sum(_U.c.bytes)).where(_U.c.month == month).group_by(_U.c.grant)
    with catalog._database.read() as connection:
        return {grant: int(size_bytes) for grant, size_bytes in connection.execute(query)}


def _row(row: Any) -> GrantRow:
    values = {name: getattr(row, name) for name in GrantRow.__slots__}
    return GrantRow(**(values | {"scopes": tuple(row.scopes or ())}))
