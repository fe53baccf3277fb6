"""A tier's settings become its storage: with its options, at its bandwidth, repeating what fails in passing."""

from __future__ import annotations

import random
import stat
from dataclasses import replace
from pathlib import Path

from wsistore.clock import Clock
from wsistore.errors import Kind, SiteError
from wsistore.keys.site_keys import has_site_key
from wsistore.settings import TierSettings
from wsistore.storage.base import Storage
from wsistore.storage.encrypted import EncryptedStorage
from wsistore.storage.limit import LimitStorage, shared_limits
from wsistore.storage.open import open_storage
from wsistore.storage.retry import RetryPolicy, RetryStorage
from wsistore.tiers.keyring import TierKeys


def open_plain(tier: TierSettings, clock: Clock | None = None) -> Storage:
    """Return a tier's back end as it is; nothing is created or asked yet.

    Raises
    ------
    SiteError
        If its key file is missing, or others may read it.
    StorageError
        If the URL or its options are none that a back end understands.

    """
    if tier.key_file:
        check_key_file(Path(tier.key_file), tier.name)
    return open_storage(tier.url, tier.storage_options, clock=clock)


def open_tier(tier: TierSettings, *, retries: int, clock: Clock, keys: Path | None = None) -> Storage:
    """Return a tier's storage as it is worked with; nothing is asked yet, not even whether it is this tier.

    Bandwidth is limited over all that opened the tier in this process.

    Parameters
    ----------
    tier
        Its settings.
    retries
        How often a transient failure is tried again.
    clock
        For pauses.
    keys
        Folder of the site's keys: what companions are encrypted and decrypted with. None for those who read none.

    Raises
    ------
    SiteError, StorageError
        As `open_plain`.

    """
    storage = wrapped(open_plain(tier, clock), tier, retries=retries, clock=clock)
    # Companions that were encrypted before the setting was taken back are still read.
    if keys is None or not (tier.encrypt_companions or has_site_key(keys)):
        return storage
    ring = storage
    if tier.object_lock is not None or tier.storage_class:
        # Data keys must be deletable, and readable at once.
        plain = replace(tier, object_lock=None, storage_class="")
        ring = wrapped(open_plain(plain), plain, retries=retries, clock=clock)
    return EncryptedStorage(storage, TierKeys(ring, keys, is_on=tier.encrypt_companions))


def wrapped(storage: Storage, tier: TierSettings, *, retries: int, clock: Clock) -> Storage:
    """Return `storage` as `tier` is worked with."""
    up, down = tier.bandwidth_up, tier.bandwidth_down
    if up is not None or down is not None:
        storage = LimitStorage(storage, shared_limits(tier.id, up, down, clock))
    rng = random.Random()  # noqa: S311  (spreads retries, hides nothing)
    return RetryStorage(storage, clock=clock, rng=rng, policy=RetryPolicy(attempts=retries + 1))


def check_key_file(path: Path, tier: str) -> None:
    """Refuse a file of credentials that is not there, or that others than its owner may read.

    Raises
    ------
    SiteError
        Of kind ``settings-invalid``.

    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        msg = f"{path}, the key_file of the tier {tier!r}, cannot be read ({error.strerror or error})."
        raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy="Mend key_file in wsistore.toml.") from error
    if not stat.S_ISREG(mode) or mode & 0o077:
        msg = f"{path}, the key_file of the tier {tier!r}, may be read by others (mode {stat.S_IMODE(mode):04o})."
        raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"Run: chmod 600 {path}")
