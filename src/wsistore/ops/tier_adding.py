"""A new tier for a site: a table in ``wsistore.toml``, and the marker that makes its place a tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsistore.clock import Clock, SystemClock
from wsistore.errors import ConflictError, Kind, StorageError, WsistoreError
from wsistore.model import random_key
from wsistore.ops.tier_opening import open_plain, open_tier
from wsistore.settings import Settings, TierSettings, load, tier_of, with_tier
from wsistore.storage.base import Storage
from wsistore.storage.open import TierMarker, create_tier, read_marker
from wsistore.tiers.prices import default_prices, load_prices

_RETRIES = 2
_ELSEWHERE = "Give the tier a place of its own, such as a folder or a prefix beside it."


@dataclass(frozen=True, slots=True)
class AddedTier:
    """What was done, or would be."""

    tier: TierSettings
    lines: str
    """Of ``wsistore.toml``; nothing where they were there already."""
    changed: bool
    """Whether anything was, or would be, written."""


def add_tier(
    folder: Path, name: str, values: Mapping[str, Any], *, dry_run: bool = False, clock: Clock | None = None
) -> AddedTier:
    """Add a tier to the site in `folder`: its settings first, then its marker.

    May be repeated: one that was interrupted between the two is finished.

    Parameters
    ----------
    folder
        The site's.
    name
        The tier's.
    values
        Keys of ``[tiers.NAME]`` except ``id``, which is made up; ``url`` at least.
    dry_run
        Look at everything, and write nothing.
    clock
        For pauses between attempts.

    Raises
    ------
    SiteError
        If the settings are not in order, have another tier of this name, or a value is not allowed.
    ConflictError
        If the place is another tier's or inside one (`Kind.TARGET_EXISTS`), or the settings change meanwhile.
    StorageError
        If the place cannot be read or written.

    """
    time = clock or SystemClock()
    begun = _begun(load(folder), name, values)
    if begun is not None:
        marker = _marker(open_plain(begun))
        if marker is not None and marker.tier_id != begun.id:
            raise _taken(begun, marker)
        if not dry_run and marker is None:
            _create(begun, time)
        return AddedTier(begun, "", changed=marker is None)
    change = with_tier(folder, name, {"id": random_key(), **values})
    tier = change.settings.tier(name)
    _check_apart(change.settings, tier)
    load_prices(tier.prices or default_prices(name), change.settings.folder, energy=tier.energy)
    marker = _marker(open_tier(tier, retries=_RETRIES, clock=time))
    if marker is not None:
        raise _taken(tier, marker)
    if not dry_run:
        change.write()
        try:
            _create(tier, time)
        except WsistoreError:
            change.undo()
            raise
    return AddedTier(tier, change.added, changed=True)


def _create(tier: TierSettings, clock: Clock) -> None:
    # A folder is created on the back end itself: decorators may hide that it is one.
    storage = open_plain(tier) if tier.path is not None else open_tier(tier, retries=_RETRIES, clock=clock)
    create_tier(storage, tier.id, tier.name)


def _begun(settings: Settings, name: str, values: Mapping[str, Any]) -> TierSettings | None:
    """Return the tier that the settings have already, if it is this one: then only its marker may be missing."""
    found = next((tier for tier in settings.tiers if tier.name == name), None)
    if found is None:
        return None
    return found if found == tier_of(settings, name, {"id": found.id, **values}) else None


def _marker(storage: Storage) -> TierMarker | None:
    """Return what a place says of itself; None if it is no tier yet."""
    try:
        return read_marker(storage)
    except StorageError as error:
        if error.kind is Kind.TIER_MISSING:
            return None
        raise


def _taken(tier: TierSettings, marker: TierMarker) -> ConflictError:
    msg = f"{tier.url} is the tier {marker.name!r} ({marker.tier_id}) already."
    return ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy="Choose another place for the tier.")


def _check_apart(settings: Settings, tier: TierSettings) -> None:
    """Refuse a place inside another tier, or around one: each would take the other's objects for orphans."""
    for other in settings.tiers:
        if other.name == tier.name or other.endpoint != tier.endpoint:
            continue
        one, two = (f"{place.url.rstrip('/')}/" for place in (tier, other))
        if one.startswith(two) or two.startswith(one):
            msg = f"{tier.url} and the tier {other.name!r} at {other.url} lie one inside the other."
            raise ConflictError(msg, kind=Kind.TARGET_EXISTS, remedy=_ELSEWHERE)
