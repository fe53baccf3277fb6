"""From the files of one series to a `Source`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

from wsistore.errors import IncompleteError, InputError, Kind, UnsupportedError
from wsistore.model import Mode
from wsistore.slides.base import Content, Json, Level, Source, source_files
from wsistore.slides.dicom.associated import describe
from wsistore.slides.dicom.header import Header, read_header, read_trailer
from wsistore.slides.dicom.identity import as_json, identifying
from wsistore.slides.dicom.instance import UNNAMED, Instance, Pixels, icc_profile, make
from wsistore.slides.dicom.levels import Built, Image, build, images
from wsistore.slides.dicom.raw import Raw


def source_of(folder: Path, paths: Sequence[Path], warnings: Sequence[str] = ()) -> Source:
    """Put a slide together from the files of its series.

    Parameters
    ----------
    folder
        That the files are named relative to.
    paths
        All instances of one series, each once, in any order.
    warnings
        What is known already.

    Raises
    ------
    InputError
        If the series is broken, incomplete, mixed or no slide.
    OSError
        If a file cannot be opened.

    """
    instances = [make(path, _read(path)) for path in paths]
    _check_one_slide(folder, instances)
    for instance in instances:
        _check_shareable(instance)
    volumes = images([instance for instance in instances if instance.kind == "VOLUME"])
    if not volumes:
        raise _no_volume(instances)
    tiled = [part for image in volumes for part in image.parts]
    # The largest level comes first: the first file stands for the slide where a library wants one.
    instances = [*tiled, *(instance for instance in instances if instance.kind != "VOLUME")]
    ordered = [instance.path for instance in instances]
    numbers = {path: number for number, path in enumerate(ordered)}
    built = [_build(image, numbers) for image in volumes]
    pictures = [
        (number, _build(Image((instance,)), numbers))
        for number, instance in enumerate(instances)
        if instance.pixels is not None and instance.kind != "VOLUME"
    ]
    associated, unshown = describe([(number, instances[number].kind, one) for number, one in pictures])
    every = [*built, *(one for _, one in pictures)]
    found = _Findings(volumes, built, instances, _read(volumes[0].parts[0].path))
    return replace(
        _assemble(found),
        files=source_files(folder, ordered),
        associated=associated,
        identifying=_identifying(instances, [pair for one in every for pair in _behind(one, ordered)]),
        warnings=(*warnings, *(text for one in every for text in one.warnings), *unshown, *_gaps(instances)),
    )


def _read(path: Path) -> Header:
    with path.open("rb", buffering=0) as file:
        return read_header(cast("BinaryIO", file), str(path))


def _build(image: Image, numbers: Mapping[Path, int]) -> Built:
    with ExitStack() as stack:
        files = [stack.enter_context(part.path.open("rb", buffering=0)) for part in image.parts]
        raws = [Raw(cast("BinaryIO", file), part.name) for file, part in zip(files, image.parts, strict=True)]
        return build(image, raws, [numbers[part.path] for part in image.parts])


def _behind(built: Built, paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield what identifies in the elements behind compressed pixel data."""
    for number, end in built.ends.items():
        with paths[number].open("rb", buffering=0) as opened:
            file = cast("BinaryIO", opened)
            raw = Raw(file, str(paths[number]))
            if end < raw.size_bytes:
                yield from identifying(read_trailer(raw, read_header(file, raw.name), end))


def _check_one_slide(folder: Path, instances: Sequence[Instance]) -> None:
    """Raise if the instances of the series name several patients or several glass slides."""
    for what in ("patient", "container"):
        named = {getattr(instance, what): instance for instance in instances if getattr(instance, what)}
        if len(named) > 1:
            names = " and ".join(instance.name for instance in list(named.values())[:2])
            msg = f"The series in {folder} has instances of different {what}s: {names}."
            remedy = "Ask whoever sent the slide for a corrected series; it must not be stored under two identities."
            raise IncompleteError(msg, kind=Kind.SOURCE_MIXED, remedy=remedy)


def _check_shareable(instance: Instance) -> None:
    """Raise if pixels that show who the patient is, or may do so, would become a level of the pyramid."""
    if instance.kind == UNNAMED:
        reason = "its Image Type does not say whether it shows the specimen or the label"
    elif instance.kind == "VOLUME" and instance.tells:
        reason = instance.tells
    else:
        return
    msg = f"{instance.name} cannot become a level of the slide: {reason}."
    remedy = (
        "If it shows a label, have the sender set Image Type to LABEL or OVERVIEW; if it shows only the specimen, "
        "to VOLUME, with Specimen Label In Image and Burned In Annotation NO."
    )
    raise UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy=remedy)


def _no_volume(instances: Sequence[Instance]) -> InputError:
    kinds = sorted({instance.kind.lower() for instance in instances if instance.kind})
    msg = f"{instances[0].name} is only a {', '.join(kinds)}; a slide needs its VOLUME images."
    return UnsupportedError(msg, kind=Kind.NOT_A_SLIDE, remedy="Put all instances of the series into the folder.")


def _gaps(instances: Sequence[Instance]) -> list[str]:
    """Return a warning if the numbers of the instances suggest that some are missing."""
    numbers = {instance.number for instance in instances if instance.number and instance.number > 0}
    if not numbers:
        return []
    last = max(numbers)
    missing = last - len(numbers)
    if not missing:
        return []
    return [f"Instances are numbered up to {last} and {missing} of them are not there; levels may be missing"]


@dataclass(frozen=True, slots=True)
class _Findings:
    volumes: Sequence[Image]
    built: Sequence[Built]
    instances: Sequence[Instance]
    header: Header
    """Of the first part of the largest image."""


def _assemble(found: _Findings) -> Source:
    volumes, built, instances, header = found.volumes, found.built, found.instances, found.header
    reason = next((one.reason for one in built if one.reason), "") or _no_pyramid(volumes)
    levels = [one.level for one in built]
    first = volumes[0].parts[0]
    pixels = volumes[0].pixels
    return Source(
        format="dicom",
        mode=Mode.WHOLE if reason else Mode.TILES,
        mode_reason=reason,
        files=(),
        levels=_outlines(levels) if reason else tuple(levels),
        um_per_px=pixels.spacing_um,
        magnification=pixels.magnification,
        content=Content.FLUORESCENCE if pixels.fluorescence else Content.BRIGHTFIELD,
        scanner=first.scanner,
        scanned_at=first.scanned_at,
        icc_profile=icc_profile(header.dataset),
        metadata={
            "dataset": as_json(header.dataset),
            "instances": [_essentials(instance) for instance in instances],
        },
        series=first.series,
    )


def _outlines(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Return one level without tiles for each size that there is."""
    found: dict[tuple[int, int], Level] = {}
    for level in levels:
        found.setdefault((level.height, level.width), replace(level, coding=None, segments=level.segments[:0]))
    return tuple(found.values())


def _no_pyramid(volumes: Sequence[Image]) -> str:
    """Return why the images are not the levels of one pyramid; empty if they are."""
    largest = volumes[0].pixels
    for before, image in pairwise(volumes):
        pixels = image.pixels
        if (pixels.height, pixels.width) == (before.pixels.height, before.pixels.width):
            return "two instances show the same level, as focal planes or optical paths of their own"
        if pixels.samples != largest.samples:
            return "its levels have different numbers of channels"
        if not _same_shape(largest, pixels):
            return "its images have different proportions: they show different areas"
    return ""


def _same_shape(largest: Pixels, pixels: Pixels) -> bool:
    """Return whether one factor, in some rounding and within 2 %, takes the largest level's size to this one's."""
    factors = []
    for size, reduced in ((largest.height, pixels.height), (largest.width, pixels.width)):
        most = size / (reduced - 1) if reduced > 1 else float("inf")
        factors.append((size / (reduced + 1) / 1.02, most * 1.02))
    return max(low for low, _ in factors) <= min(high for _, high in factors)


def _essentials(instance: Instance) -> dict[str, Json]:
    pixels = instance.pixels
    found: dict[str, Json] = {
        "file": instance.path.name,
        "sop_class_uid": instance.sop_class,
        "sop_instance_uid": instance.sop_instance,
        "instance_number": instance.number,
        "transfer_syntax_uid": instance.syntax,
        "kind": instance.kind,
    }
    if pixels is not None:
        found |= {
            "height": pixels.height,
            "width": pixels.width,
            "frame_height": pixels.tile_height,
            "frame_width": pixels.tile_width,
            "frames": pixels.frames,
            "photometric_interpretation": pixels.photometric,
            "um_per_px": list(pixels.spacing_um) if pixels.spacing_um else None,
        }
    return found


def _identifying(instances: Sequence[Instance], more: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Join what identifies in all instances and their names; a name with several values is numbered."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    counts: dict[str, int] = {}
    pairs = [pair for instance in instances for pair in (*instance.identifying, ("FileName", instance.path.name))]
    for name, value in (*pairs, *more):
        if (name, value) in seen:
            continue
        seen.add((name, value))
        counts[name] = counts.get(name, 0) + 1
        found[name if counts[name] == 1 else f"{name}#{counts[name]}"] = value
    return found
