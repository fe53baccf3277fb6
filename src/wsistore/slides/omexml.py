"""OME-XML: what it says of the first image, and what in it may identify somebody."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from wsistore.slides.base import Scanner
from wsistore.slides.tiffmeta import number
from wsistore.units import UM_PER_CM, UM_PER_INCH, UM_PER_MM, UM_PER_NM

_UM_PER_UNIT = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": UM_PER_NM, "mm": UM_PER_MM, "cm": UM_PER_CM, "m": 1e6, "in": UM_PER_INCH,
    "pm": 1e-6, "Å": 1e-4,
}  # fmt: skip
_MOST_TEXT = 64 * 1024 * 1024
_TECHNICAL_ATTRIBUTES = {
    "DimensionOrder", "Type", "PhysicalSizeXUnit", "PhysicalSizeYUnit", "PhysicalSizeZUnit", "SizeX", "SizeY", "SizeC",
    "SizeZ", "SizeT", "PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "BigEndian", "Interleaved", "SignificantBits",
    "SamplesPerPixel", "IFD", "PlaneCount", "FirstC", "FirstZ", "FirstT", "NominalMagnification", "Color", "Creator",
    "LensNA", "Immersion", "Correction", "CalibratedMagnification", "WorkingDistance", "schemaLocation", "TheC", "TheZ",
    "TheT", "ExposureTime", "ExposureTimeUnit", "PositionX", "PositionY", "PositionZ", "PositionXUnit",
    "PositionYUnit", "PositionZUnit", "AcquisitionMode", "ContrastMethod", "IlluminationType", "Namespace",
}  # fmt: skip
_TECHNICAL_ID = re.compile(r"[A-Za-z]+(?::\d+)+")
"""Identifiers that only number the parts of the document, such as ``Image:0``."""


@dataclass(frozen=True, slots=True)
class OmeImage:
    """One image of the document; sizes in pixels, scale in micrometres per pixel."""

    name: str
    size_c: int
    size_z: int
    size_t: int
    um_per_px: tuple[float | None, float | None]
    """Height and width."""
    first_ifd: int | None
    samples: int
    """Samples per pixel summed over the channels that say so."""
    date: str | None


@dataclass(frozen=True, slots=True)
class OmeDocument:
    """What wsistore takes from OME-XML."""

    images: tuple[OmeImage, ...]
    magnification: float | None
    scanner: Scanner
    identifying: dict[str, str]
    file_names: frozenset[str] = field(default_factory=frozenset)
    """Files that the document spreads over."""


def parse(text: str, path: Path) -> OmeDocument | None:
    """Read an OME-XML document, None if it cannot be read (the picture itself may well be sound).

    Entities are not expanded: a document that declares any is not read.
    """
    if len(text) > _MOST_TEXT or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        root = ET.fromstring(text.strip())  # noqa: S314 - documents with entities are refused above
    except (ET.ParseError, ValueError, RecursionError):
        return None
    images = tuple(_image(node) for node in _all(root, "Image"))
    lens = next((number(n.get("NominalMagnification")) for n in _all(root, "Objective")), None)
    names = frozenset(n.get("FileName", "") for n in _all(root, "UUID")) - {""}
    return OmeDocument(images, lens, _scanner(root), _identifying(root), names or frozenset({path.name}))


def _all(node: ET.Element, name: str) -> list[ET.Element]:
    return [n for n in node.iter() if _local(n) == name]


def _local(node: ET.Element) -> str:
    return str(node.tag).rpartition("}")[2]


def _image(node: ET.Element) -> OmeImage:
    pixels = next(iter(_all(node, "Pixels")), node)
    date = next((n.text for n in _all(node, "AcquisitionDate")), None)
    ifds = [_whole(n.get("IFD", "0")) for n in _all(pixels, "TiffData")]
    return OmeImage(
        name=node.get("Name", ""),
        size_c=_whole(pixels.get("SizeC", "1")),
        size_z=_whole(pixels.get("SizeZ", "1")),
        size_t=_whole(pixels.get("SizeT", "1")),
        um_per_px=(_physical(pixels, "Y"), _physical(pixels, "X")),
        first_ifd=min(ifds) if ifds else None,
        samples=sum(_whole(n.get("SamplesPerPixel", "1")) for n in _all(pixels, "Channel")),
        date=date.strip() if date else None,
    )


def _whole(text: str) -> int:
    found = number(text)
    return int(found) if found is not None else 0


def _physical(pixels: ET.Element, axis: str) -> float | None:
    """Return micrometres per pixel along an axis, None if the document does not say or the unit has no length."""
    size = number(pixels.get(f"PhysicalSize{axis}"))
    factor = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return size * factor if size is not None and factor is not None else None


def _scanner(root: ET.Element) -> Scanner:
    node = next(iter(_all(root, "Microscope")), None)
    software = root.get("Creator")
    if node is None:
        return Scanner(software=software)
    return Scanner(node.get("Manufacturer"), node.get("Model"), node.get("SerialNumber"), software)


def _identifying(root: ET.Element) -> dict[str, str]:
    """Return every text and attribute but those known to be technical."""
    found: dict[str, str] = {}
    for node in root.iter():
        name = _local(node)
        values = {f"{name}.{k.rpartition('}')[2]}": v for k, v in node.attrib.items()}
        values[name] = (node.text or "").strip()
        for key, value in values.items():
            technical = key.rpartition(".")[2] in _TECHNICAL_ATTRIBUTES or _TECHNICAL_ID.fullmatch(value)
            if value.strip() and not technical and value not in found.values():
                found[_free(key, found)] = value
    return found


def _free(key: str, taken: dict[str, str]) -> str:
    count = 2
    name = key
    while name in taken:
        name, count = f"{key} {count}", count + 1
    return name
