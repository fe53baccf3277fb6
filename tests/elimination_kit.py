"""What tests of deletions for good share: an authority, and what must hold when nothing of a slide is left."""

from __future__ import annotations

from tests.move_kit import STEPS, TIERS, bare
from wsistore import ops
from wsistore.ops.eliminating import Authority, Doomed, Eliminated, eliminate
from wsistore.ops.eliminating_copies import lying_copies
from wsistore.storage.base import MARKER_KEY
from wsistore.storage.erasing import lying
from wsistore.tiers.ledger import LEDGER

AUTHORITY = Authority(
    plan="f" * 64,
    rules="e" * 64,
    approvals=({"by": "account:approver-1", "at": "2026-01-01T00:00:00.000000Z", "role": "records"},),
    visas=({"authority": "archives", "reference": "V-1"},),
    policy="deletion",
)
WHY = {"rule": "csp-r1112-7", "keep_until": "2020-01-01"}

ELIMINATION_STEPS = (*STEPS, "begin_elimination", "is_doomed", "end_doomed_copy", "finish_elimination")


def doomed(site: ops.Site, *slides: str) -> list[Doomed]:
    """Return slides as they are to be deleted, with the copies that lie now."""
    return [Doomed(slide=slide, copies=lying_copies(site, slide), why=WHY) for slide in slides]


def eliminated(site: ops.Site, *slides: str) -> list[Eliminated]:
    """Delete slides for good."""
    return list(eliminate(site, doomed(site, *slides), AUTHORITY))


def left_of(site: ops.Site, slide: str) -> list[str]:
    """Return what lies of a slide in any tier, in any version, and its data keys."""
    found = [info.key for tier in TIERS for info in lying(bare(site, tier), "")]
    return [key for key in found if slide in key]


def others_left(site: ops.Site) -> list[str]:
    """Return the keys of all objects of all tiers but markers and ledgers."""
    found = [info.key for tier in TIERS for info in lying(bare(site, tier), "")]
    return [key for key in found if key != MARKER_KEY and not key.startswith(f"{LEDGER}/")]


def kinds(site: ops.Site, slide: str) -> list[str]:
    """Return the kinds of a slide's events."""
    return [event.kind for event in site.catalog.events(slide)]
