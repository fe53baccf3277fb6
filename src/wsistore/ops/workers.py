"""How workers, perhaps on other machines, get at a tier: by its settings, and sure that it is that tier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsistore.clock import SystemClock
from wsistore.ops.site import Site
from wsistore.ops.tier_opening import open_tier
from wsistore.settings import TierSettings
from wsistore.storage.base import Storage
from wsistore.storage.open import check_tier


@dataclass(frozen=True, slots=True)
class TierRef:
    """A tier as a worker opens it; pickles, and carries no secrets.

    Files that the settings name (`key_file`, `ca_bundle`), profiles, the environment and the folder of keys are the
    worker's machine's. Limits of bandwidth hold for each worker process by itself.
    """

    tier: TierSettings
    """Its `id` is what its marker must say: a mount point without its mount is never written to."""
    retries: int
    keys: Path
    """Folder of the site's keys; looked into where a companion is encrypted."""

    def __call__(self) -> Storage:
        """Open it.

        Raises
        ------
        SiteError, StorageError
            If it cannot be opened, or what lies there is not this tier.

        """
        storage = open_tier(self.tier, retries=self.retries, clock=SystemClock(), keys=self.keys)
        check_tier(storage, self.tier.id)
        return storage


def tier_ref(site: Site, tier: str) -> TierRef:
    """Return how workers get at a tier of a site."""
    return TierRef(site.tier_settings(tier), site.settings.retries, site.settings.keys)
