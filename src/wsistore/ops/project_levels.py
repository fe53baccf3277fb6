"""How large the levels of slides are: read once from a copy, then known to the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from wsistore.catalog.projects_people import Levels, levels, put_levels
from wsistore.errors import WsistoreError
from wsistore.ops.serving import open_served
from wsistore.ops.site import Site

_AT_ONCE = 8
_log = logging.getLogger(__name__)

Version = tuple[str, int]
"""A slide's key and its version."""


def levels_of(site: Site, wanted: Sequence[Version], ready: Sequence[Version], *, most: int) -> dict[Version, Levels]:
    """Return the levels of slides, heights and widths in pixels, level 0 first.

    Parameters
    ----------
    site
        Where they are.
    wanted
        Slides, each with its version.
    ready
        Those that may be opened: a copy of theirs answers at once.
    most
        How many are opened at most if it is not known; others are left out.

    """
    known = levels(site.catalog, [slide for slide, _ in wanted])
    found = {version: known[version] for version in wanted if version in known}
    new = [version for version in ready if version not in found][:most]
    if new:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="levels") as pool:
            shapes = dict(zip(new, pool.map(lambda version: _look(site, version[0]), new), strict=True))
        told = {version: some for version, some in shapes.items() if some}
        if told and not site.catalog.read_only:
            put_levels(site.catalog, told)
        found |= told
    return found


def _look(site: Site, slide: str) -> Levels:
    try:
        copy = open_served(site, slide)
        try:
            return tuple((level.height, level.width) for level in copy.slide.levels)
        finally:
            copy.close()
    except WsistoreError as error:
        _log.info("the levels of slide %s are not known: %s", slide, error)
        return ()
