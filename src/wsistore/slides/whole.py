"""Slides that are kept whole: whatever else OpenSlide or tifffile opens, and those whose tile grid is unusable."""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import openslide

from wsistore.errors import IncompleteError
from wsistore.model import Mode
from wsistore.slides.base import (
    Associated,
    Json,
    Level,
    Scanner,
    Source,
    SourceFile,
    empty_segments,
    source_files,
)
from wsistore.slides.boundary import translated
from wsistore.slides.icc import shareable
from wsistore.slides.regions import OpenSlideRegions, WholeReader
from wsistore.slides.tiff import check_inside, open_tiff
from wsistore.slides.tiffmeta import (
    Scale,
    icc_profile,
    identifying_tags,
    iso_date,
    number,
    plausible_scale,
    resolution_scale,
    tag_values,
    text_of,
)

_IDENTIFYING = re.compile(
    r"barcode|patient|name|uuid|guid|serial|date|time|label|user|title|accession|comment|description|author|operator"
    r"|customer|hospital|institution|person|project|case|slide|(?:^|[._ ])id(?:$|[._ ])|_id$|ID$",
    re.IGNORECASE,
)
_MANUFACTURERS = {
    "mirax": "3DHISTECH", "leica": "Leica", "philips": "Philips", "ventana": "Ventana", "hamamatsu": "Hamamatsu",
    "aperio": "Leica Aperio", "sakura": "Sakura", "trestle": "Trestle", "zeiss": "Zeiss",
}  # fmt: skip
_NOT_TECHNICAL_PREFIX = "openslide."

FOLDER_OF: Mapping[str, Callable[[str], str]] = {".mrxs": str, ".vsi": "_{}_".format}
"""Of slides with a folder beside their main file: how the folder's name follows from the file's, without its suffix."""


class WholeModeReader:
    """The last resort: slides of which nothing is known but how to get at their pixels."""

    name = "OpenSlide or tifffile"

    def claims(self, path: Path, head: bytes) -> bool:
        """Claim every file."""
        return path.is_file() or bool(head)

    def read(self, path: Path) -> Source | None:
        """Return the slide, kept whole.

        Raises
        ------
        InputError
            Or one of its kinds, if nothing opens it or it is damaged.

        """
        return describe(path)


def describe(path: Path, reason: str = "") -> Source:
    """Describe a slide that is kept whole.

    Parameters
    ----------
    path
        Its main file.
    reason
        Why it is kept whole; a general one is found where it is empty.

    Raises
    ------
    InputError
        Or one of its kinds, if nothing opens it, parts of it are missing, or it is damaged.

    """
    files = files_of(path)
    with WholeReader(path) as reader:
        levels = _levels(reader)
        if isinstance(reader.backend, OpenSlideRegions):
            return _by_openslide(path, files, levels, reader.backend.slide, reason)
    return _by_tifffile(path, files, levels, reason)


def instead(source: Source, reason: str) -> Source:
    """Return a slide whose tiles cannot be used as one that is kept whole, its metadata kept.

    Raises
    ------
    InputError
        Or one of its kinds, if nothing opens it.

    """
    with WholeReader(source.files[0].path) as reader:
        return replace(source, mode=Mode.WHOLE, mode_reason=reason, levels=_levels(reader))


def _levels(reader: WholeReader) -> tuple[Level, ...]:
    # a whole level has no tiles; the largest piece that a reader should ask for at once stands in for their size
    return tuple(
        Level(height, width, min(height, 512), min(width, 512), None, empty_segments())
        for height, width in reader.levels
    )


def files_of(path: Path) -> tuple[SourceFile, ...]:
    """Return all files that belong to a slide, its main file first.

    Raises
    ------
    IncompleteError
        If some are missing.

    """
    with translated(path):
        suffix = path.suffix.lower()
        others = _beside(path) if suffix in FOLDER_OF else _named_files(path) if suffix in {".vms", ".vmu"} else []
        return source_files(path.parent, [path, *others])


def _beside(path: Path) -> list[Path]:
    """Return the files in the folder that a slide has beside its main file (MIRAX, Olympus)."""
    folder = path.with_name(FOLDER_OF[path.suffix.lower()](path.stem))
    found = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    if not found:
        msg = f"The slide {path} needs the folder {folder.name} beside it, and there is none or it is empty."
        raise IncompleteError(msg, remedy="Copy the file together with its folder.")
    return found


def _named_files(path: Path) -> list[Path]:
    """Return the files that a Hamamatsu index file (VMS, VMU) names."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(path.read_text("latin-1"))
    names = {
        value
        for section in parser.sections()
        for key, value in parser.items(section)
        if value and re.match(r"imagefile|mapfile|optimisationfile|macroimage", key)
    }
    found = sorted(path.parent / name for name in names if Path(name).name == name)
    missing = [one.name for one in found if not one.is_file() and one.suffix.lower() != ".opt"]
    if missing:
        msg = f"The slide {path} needs the files {', '.join(missing)} beside it."
        raise IncompleteError(msg, remedy="Copy the slide with all its files.")
    return [one for one in found if one.is_file()]


def _by_openslide(
    path: Path, files: tuple[SourceFile, ...], levels: tuple[Level, ...], slide: openslide.OpenSlide, reason: str
) -> Source:
    with translated(path):
        values = {str(key): str(value) for key, value in slide.properties.items()}
        vendor = values.get(openslide.PROPERTY_NAME_VENDOR, "openslide")
        scale, warnings = plausible_scale(
            number(values.get(openslide.PROPERTY_NAME_MPP_Y)),
            number(values.get(openslide.PROPERTY_NAME_MPP_X)),
            "The slide",
        )
        found = tuple(
            Associated(name.lower(), size[1], size[0], {"reader": "openslide", "file": 0, "name": name})
            for name, size in ((name, slide.associated_images[name].size) for name in slide.associated_images)
        )
        profile = slide.color_profile
        return Source(
            format=vendor,
            mode=Mode.WHOLE,
            mode_reason=reason or f"{vendor} slides offer no tiles that could be taken one by one",
            files=files,
            levels=levels,
            um_per_px=scale,
            magnification=number(values.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
            scanner=Scanner(_MANUFACTURERS.get(vendor)),
            scanned_at=iso_date(values.get("tiff.DateTime")),
            icc_profile=shareable(profile.tobytes()) if profile is not None else None,
            associated=found,
            metadata={"openslide": values},
            identifying=identifying_properties(values) | {"File name": path.name},
            warnings=warnings,
        )


def identifying_properties(values: Mapping[str, str]) -> dict[str, str]:
    """Return those of OpenSlide's properties that may identify a patient, case, slide or person."""
    return {
        key: value
        for key, value in values.items()
        if value and not key.startswith(_NOT_TECHNICAL_PREFIX) and _IDENTIFYING.search(key)
    } | {key: value for key, value in values.items() if key == openslide.PROPERTY_NAME_COMMENT and value}


def _by_tifffile(path: Path, files: tuple[SourceFile, ...], levels: tuple[Level, ...], reason: str) -> Source:
    with open_tiff(path) as tiff:
        check_inside(tiff)
        pages = tiff.pages
        base = pages[0]
        scale: Scale | None
        scale, warnings = resolution_scale(base)
        metadata: dict[str, Json] = {"pages": [tag_values(page) for page in pages[:64]]}
        return Source(
            format="generic-tiff",
            mode=Mode.WHOLE,
            mode_reason=reason or "the picture is not stored in tiles that could be taken one by one",
            files=files,
            levels=levels,
            um_per_px=scale,
            magnification=None,
            scanner=Scanner(
                text_of(base.tags.valueof(271)), text_of(base.tags.valueof(272)), None, text_of(base.tags.valueof(305))
            ),
            scanned_at=iso_date(base.tags.valueof(306)),
            icc_profile=icc_profile(base),
            metadata=metadata,
            identifying=identifying_tags(pages[:64]) | {"File name": path.name},
            warnings=warnings,
        )
