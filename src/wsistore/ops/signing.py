"""Which keys sign what a site tells its tiers."""

from __future__ import annotations

import logging
from collections.abc import Collection

from wsistore.clock import Clock
from wsistore.errors import SiteError
from wsistore.keys.signing import Signer, make_signer, public_keys
from wsistore.settings import Settings

_log = logging.getLogger(__name__)


def signer_of(settings: Settings, clock: Clock) -> Signer | None:
    """Return what signs for a site; its key is made when it is first needed.

    None where the key cannot be read or made: the ledger is then written unsigned rather than not at all.
    """
    try:
        return make_signer(settings.keys, clock)
    except SiteError as error:
        _log.warning("what the tiers are told is not signed: %s", error)
        return None


def known_keys(settings: Settings) -> Collection[str]:
    """Return the ids of all keys that ever signed for a site, as far as its folder of keys knows."""
    return frozenset(public_keys(settings.keys))
