"""Slides that have good copies in fewer tiers than they should."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import and_, case, false, func, or_, select

from wsistore.catalog import schema
from wsistore.catalog.session import Session
from wsistore.model import CopyState, Evidence

_C = schema.copies
_STANDING = (str(CopyState.COMMITTED), str(CopyState.SUSPECT))
"""What copies of a slide's current version are."""


def short_of_copies(catalog: Session, required: Mapping[str, int], attested: Mapping[str, str]) -> dict[str, int]:
    """Return how many slides with a copy in a tier have good copies in fewer tiers than that tier requires.

    Parameters
    ----------
    catalog
        An open catalogue.
    required
        In how many tiers a slide should have good copies, by the name of the tier that it lies in.
    attested
        From when on archived copies must have been read back to count, by tier; see `DropRule.attested`.

    Returns
    -------
    dict
        By tier; those of which no slide is short are not in it.

    Raises
    ------
    SiteError, ConflictError
        As every method of `wsistore.catalog.Catalog`.

    """
    archived = ((_C.c.tier == tier) & (_C.c.verified_at >= moment) for tier, moment in attested.items())
    counts = or_(
        _C.c.evidence == str(Evidence.READ_BACK),
        and_(_C.c.evidence == str(Evidence.ATTESTED), or_(false(), *archived)),
    )
    is_good = and_(_C.c.state == str(CopyState.COMMITTED), _C.c.expires_at.is_(None), counts)
    good = (
        select(_C.c.slide, func.count(func.distinct(case((is_good, _C.c.tier)))).label("tiers"))
        .where(_C.c.state.in_(_STANDING))
        .group_by(_C.c.slide)
        .subquery()
    )
    query = (
        select(_C.c.tier, good.c.tiers, func.count(func.distinct(_C.c.slide)))
        .join(good, good.c.slide == _C.c.slide)
        .where(_C.c.state.in_(_STANDING))
        .group_by(_C.c.tier, good.c.tiers)
    )
    found: dict[str, int] = {}
    with catalog._database.read() as connection:
        for tier, tiers, slides in connection.execute(query):
            if tiers < required.get(tier, 0):
                found[tier] = found.get(tier, 0) + slides
    return found
