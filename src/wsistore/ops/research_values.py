"""What the gateway is told of callers, projects and slides: fit to be shown, but where something else is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from wsistore.model import Mode

READ = "read"
"""Scope: metadata, pixels, the viewer."""
RECALL = "recall"
"""Scope: asking that cold slides be made ready."""

SLIDE_COLUMNS = pa.schema(
    [
        pa.field("slide", pa.string(), nullable=False),
        pa.field("patient", pa.string()),
        pa.field("case", pa.string()),
        pa.field("block", pa.string()),
        pa.field("organ", pa.string()),
        pa.field("diagnoses", pa.list_(pa.string())),
        pa.field("stain", pa.string()),
        pa.field("age_at", pa.int32()),
        pa.field("received", pa.string()),
        pa.field("magnification", pa.float64()),
        pa.field("um_per_px", pa.float64()),
        pa.field("width", pa.int64()),
        pa.field("height", pa.int64()),
        pa.field("levels", pa.int32()),
        pa.field("bytes_stored", pa.int64()),
        pa.field("readiness", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("preset", pa.string()),
    ]
)
"""All that is ever said of a slide.

``slide``, ``patient``, ``case`` and ``block`` are pseudonyms; ``age_at`` is the age in whole years when the specimen
was received, at most 90; ``received`` is that day as the project wants it: shifted (``2024-03-05``), ``2024-03``,
``2024`` or null; ``um_per_px``, ``width``, ``height`` and ``levels`` are those of the first level that the project may
see, and ``magnification`` goes with them; ``readiness`` is ``ready`` or ``cold``; ``preset`` is null where it is cold.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token a request shows."""

    user: str
    """For the access log: the name that the token was made for, or OpenID Connect's subject."""
    token_id: str
    """Public part of the token's text; ``oidc`` with a hash of the session for OpenID Connect."""
    projects: frozenset[str]
    """Names of the projects granted, open and not expired."""
    expires_at: datetime | None
    scopes: frozenset[str]
    """Of the token: `READ`, `RECALL`. A grant may give fewer: see `ProjectView.scopes`."""
    groups: frozenset[str] = frozenset()
    """That OpenID Connect says the user is in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one caller may ask for."""

    requests_per_second: float
    bytes_per_second: float | None
    concurrent: int
    bytes_quota: int | None
    """Of the grant, per calendar month (UTC); None: no end."""


@dataclass(frozen=True, slots=True)
class SharedSlide:
    """A slide of a project."""

    pseudonym: str
    slide: str
    """Its key. Stays inside: never in an answer, a log or an error that leaves."""
    mode: Mode
    first_level: int
    """Levels below it are not shown: 0 shows all. Slides that are known to have no other levels are in no project."""


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project as one caller may see it now. Immutable; hold it for one request only."""

    name: str
    purpose: str
    expires_at: datetime | None
    """The earlier of the project's and the grant's."""
    first_level: int
    limits: Limits
    scopes: frozenset[str]
    """What the token and the grant allow, both."""
    rows: pa.Table
    slides: Mapping[str, SharedSlide]
    """By pseudonym; pseudonyms of earlier generations that still answer are here, and not in `rows`."""

    def table(self) -> pa.Table:
        """Return the slides: `SLIDE_COLUMNS`, sorted by pseudonym."""
        return self.rows

    def slide(self, pseudonym: str) -> SharedSlide | None:
        """Return a slide by its pseudonym; None if the project has none of this name."""
        return self.slides.get(pseudonym)
