"""Slides parted from their patients for good; only ever by a plan that people approved. The pixels stay.

1. It is looked at whether every companion is encrypted: else it would go on telling whose the slide is.
2. In one transaction: no hold, nobody at work, the copies as they were seen; the event ``identity-detaching``; and the
   catalogue forgets the slide's name, case, patient and file names.
3. The keys of the companions are destroyed, in all tiers.
4. The event ``identity-detached`` is written.

Whatever dies in between, a recovery goes on with 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsistore.events import EventKind, NewEvent
from wsistore.ops.detaching_keys import Detached, check_sealed, finish_detaching
from wsistore.ops.eliminating import Authority
from wsistore.ops.eliminating_copies import lying_copies
from wsistore.ops.site import Site, read_only_error


def detach(site: Site, slide: str, why: Mapping[str, Any], authority: Authority) -> Detached:
    """Part a slide from its patient for good. There is no way back. May be repeated after an interruption.

    Parameters
    ----------
    site
        An open site.
    slide
        Its key.
    why
        Of the decision: the rule, until when its identity had to be kept (JSON values).
    authority
        Who allowed it.

    Raises
    ------
    ConflictError
        If it is on hold (`Kind.HELD`), is being worked on, or has a copy whose companion is not encrypted
        (`Kind.KEY_MISSING`): then nothing was done.
    StorageError
        If a tier fails; 'wsistore recover' goes on with what was begun.
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    if slide not in site.catalog.detachments():
        copies = lying_copies(site, slide)
        check_sealed(site, slide)
        detail = {
            "authority": authority.to_json(),
            "why": dict(why),
            "copies": [{"tier": copy.tier, "attempt": copy.attempt} for copy in copies],
        }
        event = NewEvent(EventKind.IDENTITY_DETACHING, site.actor, detail)
        site.catalog.begin_detaching(slide, copies, event)
    return finish_detaching(site, slide)
