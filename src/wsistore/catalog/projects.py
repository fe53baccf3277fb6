"""Research projects and their cohorts: functions over an open catalogue, each one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from wsistore.catalog.projects_state import bump
from wsistore.catalog.schema_projects import project_cohorts, project_members, projects
from wsistore.catalog.session import Session
from wsistore.errors import ConflictError, Kind, MissingError

_C, _M, _P = project_cohorts, project_members, projects


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project as the catalogue knows it. Moments are ISO 8601 in UTC."""

    name: str
    purpose: str
    dates: str
    first_level: int
    limits: Mapping[str, Any]
    created_at: str
    created_by: str
    expires_at: str | None = None
    closed_at: str | None = None


@dataclass(frozen=True, slots=True)
class CohortRow:
    """Which slides a project is about."""

    project: str
    n: int
    condition: str | None
    """SQL; None: it is a list."""
    at: str
    actor: str


def create(catalog: Session, row: ProjectRow) -> None:
    """Add a project.

    Raises
    ------
    ConflictError
        If there is, or was, one of this name (`Kind.PROJECT_EXISTS`).

    """
    with catalog._database.write() as connection:
        if _one(connection, row.name) is not None:
            msg = f"There is a project {row.name!r} already."
            raise ConflictError(
                msg, kind=Kind.PROJECT_EXISTS, remedy="Choose another name; closed projects keep theirs."
            )
        connection.execute(_P.insert(), {name: getattr(row, name) for name in ProjectRow.__slots__})
        bump(connection)


def every(catalog: Session) -> list[ProjectRow]:
    """Return all projects, by name."""
    with catalog._database.read() as connection:
        return all_projects(connection)


def all_projects(connection: Connection) -> list[ProjectRow]:
    """Return all projects, by name."""
    return [_row(row) for row in connection.execute(select(_P).order_by(_P.c.name))]


def one(catalog: Session, name: str) -> ProjectRow:
    """Return a project; `MissingError` (`Kind.PROJECT_MISSING`) if there is none."""
    with catalog._database.read() as connection:
        return needed(connection, name)


def close(catalog: Session, name: str) -> ProjectRow:
    """Close a project for good; one that is closed stays as it is. `MissingError` if there is none."""
    with catalog._database.write() as connection:
        row = needed(connection, name)
        if row.closed_at is None:
            connection.execute(update(_P).where(_P.c.name == name).values(closed_at=catalog._now()))
            bump(connection)
        return needed(connection, name)


def put_cohort(
    catalog: Session, name: str, actor: str, *, condition: str | None = None, slides: Iterable[str] = ()
) -> CohortRow:
    """Say which slides a project is about; what was said before stays as history. `MissingError` if there is none."""
    with catalog._database.write() as connection:
        needed(connection, name)
        last = connection.scalar(select(func.max(_C.c.n)).where(_C.c.project == name)) or 0
        row = CohortRow(name, last + 1, condition, catalog._now(), actor)
        connection.execute(_C.insert(), {column: getattr(row, column) for column in CohortRow.__slots__})
        members = [{"project": name, "n": row.n, "slide": slide} for slide in dict.fromkeys(slides)]
        if members:
            connection.execute(_M.insert(), members)
        bump(connection)
        return row


def cohorts(connection: Connection) -> dict[str, CohortRow]:
    """Return the cohort of each project that has one."""
    rows = connection.execute(select(_C).order_by(_C.c.project, _C.c.n))
    return {row.project: CohortRow(*(getattr(row, name) for name in CohortRow.__slots__)) for row in rows}


def members(catalog: Session, cohort: CohortRow) -> list[str]:
    """Return the slides of a cohort that is a list, by key."""
    query = select(_M.c.slide).where(_M.c.project == cohort.project, _M.c.n == cohort.n).order_by(_M.c.slide)
    with catalog._database.read() as connection:
        return list(connection.scalars(query))


def needed(connection: Connection, name: str) -> ProjectRow:
    """Return a project, or raise `MissingError` (`Kind.PROJECT_MISSING`)."""
    row = _one(connection, name)
    if row is None:
        msg = f"There is no project {name!r}."
        raise MissingError(msg, kind=Kind.PROJECT_MISSING, remedy="'wsistore project ls' lists the projects.")
    return row


def _one(connection: Connection, name: str) -> ProjectRow | None:
    row = connection.execute(select(_P).where(_P.c.name == name)).first()
    return None if row is None else _row(row)


def _row(row: Any) -> ProjectRow:
    return ProjectRow(*(getattr(row, name) for name in ProjectRow.__slots__))
