"""What in a DICOM data set may identify a patient, a case or a slide, and the data set as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from wsistore.slides.base import Json
from wsistore.slides.dicom.header import as_list, quiet, values

MAX_JSON_BYTES = 1024
"""Longer binary values are told by their length only."""
_MAX_DEPTH = 32

_STANDARD_UIDS = "1.2.840.10008."
"""UIDs below this root name things of the standard, not of a hospital."""

_ALWAYS = frozenset({"PN", "DA", "DT", "TM", "UI"})
"""Value representations that identify wherever they stand: names, dates, times, UIDs."""
_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UR", "UT"})
_PATIENT_GROUPS = frozenset({0x0010, 0x0012, 0x0032, 0x0038})
"""Patient, clinical trial, request, visit."""
_KEYWORDS = frozenset(
    {
        "AccessionNumber",
        "AcquisitionComments",
        "AcquisitionDeviceProcessingDescription",
        "AdmittingDiagnosesDescription",
        "BarcodeValue",
        "ContainerDescription",
        "ContainerIdentifier",
        "ContributionDescription",
        "DetectorID",
        "DeviceDescription",
        "DeviceSerialNumber",
        "FillerOrderNumberImagingServiceRequest",
        "FrameComments",
        "GantryID",
        "IdentifierTypeCode",
        "ImageComments",
        "ImagingServiceRequestComments",
        "InstitutionAddress",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "LabelText",
        "LocalNamespaceEntityID",
        "PerformedLocation",
        "PerformedProcedureStepDescription",
        "PerformedProcedureStepID",
        "PerformedStationName",
        "PersonAddress",
        "PlacerOrderNumberImagingServiceRequest",
        "ProtocolName",
        "PyramidDescription",
        "PyramidLabel",
        "ReasonForStudy",
        "RequestedProcedureDescription",
        "RequestedProcedureID",
        "ScheduledProcedureStepDescription",
        "ScheduledProcedureStepID",
        "SeriesDescription",
        "SpecimenDetailedDescription",
        "SpecimenIdentifier",
        "SpecimenShortDescription",
        "StationName",
        "StudyDescription",
        "StudyID",
        "TelephoneNumberTrial",
        "UniversalEntityID",
    }
)


def identifying(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield name and value of everything in a data set that may identify, sequences included.

    Names are DICOM keywords joined by points, ``(gggg,eeee)`` for private elements.
    """
    yield from _identifying(dataset, "", 0)


def _identifying(dataset: Dataset, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    for tag in list(dataset.keys()):
        element = _element(dataset, tag)
        if element is None:
            continue
        name = prefix + _name(element)
        if element.VR == "SQ":
            for item in _items(element):
                if depth < _MAX_DEPTH:
                    yield from _identifying(item, name + ".", depth + 1)
        elif _identifies(element):
            for value in _texts(element):
                yield name, value


def _identifies(element: DataElement) -> bool:
    if element.tag.is_private:
        return not element.tag.is_private_creator
    if element.VR in _ALWAYS or element.keyword in _KEYWORDS:
        return True
    return element.tag.group in _PATIENT_GROUPS and element.VR in _TEXT


def _texts(element: DataElement) -> Iterator[str]:
    """Yield an element's values as text; nothing for numbers, for the standard's own UIDs and for binary data."""
    for value in as_list(element.value):
        text = _printable(value) if isinstance(value, bytes) else str(value)
        text = text.strip(" \0")
        number = isinstance(value, (int, float)) and not isinstance(value, str)
        if text and value is not None and not number and not text.startswith(_STANDARD_UIDS):
            yield text


def _printable(data: bytes) -> str:
    """Return private data of unknown kind as text if that is what they are, else nothing."""
    try:
        text = data.rstrip(b"\0 ").decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if text.replace("\r", "").replace("\n", "").replace("\t", "").isprintable() else ""


def as_json(dataset: Dataset) -> dict[str, Json]:
    """Return a data set as JSON values by keyword, long binary values by their length alone."""
    with quiet():
        return _as_json(dataset, 0)


def _as_json(dataset: Dataset, depth: int) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for tag in list(dataset.keys()):
        element = _element(dataset, tag)
        if element is None:
            found[_hex(int(tag))] = None
        elif element.VR == "SQ":
            found[_name(element)] = (
                [_as_json(item, depth + 1) for item in _items(element)] if depth < _MAX_DEPTH else []
            )
        else:
            found[_name(element)] = _json(element.value)
    return found


def _json(value: Any) -> Json:
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, bytes):
        text = _printable(value) if len(value) <= MAX_JSON_BYTES else ""
        return text or {"length_bytes": len(value)}
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "real") and hasattr(value, "__float__"):
        return float(value) if math.isfinite(float(value)) else str(value)
    if isinstance(value, (MultiValue, list, tuple)):
        return [_json(part) for part in value]
    return str(value)


def _element(dataset: Dataset, tag: Any) -> DataElement | None:
    """Return an element with its value converted, or None if it cannot be."""
    try:
        with quiet():
            element: DataElement = dataset[tag]
            return element
    except Exception:
        # pydicom raises whatever a damaged value makes Python raise; one bad value must not hide the others.
        return None


def _items(element: DataElement) -> list[Dataset]:
    return [item for item in (element.value or []) if isinstance(item, Dataset)]


def _name(element: DataElement) -> str:
    return keyword_for_tag(element.tag) or _hex(int(element.tag))


def _hex(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def joined(dataset: Dataset, keyword: str) -> str | None:
    """Return an element's values as one text for people, or None."""
    return "; ".join(str(value) for value in values(dataset, keyword)).strip() or None
