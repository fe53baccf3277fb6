"""A site: its settings, catalogue and tiers, opened together and handed to every operation."""

from __future__ import annotations

import os
import pwd
import random
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
from wsistore.settings import Settings, TierSettings
from wsistore.storage.base import MARKER_KEY, Storage
from wsistore.storage.open import check_tier, create_tier, open_storage
from wsistore.storage.retry import RetryPolicy, RetryStorage


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
    _tiers: dict[str, Storage] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def tier_settings(self, name: str) -> TierSettings:
        """Return what the settings say of a tier.

        Raises
        ------
        SiteError
            If there is no such tier.

        """
        return self.settings.tier(name)

    def tier(self, name: str) -> Storage:
        """Return a tier's storage, once it is sure that it is this site's tier that lies there.

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
                storage = RetryStorage(
                    open_storage(found.url),
                    clock=self.clock,
                    rng=random.Random(),  # noqa: S311  (spreads retries, hides nothing)
                    policy=RetryPolicy(attempts=self.settings.retries + 1),
                )
                self._tiers[name] = storage
        check_tier(storage, found.id)
        if name not in self._noted and not self.catalog.read_only:
            self._note_tier(TierRecord(name=found.name, id=found.id, url=found.url))
        return storage

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

    def close(self) -> None:
        """Close the catalogue."""
        self.catalog.close()

    def __enter__(self) -> Self:
        """Return the site."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


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
        storage = open_storage(tier.url)
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
        storage = open_storage(tier.url)
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
    catalog = Catalog.open(loaded.catalog_url, clock=time, read_only=read_only)
    return Site(place, loaded, catalog, time, str(Owner.current()), actor or _account())


def _account() -> str:
    # Not getpass.getuser: it believes $LOGNAME, and the audit trail should not.
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # no name for this user id, as in some containers
        return f"uid-{os.geteuid()}"
