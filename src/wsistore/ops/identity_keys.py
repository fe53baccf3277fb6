"""The site's identity key: made when it is first needed, kept in the catalogue and on every tier, brought back.

It lies wrapped by the site key, so that whoever has the catalogue or a tier has nothing. On tiers it is an object of
``keyring/``, as data keys of companions are: rotation, checks and backups treat it as one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wsistore.catalog import sealing
from wsistore.catalog.identities import Identities
from wsistore.compress.keys import KEYRING, Place
from wsistore.errors import Kind, ObjectExistsError, ObjectMissingError, WsistoreError
from wsistore.keys import identities, site_keys
from wsistore.keys.site_keys import SiteKeys
from wsistore.model import random_key
from wsistore.settings import Settings
from wsistore.storage.base import Span, Storage
from wsistore.tiers.keyring import keys_of

if TYPE_CHECKING:
    from wsistore.ops.site import Site

_MOST_BYTES = 1 << 16
_log = logging.getLogger(__name__)


def site_identities(settings: Settings) -> Identities:
    """Return what a site does with identities of patients; keys are read when they are first needed."""
    return Identities(
        lambda wrapped: identities.unlock(settings.keys, wrapped),
        is_on=settings.encrypt_identities,
        columns=settings.identity_columns,
    )


def ensure_identity_key(site: Site) -> bool:
    """Make the site's identity key if it has none, or bring it back from its tiers; say whether there is one now.

    Without a site key none is made: what is to be sealed is refused then, and all else goes on.

    Raises
    ------
    SiteError
        If the site key cannot be read.

    """
    if sealing.keys(site.catalog):
        return True
    keys = site_keys.load(site.settings.keys)
    if keys is None:
        return False
    found: dict[str, str] = {}
    for tier in site.settings.tiers:
        try:
            found |= keys_on(site.tier(tier.name))
        except WsistoreError as error:
            # A second key does no harm: every value names the key that it is sealed by.
            _log.info("tier %s cannot be asked for identity keys now: %s", tier.name, error)
    if not found:
        name = random_key()
        found = {name: identities.new_key(keys, name)}
    sealing.note_keys(site.catalog, found, if_none=True)
    return True


def keys_on(storage: Storage) -> dict[str, str]:
    """Return the wrapped identity keys that lie on a tier, by their ids."""
    found = {}
    prefix = f"{KEYRING}/{identities.OWNER}/"
    for info in storage.list(prefix):
        name = info.key.removeprefix(prefix).removesuffix(".json")
        if f"{prefix}{name}.json" == info.key:
            try:
                found[name] = storage.get(info.key, Span(0, _MOST_BYTES)).decode("utf-8", "replace")
            except ObjectMissingError:
                continue
    return found


def lay_down(storage: Storage, wrapped: Iterable[tuple[str, str]]) -> None:
    """See that the identity keys lie on a tier, before anything does that they seal; those that do stay as they are.

    Raises
    ------
    StorageError
        If the tier fails.

    """
    ring = keys_of(storage)
    for name, text in wrapped:
        place = Place(identities.OWNER, name)
        if ring is not None:
            ring.put_wrapped(place, text.encode())
            continue
        try:  # without a site key at hand, which only a tool that reads and tells is
            storage.head(place.data_key)
        except ObjectMissingError:
            try:
                storage.put(place.data_key, text.encode(), if_absent=True)
            except ObjectExistsError:
                continue


def rewrap_catalog(site: Site, keys: SiteKeys) -> int:
    """Wrap the identity keys in the catalogue by the current version of the site key; return how many were not.

    A catalogue that was put back from an old backup may have keys that a version wraps which is forgotten; those on
    the tiers are wrapped by one that is not.
    """
    new: dict[str, str] = {}
    for name, text in sealing.keys(site.catalog).items():
        try:
            wrapped = identities.rewrapped(keys, name, text)
        except WsistoreError as error:
            if error.kind is not Kind.KEY_MISSING:
                raise
            wrapped = identities.rewrapped(keys, name, _from_tiers(site, name, text)) or _from_tiers(site, name, text)
        if wrapped is not None:
            new[name] = wrapped
    if new:
        sealing.note_keys(site.catalog, new)
    return len(new)


def _from_tiers(site: Site, name: str, default: str) -> str:
    for tier in site.settings.tiers:
        try:
            found = keys_on(site.tier(tier.name)).get(name)
        except WsistoreError as error:
            _log.info("tier %s cannot be asked for identity keys now: %s", tier.name, error)
            continue
        if found is not None:
            return found
    return default
