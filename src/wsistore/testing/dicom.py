"""Writes DICOM whole slide series for tests and the demo: every layout that the reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, generate_uid

from wsistore.testing.dicomframes import CodecName, Frames, code_frames
from wsistore.units import UM_PER_MM

Image = npt.NDArray[np.uint8]
"""(y, x, 3), RGB."""

OffsetTable = Literal["basic", "empty", "extended"]

WHOLE_SLIDE = UID("1.2.840.10008.5.1.4.1.1.77.1.6")

PATIENT: dict[str, str] = {
    "PatientName": "PATIENT-0001",
    "PatientID": "ID-0001-7731",
    "PatientBirthDate": "19010203",
    "PatientSex": "O",
    "AccessionNumber": "ACC-0001-4482",
    "StudyID": "STUDY-0001",
    "ReferringPhysicianName": "PHYSICIAN-0001",
    "InstitutionName": "INSTITUTION-0001",
    "ContainerIdentifier": "CONTAINER-0001-A",
    "BarcodeValue": "BARCODE-0001",
    "DeviceSerialNumber": "SERIAL-0001",
}
"""The identity that a series carries unless told otherwise: DICOM keyword to value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a series is written; see `write_series`."""

    tile: tuple[int, int] = (256, 256)
    codec: CodecName = "jpeg"
    photometric: str | None = None
    offset_table: OffsetTable = "basic"
    fragments_per_frame: int = 1
    sparse: bool = False
    patient: Mapping[str, str] = field(default_factory=lambda: dict(PATIENT))
    concatenation: int = 1
    um_per_px: float = 0.5
    magnification: float = 20.0
    quality: int = 85
    planar: bool = False
    implicit: bool = False
    icc: bytes | None = None
    seed: int = 0

    def uid(self, *names: object) -> UID:
        """Return a UID that depends on the seed and `names` alone."""
        return generate_uid(entropy_srcs=["wsistore", str(self.seed), *(str(name) for name in names)])


def write_series(
    folder: Path,
    levels: Sequence[Image],
    *,
    label: Image | None = None,
    macro: Image | None = None,
    thumbnail: Image | None = None,
    **layout: Any,
) -> list[Path]:
    """Write one DICOM whole slide series. The same arguments give the same bytes.

    Parameters
    ----------
    folder
        Is made if it is not there.
    levels
        Largest first; uint8, (y, x, 3), RGB.
    label, macro, thumbnail
        Pictures that come with the slide, (y, x, 3); each becomes an instance of one frame.
    **layout
        The fields of `Layout`: ``tile`` (height and width of a frame in pixels), ``codec`` (``"jpeg"``,
        ``"jpeg2000"``, ``"jpeg2000-lossy"``, ``"none"``, ``"rle"``), ``photometric`` (None: what is usual for the
        codec), ``offset_table`` (``"basic"``, ``"empty"``, ``"extended"``), ``fragments_per_frame``, ``sparse``
        (TILED_SPARSE, without the frames that are all white), ``patient`` (keyword to value), ``concatenation`` (most
        parts that a level is cut into), ``um_per_px``, ``magnification``, ``quality``, ``planar`` and ``implicit``
        (for ``"none"``), ``icc``, ``seed``.

    Returns
    -------
    list of Path
        What was written: levels, then label, macro and thumbnail.

    """
    how = Layout(**layout)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for number, image in enumerate(levels):
        written += _write_level(folder, image, number, levels[0].shape[0] / image.shape[0], how)
    plain = Layout(codec="jpeg", patient=how.patient, seed=how.seed)
    pictures = (("label", label), ("overview", macro), ("thumbnail", thumbnail))
    for number, (kind, picture) in enumerate(pictures, len(levels) + 1):
        if picture is not None:
            tile = (picture.shape[0], picture.shape[1])
            frames = code_frames(picture, tile, "jpeg", None, 90)
            dataset = _dataset(picture, frames, kind, number, 1.0, plain)
            dataset.ImageType = ["ORIGINAL", "PRIMARY", kind.upper(), "NONE"]
            dataset.SpecimenLabelInImage = "YES" if kind == "label" else "NO"
            written.append(_write(folder / f"{kind}.dcm", dataset, frames, plain))
    return written


def _write_level(folder: Path, image: Image, number: int, factor: float, how: Layout) -> list[Path]:
    frames = code_frames(image, how.tile, how.codec, how.photometric, how.quality, planar=how.planar, sparse=how.sparse)
    total = max(1, min(how.concatenation, len(frames.data)))
    bounds = [len(frames.data) * part // total for part in range(total + 1)]
    written = []
    for part in range(total):
        own = frames.slice(bounds[part], bounds[part + 1])
        name = f"level-{number}" if total == 1 else f"level-{number}-part-{part + 1}"
        dataset = _dataset(image, own, name, number + 1, factor, how)
        if number:
            dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
        if total > 1:
            dataset.ConcatenationUID = how.uid("concatenation", number)
            dataset.SOPInstanceUIDOfConcatenationSource = how.uid("source", number)
            dataset.InConcatenationNumber = part + 1
            dataset.InConcatenationTotalNumber = total
            dataset.ConcatenationFrameOffsetNumber = bounds[part]
        written.append(_write(folder / f"{name}.dcm", dataset, own, how))
    return written


def _dataset(image: Image, frames: Frames, name: str, number: int, factor: float, how: Layout) -> Dataset:
    """Return a data set without its pixel data."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = WHOLE_SLIDE, how.uid("instance", name)
    dataset.StudyDate = dataset.ContentDate = "20200102"
    dataset.StudyTime = dataset.ContentTime = "101112"
    dataset.AcquisitionDateTime = "20200102101112"
    dataset.Modality, dataset.Manufacturer = "SM", "Made-up Scanners"
    dataset.ManufacturerModelName, dataset.SoftwareVersions = "Model 1", "1.0"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = how.uid("study"), how.uid("series")
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = how.uid("frame"), "SLIDE_CORNER"
    dataset.VolumetricProperties = "VOLUME"
    dataset.BurnedInAnnotation = "NO"
    dataset.SpecimenLabelInImage = "NO"
    dataset.FocusMethod, dataset.ExtendedDepthOfField = "AUTO", "NO"
    dataset.AcquisitionContextSequence = []
    for keyword, value in how.patient.items():
        setattr(dataset, keyword, value)
    _add_pixels(dataset, image, frames)
    _add_geometry(dataset, image, factor, how)
    _add_dimensions(dataset, frames, how)
    return dataset


def _add_pixels(dataset: Dataset, image: Image, frames: Frames) -> None:
    dataset.SamplesPerPixel = frames.samples
    dataset.PhotometricInterpretation = frames.photometric
    if frames.samples > 1:
        dataset.PlanarConfiguration = int(frames.planar)
    dataset.NumberOfFrames = len(frames.data)
    dataset.Rows, dataset.Columns = frames.tile
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.LossyImageCompression = "01" if frames.lossy else "00"
    if frames.lossy:
        stored = max(1, sum(len(data) for data in frames.data))
        dataset.LossyImageCompressionRatio = round(image.nbytes / stored, 2)
        dataset.LossyImageCompressionMethod = "ISO_10918_1" if frames.syntax.endswith("50") else "ISO_15444_1"
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = image.shape[:2]
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1


def _add_geometry(dataset: Dataset, image: Image, factor: float, how: Layout) -> None:
    mm = how.um_per_px * factor / UM_PER_MM
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = image.shape[1] * mm, image.shape[0] * mm
    dataset.ImagedVolumeDepth = 0.001
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    dataset.TotalPixelMatrixOriginSequence = [
        _item(XOffsetInSlideCoordinateSystem=20.0, YOffsetInSlideCoordinateSystem=40.0)
    ]
    path = _item(
        IlluminationTypeCodeSequence=[_code("111744", "Brightfield illumination")],
        OpticalPathIdentifier="1",
        ObjectiveLensPower=how.magnification,
    )
    if how.icc is not None:
        path.ICCProfile = how.icc
    dataset.OpticalPathSequence = [path]
    measures = _item(SliceThickness=0.001, PixelSpacing=[round(mm, 9), round(mm, 9)])
    frame_type = _item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    shared = _item(
        PixelMeasuresSequence=[measures],
        WholeSlideMicroscopyImageFrameTypeSequence=[frame_type],
        OpticalPathIdentificationSequence=[_item(OpticalPathIdentifier="1")],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]


def _add_dimensions(dataset: Dataset, frames: Frames, how: Layout) -> None:
    organization = how.uid("dimensions")
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    dataset.DimensionOrganizationType = "TILED_SPARSE" if how.sparse else "TILED_FULL"
    if not how.sparse:
        return
    rows, columns = frames.tile
    groups = []
    for tile in frames.tiles:
        down, across = divmod(tile, frames.across)
        position = _item(
            ColumnPositionInTotalImagePixelMatrix=across * columns + 1,
            RowPositionInTotalImagePixelMatrix=down * rows + 1,
            XOffsetInSlideCoordinateSystem=20.0,
            YOffsetInSlideCoordinateSystem=40.0,
            ZOffsetInSlideCoordinateSystem=0.0,
        )
        content = _item(DimensionIndexValues=[across + 1, down + 1])
        groups.append(_item(FrameContentSequence=[content], PlanePositionSlideSequence=[position]))
    dataset.PerFrameFunctionalGroupsSequence = groups


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)


def _write(path: Path, dataset: Dataset, frames: Frames, how: Layout) -> Path:
    """Add the frames and write one instance."""
    syntax = frames.syntax
    if syntax == "1.2.840.10008.1.2.1":
        joined = b"".join(frames.data)
        dataset.PixelData = joined + b"\0" * (len(joined) % 2)
        dataset["PixelData"].VR = "OB"
        syntax = "1.2.840.10008.1.2" if how.implicit else syntax
    elif how.offset_table == "extended":
        data, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames.data)
        dataset.PixelData = data
    else:
        has_table = how.offset_table == "basic"
        dataset.PixelData = encapsulate(frames.data, how.fragments_per_frame, has_table)
    if syntax not in {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = _meta(dataset, syntax)
    with config.disable_value_validation():
        dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _meta(dataset: Dataset, syntax: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID("1.2.826.0.1.3680043.8.498.1")
    meta.ImplementationVersionName = "WSISTORE-TESTING"
    return meta
