"""A site: its settings, catalogue and tiers, opened together and handed to every operation."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from wsistore import settings as site_settings
from wsistore.catalog import Catalog, TierRecord, create
from wsistore.catalog.owner import Owner
from wsistore.clock import Clock, SystemClock
from wsistore.errors import Kind, SiteError, StorageError
from wsistore.events import EventKind
from wsistore.ops.identity_keys import ensure_identity_key, site_identities
from wsistore.ops.ledgers import tell_used
from wsistore.ops.reservations import Reservations
from wsistore.ops.tier_opening import open_plain, open_tier
from wsistore.settings import Settings, TierSettings
from wsistore.storage.base import MARKER_KEY, Storage
from wsistore.storage.open import check_tier, create_tier

_BELIEVED_SECONDS = 2.0
"""How long a bucket that was seen to be a tier is believed to be it."""


@dataclass(slots=True)
class Site:
    """An open site. Threads may share it."""

    folder: Path
    settings: Settings
    catalog: Catalog
    clock: Clock
    owner: str
    """This process, as attempts name it."""
    actor: str
    """Who acts, as events name them."""
    reservations: Reservations = field(default_factory=Reservations)
    """Room that is being filled in tiers with a capacity."""
    _began: int = 0
    """The catalogue's last change when the site was opened."""
    _tiers: dict[str, Storage] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)
    _seen: dict[str, float] = field(default_factory=dict)
    """When buckets were last seen to be the tiers that they should be, by the monotonic clock."""
    _lock: Lock = field(default_factory=Lock)

    def tier_settings(self, name: str) -> TierSettings:
        """Return what the settings say of a tier.

        Raises
        ------
        SiteError
            If there is no such tier.

        """
        return self.settings.tier(name)

    def tier(self, name: str, *, retries: int | None = None) -> Storage:
        """Return a tier's storage, once it is sure that it is this site's tier that lies there.

        Parameters
        ----------
        name
            Of the tier.
        retries
            How often what fails in passing is tried again, if this opens it; by default as the settings say.

        Raises
        ------
        SiteError
            If there is no such tier, or the catalogue knows another one by this name.
        StorageError
            If its place is gone, or is not this tier.

        """
        found = self.tier_settings(name)
        with self._lock:
            storage = self._tiers.get(name)
            if storage is None:
                again = self.settings.retries if retries is None else retries
                storage = open_tier(found, retries=again, clock=self.clock, keys=self.settings.keys)
                self._tiers[name] = storage
        self._check(storage, found)
        if name not in self._noted and not self.catalog.read_only:
            self._note_tier(TierRecord(name=found.name, id=found.id, url=found.url))
        return storage

    def _check(self, storage: Storage, tier: TierSettings) -> None:
        """Raise unless it is this site's tier that lies there; an answer of a moment ago is believed of a bucket.

        A medium can be taken out, and another one be mounted in its place, between any two calls. A bucket stays: what
        looks like it afterwards was made and made a tier within that moment.
        """
        now = self.clock.monotonic_seconds()
        seen = self._seen.get(tier.name)
        if seen is not None and now - seen < _BELIEVED_SECONDS:
            return
        check_tier(storage, tier.id)
        if tier.url.startswith("s3://"):
            self._seen[tier.name] = now

    def _note_tier(self, tier: TierRecord) -> None:
        """Let the catalogue know a tier: copies name it, and the settings file can be lost."""
        if tier not in self.catalog.tiers():
            self.catalog.put_tier(tier)
        self._noted.add(tier.name)

    @property
    def jobs(self) -> int:
        """How many slides are worked on at once unless told otherwise."""
        return self.settings.jobs or os.cpu_count() or 1

    def note(self, slide: str, kind: EventKind, detail: Mapping[str, Any]) -> None:
        """Append an event that accompanies reading; a site opened for reading only keeps none."""
        if not self.catalog.read_only:
            self.catalog.append_event(slide, kind, self.actor, detail)

    def used_tiers(self) -> tuple[str, ...]:
        """Return the names of the tiers that were opened."""
        with self._lock:
            return tuple(self._tiers)

    def close(self) -> None:
        """Tell the tiers that were used what is new in the catalogue, and close it."""
        if not self.catalog.read_only:
            tell_used(self, self._began)
        self.catalog.close()

    def __enter__(self) -> Self:
        """Return the site."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; after an error the tiers are told by the next command, for one of them may be what failed."""
        if error is None:
            self.close()
        else:
            self.catalog.close()


def init_site(folder: Path, *, name: str = "") -> Settings:
    """Make a new site in `folder`: settings, catalogue, and the tiers hot, warm and cold beside them.

    One that was interrupted half-way is finished by running it again.

    Raises
    ------
    SiteError
        If `folder` is a site already, or cannot be written.
    ConflictError
        If the place of a tier is another site's.
    StorageError
        If a tier cannot be written.

    """
    try:
        made = site_settings.write_new(folder, name=name)
    except SiteError as error:
        if error.kind is not Kind.SITE_EXISTS:
            raise
        made = site_settings.load(folder)
        if not _is_unfinished(made):
            raise
    for tier in made.tiers:
        storage = open_plain(tier)
        create_tier(storage, tier.id, tier.name)
    create(made.catalog_url)
    return made


def _is_unfinished(made: Settings) -> bool:
    """Say whether a site was never used: it has no catalogue, and its tiers hold nothing.

    A site that lost its catalogue is no such site: a new, empty one would hide that.
    """
    catalog = Path(made.catalog_url.removeprefix("sqlite:///"))
    if os.path.lexists(catalog):
        return False
    for tier in made.tiers:
        storage = open_plain(tier)
        try:
            if any(info.key != MARKER_KEY for info in storage.list()):
                return False
        except StorageError as error:
            if error.kind is not Kind.TIER_MISSING:
                return False
    return True


def open_site(
    folder: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    read_only: bool = False,
    clock: Clock | None = None,
    actor: str | None = None,
) -> Site:
    """Open the site in `folder`, or the one that WSISTORE_HOME or the current folder tells.

    Raises
    ------
    SiteError
        If there is no site, or its settings or catalogue are not in order.

    """
    place = site_settings.find_site(folder, os.environ if environment is None else environment)
    loaded = site_settings.load(place)
    time = clock or SystemClock()
    catalog = Catalog.open(loaded.catalog_url, clock=time, read_only=read_only, identities=site_identities(loaded))
    began = catalog.last_change()
    site = Site(place, loaded, catalog, time, str(Owner.current()), actor or account(), _began=began)
    if loaded.encrypt_identities and not read_only:
        ensure_identity_key(site)
    return site


def read_only_error(site: Site) -> SiteError:
    """Return the error of work that a site which was opened for reading cannot take."""
    msg = f"The site {site.folder} is opened for reading only."
    return SiteError(msg, kind=Kind.SITE_READ_ONLY, remedy="Open it for writing, or work where it can be written.")


def account() -> str:
    """Return the name of the operating system's user, or its number: who acts, unless told otherwise."""
    # Not getpass.getuser: it believes $LOGNAME, and the audit trail should not.
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # no name for this user id, as in some containers
        return f"uid-{os.geteuid()}"
