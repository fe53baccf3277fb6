"""Puts the levels of a TIFF slide together: one kind of pixel, getting smaller, no tile over another's bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from tifffile import TiffPage

from wsistore.slides.base import Level
from wsistore.slides.boundary import NoTileGridError
from wsistore.slides.segments import check_apart, extents
from wsistore.slides.tiff import OpenTiff, page_extents, page_level, page_name

_NOTHING = extents([], [])


def levels_of(
    tiff: OpenTiff, pages: Sequence[TiffPage], pictures: Sequence[TiffPage], *, aperio: bool = False
) -> tuple[Level, ...]:
    """Describe pages as the levels of one pyramid, largest first.

    Parameters
    ----------
    tiff
        The open file.
    pages
        The base page first, then the others in any order.
    pictures
        Pages of other pictures, whose bytes no tile may touch.
    aperio
        As for `page_level`.

    Raises
    ------
    NoTileGridError
        If the tiles cannot be taken one by one, with the reason.
    BrokenError
        If a page lies about itself.

    """
    base, *others = pages
    ordered = [base, *sorted(others, key=lambda page: -page.imagelength * page.imagewidth)]
    for above, page in pairwise(ordered):
        if (page.samplesperpixel, page.bitspersample) != (base.samplesperpixel, base.bitspersample):
            msg = f"{page_name(page)} has other samples than the first level"
            raise NoTileGridError(msg)
        if page.imagelength >= above.imagelength or page.imagewidth >= above.imagewidth:
            msg = f"{page_name(page)} is not smaller than the level above it: these are several pictures, not levels"
            raise NoTileGridError(msg)
    taken = page_extents(tiff, pictures)
    levels = tuple(page_level(tiff, page, taken, aperio=aperio) for page in ordered)
    every = np.concatenate([level.segments for level in levels])
    check_apart(every, tiff.path, _NOTHING, _NOTHING, "one level")
    return levels
