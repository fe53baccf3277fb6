"""Generic tiled TIFF: the first page and its smaller versions, as reduced pages or as SubIFDs."""

from __future__ import annotations

from pathlib import Path

import openslide
from tifffile import TiffPage

from wsistore.model import Mode
from wsistore.slides.base import Level, Scanner, Source, source_files
from wsistore.slides.boundary import NoTileGridError
from wsistore.slides.pyramid import levels_of
from wsistore.slides.tiff import OpenTiff, check_inside, check_plausible, open_tiff, page_name, same_shape
from wsistore.slides.tiffmeta import (
    description,
    free_name,
    icc_profile,
    identifying_tags,
    iso_date,
    pictures,
    resolution_scale,
    tag_values,
    text_of,
)
from wsistore.slides.tiffscan import flavour_of
from wsistore.slides.whole import FOLDER_OF, describe, instead

_FOREIGN_FLAGS = {"qpi", "philips", "scn", "bif", "lsm", "stk", "ndpi", "svs", "fluoview", "nih", "scanimage"}
"""What tifffile recognises and this reader does not know well enough to say which page is what."""
_WORDS = ("label", "macro", "thumbnail", "overview")
_LABEL_TYPE, _MACRO_TYPE = 1, 9


class GenericTiffReader:
    """Tiled TIFF of no particular vendor."""

    name = "generic tiled TIFF"

    def claims(self, path: Path, head: bytes) -> bool:
        """Claim every TIFF but the small one that only stands for a folder of others (Olympus VSI)."""
        return flavour_of(head) is not None and path.suffix.lower() not in FOLDER_OF

    def read(self, path: Path) -> Source | None:
        """Return the slide; None if it is another vendor's."""
        with open_tiff(path) as tiff:
            if _foreign(tiff):
                return None
            try:
                return _read(tiff)
            except NoTileGridError as error:
                reason = error.message
        return describe(path, reason)


def _foreign(tiff: OpenTiff) -> bool:
    """Say whether a vendor's own layout is known to tifffile or OpenSlide."""
    if _FOREIGN_FLAGS & set(tiff.page(0).flags):
        return True
    try:
        return openslide.OpenSlide.detect_format(tiff.path) not in {None, "generic-tiff"}
    except openslide.OpenSlideError:
        return False


def _read(tiff: OpenTiff) -> Source:
    check_inside(tiff)
    base, tiled, named = _sorted_pages(tiff)
    if not base.is_tiled:
        msg = f"{page_name(base)} is stored in strips, not in tiles"
        raise NoTileGridError(msg)
    levels: tuple[Level, ...] = ()
    reason = ""
    try:
        levels = levels_of(tiff, [base, *tiled], list(named.values()))
    except NoTileGridError as error:
        reason = error.message
    found, left_out = pictures(named)
    scale, warnings = resolution_scale(base)
    tags = base.tags
    source = Source(
        format="generic-tiff",
        mode=Mode.TILES,
        mode_reason="",
        files=source_files(tiff.path.parent, [tiff.path]),
        levels=levels,
        um_per_px=scale,
        magnification=None,
        scanner=Scanner(text_of(tags.valueof(271)), text_of(tags.valueof(272)), None, text_of(tags.valueof(305))),
        scanned_at=iso_date(tags.valueof(306)),
        icc_profile=icc_profile(base),
        associated=found,
        metadata={"pages": [tag_values(page) for page in tiff.pages]},
        identifying=identifying_tags(tiff.pages) | {"File name": tiff.path.name},
        warnings=(*warnings, *left_out),
    )
    return instead(source, reason) if reason else source


def _sorted_pages(tiff: OpenTiff) -> tuple[TiffPage, list[TiffPage], dict[str, TiffPage]]:
    """Return the base level, its smaller versions, and other pictures by name."""
    base, *others = tiff.pages
    check_plausible(tiff, base)
    tiled: list[TiffPage] = []
    named: dict[str, TiffPage] = {}
    for page in [*others, *tiff.below(0)]:
        check_plausible(tiff, page)
        word = _word(page)
        if not word and page.is_tiled and same_shape(page, base):
            tiled.append(page)
            continue
        if not word and page.is_tiled and not page.is_reduced:
            msg = f"{page_name(page)} is a picture of its own: the file holds several slides, channels or planes"
            raise NoTileGridError(msg)
        named[free_name(word or page_name(page).replace(" ", "-"), named)] = page
    return base, tiled, named


def _word(page: TiffPage) -> str:
    """Return what a page's description or type says that it is, or nothing."""
    text = description(page).lower()
    for word in _WORDS:
        if word in text[:256]:
            return word
    if page.is_tiled:
        return ""
    return {_MACRO_TYPE: "macro", _LABEL_TYPE: "thumbnail"}.get(int(page.subfiletype), "")
