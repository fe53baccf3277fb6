"""What has to remain of a slide where one of its copies is dropped: the one place that decides how much is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from wsistore.catalog.drops import Lack, NotProven
from wsistore.catalog.records import CopyRow, DropRule
from wsistore.clock import iso
from wsistore.model import CopyState, Evidence
from wsistore.ops.site import Site
from wsistore.ops.verifying import verify_one

_AHEAD = timedelta(minutes=5)
"""What lies further in the future comes from a clock that was wrong, and says nothing."""

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = "9"
"""After all moments."""

T = TypeVar("T")


def required_copies(site: Site, tiers: Iterable[str]) -> int:
    """Return in how many tiers a good copy must remain where copies in `tiers` are dropped."""
    known = {tier.name: tier for tier in site.settings.tiers}
    return max((known[tier].required_copies for tier in tiers if tier in known), default=1)


def attested_from(site: Site) -> dict[str, str]:
    """Return from when on archived copies must have been read back to count, by tier; tiers where none counts are out.

    Tiers whose settings name no archive count as those of the site: copies may have been archived there before.
    """
    now, found = site.clock.now(), {}
    for tier in site.settings.tiers:
        days = None if tier.archive is None else tier.archive.attested_days
        age = site.settings.evidence.attested if days is None else timedelta(days=days)
        if age:
            found[tier.name] = iso(max(now - age, _FIRST))
    return found


def good_tiers(site: Site, copies: Iterable[CopyRow]) -> set[str]:
    """Return the tiers in which there is one of `copies` that has evidence which counts, and that is to stay."""
    attested = attested_from(site)
    return {
        copy.tier
        for copy in copies
        if copy.state is CopyState.COMMITTED
        and copy.expires_at is None
        and (copy.evidence is Evidence.READ_BACK or copy.verified_at >= attested.get(copy.tier, _NEVER))
    }


def too_few_copies(site: Site, slide: str) -> str:
    """Return in words that a slide has good copies in fewer tiers than one of them requires; nothing if it has enough.

    Raises
    ------
    MissingError
        If there is no such slide.

    """
    copies = [copy for copy in site.catalog.copies(slide) if copy.state in (CopyState.COMMITTED, CopyState.SUSPECT)]
    good, required = len(good_tiers(site, copies)), required_copies(site, {copy.tier for copy in copies})
    if good >= required:
        return ""
    tiers = f"{good} tier{'s' * (good != 1)}"
    return f"It has good copies in {tiers}, and {required} are required: 'wsistore copy' makes another."


def drop_rule(site: Site, tiers: Iterable[str], via: str = "", *, begun: bool = False, at_least: int = 1) -> DropRule:
    """Return what must remain where copies in `tiers` are dropped now; `via` came in their place by a move."""
    now, ages = site.clock.now(), site.settings.evidence
    return DropRule(
        required=max(at_least, required_copies(site, tiers)),
        fresh_from=iso(now - (ages.begun if begun else ages.begin)),
        fresh_until=iso(now + _AHEAD),
        via=via,
        via_from=iso(now - ages.begin) if via else "",
        attested=attested_from(site),
    )


def proven(
    site: Site,
    copy: CopyRow,
    act: Callable[[DropRule], T],
    via: str = "",
    *,
    begun: bool = False,
    at_least: int = 1,
) -> T:
    """Return what `act` makes of the rule for dropping `copy` now; stale evidence of others is renewed first.

    Raises
    ------
    NotProven
        If the copy must stay, verified or not.
    WsistoreError
        What else `act` raises.

    """
    verified: set[str] = set()
    while True:
        try:
            return act(drop_rule(site, [copy.tier], via, begun=begun, at_least=at_least))
        except NotProven as error:
            waiting = [attempt for attempt in error.stale if attempt not in verified]
            if error.lack is not Lack.STALE or not waiting:
                raise
            verified.add(waiting[0])
            for other in site.catalog.copies(copy.slide):
                if other.attempt == waiting[0]:
                    verify_one(site, other)
