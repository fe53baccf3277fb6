"""What a site's settings are: frozen values, every path and URL in them absolute."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wsistore.errors import Kind, SiteError
from wsistore.model import Preset

FILE_NAME = "wsistore.toml"
HOME_VARIABLE = "WSISTORE_HOME"
FORMAT_VERSION = 1
"""Of the settings file; a file with a higher one was written for a newer release."""

TIER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class TierSettings:
    """One named place for copies."""

    name: str
    """Up to 32 lower-case letters, digits, ``-`` and ``_``."""
    id: str
    """Random, given at `wsistore init`; the tier keeps the same in its marker object, so that a folder that was
    mounted in the wrong place is noticed before anything is written to it."""
    url: str
    """Where the bytes lie: an absolute ``file://`` URL (percent-encoded), or the URL of another back end. In the file
    it may be a path relative to the site's folder."""
    preset: Preset = Preset.KEEP
    """How copies in this tier are encoded. By default as the scanner wrote them: that costs no time."""

    @property
    def path(self) -> Path | None:
        """Folder of a tier on this machine's file systems; None for other back ends."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a site decides. Every path and URL in it is absolute."""

    folder: Path
    """The site's folder, which holds ``wsistore.toml``."""
    name: str
    """The site's name for people, in reports and messages. By default the folder's name."""
    catalog_url: str
    """Where the catalogue lies, as SQLAlchemy writes it. By default a SQLite file in the site's folder: it needs no
    server, and serves several processes of one machine."""
    tiers: tuple[TierSettings, ...]
    """In the order of the file; the first is where `wsistore ingest` puts slides unless told otherwise."""
    retries: int = 5
    """How often a transient failure of a tier is tried again, with growing pauses. Five outlast a restarting server
    without keeping a person waiting for minutes."""
    jobs: int = 0
    """How many slides are worked on at once; 0 means as many as the machine has processors, which is where ingest
    stops getting faster."""

    def tier(self, name: str) -> TierSettings:
        """Return the tier called `name`.

        Raises
        ------
        SiteError
            If the site has no such tier (`Kind.TIER_UNKNOWN`).

        """
        for tier in self.tiers:
            if tier.name == name:
                return tier
        names = [tier.name for tier in self.tiers]
        msg = f"The site {self.name!r} has no tier {name!r}{did_you_mean(name, names)}."
        raise SiteError(msg, kind=Kind.TIER_UNKNOWN, remedy=f"Its tiers are: {', '.join(names)}.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` if one of `known` is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def absolute(path: Path) -> Path:
    """Return `path` without ``..``, from the root; symbolic links stay."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow symbolic links
