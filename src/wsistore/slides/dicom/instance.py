"""One DICOM instance as values: what wsistore needs of its header, and nothing of pydicom's."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from wsistore.slides.base import Codec, Scanner
from wsistore.slides.dicom import header as head
from wsistore.slides.dicom.header import Header, integer, items, numbers, quiet, text, uid_name, value, values
from wsistore.slides.dicom.identity import identifying, joined
from wsistore.slides.dicom.raw import Element, Encoding, broken, implausible
from wsistore.slides.icc import shareable
from wsistore.units import UM_PER_MM

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of VL Whole Slide Microscopy Image Storage."""

UNNAMED = "UNNAMED"
"""Stands for the third value of Image Type where there is none."""

MAX_SIDE_PX = 1 << 22
"""A metre at 0.24 µm per pixel."""
MAX_TILES = 1 << 23

_CODECS = {
    "1.2.840.10008.1.2": Codec.NONE,
    "1.2.840.10008.1.2.1": Codec.NONE,
    "1.2.840.10008.1.2.4.50": Codec.JPEG,
    "1.2.840.10008.1.2.4.51": Codec.JPEG,
    "1.2.840.10008.1.2.4.90": Codec.JPEG2000,
    "1.2.840.10008.1.2.4.91": Codec.JPEG2000,
}
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", head.BIG_ENDIAN})
_NEW_SYNTAXES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
"""Names of transfer syntaxes that pydicom does not know yet."""
_EPIFLUORESCENCE = "111743"


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Place of an instance among those that one image was cut into."""

    uid: str
    number: int
    """From 1."""
    total: int | None
    first_frame: int | None
    """From 0; None if it does not say."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """Geometry and coding of one whole slide instance."""

    height: int
    width: int
    """Of the total pixel matrix."""
    tile_height: int
    tile_width: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: bool
    full: bool
    """TILED_FULL: frames have no positions of their own but come in order."""
    layers: int
    """Optical paths times focal planes, as far as the header says."""
    spacing_um: tuple[float, float] | None
    """Height and width of a pixel."""
    magnification: float | None
    fluorescence: bool

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles down and across."""
        return -(-self.height // self.tile_height), -(-self.width // self.tile_width)


@dataclass(frozen=True, slots=True)
class Instance:
    """One file of a series."""

    path: Path
    name: str
    """For messages: its path."""
    series: str
    sop_class: str
    sop_instance: str
    syntax: str
    kind: str
    """Third value of Image Type: VOLUME, LABEL, OVERVIEW, …; UNNAMED where a whole slide image does not say what it
    shows; empty if the instance is no whole slide image."""
    tells: str
    """Why its pixels may identify somebody, as the header says: a phrase for people; empty if it does not say so."""
    number: int | None
    patient: str
    container: str
    pixels: Pixels | None
    """None if the instance is no whole slide image."""
    concatenation: Concatenation | None
    scanner: Scanner
    scanned_at: str | None
    identifying: tuple[tuple[str, str], ...]
    data: Element | None
    """Pixel Data; None in deflated instances."""
    per_frame: Element | None
    extended: tuple[Element, Element] | None
    encoding: Encoding

    @property
    def image(self) -> Pixels:
        """Geometry and coding; an error if the instance is no whole slide image."""
        if self.pixels is None:
            raise broken(self.name, "it is no whole slide image")
        return self.pixels

    @property
    def codec(self) -> Codec | None:
        """How frames are coded, or None if they cannot be tiles."""
        return _CODECS.get(self.syntax)

    @property
    def encapsulated(self) -> bool:
        """Whether frames lie in items."""
        return self.syntax not in _NATIVE

    @property
    def syntax_name(self) -> str:
        """Name of the transfer syntax for people."""
        return _NEW_SYNTAXES.get(self.syntax) or uid_name(self.syntax)


def make(path: Path, header: Header) -> Instance:
    """Make an instance of a header.

    Raises
    ------
    BrokenError
        If it is a whole slide image without the numbers that one needs.

    """
    with quiet():
        return _make(path, header)


def _make(path: Path, header: Header) -> Instance:
    dataset, name = header.dataset, str(path)
    sop_class = text(dataset, "SOPClassUID") or text(header.meta, "MediaStorageSOPClassUID")
    series, sop_instance = text(dataset, "SeriesInstanceUID"), text(dataset, "SOPInstanceUID")
    if not (series and sop_instance):
        raise broken(name, "it has no series or no instance UID")
    slide = sop_class == WHOLE_SLIDE
    pixels = _pixels(dataset, header, name) if slide else None
    return Instance(
        path=path,
        name=name,
        series=series,
        sop_class=sop_class,
        sop_instance=sop_instance,
        syntax=header.syntax,
        kind="" if pixels is None else _kind(dataset, pixels),
        tells=_tells(dataset),
        number=integer(dataset, "InstanceNumber"),
        patient=text(dataset, "PatientID"),
        container=text(dataset, "ContainerIdentifier"),
        pixels=pixels,
        concatenation=_concatenation(dataset),
        scanner=Scanner(
            joined(dataset, "Manufacturer"),
            joined(dataset, "ManufacturerModelName"),
            joined(dataset, "DeviceSerialNumber"),
            joined(dataset, "SoftwareVersions"),
        ),
        scanned_at=_scanned_at(dataset),
        identifying=(*identifying(header.meta), *identifying(dataset)),
        data=header.pixels,
        per_frame=header.per_frame,
        extended=header.extended,
        encoding=header.encoding,
    )


def _kind(dataset: Dataset, pixels: Pixels) -> str:
    """Return what a whole slide image shows; without Image Type's word only what cannot be a label is a VOLUME."""
    kinds = [str(part).strip().upper() for part in values(dataset, "ImageType")]
    if len(kinds) > 2 and kinds[2]:
        return kinds[2]
    tiled = max(pixels.height, pixels.width) > max(pixels.tile_height, pixels.tile_width)
    return "VOLUME" if tiled and text(dataset, "SpecimenLabelInImage").upper() == "NO" else UNNAMED


def _tells(dataset: Dataset) -> str:
    if text(dataset, "SpecimenLabelInImage").upper() == "YES":
        return "the slide's label is in the picture (Specimen Label In Image is YES)"
    if text(dataset, "BurnedInAnnotation").upper() == "YES":
        return "identifying text is in the picture (Burned In Annotation is YES)"
    return ""


def _pixels(dataset: Dataset, header: Header, name: str) -> Pixels:
    tile_height, tile_width = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    height = integer(dataset, "TotalPixelMatrixRows") or tile_height
    width = integer(dataset, "TotalPixelMatrixColumns") or tile_width
    frames = integer(dataset, "NumberOfFrames")
    frames = 1 if frames is None else frames
    samples, bits = integer(dataset, "SamplesPerPixel") or 0, integer(dataset, "BitsAllocated") or 0
    if min(height, width, tile_height, tile_width, frames, samples, bits) < 1:
        raise broken(name, "its image has no size, no frames or no samples")
    if max(height, width) > MAX_SIDE_PX:
        raise implausible(name, f"its image is said to have {width} × {height} pixels")
    organization = text(dataset, "DimensionOrganizationType").upper()
    pixels = Pixels(
        height=height,
        width=width,
        tile_height=tile_height,
        tile_width=tile_width,
        frames=frames,
        samples=samples,
        bits_allocated=bits,
        bits_stored=integer(dataset, "BitsStored") or bits,
        signed=bool(integer(dataset, "PixelRepresentation")),
        photometric=text(dataset, "PhotometricInterpretation").upper(),
        planar=integer(dataset, "PlanarConfiguration") == 1,
        full=organization == "TILED_FULL" or (organization != "TILED_SPARSE" and header.per_frame is None),
        layers=_layers(dataset),
        spacing_um=_spacing_um(dataset, height, width),
        magnification=_magnification(dataset),
        fluorescence=_fluorescence(dataset),
    )
    if math.prod(pixels.grid) > MAX_TILES or frames > MAX_TILES:
        tiles = math.prod(pixels.grid)
        raise implausible(name, f"its image is said to have {tiles} tiles and {frames} frames")
    return pixels


def _layers(dataset: Dataset) -> int:
    paths = integer(dataset, "NumberOfOpticalPaths") or len(items(dataset, "OpticalPathSequence")) or 1
    planes = integer(dataset, "TotalPixelMatrixFocalPlanes") or 1
    return max(1, paths) * max(1, planes)


def _spacing_um(dataset: Dataset, height: int, width: int) -> tuple[float, float] | None:
    """Return the size of a pixel from Pixel Measures, from Pixel Spacing, or from the size of the imaged volume."""
    groups = items(dataset, "SharedFunctionalGroupsSequence")
    for place in [*(measures for group in groups for measures in items(group, "PixelMeasuresSequence")), dataset]:
        spacing = numbers(place, "PixelSpacing")
        if len(spacing) == 2 and all(math.isfinite(mm) and mm > 0 for mm in spacing):
            return spacing[0] * UM_PER_MM, spacing[1] * UM_PER_MM
    volume = [*numbers(dataset, "ImagedVolumeHeight")[:1], *numbers(dataset, "ImagedVolumeWidth")[:1]]
    if len(volume) == 2 and all(math.isfinite(mm) and mm > 0 for mm in volume):
        return volume[0] / height * UM_PER_MM, volume[1] / width * UM_PER_MM
    return None


def _magnification(dataset: Dataset) -> float | None:
    for path in items(dataset, "OpticalPathSequence"):
        power = numbers(path, "ObjectiveLensPower")
        if power and math.isfinite(power[0]) and power[0] > 0:
            return power[0]
    return None


def _fluorescence(dataset: Dataset) -> bool:
    """Return whether the slide shines by itself; a grey slide that does not say is taken to."""
    codes = {
        text(code, "CodeValue")
        for path in items(dataset, "OpticalPathSequence")
        for code in items(path, "IlluminationTypeCodeSequence")
    }
    if codes:
        return _EPIFLUORESCENCE in codes
    return text(dataset, "PhotometricInterpretation") == "MONOCHROME2"


def _concatenation(dataset: Dataset) -> Concatenation | None:
    uid, number = text(dataset, "ConcatenationUID"), integer(dataset, "InConcatenationNumber")
    if not uid or number is None:
        return None
    first = integer(dataset, "ConcatenationFrameOffsetNumber")
    return Concatenation(uid, number, integer(dataset, "InConcatenationTotalNumber"), first)


def _scanned_at(dataset: Dataset) -> str | None:
    whole = _iso(text(dataset, "AcquisitionDateTime"))
    if whole:
        return whole
    for what in ("Acquisition", "Content", "Series", "Study"):
        date = text(dataset, f"{what}Date")
        found = _iso(date + text(dataset, f"{what}Time")) or _iso(date)
        if found:
            return found
    return None


_DATE_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)?(\d\d)?(\.\d{1,6})?)?([+-]\d{4})?")


def _iso(stamp: str) -> str | None:
    """Return a DICOM date and time as ISO 8601, as far as it tells; None if it is none."""
    match = _DATE_TIME.fullmatch(stamp)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    date = f"{year}-{month}-{day}"
    if hour is None:
        return date
    time = f"{hour}:{minute or '00'}:{second or '00'}{fraction or ''}"
    return f"{date}T{time}" + (f"{zone[:3]}:{zone[3:]}" if zone else "")


def icc_profile(dataset: Dataset) -> bytes | None:
    """Return what may be shared of the ICC profile of the first optical path that has one, or of the image."""
    for place in [*items(dataset, "OpticalPathSequence"), dataset]:
        profile = value(place, "ICCProfile")
        if isinstance(profile, bytes) and profile:
            return shareable(profile)
    return None
