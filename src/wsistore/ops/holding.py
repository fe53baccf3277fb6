"""Holds: reasons why nothing of a slide may be dropped, placed and ended by people."""

from __future__ import annotations

from collections.abc import Sequence

from wsistore.catalog.records import Hold
from wsistore.errors import ConflictError, InputError, Kind
from wsistore.ops.site import Site, read_only_error

_LONGEST_REASON = 500


def hold(site: Site, slides: Sequence[str], reason: str) -> list[Hold]:
    """Keep all copies of slides from being dropped, until `release`; a drop that has begun is suspended.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys, unique beginnings or names.
    reason
        Why, for people; several holds of a slide differ by it.

    Returns
    -------
    list of Hold
        The hold of each slide, also where it was held for that reason before.

    Raises
    ------
    MissingError
        If one of `slides` is not there: then nothing is done.
    InputError
        If the reason says nothing, or too much.
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    said = " ".join(reason.split())
    if not said or len(said) > _LONGEST_REASON:
        msg = f"A hold needs a reason of 1 to {_LONGEST_REASON} characters."
        raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Say it with --reason.")
    keys = list(dict.fromkeys(site.catalog.resolve(slide) for slide in slides))
    for key in keys:
        site.catalog.hold(key, said, site.actor)
    return [found for key in keys for found in site.catalog.holds(key) if found.reason == said]


def release(site: Site, slides: Sequence[str], reason: str | None = None) -> list[Hold]:
    """End the holds of slides for a reason, or all of them; return those that were there.

    Raises
    ------
    MissingError
        If one of `slides` is not there: then nothing is done.
    SiteError
        If the site cannot be written.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    said = None if reason is None else " ".join(reason.split())
    keys = list(dict.fromkeys(site.catalog.resolve(slide) for slide in slides))
    return [ended for key in keys for ended in site.catalog.release_holds(key, said, site.actor)]


def list_holds(site: Site, slides: Sequence[str] | None = None) -> list[Hold]:
    """Return the holds of slides (keys, unique beginnings or names), or all that there are, the oldest first.

    Raises
    ------
    MissingError
        If one of `slides` is not there.

    """
    found = site.catalog.all_holds()
    if slides is None:
        return found
    keys = {site.catalog.resolve(slide) for slide in slides}
    return [one for one in found if one.slide in keys]


def check_holds(site: Site, slide: str) -> None:
    """Raise `ConflictError` if a slide is on hold: before anything is begun that ends in a drop."""
    holds = site.catalog.holds(slide)
    if holds:
        reasons = "; ".join(found.reason for found in holds)
        msg = f"Slide {slide} is on hold ({reasons[:200]}): none of its copies may be dropped."
        raise ConflictError(msg, kind=Kind.HELD, remedy="Copy it instead; 'wsistore hold release' ends a hold.")
