"""Levels out of instances: concatenations put together, frames placed on the tile grid, coding decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from wsistore.errors import IncompleteError, Kind
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, TileCoding, empty_segments
from wsistore.slides.dicom.codestream import Coded, color_of
from wsistore.slides.dicom.frames import Runs, encapsulated, inspect, native, no_runs
from wsistore.slides.dicom.header import DEFLATED
from wsistore.slides.dicom.instance import Instance, Pixels
from wsistore.slides.dicom.positions import Placement, by_position, in_order
from wsistore.slides.dicom.raw import Raw, broken

_COPY_ALL = "Put all instances of the series into the folder."


@dataclass(frozen=True, slots=True)
class Image:
    """One image: an instance, or the instances of one concatenation in order."""

    parts: tuple[Instance, ...]

    @property
    def name(self) -> str:
        """Name of the first part, for messages."""
        return self.parts[0].name

    @property
    def pixels(self) -> Pixels:
        """Geometry and coding, the same for all parts; the number of frames is the first part's."""
        return self.parts[0].image

    @property
    def frames(self) -> int:
        """Frames of all parts."""
        return sum(part.image.frames for part in self.parts)


@dataclass(frozen=True, slots=True)
class Built:
    """A level, or its outline and why it cannot be kept as tiles."""

    level: Level
    reason: str
    """Without names of files, which may say more than they should."""
    warnings: tuple[str, ...] = ()
    ends: Mapping[int, int] = field(default_factory=dict)
    """Offset behind the compressed pixel data of each file, by the file's index."""


def images(instances: Sequence[Instance]) -> list[Image]:
    """Group instances into images, largest first.

    Raises
    ------
    InputError
        If parts of a concatenation are missing, doubled or do not fit together.

    """
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        concatenation = instance.concatenation
        groups.setdefault(concatenation.uid if concatenation else instance.sop_instance, []).append(instance)
    found = [Image(_in_order(parts)) for parts in groups.values()]
    for image in found:
        _check_parts(image)
    return sorted(found, key=lambda image: (-image.pixels.width, -image.pixels.height, image.name))


def _in_order(parts: list[Instance]) -> tuple[Instance, ...]:
    """Return the parts of a concatenation by number.

    Raises
    ------
    IncompleteError
        If one is missing or there twice.

    """
    totals = {part.concatenation.total for part in parts if part.concatenation and part.concatenation.total}
    numbers = [part.concatenation.number for part in parts if part.concatenation]
    if not numbers or (len(parts) == 1 and not totals):
        return tuple(parts)
    ordered = sorted(parts, key=lambda part: part.concatenation.number if part.concatenation else 0)
    total = max([*totals, *numbers])
    missing = sorted(set(range(1, total + 1)) - set(numbers))
    if missing:
        names = ", ".join(str(number) for number in missing[:10]) + (", …" if len(missing) > 10 else "")
        msg = f"{ordered[0].name}: part {names} of {total} of its concatenation is missing."
        raise IncompleteError(msg, kind=Kind.SOURCE_INCOMPLETE, remedy=_COPY_ALL)
    if len(numbers) != len(set(numbers)) or len(numbers) > total:
        msg = f"{ordered[0].name}: a part of its concatenation is there twice."
        raise IncompleteError(msg, kind=Kind.SOURCE_MIXED, remedy="Leave one of each in the folder.")
    return tuple(ordered)


_PART_OF_SIZE = ("height", "width", "tile_height", "tile_width", "samples", "photometric", "bits_allocated", "full")


def _check_parts(image: Image) -> None:
    """Raise unless all parts have the same geometry and their frames follow one another."""
    before = 0
    for number, part in enumerate(image.parts):
        pixels, concatenation = part.image, part.concatenation
        if part.syntax != image.parts[0].syntax or any(
            getattr(pixels, field) != getattr(image.pixels, field) for field in _PART_OF_SIZE
        ):
            raise broken(part.name, f"it is a part of the same image as {image.name} but of another shape")
        first = concatenation.first_frame if concatenation else None
        if len(image.parts) > 1 and first is not None and first != before:
            msg = f"{part.name}: its frames start at {first}, those of part {number} end at {before}."
            raise IncompleteError(msg, kind=Kind.SOURCE_INCOMPLETE, remedy=_COPY_ALL)
        before += pixels.frames


def outline(image: Image) -> Level:
    """Return an image's geometry without tiles."""
    pixels = image.pixels
    bits = next((size for size in (8, 16, 32) if size >= pixels.bits_allocated), 64)
    return Level(
        height=pixels.height,
        width=pixels.width,
        tile_height=pixels.tile_height,
        tile_width=pixels.tile_width,
        coding=None,
        segments=empty_segments(),
        channels=pixels.samples,
        dtype=f"{'int' if pixels.signed else 'uint'}{bits}",
    )


def build(image: Image, raws: Sequence[Raw], files: Sequence[int]) -> Built:
    """Find the tiles of an image.

    Parameters
    ----------
    image
        The image.
    raws
        The parts' files, in the order of the parts.
    files
        Their indexes among the source's files.

    Raises
    ------
    InputError
        If a file is damaged, truncated or incomplete.

    """
    layers = _full_layers(image)
    reason = _pixel_reason(image)
    found = []
    first_frame = 0
    for part, raw, index in zip(image.parts, raws, files, strict=True):
        runs, coded = _runs(part, raw, inspected=not reason)
        reason = reason or runs.unclear
        placement = _place(part, raw, first_frame)
        layers = max(layers, placement.layers)
        reason = reason or placement.reason
        found.append(_Part(index, runs, placement, coded))
        first_frame += placement.tile.size
    if layers > 1:
        reason = f"{_size(image)} has {layers} focal planes or optical paths"
    level, reason = _finished(image, found, reason)
    warnings = tuple(text for part in found for text in part.runs.warnings)
    return Built(level, reason, warnings, {part.file: part.runs.end for part in found if part.runs.end is not None})


def _finished(image: Image, parts: Sequence[_Part], reason: str) -> tuple[Level, str]:
    """Return the level with its tiles, or its outline and why it cannot be kept as tiles."""
    level = outline(image)
    if reason:
        return level, reason
    coding, reason = _coding(image, [coded for part in parts for coded in part.coded])
    owners = np.concatenate([part.placement.tile for part in parts])
    if coding is None or np.unique(owners).size < owners.size:
        return level, reason or f"{_size(image)} has several frames at one place"
    segments = np.concatenate([_segments(part) for part in parts])
    segments = segments[np.argsort(segments["tile"], kind="stable")]
    return replace(level, coding=coding, segments=segments), ""


def _size(image: Image) -> str:
    """Return how to speak of an image without naming its file."""
    return f"the image of {image.pixels.width} × {image.pixels.height} pixels"


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    file: int
    runs: Runs
    placement: Placement
    coded: list[Coded]


def _pixel_reason(image: Image) -> str:
    """Return why the header alone says that the frames cannot be tiles; empty if they can."""
    first, pixels = image.parts[0], image.pixels
    if first.codec is None:
        return f"{_size(image)} is coded as {first.syntax_name}, which is not kept as tiles"
    if pixels.bits_allocated != 8 or pixels.bits_stored != 8 or pixels.signed:
        sign = "signed " if pixels.signed else ""
        return f"{_size(image)} has {sign}samples of {pixels.bits_stored} in {pixels.bits_allocated} bits"
    if pixels.samples not in {1, 3}:
        return f"{_size(image)} has {pixels.samples} samples per pixel"
    if (pixels.samples == 1) != (pixels.photometric == "MONOCHROME2"):
        return f"{_size(image)} is {pixels.photometric or 'without photometric interpretation'}"
    if first.codec is Codec.NONE and pixels.photometric not in {"RGB", "MONOCHROME2"}:
        return f"{_size(image)} is uncompressed {pixels.photometric}"
    return ""


def _runs(part: Instance, raw: Raw, *, inspected: bool) -> tuple[Runs, list[Coded]]:
    """Return where a part's frames lie, without padding if they are `inspected`."""
    pixels = part.image
    if part.data is None:
        if part.syntax == DEFLATED:
            return no_runs(), []
        raise broken(raw.name, "it ends before its pixel data, or has none")
    if not part.encapsulated:
        bits = pixels.tile_height * pixels.tile_width * pixels.samples * pixels.bits_allocated
        if pixels.photometric == "YBR_FULL_422":
            bits = bits * 2 // 3
        return native(raw, part.data, pixels.frames, -(-bits // 8)), []
    runs = encapsulated(raw, part.data, pixels.frames, part.extended, part.encoding)
    if not inspected or part.codec is None or runs.unclear:
        return runs, []
    return runs, inspect(raw, runs, part.codec)


def _place(part: Instance, raw: Raw, first_frame: int) -> Placement:
    pixels = part.image
    if pixels.full or part.data is None:
        return in_order(pixels, first_frame)
    return by_position(raw, part)


def _full_layers(image: Image) -> int:
    """Return how many times the frames of a full tile grid fill it; 1 for sparse ones, whose positions tell.

    Raises
    ------
    InputError
        If they are more or fewer than it needs.

    """
    pixels = image.pixels
    tiles = math.prod(pixels.grid)
    if not pixels.full or image.frames == tiles:
        return 1
    if image.frames == tiles * pixels.layers:
        return pixels.layers
    what = f"{image.frames} frames where its {pixels.width} × {pixels.height} pixels need {tiles * pixels.layers}"
    if image.parts[0].concatenation is not None and image.frames < tiles * pixels.layers:
        msg = f"{image.name}: the parts of its concatenation have {what}."
        raise IncompleteError(msg, kind=Kind.SOURCE_INCOMPLETE, remedy=_COPY_ALL)
    raise broken(image.name, f"it has {what}")


def _coding(image: Image, coded: list[Coded]) -> tuple[TileCoding | None, str]:
    """Return how all frames of an image are coded, or why they cannot be tiles."""
    pixels, codec = image.pixels, image.parts[0].codec
    if codec is None or codec is Codec.NONE:
        color = Color.GRAY if pixels.samples == 1 else Color.RGB
        return TileCoding(Codec.NONE, color, planar=pixels.planar and pixels.samples > 1), ""
    for frame in coded:
        if frame.oddity:
            return None, frame.oddity
        shape = (frame.height, frame.width, frame.channels)
        if shape != (pixels.tile_height, pixels.tile_width, pixels.samples):
            return None, f"{_size(image)} has frames of {frame.width} × {frame.height} pixels × {frame.channels}"
    colors = {color_of(codec, frame, pixels.photometric) for frame in coded}
    if len(colors) > 1:
        return None, f"{_size(image)} has frames of different colour coding"
    color_or_none = colors.pop() if colors else Color.GRAY if pixels.samples == 1 else Color.RGB
    if color_or_none is None:
        return None, f"{_size(image)} says {pixels.photometric}, which its frames contradict"
    return TileCoding(codec, color_or_none), ""


def _segments(part: _Part) -> npt.NDArray[np.void]:
    runs = part.runs
    segments = np.empty(runs.frame.size, SEGMENT_DTYPE)
    segments["tile"] = part.placement.tile[runs.frame]
    segments["file"] = part.file
    segments["offset"] = runs.offset
    segments["length"] = runs.length
    return segments
