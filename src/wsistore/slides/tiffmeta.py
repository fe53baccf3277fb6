"""Metadata in TIFF tags: physical scale, dates, texts; what of it may identify somebody."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tifffile import TiffPage

from wsistore.slides.base import Associated, Json
from wsistore.slides.icc import shareable
from wsistore.units import UM_PER_CM, UM_PER_INCH

LEAST_UM_PER_PX, MOST_UM_PER_PX = 0.02, 100.0
"""Beyond these no microscope scanner works: the value is wrong (a factor of 10 or 100, or a screen's 72 dpi)."""
MOST_PICTURE_PIXELS = 100_000_000
"""Largest associated picture that is decoded in one piece."""

_PER_UNIT = {2: UM_PER_INCH, 3: UM_PER_CM}
_BULK = {273, 279, 324, 325, 288, 289, 347, 34675, 65426, 65432, 330, 34665, 34853, 512, 513, 514, 301, 320, 532}
"""Tags that describe the layout or are kept elsewhere (ICC profile): they are in the skeleton anyway."""
_IDENTIFYING_TAGS = {
    269: "DocumentName", 270: "ImageDescription", 285: "PageName", 306: "DateTime", 315: "Artist",
    316: "HostComputer", 700: "XMP", 33432: "Copyright", 36867: "DateTimeOriginal", 37510: "UserComment",
    42032: "CameraOwnerName", 42016: "ImageUniqueID",
}  # fmt: skip
_MOST_TEXT = 65_536
_MOST_NUMBERS = 64
_TECHNICAL = re.compile(r'\s*|\{"shape": \[[\d, ]+\]\}|tifffile\.py|ImageJ=.*', re.DOTALL)
_DATE = re.compile(r"(\d{4})[:\-/](\d{2})[:\-/](\d{2})(?:[ T](\d{2}):(\d{2}):(\d{2}))?")

Scale = tuple[float, float]


def plausible_scale(
    height_um: float | None, width_um: float | None, origin: str
) -> tuple[Scale | None, tuple[str, ...]]:
    """Return the size of a pixel if it can be that of a scanned slide.

    Parameters
    ----------
    height_um, width_um
        Micrometres per pixel; None if the source does not say.
    origin
        Where the value comes from, for the warning.

    Returns
    -------
    tuple
        (height, width) in micrometres or None, and warnings.

    """
    if height_um is None or width_um is None:
        return None, ()
    if not all(math.isfinite(v) and LEAST_UM_PER_PX <= v <= MOST_UM_PER_PX for v in (height_um, width_um)):
        said = f"{width_um:g} × {height_um:g} µm per pixel"
        warning = f"{origin} says {said}, which cannot be: the scale is left unknown."
        return None, (warning,)
    return (height_um, width_um), ()


def resolution_scale(page: TiffPage) -> tuple[Scale | None, tuple[str, ...]]:
    """Return micrometres per pixel by the tags XResolution, YResolution and ResolutionUnit, and warnings."""
    unit = _PER_UNIT.get(int(number(page.tags.valueof(296)) or 0))
    across, down = ratio(page.tags.valueof(282)), ratio(page.tags.valueof(283))
    if unit is None or not across or not down:
        return None, ()
    return plausible_scale(unit / down, unit / across, "The resolution tag")


def ratio(value: Any) -> float | None:
    """Return a TIFF rational as a number, None if it is none."""
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return number(value)


def number(value: Any) -> float | None:
    """Return a finite number from a tag or a text, None if it is none."""
    if isinstance(value, bool | tuple) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def iso_date(text: Any) -> str | None:
    """Return a TIFF date (``2017:02:07 13:06:43``) as ISO 8601, None if it is none."""
    match = _DATE.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, *clock = match.groups()
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    return f"{year}-{month}-{day}" + (f"T{':'.join(clock)}" if clock[0] else "")


def text_of(value: Any) -> str | None:
    """Return a tag's text without padding, None if there is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    return value.replace("\0", " ").strip() or None


def description(page: TiffPage) -> str:
    """Return a page's ImageDescription, empty if it has none."""
    return text_of(page.tags.valueof(270)) or ""


def json_value(value: Any) -> Json:
    """Return a tag's value as JSON, None for what is bulky or binary."""
    if isinstance(value, bool | int | float | np.generic):
        plain = value.item() if isinstance(value, np.generic) else value
        plain = int(plain) if isinstance(plain, int) else plain  # enumerations too
        return plain if not isinstance(plain, float) or math.isfinite(plain) else None
    if isinstance(value, str):
        return value[:_MOST_TEXT]
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.size <= _MOST_NUMBERS else None
    if isinstance(value, tuple | list) and len(value) <= _MOST_NUMBERS:
        return [json_value(part) for part in value]
    if isinstance(value, dict):
        return {str(key): json_value(part) for key, part in value.items()}
    return None


def tag_values(page: TiffPage) -> dict[str, Json]:
    """Return a page's tags by name as JSON, without those that only describe the layout."""
    found = {}
    for tag in page.tags:
        if tag.code not in _BULK:
            value = json_value(tag.value)
            if value is not None:
                found[tag.name] = value
    return found


def identifying_tags(pages: list[TiffPage]) -> dict[str, str]:
    """Return the texts in tags that may identify a patient, case, slide or person, by tag and page."""
    found: dict[str, str] = {}
    for i, page in enumerate(pages):
        for code, name in _IDENTIFYING_TAGS.items():
            value = text_of(page.tags.valueof(code))
            if value and not _TECHNICAL.fullmatch(value) and value not in found.values():
                found[name if i == 0 else f"{name} of page {i}"] = value
    return found


def icc_profile(page: TiffPage) -> bytes | None:
    """Return what may be shared of the ICC profile in a page's tags."""
    value = page.tags.valueof(34675)
    return shareable(value) if isinstance(value, bytes) else None


def page_index(page: TiffPage) -> tuple[int, ...]:
    """Return a page's place in the chain, followed by its place below that page if it is a SubIFD."""
    return page.treeindex


def picture(page: TiffPage, name: str) -> Associated | None:
    """Return an associated picture for a page, None if it is too large to be decoded in one piece."""
    height, width = page.imagelength, page.imagewidth
    if height < 1 or width < 1 or height * width > MOST_PICTURE_PIXELS:
        return None
    return Associated(name, height, width, {"reader": "tiff", "file": 0, "page": list(page_index(page))})


def pictures(named: Mapping[str, TiffPage]) -> tuple[tuple[Associated, ...], tuple[str, ...]]:
    """Return associated pictures for pages by name, and warnings for those that are left out."""
    found, warnings = [], []
    for name, page in named.items():
        one = picture(page, name)
        if one is None:
            size = f"{page.imagewidth}×{page.imagelength} pixels"
            warnings.append(f"The picture {name!r} of {size} is too large to be shown.")
        else:
            found.append(one)
    return tuple(found), tuple(warnings)


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return `name`, with a number where it is taken."""
    if name not in taken:
        return name
    return next(f"{name}-{i}" for i in range(2, len(taken) + 3) if f"{name}-{i}" not in taken)
