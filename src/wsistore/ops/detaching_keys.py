"""The keys of companions destroyed, of slides that are parted from their patients; repeated until none is left."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from wsistore.errors import ConflictError, Kind, WsistoreError
from wsistore.events import EventKind
from wsistore.keys import folder as files
from wsistore.ops.eliminating_copies import lying_copies, tell_tiers
from wsistore.ops.holding import check_holds
from wsistore.ops.site import Site
from wsistore.ops.stored import place_of
from wsistore.tiers.keyring import keys_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Detached:
    """A slide that was parted from its patient."""

    slide: str
    destroyed: int
    """Data keys that were destroyed now."""


def check_sealed(site: Site, slide: str) -> None:
    """Refuse a slide of which a companion is not encrypted: it would go on saying whose the slide is.

    Raises
    ------
    ConflictError
        With the tier (`Kind.KEY_MISSING`).
    StorageError
        If a tier fails.

    """
    for copy in lying_copies(site, slide):
        ring = keys_of(site.tier(copy.tier))
        if ring is None or ring.look(place_of(copy)) is None:
            msg = f"The companion of slide {slide} in tier {copy.tier} is not encrypted: it would say whose it is."
            remedy = "Encode that copy anew in a tier with encrypt_companions = true, or drop it; then plan again."
            raise ConflictError(msg, kind=Kind.KEY_MISSING, remedy=remedy)


def finish_detaching(site: Site, slide: str) -> Detached:
    """Destroy the keys of a slide whose parting has begun, and close its books; may be repeated.

    Raises
    ------
    StorageError
        If a tier fails; in the others they are destroyed all the same.
    ConflictError
        If a hold was placed meanwhile, or a copy came that is not encrypted.

    """
    count, failures = 0, list[WsistoreError]()
    check_holds(site, slide)
    # The ledgers first: a catalogue that is made anew from them must not say again whose the slide is.
    ready = tell_tiers(site, sorted({copy.tier for copy in lying_copies(site, slide)}))
    with files.locked(site.settings.keys):
        for tier in site.settings.tiers:
            try:
                ring = keys_of(site.tier(tier.name))
                if ring is not None and any(ring.places(slide)):
                    _check_told(tier.name, slide, ready)
                    count += sum(ring.destroy(place, site.clock) for place in list(ring.places(slide)))
            except WsistoreError as error:  # what can be destroyed now, is
                failures.append(error)
        if failures:
            raise failures[0]
        check_sealed(site, slide)  # no copy may have come meanwhile that would stay readable
    tiers = sorted({copy.tier for copy in lying_copies(site, slide)})
    site.catalog.append_event(slide, EventKind.IDENTITY_DETACHED, site.actor, {"destroyed": count, "tiers": tiers})
    return Detached(slide, count)


def _check_told(tier: str, slide: str, ready: Collection[str]) -> None:
    if tier not in ready:
        msg = f"The ledger of tier {tier} could not be told that slide {slide} is parted from its patient."
        raise ConflictError(msg, kind=Kind.BUSY, remedy="'wsistore recover' tries again.")


def finish_detachments(site: Site) -> int:
    """Go on with the slides that are being parted from their patients; return how many could not be finished now."""
    failed = 0
    for slide in site.catalog.detachments():
        try:
            finish_detaching(site, slide)
        except WsistoreError as error:
            failed += 1
            _log.warning("slide %s cannot be parted from its patient wholly now: %s", slide, error)
    return failed
