"""Aperio SVS: tiled pages are levels; thumbnail, label and macro are stripped pages; text in ImageDescription."""

from __future__ import annotations

import re
from pathlib import Path

from tifffile import TiffPage

from wsistore.model import Mode
from wsistore.slides.base import Content, Level, Scanner, Source, source_files
from wsistore.slides.boundary import NoTileGridError
from wsistore.slides.pyramid import levels_of
from wsistore.slides.tiff import OpenTiff, check_inside, check_plausible, open_tiff
from wsistore.slides.tiffmeta import (
    description,
    free_name,
    icc_profile,
    identifying_tags,
    number,
    pictures,
    plausible_scale,
    tag_values,
)
from wsistore.slides.tiffscan import flavour_of
from wsistore.slides.whole import instead

_TECHNICAL = {
    "AppMag", "MPP", "StripeWidth", "Left", "Top", "OriginalWidth", "OriginalHeight", "Originalheight",
    "LineCameraSkew", "LineAreaXOffset", "LineAreaYOffset", "Focus Offset", "DisplayColor", "Exposure Time",
    "Exposure Scale", "ICC Profile", "Gamma", "Filtered", "SessionMode", "OffsetX", "OffsetY", "Offset Z",
    "CalibrationAverageBlue", "CalibrationAverageGreen", "CalibrationAverageRed", "ColorTemp", "Time Zone",
}  # fmt: skip
"""Keys whose values are the scanner's business. Every other one may identify somebody: also keys never seen before."""
_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{2,4})")
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}")
_ZONE = re.compile(r"GMT([+-])(\d{2}):?(\d{2})")
_REPEATED = re.compile(r"-\d+$")
"""Ending of a key that occurred before."""
_KIND = re.compile(r"^(label|macro)\b", re.IGNORECASE | re.MULTILINE)
_MACRO_TYPE, _LABEL_TYPE = 9, 1


class AperioReader:
    """Slides of Leica's Aperio scanners."""

    name = "Aperio SVS"

    def claims(self, path: Path, head: bytes) -> bool:
        """Claim every TIFF: only its first description tells."""
        return flavour_of(head) is not None

    def read(self, path: Path) -> Source | None:
        """Return the slide, None if another vendor wrote the file."""
        with open_tiff(path) as tiff:
            if not description(tiff.page(0)).startswith("Aperio"):
                return None
            return _read(tiff)


def _read(tiff: OpenTiff) -> Source:
    check_inside(tiff)
    base, named, tiled = _sorted_pages(tiff)
    levels: tuple[Level, ...] = ()
    reason = ""
    try:
        levels = levels_of(tiff, [base, *tiled], list(named.values()), aperio=True)
    except NoTileGridError as error:
        reason = error.message
    values = properties(description(base))
    found, left_out = pictures(named)
    mpp = number(values.get("MPP"))
    scale, warnings = plausible_scale(mpp, mpp, "The Aperio property MPP")
    source = Source(
        format="aperio-svs",
        mode=Mode.TILES,
        mode_reason="",
        files=source_files(tiff.path.parent, [tiff.path]),
        levels=levels,
        um_per_px=scale,
        magnification=number(values.get("AppMag")),
        content=Content.BRIGHTFIELD,
        scanner=Scanner("Leica Aperio", values.get("ScannerType"), values.get("ScanScope ID"), _software(base)),
        scanned_at=scanned_at(values),
        icc_profile=icc_profile(base),
        associated=found,
        metadata={"aperio": values, "pages": [tag_values(page) for page in tiff.pages]},
        identifying=_identifying(tiff, values),
        warnings=(*warnings, *left_out),
    )
    return instead(source, reason) if reason else source


def _sorted_pages(tiff: OpenTiff) -> tuple[TiffPage, dict[str, TiffPage], list[TiffPage]]:
    """Return the base level, the associated pictures by name, and the other tiled pages."""
    pages = tiff.pages
    named: dict[str, TiffPage] = {}
    tiled: list[TiffPage] = []
    for i, page in enumerate(pages[1:], 1):
        check_plausible(tiff, page)
        kind = _KIND.search(description(page).partition("|")[0])
        if kind:
            name = kind.group(1).lower()
        elif page.is_tiled and int(page.subfiletype) not in {_LABEL_TYPE, _MACRO_TYPE}:
            tiled.append(page)
            continue
        else:
            name = {_MACRO_TYPE: "macro", _LABEL_TYPE: "label"}.get(int(page.subfiletype), "")
            name = name or ("thumbnail" if i == 1 else f"page-{i}")
        named[free_name(name, named)] = page
    return pages[0], named, tiled


def properties(text: str) -> dict[str, str]:
    """Return the ``key = value`` pairs of an Aperio description, and its first lines as ``Header``."""
    header, *pairs = text.split("|")
    found = {"Header": header.strip()}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            key, value = "Text", pair
        found[free_name(key.strip(), found)] = value.strip()
    return found


def scanned_at(values: dict[str, str]) -> str | None:
    """Return date and time of the scan as ISO 8601, as far as the properties tell."""
    date = _DATE.fullmatch(values.get("Date", ""))
    if date is None:
        return None
    month, day, year = (int(part) for part in date.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    year += 2000 if year < 70 else 1900 if year < 100 else 0
    text = f"{year:04}-{month:02}-{day:02}"
    if not _TIME.fullmatch(values.get("Time", "")):
        return text
    zone = _ZONE.fullmatch(values.get("Time Zone", ""))
    return f"{text}T{values['Time']}" + (f"{zone[1]}{zone[2]}:{zone[3]}" if zone else "")


def _software(base: TiffPage) -> str | None:
    return description(base).splitlines()[0].partition("|")[0].strip() or None


def _identifying(tiff: OpenTiff, values: dict[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in values.items() if value and _REPEATED.sub("", key) not in _TECHNICAL}
    found = {key: value for key, value in kept.items() if key != "Header"}
    found["File name"] = tiff.path.name
    tags = identifying_tags(tiff.pages)
    return found | {key: value for key, value in tags.items() if not key.startswith("ImageDescription")}
