"""Where slides come from by themselves: a table ``[intake.NAME]`` of a site's settings for each scanner's share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

SHARE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
TEMPORARY = (
    "*.tmp",
    "*.temp",
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.!*",
    "*~",
    "~*",
    "*.lock",
    "*.lck",
)
"""Names under which scanners, copying programs and browsers write what they rename when it is complete, and locks."""


class Release(StrEnum):
    """What becomes of the original on the share once it is safely kept."""

    LEAVE = "leave"
    DELETE = "delete"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """One share that is watched."""

    name: str
    path: str
    """Absolute path of the folder. It may be slow, read-only, and not there at times."""
    tier: str = ""
    """Where its slides go; nothing: the site's first tier."""
    settle: timedelta = timedelta(minutes=10)
    """For how long size and time of a file must not change before it is taken. Scanners write a slide within minutes,
    with pauses of seconds; longer where they write over a bad network."""
    marker: str = ""
    """Name of a file or folder that lies at the top of the share when it is really there: without it an empty mount
    point looks like a share that was cleared."""
    temporary: tuple[str, ...] = TEMPORARY
    """Patterns of names that are waited for to be renamed."""
    ignore: tuple[str, ...] = ()
    """Patterns of names that are no slides, whatever they look like."""
    metadata: str = "slides.csv"
    """Name of the tables, in any folder of the share, that say what is known of the slides beside and below them."""
    release: Release = Release.LEAVE
    release_to: str = ""
    """Absolute path of the folder that originals are moved to; on the same file system as the share."""
    release_after: timedelta = timedelta(days=7)
    """How long an original stays after it was taken in, whatever else is true: time for somebody to look."""
    release_copies: int | None = None
    """In how many tiers there must be a good copy; None: as many as the site requires."""
    evidence: timedelta | None = None
    """How old the verification of these copies may be; older ones are verified anew. None: as for drops."""
    rehash: bool = False
    """Whether an original is read once more and compared before it goes, though size and time did not change."""
