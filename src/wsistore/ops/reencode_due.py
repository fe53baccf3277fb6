"""What is left to be encoded anew: copies that are encoded otherwise than their tiers' settings say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from wsistore.catalog.other_presets import in_other_presets
from wsistore.errors import MissingError
from wsistore.model import Preset
from wsistore.ops.applying_limits import Limits
from wsistore.ops.planning import site_rules
from wsistore.ops.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A copy that is to be encoded anew."""

    slide: str
    tier: str
    preset: Preset
    """What it is to be."""
    bytes_stored: int
    """What it takes now."""


def reencode_due(
    site: Site,
    tiers: Sequence[str] = (),
    *,
    preset: Preset | None = None,
    where: str | None = None,
    whole: bool = False,
) -> Iterator[Due]:
    """Yield the copies that are encoded otherwise than their tiers want.

    There are some after the settings were changed, and where an ingest ended before it came to encoding. Archives,
    whose objects cannot be read at once, and tiers that take no new copies are left out, and so are slides
    on hold and temporary copies.

    Parameters
    ----------
    site
        An open site.
    tiers
        Names; by default all.
    preset
        What copies are to be, instead of what their tiers' settings say.
    where
        SQL condition over slides, as `wsistore.ops.describe.list_slides` takes it.
    whole
        Whether slides that are kept whole are looked at, too.

    Raises
    ------
    SiteError
        If there is no such tier.
    InputError
        If the condition is wrong.

    """
    names = list(dict.fromkeys(tiers)) or [tier.name for tier in site.settings.tiers]
    chosen = [site.tier_settings(name) for name in names]
    among = None if where is None else {row.slide for row in site.catalog.slides(where)}
    today = site.clock.now().date()
    for tier in chosen:
        if tier.archive is not None or tier.why_closed(today):
            continue
        wanted = preset or tier.preset
        for one in in_other_presets(site.catalog, tier.name, wanted, whole=whole):
            if among is None or one.slide in among:
                yield Due(slide=one.slide, tier=one.tier, preset=wanted, bytes_stored=one.bytes_stored)


def why_not_now(site: Site) -> str:
    """Return in words why nothing is to be encoded anew at this time of the day; nothing if it may be.

    What loads tiers and machines keeps to the window of the site's rules, as moves do; a site without rules has none.

    Raises
    ------
    InputError
        If the site's rules are wrong.

    """
    try:
        rules = site_rules(site)
    except MissingError:
        return ""
    return Limits(site, rules, None, Event(), anytime=False).why_stop()
