"""OME-TIFF: one RGB or grey image with its levels in SubIFDs; further images are label, macro and the like."""

from __future__ import annotations

from pathlib import Path

from tifffile import TiffPage

from wsistore.errors import IncompleteError
from wsistore.model import Mode
from wsistore.slides.base import Level, Scanner, Source, source_files
from wsistore.slides.boundary import NoTileGridError
from wsistore.slides.omexml import OmeDocument, OmeImage, parse
from wsistore.slides.pyramid import levels_of
from wsistore.slides.tiff import OpenTiff, check_inside, check_plausible, open_tiff, page_name
from wsistore.slides.tiffmeta import (
    MOST_PICTURE_PIXELS,
    description,
    free_name,
    icc_profile,
    identifying_tags,
    iso_date,
    pictures,
    plausible_scale,
    resolution_scale,
    tag_values,
)
from wsistore.slides.tiffscan import flavour_of
from wsistore.slides.whole import instead

_WORDS = {"label": "label", "macro": "macro", "overview": "macro", "thumbnail": "thumbnail"}


class OmeTiffReader:
    """OME-TIFF, as Bio-Formats, QuPath and many others write it."""

    name = "OME-TIFF"

    def claims(self, path: Path, head: bytes) -> bool:
        """Claim every TIFF: only its first description tells."""
        return flavour_of(head) is not None

    def read(self, path: Path) -> Source | None:
        """Return the slide; None if there is no OME-XML in it."""
        with open_tiff(path) as tiff:
            text = description(tiff.page(0))
            if "<OME" not in text[:4096] and ":OME" not in text[:4096]:
                return None
            document = parse(text, path)
            return _read(tiff, document)


def _read(tiff: OpenTiff, document: OmeDocument | None) -> Source:
    check_inside(tiff)
    base = tiff.page(0)
    check_plausible(tiff, base)
    image = document.images[0] if document and document.images else None
    named, reason = _other_images(tiff, document)
    levels: tuple[Level, ...] = ()
    try:
        _check_one_plane(base, image, reason)
        levels = levels_of(tiff, [base, *tiff.below(0)], list(named.values()))
    except NoTileGridError as error:
        reason = error.message
    found, left_out = pictures(named)
    scale, warnings = _scale(base, image)
    if document is None:
        warnings = (*warnings, "The OME-XML of the file cannot be read: its metadata is left out.")
    source = Source(
        format="ome-tiff",
        mode=Mode.TILES,
        mode_reason="",
        files=source_files(tiff.path.parent, [tiff.path, *_other_files(tiff.path, document)]),
        levels=levels,
        um_per_px=scale,
        magnification=document.magnification if document else None,
        scanner=document.scanner if document else Scanner(),
        scanned_at=image.date if image else iso_date(base.tags.valueof(306)),
        icc_profile=icc_profile(base),
        associated=found,
        metadata={"ome_xml": description(base), "pages": [tag_values(page) for page in tiff.pages[:64]]},
        identifying=_identifying(tiff, document),
        warnings=(*warnings, *left_out),
    )
    return instead(source, reason) if reason else source


def _check_one_plane(base: TiffPage, image: OmeImage | None, reason: str) -> None:
    """Check that the image is one plane of RGB or grey.

    Raises
    ------
    NoTileGridError
        With the reason, if it has several channels, focal planes or times.

    """
    if not reason and image is not None and (image.size_z > 1 or image.size_t > 1):
        reason = f"the image has {image.size_z} focal planes and {image.size_t} points in time"
    if not reason and image is not None and image.size_c > base.samplesperpixel:
        reason = f"the image has {image.size_c} channels on pages of their own"
    if reason:
        raise NoTileGridError(reason)


def _other_images(tiff: OpenTiff, document: OmeDocument | None) -> tuple[dict[str, TiffPage], str]:
    """Return further pages as pictures by name, and a reason for `whole` if one is too large to be a mere picture."""
    names = {image.first_ifd: image.name for image in document.images} if document else {}
    named: dict[str, TiffPage] = {}
    reason = ""
    for i, page in enumerate(tiff.pages[1:], 1):
        check_plausible(tiff, page)
        if page.imagelength * page.imagewidth > MOST_PICTURE_PIXELS:
            reason = reason or f"{page_name(page)} is a picture of its own: the file holds several large images"
        word = next((word for key, word in _WORDS.items() if key in names.get(i, "").lower()), f"page-{i}")
        named[free_name(word, named)] = page
    return named, reason


def _scale(base: TiffPage, image: OmeImage | None) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    if image is None or image.um_per_px == (None, None):
        return resolution_scale(base)
    return plausible_scale(*image.um_per_px, "PhysicalSize in the OME-XML")


def _other_files(path: Path, document: OmeDocument | None) -> list[Path]:
    """Return the other files that the document spreads over.

    Raises
    ------
    IncompleteError
        If some are missing.

    """
    names = document.file_names if document else frozenset()
    if len(names) < 2:  # one name alone may be an old one of this very file
        return []
    others = [path.parent / name for name in sorted(names - {path.name}) if Path(name).name == name]
    missing = [one.name for one in others if not one.is_file()]
    if missing:
        msg = f"The slide {path} is spread over several files, and {', '.join(missing[:5])} is not beside it."
        raise IncompleteError(msg, remedy="Copy the slide with all its files.")
    return others


def _identifying(tiff: OpenTiff, document: OmeDocument | None) -> dict[str, str]:
    found = dict(document.identifying) if document else {}
    tags = identifying_tags(tiff.pages[:64])
    if document is not None:
        tags.pop("ImageDescription", None)  # every text in it is listed by itself
    return found | tags | {"File name": tiff.path.name}
