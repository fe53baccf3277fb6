"""OME-TIFF: SubIFD pyramids, label and macro images, units, and what must be kept whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tifffile import TiffWriter

from tests import tiffs
from wsistore.errors import IncompleteError
from wsistore.model import Mode
from wsistore.slides import associated
from wsistore.slides.omexml import parse
from wsistore.slides.registry import open_source


def xml(pixels: str = "", *, size_c: int = 3, more: str = "", extra: str = "") -> str:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="Writer 1">'
        '<Instrument ID="Instrument:0"><Microscope Manufacturer="Maker" Model="M1" SerialNumber="SERIAL-7"/>'
        '<Objective ID="Objective:0:0" NominalMagnification="40.0"/></Instrument>'
        '<Image ID="Image:0" Name="PATIENT-0001"><AcquisitionDate>2024-02-03T04:05:06</AcquisitionDate>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="200" SizeC="{size_c}" '
        f'SizeZ="1" SizeT="1" {pixels}><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0"/></Pixels>'
        f"</Image>{more}{extra}</OME>"
    )


def write(path: Path, text: str, *, others: list[tiffs.Picture] = [], **options: Any) -> Path:  # noqa: B006 - not changed
    levels = tiffs.halves(tiffs.tissue(200, 300), 3)
    options = {"tile": (64, 64), "photometric": "rgb", "metadata": None, "compression": "jpeg"} | options
    with TiffWriter(path) as writer:
        writer.write(levels[0], description=text, subifds=2, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)
        for other in others:
            writer.write(other, photometric="rgb", metadata=None, compression="zlib")
    return path


def test_levels_in_subifds(tmp_path: Path) -> None:
    text = xml('PhysicalSizeX="0.25" PhysicalSizeY="500" PhysicalSizeYUnit="nm"')
    source = open_source(write(tmp_path / "a.ome.tiff", text))
    assert (source.format, source.mode, source.mode_reason) == ("ome-tiff", Mode.TILES, "")
    assert [(level.height, level.width) for level in source.levels] == [(200, 300), (100, 150), (50, 75)]
    assert source.um_per_px == (0.5, 0.25)
    assert source.magnification == 40.0
    assert source.scanned_at == "2024-02-03T04:05:06"
    assert source.scanner.serial == "SERIAL-7"
    assert {"PATIENT-0001", "SERIAL-7", "a.ome.tiff"} <= set(source.identifying.values())
    assert "Image:0" not in source.identifying.values()


def test_label_and_macro_are_pictures(tmp_path: Path) -> None:
    more = "".join(
        f'<Image ID="Image:{i}" Name="{name}"><Pixels SizeC="3" SizeZ="1" SizeT="1"><TiffData IFD="{i}"/></Pixels>'
        "</Image>"
        for i, name in ((1, "Label image"), (2, "Macro image"))
    )
    others = [tiffs.tissue(30, 40, seed=1), tiffs.tissue(30, 90, seed=2)]
    source = open_source(write(tmp_path / "a.ome.tiff", xml(more=more), others=others))
    assert source.mode is Mode.TILES
    assert [one.name for one in source.associated] == ["label", "macro"]
    for one, picture in zip(source.associated, others, strict=True):
        np.testing.assert_array_equal(associated.read(one.locator, lambda i: source.files[i].path.open("rb")), picture)


def test_channels_on_pages_of_their_own_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tiff"
    planes = np.stack([tiffs.tissue(128, 192, seed=i, channels=1, dtype="uint16") for i in range(5)])
    with TiffWriter(path, ome=True) as writer:
        writer.write(planes, tile=(64, 64), metadata={"axes": "CYX"})
    source = open_source(path)
    assert source.mode is Mode.WHOLE
    assert source.format == "ome-tiff"
    assert "5 channels" in source.mode_reason


@pytest.mark.parametrize(
    ("pixels", "words"),
    [('PhysicalSizeX="250" PhysicalSizeY="250"', "250"), ('PhysicalSizeX="0.001" PhysicalSizeY="0.001"', "0.001")],
)
def test_an_implausible_scale_is_left_out_with_a_warning(tmp_path: Path, pixels: str, words: str) -> None:
    source = open_source(write(tmp_path / "a.ome.tiff", xml(pixels)))
    assert source.um_per_px is None
    assert any(words in warning for warning in source.warnings)


@pytest.mark.parametrize("unit", ["reference frame", "pixel", "furlong"])
def test_units_without_length_say_nothing(tmp_path: Path, unit: str) -> None:
    text = xml(f'PhysicalSizeX="0.25" PhysicalSizeXUnit="{unit}" PhysicalSizeY="0.25" PhysicalSizeYUnit="{unit}"')
    assert open_source(write(tmp_path / "a.ome.tiff", text)).um_per_px is None


def test_structured_annotations_are_identifying(tmp_path: Path) -> None:
    extra = (
        "<StructuredAnnotations><XMLAnnotation ID='Annotation:1'><Value><Case>CASE-0005</Case></Value></XMLAnnotation>"
        "<CommentAnnotation ID='Annotation:2'><Value>PERSON-0006</Value></CommentAnnotation></StructuredAnnotations>"
    )
    source = open_source(write(tmp_path / "a.ome.tiff", xml(extra=extra)))
    assert {"CASE-0005", "PERSON-0006"} <= set(source.identifying.values())


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>'
    assert parse(bomb, tmp_path) is None
    source = open_source(write(tmp_path / "a.ome.tiff", bomb))
    assert source.mode is Mode.TILES
    assert any("OME-XML" in warning for warning in source.warnings)


def test_a_slide_of_several_files_needs_them_all(tmp_path: Path) -> None:
    parts = "".join(
        f'<TiffData IFD="0"><UUID FileName="{name}">x</UUID></TiffData>' for name in ("a.ome.tiff", "b.tiff")
    )
    text = xml().replace('<TiffData IFD="0"/>', parts)
    path = write(tmp_path / "a.ome.tiff", text)
    with pytest.raises(IncompleteError, match=r"b\.tiff"):
        open_source(path)
    (tmp_path / "b.tiff").write_bytes(b"II*\0")
    assert [file.name for file in open_source(path).files] == ["a.ome.tiff", "b.tiff"]
