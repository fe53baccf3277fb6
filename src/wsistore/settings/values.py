"""What a site's settings are: frozen values, every path and URL in them absolute."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from wsistore.errors import Kind, SiteError
from wsistore.settings.approvals import ApprovalSettings
from wsistore.settings.flows import FlowsSettings
from wsistore.settings.intake import IntakeSettings
from wsistore.settings.serve import ServeSettings
from wsistore.settings.tiers import TierSettings

FILE_NAME = "wsistore.toml"
HOME_VARIABLE = "WSISTORE_HOME"
RULES_NAME = "rules.yaml"
FORMAT_VERSION = 1
"""Of the settings file; a file with a higher one was written for a newer release."""

TIER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class EvidenceAges:
    """How old the verification of a copy may be that the drop of another one rests on."""

    begin: timedelta = timedelta(days=1)
    """When a drop begins; an older one is renewed first. Bytes that rotted since then would be believed, so it is
    short: reading a copy again costs seconds. Longer where reading is dear, such as from a tier with a fee for it."""
    attested: timedelta = timedelta(days=3650)
    """Of a copy in an archive class, since it was read back; nothing: such copies never count. Ten years, for reading
    one again costs a restore; whether it is still there unchanged is asked of the tier as often as `begin` says."""
    begun: timedelta = timedelta(days=90)
    """When a drop has begun, which a tier (Object Lock) may hold up for years: its proof was fresh, and that is no
    reason to read other copies every day."""


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
    required_copies: int = 1
    """A copy may be dropped only while at least so many other good copies of the same version of its slide remain in
    the site; a tier may ask for more or fewer. One means that a move may drop the copy that it was made from."""
    evidence: EvidenceAges = EvidenceAges()
    """How old evidence may be that a drop rests on."""
    recall_max_eur: float | None = None
    """Recalls that may cost more have to be confirmed; by default they need not."""
    encrypt_identities: bool = False
    """Whether what identifies patients is sealed in the catalogue, and so in its ledgers and backups."""
    identity_columns: tuple[str, ...] = ()
    """Metadata that identify a patient at this site, beside those that do everywhere."""
    keys_folder: str = ""
    """Absolute path of the folder of keys; nothing: ``keys`` in the site's folder."""
    rules_file: str = ""
    """Absolute path of the file of rules; nothing: ``rules.yaml`` in the site's folder."""
    approvals: ApprovalSettings = field(default_factory=ApprovalSettings)
    """Which plans need whose approval."""
    intake: tuple[IntakeSettings, ...] = ()
    """Shares that slides are taken from by themselves, in the order of the file."""
    flows: FlowsSettings = field(default_factory=FlowsSettings)
    """How the nights go."""
    serve: ServeSettings = field(default_factory=ServeSettings)
    """How the gateway for research serves."""

    @property
    def keys(self) -> Path:
        """Where the site's keys lie: on this machine, and on every other that reads or writes companions."""
        return Path(self.keys_folder) if self.keys_folder else self.folder / "keys"

    @property
    def rules(self) -> Path:
        """What says how long slides are kept and where; it need not be there."""
        return Path(self.rules_file) if self.rules_file else self.folder / RULES_NAME

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
