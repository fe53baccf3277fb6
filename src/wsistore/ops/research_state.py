"""What a gateway knows of projects, grants, tokens and objections: read anew when one of them changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock, Thread

from wsistore.catalog import objections, projects, projects_state
from wsistore.catalog.grants import GrantRow, all_grants
from wsistore.catalog.objections import Objected
from wsistore.catalog.projects import CohortRow, ProjectRow
from wsistore.catalog.projects_state import Watch
from wsistore.catalog.tokens import TokenRow, all_tokens
from wsistore.errors import WsistoreError
from wsistore.keys import pseudonyms, pseudonyms_given
from wsistore.keys.pseudonyms import ProjectKeys
from wsistore.ops.project_slides import ProjectSlides, project_slides
from wsistore.ops.site import Site

_MOST_OPENED = 64
"""Slides that a request may wait for: the levels of the others are learned afterwards."""
_log = logging.getLogger(__name__)

Mark = tuple[int, int]


@dataclass(frozen=True)
class State:
    """All of it, as it was at one moment."""

    changes: int
    projects: Mapping[str, ProjectRow]
    cohorts: Mapping[str, CohortRow]
    granted: Mapping[tuple[str, str, str], GrantRow]
    """Those that were not revoked, by project, kind and subject."""
    tokens: Mapping[str, TokenRow]
    objected: Objected
    keys: dict[str, tuple[ProjectKeys, str]] = field(default_factory=dict)
    """Of the projects that were asked for, each with its digest."""

    def grant_of(self, project: str, user: str, groups: frozenset[str], now: str) -> GrantRow | None:
        """Return the grant by which a user may see a project: their own, else that of one of their groups."""
        for kind, subjects in (("user", (user,)), ("group", sorted(groups))):
            for subject in subjects:
                found = self.granted.get((project, kind, subject))
                if found is not None and found.is_in_force(now):
                    return found
        return None

    def open_project(self, name: str, now: str) -> ProjectRow | None:
        """Return a project that is neither closed nor expired."""
        row = self.projects.get(name)
        if row is None or row.closed_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        return row


@dataclass
class _Entry:
    """A project's slides, and what they were made of."""

    made_of: tuple[object, ...]
    mark: Mark
    looked_at: float
    slides: ProjectSlides
    shown: tuple[Objected, ProjectSlides] | None = None
    """Who objects, and the slides without theirs."""
    is_renewing: bool = False


class ResearchState:
    """Keeps it. Thread-safe.

    Parameters
    ----------
    site
        An open site.

    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._watch = Watch(site.catalog)
        self._lock = Lock()
        self._state: State | None = None
        self._entries: dict[str, _Entry] = {}
        self._locks: dict[str, Lock] = {}

    def now(self) -> State:
        """Return all as it is now: what was changed before this call counts."""
        changes = self._watch.look()
        state = self._state
        if state is not None and state.changes == changes:
            return state
        with self._lock:
            state = self._state
            if state is None or state.changes != changes:
                state = self._state = self._read()
            return state

    def slides(self, state: State, project: ProjectRow) -> ProjectSlides:
        """Return what a project shows: without those who object, and evaluated not much longer ago than is allowed.

        Raises
        ------
        WsistoreError
            If it cannot be evaluated, as `wsistore.ops.project_slides.project_slides`.

        """
        entry = self._entry(state, project)
        shown = entry.shown
        if shown is None or shown[0] != state.objected:
            # Not by way of the entry: another thread may know less of who objects.
            shown = entry.shown = (state.objected, entry.slides.without(state.objected))
        return shown[1]

    def close(self) -> None:
        """Close what it looks with."""
        self._watch.close()

    def _read(self) -> State:
        catalog = self._site.catalog
        with catalog._database.read() as connection:
            return State(
                changes=projects_state.counter(connection),
                projects={row.name: row for row in projects.all_projects(connection)},
                cohorts=projects.cohorts(connection),
                granted={
                    (row.project, row.kind, row.subject): row
                    for row in all_grants(connection)
                    if row.revoked_at is None
                },
                tokens={row.token: row for row in all_tokens(connection) if row.revoked_at is None},
                objected=objections.objected(connection),
            )

    def _entry(self, state: State, project: ProjectRow) -> _Entry:
        made_of = (project, state.cohorts.get(project.name), self._keys(state, project.name)[1])
        entry = self._entries.get(project.name)
        if entry is None or entry.made_of != made_of:
            with self._lock:
                lock = self._locks.setdefault(project.name, Lock())
            with lock:
                entry = self._entries.get(project.name)
                if entry is None or entry.made_of != made_of:
                    entry = self._entries[project.name] = self._made(state, project, made_of, _MOST_OPENED)
            return entry
        self._renew_if_old(state, project, entry)
        return self._entries[project.name]

    def _made(self, state: State, project: ProjectRow, made_of: tuple[object, ...], most: int) -> _Entry:
        mark, at = projects_state.data_mark(self._site.catalog), self._site.clock.monotonic_seconds()
        cohort, (keys, _) = state.cohorts.get(project.name), self._keys(state, project.name)
        return _Entry(made_of, mark, at, project_slides(self._site, project, cohort, keys, most_opened=most))

    def _renew_if_old(self, state: State, project: ProjectRow, entry: _Entry) -> None:
        refresh = self._site.settings.serve.cohort_refresh
        age = timedelta(seconds=self._site.clock.monotonic_seconds() - entry.looked_at)
        if age < refresh:
            return
        if not refresh:
            self._renew(state, project, entry)
            return
        with self._lock:
            if entry.is_renewing:
                return
            entry.is_renewing = True
        Thread(target=self._renew_aside, args=(state, project, entry), name="cohort-refresh", daemon=True).start()

    def _renew_aside(self, state: State, project: ProjectRow, entry: _Entry) -> None:
        try:
            self._renew(state, project, entry)
        except WsistoreError as error:
            _log.warning("the cohort of project %s cannot be evaluated now: %s", project.name, error)
            entry.looked_at = self._site.clock.monotonic_seconds()
        finally:
            entry.is_renewing = False

    def _renew(self, state: State, project: ProjectRow, entry: _Entry) -> None:
        mark = projects_state.data_mark(self._site.catalog)
        if mark == entry.mark:
            entry.looked_at = self._site.clock.monotonic_seconds()
            return
        # Who is one person with whom may have changed, too.
        new = self._made(state, project, entry.made_of, 1 << 30)
        with self._lock:
            self._state = None
            self._entries[project.name] = new

    def _keys(self, state: State, project: str) -> tuple[ProjectKeys, str]:
        found = state.keys.get(project)
        if found is None:
            folder = self._site.settings.keys
            keys = pseudonyms_given.with_given(folder, pseudonyms.load(folder, project))
            found = state.keys[project] = (keys, keys.digest())
        return found
