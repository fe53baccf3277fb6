"""Erasing a slide's companion by destroying its keys: the pixels stay, whom they are of is gone from all copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wsistore.catalog.records import CopyRow
from wsistore.errors import ConflictError, Kind
from wsistore.events import EventKind
from wsistore.keys import folder as files
from wsistore.model import CopyState
from wsistore.ops.holding import check_holds
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.stored import place_of
from wsistore.tiers.keyring import keys_of


@dataclass(frozen=True, slots=True)
class Erased:
    """A slide whose companion cannot be read any more."""

    slide: str
    name: str
    tiers: tuple[str, ...]
    """Where its copies lie."""
    destroyed: int
    """Data keys that this call destroyed; an earlier one may have destroyed others."""


def destroy_keys(site: Site, slides: Sequence[str]) -> list[Erased]:
    """Destroy the data keys of slides on every tier. There is no way back. May be repeated.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys, unique beginnings or names; all of them are looked at before the first key is destroyed.

    Raises
    ------
    MissingError
        If one of `slides` is not there: then nothing is done.
    ConflictError
        If a slide is on hold, is being worked on, or has a copy whose companion is not encrypted.
    StorageError
        If a tier fails; running it again goes on.
    SiteError
        If the site cannot be written, or has no keys.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    keys = list(dict.fromkeys(site.catalog.resolve(slide) for slide in slides))
    with files.locked(site.settings.keys):
        for key in keys:
            _check(site, key)
        return [_destroy(site, key) for key in keys]


def _destroy(site: Site, key: str) -> Erased:
    copies = _check(site, key)
    row = site.catalog.slide(key)
    detail = {"copies": [{"tier": copy.tier, "attempt": copy.attempt} for copy in copies]}
    # Written ahead of the act: whoever finds a companion that cannot be read finds out why.
    site.catalog.append_event(key, EventKind.COMPANION_ERASING, site.actor, detail)
    count = 0
    for tier in site.settings.tiers:
        ring = keys_of(site.tier(tier.name))
        if ring is not None:
            count += sum(ring.destroy(place, site.clock) for place in list(ring.places(key)))
    if {copy.attempt for copy in _check(site, key)} - {copy.attempt for copy in copies}:
        msg = f"Slide {key} got another copy while its keys were destroyed."
        raise ConflictError(msg, remedy="Run it again.")
    site.catalog.append_event(key, EventKind.COMPANION_ERASED, site.actor, {**detail, "destroyed": count})
    return Erased(key, row.name, tuple(sorted({copy.tier for copy in copies})), count)


def _check(site: Site, key: str) -> list[CopyRow]:
    """Return the copies of a slide of which anything lies on a tier, if their keys may be destroyed."""
    check_holds(site, key)
    if any(attempt.slide == key for attempt in site.catalog.open_attempts()):
        msg = f"Slide {key} is being worked on."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="Wait for it, or run 'wsistore recover', then try again.")
    copies = [copy for copy in site.catalog.copies(key, with_past=True) if copy.state is not CopyState.DROPPED]
    for copy in copies:
        ring = keys_of(site.tier(copy.tier))
        if ring is None or ring.look(place_of(copy)) is None:
            msg = f"The companion of slide {key} in tier {copy.tier} is not encrypted: it would not be erased."
            remedy = "Drop that copy, or encode it anew in a tier with encrypt_companions = true."
            raise ConflictError(msg, kind=Kind.KEY_MISSING, remedy=remedy)
    return copies
