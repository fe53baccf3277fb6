"""The real slides: mode, format, levels, scale, and every tile decoded alone against tifffile's decoding of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tifffile import TiffFile, TiffPage

from wsistore.errors import BrokenError, Kind, UnsupportedError, WsistoreError
from wsistore.model import Mode
from wsistore.slides import associated
from wsistore.slides.base import Codec, Color, Content, Source
from wsistore.slides.check import TileChecker
from wsistore.slides.decode import decode_tile
from wsistore.slides.regions import WholeReader
from wsistore.slides.registry import find_slides, open_source
from wsistore.slides.segments import read_tile


@dataclass(frozen=True)
class Expected:
    path: str
    format: str
    codec: Codec
    color: Color
    levels: tuple[tuple[int, int, int, int, int], ...]
    """Height, width, tile height, tile width, tiles."""
    um_per_px: float | None
    magnification: float | None
    pictures: tuple[str, ...] = ()
    content: Content = Content.BRIGHTFIELD


SLIDES = [
    Expected("aperio/CMU-1-Small-Region.svs", "aperio-svs", Codec.JPEG, Color.RGB, ((2967, 2220, 240, 240, 130),),
             0.499, 20.0, ("thumbnail", "label", "macro")),
    Expected("aperio/hpylori-IHC.svs", "aperio-svs", Codec.JPEG, Color.YCBCR,
             ((27946, 16436, 256, 256, 7150), (6987, 4109, 256, 256, 476), (1747, 1028, 256, 256, 35)),
             0.25, 20.0, ("thumbnail", "label", "macro")),
    Expected("hamamatsu/test3-DAPI-2.ndpi", "hamamatsu-ndpi", Codec.JPEG_STRIPS, Color.YCBCR,
             ((4864, 3968, 8, 3968, 608), (2432, 1984, 8, 1984, 304), (1216, 992, 8, 992, 152), (608, 496, 8, 496, 76)),
             10_000 / 43_826, 40.0, ("macro", "map"), Content.FLUORESCENCE),
    Expected("tiff/CMU-1-jpeg420.tiff", "generic-tiff", Codec.JPEG, Color.YCBCR, ((2967, 2220, 256, 256, 108),),
             None, None),
    Expected("tiff/CMU-1-webp.tiff", "generic-tiff", Codec.WEBP, Color.RGB, ((2967, 2220, 256, 256, 108),), None, None),
    Expected("tiff/boxes.tiff", "generic-tiff", Codec.DEFLATE, Color.RGB,
             ((250, 300, 64, 64, 20), (125, 150, 64, 64, 6), (62, 75, 64, 64, 2), (31, 37, 64, 64, 1)), None, None),
    Expected("tiff/small.svs", "aperio-svs", Codec.JPEG, Color.RGB, ((16, 16, 64, 64, 1),),
             0.499, 20.0, ("thumbnail",)),
    Expected("tiff/wsic-bfconvert-XYC-JPEG.ome.tiff", "ome-tiff", Codec.JPEG, Color.YCBCR, ((512, 512, 128, 128, 16),),
             None, None),
    Expected("tiff/wsic-bfconvert-XYC-JPEG-2000.ome.tiff", "ome-tiff", Codec.JPEG2000, Color.RGB,
             ((512, 512, 128, 128, 16),), None, None),
]  # fmt: skip


def names(expected: Expected) -> str:
    return Path(expected.path).name


@pytest.mark.parametrize("expected", SLIDES, ids=names)
def test_what_is_said_of_each_slide(real_slides: Path, expected: Expected) -> None:
    source = open_source(real_slides / expected.path)
    assert (source.mode, source.mode_reason, source.format) == (Mode.TILES, "", expected.format)
    found = tuple(
        (v.height, v.width, v.tile_height, v.tile_width, len(np.unique(v.segments["tile"]))) for v in source.levels
    )
    assert found == expected.levels
    for level in source.levels:
        assert level.coding is not None
        assert (level.coding.codec, level.coding.color) == (expected.codec, expected.color)
        assert (level.channels, level.dtype) == (3, "uint8")
    if expected.um_per_px is None:
        assert source.um_per_px is None
    else:
        assert source.um_per_px == pytest.approx((expected.um_per_px, expected.um_per_px))
    assert (source.magnification, source.content) == (expected.magnification, expected.content)
    assert tuple(one.name for one in source.associated) == expected.pictures
    assert [file.name for file in source.files] == [names(expected)]


SLOW = [pytest.param(e, marks=pytest.mark.slow if "hpylori" in e.path else (), id=names(e)) for e in SLIDES]


@pytest.mark.parametrize("expected", SLOW)
def test_every_tile_decodes_alone_to_what_tifffile_makes_of_it(real_slides: Path, expected: Expected) -> None:
    path = real_slides / expected.path
    source = open_source(path)
    with TiffFile(path) as tiff, path.open("rb") as file:
        pages = {(page.imagelength, page.imagewidth): page for page in tiff.pages if page.is_tiled}  # type: ignore[union-attr]
        for level in source.levels:
            page = pages[level.height, level.width]
            assert isinstance(page, TiffPage)
            check = TileChecker(level)
            for row in level.segments:
                tile = read_tile(np.array([row]), {0: file})
                assert check(tile).good
                y, x = divmod(int(row["tile"]), level.grid[1])
                file.seek(page.dataoffsets[row["tile"]])
                raw = file.read(page.databytecounts[row["tile"]])
                tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression == 7 else {}
                seen, place, _ = page.decode(raw, int(row["tile"]), **tables)
                assert seen is not None
                there = seen[0]
                assert place[-3:-1] == (y * level.tile_height, x * level.tile_width)
                decoded = decode_tile(level, tile)[: there.shape[0], : there.shape[1]]
                assert np.array_equal(decoded, there), f"tile {row['tile']} of the level {level.height}×{level.width}"


@pytest.mark.parametrize("expected", [e for e in SLIDES if e.pictures], ids=names)
def test_pictures_can_be_read(real_slides: Path, expected: Expected) -> None:
    source = open_source(real_slides / expected.path)
    for one in source.associated:
        pixels = associated.read(one.locator, lambda i: source.files[i].path.open("rb"))
        assert pixels.shape == (one.height, one.width, 3)
        assert pixels.dtype == np.uint8
        if "CMU" in expected.path:  # the others have blank ones
            assert pixels.std() > 1


def test_identities_are_known(real_slides: Path) -> None:
    values = set(open_source(real_slides / "aperio/hpylori-IHC.svs").identifying.values())
    assert len([value for value in values if "DUPONT" in value]) == 2
    assert "950291" in open_source(real_slides / "hamamatsu/test3-DAPI-2.ndpi").identifying.values()
    assert open_source(real_slides / "aperio/CMU-1-Small-Region.svs").scanned_at == "2009-12-29T09:59:15"
    assert open_source(real_slides / "hamamatsu/test3-DAPI-2.ndpi").scanned_at == "2017-02-07T13:06:43"


def test_a_wrong_resolution_tag_is_not_believed(real_slides: Path) -> None:
    source = open_source(real_slides / "tiff/CMU-1-jpeg420.tiff")
    assert any("0.00499" in warning for warning in source.warnings)


def test_openslide_sees_the_same_pixels(real_slides: Path) -> None:
    path = real_slides / "aperio/CMU-1-Small-Region.svs"
    source = open_source(path)
    level = source.levels[0]
    with WholeReader(path) as reader, path.open("rb") as file:
        tile = decode_tile(level, read_tile(level.segments[level.segments["tile"] == 14], {0: file}))
        np.testing.assert_array_equal(reader.read_region(0, 240, 960, 240, 240), tile)


def test_broken_slides_are_refused_with_the_reason(real_slides: Path) -> None:
    with pytest.raises(BrokenError, match="tile 0 of page 0") as broken:
        open_source(real_slides / "broken/unreadable.svs")
    assert broken.value.kind is Kind.SOURCE_BROKEN
    with pytest.raises(UnsupportedError, match="method 52479") as unsupported:
        open_source(real_slides / "broken/unopenable.tiff")
    assert unsupported.value.kind is Kind.UNSUPPORTED_PIXELS


def test_all_slides_are_found_and_nothing_else(real_slides: Path) -> None:
    taken: dict[str, Source] = {}
    refused = set()
    for path in find_slides(real_slides, recursive=True):
        try:
            taken[path.relative_to(real_slides).as_posix()] = open_source(path)
        except WsistoreError:
            refused.add(path.relative_to(real_slides).as_posix())
    assert refused == {"broken/unopenable.tiff", "broken/unreadable.svs", "dicom/label-only"}
    assert set(taken) == {e.path for e in SLIDES} | {"dicom/CMU-1-Small-Region", "dicom/camelyon-j2k"}
    assert {source.mode for source in taken.values()} == {Mode.TILES}


def test_truncated_real_slides(real_slides: Path, tmp_path: Path) -> None:
    for name in ("aperio/CMU-1-Small-Region.svs", "hamamatsu/test3-DAPI-2.ndpi", "tiff/CMU-1-jpeg420.tiff"):
        data = (real_slides / name).read_bytes()
        path = tmp_path / Path(name).name
        for part in (0.1, 0.5, 0.9):
            path.write_bytes(data[: int(len(data) * part)])
            with pytest.raises(BrokenError) as caught:
                open_source(path)
            assert caught.value.kind is Kind.SOURCE_TRUNCATED
            assert "still being copied" in caught.value.remedy
