"""Who may see what through the gateway: callers, their projects, and the slides of these, by pseudonym.

An `Access` is asked once per request. What it hands out are immutable snapshots: a table of a project's slides, and a
dictionary of pseudonyms. Nothing in them but `SharedSlide.slide` comes from inside: neither names nor numbers nor dates
of the hospital. What is revoked, closed or objected to is out at the next question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from wsistore.catalog.grants import GrantRow
from wsistore.catalog.projects import ProjectRow
from wsistore.clock import iso
from wsistore.errors import Kind, MissingError
from wsistore.ops.oidc import LEEWAY_SECONDS, OidcVerifier, denied
from wsistore.ops.oidc_keys import FetchJwks
from wsistore.ops.project_slides import ProjectSlides
from wsistore.ops.research_state import ResearchState, State
from wsistore.ops.research_usage import Usage
from wsistore.ops.research_values import (
    READ,
    RECALL,
    SLIDE_COLUMNS,
    Caller,
    Limits,
    ProjectView,
    SharedSlide,
)
from wsistore.ops.site import Site
from wsistore.ops.tokens import PREFIX, is_secret_of, split

__all__ = [
    "READ",
    "RECALL",
    "SLIDE_COLUMNS",
    "Access",
    "Caller",
    "FetchJwks",
    "Limits",
    "ProjectView",
    "SharedSlide",
]

_SCHEME = "bearer "
_MOST_HEADER = 1 << 14
_MOST_VIEWS = 4096
_OIDC = "oidc-"
_MET = timedelta(seconds=30)
"""For so long a signature is not looked at again, as long as nothing was changed."""


@dataclass(frozen=True, slots=True)
class _Met:
    """A caller who was admitted to a project."""

    state: State
    caller: Caller
    seen: tuple[object, ...]
    """Key of what they saw."""
    until: datetime
    is_token: bool


class Access:
    """Answers who may see what. Thread-safe; one per process.

    Parameters
    ----------
    site
        Open for writing, or (what is not noted then: last use and bytes used) for reading.
    fetch
        Gets documents of the OpenID Connect issuer; by default over HTTPS.

    """

    def __init__(self, site: Site, *, fetch: FetchJwks | None = None) -> None:
        self._site = site
        self._state = ResearchState(site)
        self._usage = Usage(site)
        oidc = site.settings.serve.oidc
        self._oidc = None if oidc is None else OidcVerifier(oidc, site.clock, fetch)
        self._met: dict[tuple[str | None, str], _Met] = {}
        self._views: dict[tuple[object, ...], tuple[ProjectSlides, ProjectView]] = {}

    def caller(self, authorization: str | None) -> Caller:
        """Return who shows a token.

        Parameters
        ----------
        authorization
            The header's value, ``Bearer wst_…`` or ``Bearer`` and a token of the issuer; None if there is none.

        Raises
        ------
        DeniedError
            If there is no token, or none that is in force: one message for all, whatever the reason
            (`Kind.TOKEN_MISSING`, `Kind.TOKEN_INVALID`, `Kind.TOKEN_EXPIRED`).
        WsistoreError
            If it cannot be told: the catalogue cannot be read, or the issuer's keys cannot be had.

        """
        if not authorization:
            raise denied(Kind.TOKEN_MISSING)
        if len(authorization) > _MOST_HEADER or authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise denied(Kind.TOKEN_INVALID)
        token, state = authorization[len(_SCHEME) :].strip(), self._state.now()
        if token.startswith(f"{PREFIX}_"):
            return self._token_caller(state, token)
        if self._oidc is None:
            raise denied(Kind.TOKEN_INVALID)
        signed = self._oidc.verify(token)
        granted = self._granted(state, signed.user, signed.groups)
        scopes = frozenset({READ, RECALL})
        return Caller(signed.user, signed.name, granted, signed.expires_at, scopes, signed.groups)

    def _token_caller(self, state: State, token: str) -> Caller:
        parts = split(token)
        if parts is None:
            raise denied(Kind.TOKEN_INVALID)
        row = state.tokens.get(parts[0])
        if not is_secret_of(row, parts[1]) or row is None:
            raise denied(Kind.TOKEN_INVALID)
        if row.expires_at <= self._now():
            raise denied(Kind.TOKEN_EXPIRED)
        self._usage.use(row.token)
        granted = self._granted(state, row.user, frozenset())
        return Caller(row.user, row.token, granted, _moment(row.expires_at), frozenset(row.scopes))

    def project(self, caller: Caller, name: str) -> ProjectView:
        """Return a project.

        Raises
        ------
        MissingError
            If there is no such project, or it is not granted to the caller, or expired, or closed: one message for all
            (`Kind.PROJECT_MISSING`).
        WsistoreError
            If it cannot be told what the project shows: its key or those of sealed identities are not at hand.

        """
        state, now = self._state.now(), self._now()
        row, grant = self._seen_by(state, caller, name, now)
        if row is None or grant is None:
            msg = "There is no such project."
            raise MissingError(msg, kind=Kind.PROJECT_MISSING, remedy="GET /projects lists yours.")
        slides = self._state.slides(state, row)
        key = (row.name, grant.grant, caller.scopes)
        found = self._views.get(key)
        if found is None or found[0] is not slides:
            if len(self._views) >= _MOST_VIEWS:
                self._views = {}
            found = self._views[key] = (slides, self._view(row, grant, caller, slides))
        return found[1]

    def admit(self, authorization: str | None, project: str) -> tuple[Caller, ProjectView | None]:
        """Return what `caller` and `project` do, at less cost where the same is asked again and nothing has changed.

        Parameters
        ----------
        authorization
            As of `caller`.
        project
            Name of a project, or nothing.

        Returns
        -------
        tuple[Caller, ProjectView or None]
            None where there is no such project, or it is not the caller's.

        Raises
        ------
        DeniedError, WsistoreError
            As `caller`, and `project` but for `MissingError`.

        """
        state, now = self._state.now(), self._site.clock.now()
        met = self._met.get((authorization, project))
        if met is not None and met.state is state and now < met.until:
            if met.is_token:
                self._usage.use(met.caller.token_id)
            seen = self._views.get(met.seen)
            if seen is not None and self._state.slides(state, state.projects[project]) is seen[0]:
                return met.caller, seen[1]
        caller = self.caller(authorization)
        return caller, self._meet(state, caller, authorization, project) if project else None

    def _meet(self, state: State, caller: Caller, authorization: str | None, project: str) -> ProjectView | None:
        """Return a project, and remember for a while that it may be seen."""
        try:
            view = self.project(caller, project)
        except MissingError:
            return None
        row, grant = self._seen_by(state, caller, project, self._now())
        if row is not None and grant is not None:
            ends = [end for end in (caller.expires_at, view.expires_at) if end is not None]
            until = min([self._site.clock.now() + _MET, *ends])
            if len(self._met) >= _MOST_VIEWS:
                self._met = {}
            is_token = not caller.token_id.startswith(_OIDC)
            seen = (row.name, grant.grant, caller.scopes)
            self._met[authorization, project] = _Met(state, caller, seen, until, is_token)
        return view

    def projects(self, caller: Caller) -> list[ProjectView]:
        """Return the caller's projects, by name; raises as `project`."""
        state, now = self._state.now(), self._now()
        names = sorted(name for name in state.projects if None not in self._seen_by(state, caller, name, now))
        return [self.project(caller, name) for name in names]

    def spend(self, caller: Caller, project: str, size_bytes: int) -> None:
        """Count bytes that were sent: kept in memory, written every few seconds and by `close`; never blocks long."""
        grant = self._seen_by(self._state.now(), caller, project, self._now())[1]
        if grant is not None:
            self._usage.spend(grant.grant, caller.user, size_bytes)

    def spent(self, caller: Caller, project: str) -> int:
        """Return the bytes that the caller's grant has used in this calendar month, by all processes."""
        grant = self._seen_by(self._state.now(), caller, project, self._now())[1]
        return 0 if grant is None else self._usage.spent(grant.grant)

    def close(self) -> None:
        """Write what is still to be counted. The site stays open."""
        self._usage.close()
        self._state.close()

    def _granted(self, state: State, user: str, groups: frozenset[str]) -> frozenset[str]:
        now = self._now()
        return frozenset(
            grant.project
            for grant in state.granted.values()
            if (grant.subject == user if grant.kind == "user" else grant.subject in groups)
            and grant.is_in_force(now)
            and state.open_project(grant.project, now) is not None
        )

    def _seen_by(self, state: State, caller: Caller, name: str, now: str) -> tuple[ProjectRow | None, GrantRow | None]:
        """Return a project and the caller's grant, each if it is in force; none if the caller's token is not."""
        if not self._is_in_force(state, caller):
            return None, None
        row = state.open_project(name, now)
        return row, None if row is None else state.grant_of(name, caller.user, caller.groups, now)

    def _is_in_force(self, state: State, caller: Caller) -> bool:
        """Say whether the token still is: a caller may be kept for longer than it."""
        moment = self._site.clock.now()
        if caller.token_id.startswith(_OIDC):
            leeway = timedelta(seconds=LEEWAY_SECONDS)
            return self._oidc is not None and caller.expires_at is not None and moment < caller.expires_at + leeway
        row = state.tokens.get(caller.token_id)
        return row is not None and row.user == caller.user and row.expires_at > iso(moment)

    def _view(self, row: ProjectRow, grant: GrantRow, caller: Caller, slides: ProjectSlides) -> ProjectView:
        ends = [end for end in (row.expires_at, grant.expires_at) if end is not None]
        return ProjectView(
            name=row.name,
            purpose=row.purpose,
            expires_at=_moment(min(ends)) if ends else None,
            first_level=row.first_level,
            limits=self._limits(row.limits, grant.bytes_quota),
            scopes=caller.scopes & frozenset(grant.scopes),
            rows=slides.rows,
            slides=slides.slides,
        )

    def _limits(self, own: Mapping[str, object], quota: int | None) -> Limits:
        site = self._site.settings.serve
        default = {
            "requests_per_second": site.requests_per_second,
            "bytes_per_second": site.bytes_per_second,
            "concurrent": site.concurrent,
        }
        said = default | {name: value for name, value in own.items() if name in default and value is not None}
        return Limits(**said, bytes_quota=quota)  # type: ignore[arg-type]

    def _now(self) -> str:
        return iso(self._site.clock.now())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
