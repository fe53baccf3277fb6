"""Synthetic NDPI: in the real file's layout, each strip decodable alone, recognised by other software."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile

from wsistore.errors import UnsupportedError
from wsistore.testing.ndpi import mcu_starts, write_ndpi
from wsistore.testing.pictures import Rgb, macro_image, pyramid
from wsistore.testing.tissue import tissue

MAGNIFICATION, STARTS = 65421, 65426


def opened(path: Path) -> Any:
    """Return the file; without types, since its pages may be of two."""
    return tifffile.TiffFile(path)


@pytest.fixture(scope="module")
def levels() -> list[Rgb]:
    return pyramid(tissue(512, 640, seed=2), 4, 2)


def far(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected.astype(int)).mean())


def strips_of(page: tifffile.TiffPage) -> list[tuple[int, int, np.ndarray]]:
    """Return row, column and pixels of each strip as tifffile decodes it."""
    return [(index[-3], index[-2], np.squeeze(np.asarray(data), 0)) for data, index, _ in page.segments()]


def decoded_alone(path: Path, page: tifffile.TiffPage, number: int) -> np.ndarray:
    """Decode one strip, built by hand: the header with the strip's size, its bytes, an end marker."""
    start, length = page.tags[273].value[0], page.tags[279].value[0]
    jpeg = path.read_bytes()[start : start + length]
    starts = [*page.tags[STARTS].value.tolist(), length]
    header = bytearray(jpeg[: starts[0]])
    frame = header.index(b"\xff\xc0")
    header[frame + 5 : frame + 9] = page.tilelength.to_bytes(2, "big") + page.tilewidth.to_bytes(2, "big")
    restart = header.index(b"\xff\xdd")
    del header[restart : restart + 6]
    strip = jpeg[starts[number] : starts[number + 1]]
    assert strip[-2:] == (b"\xff\xd9" if number == len(starts) - 2 else bytes([0xFF, 0xD0 + number % 8]))
    return imagecodecs.jpeg8_decode(bytes(header) + strip[:-2] + b"\xff\xd9")


@pytest.mark.parametrize("restart_mcus", [None, 10])
@pytest.mark.parametrize(("subsampling", "high"), [("420", 16), ("422", 8), ("444", 8)])
def test_every_strip_decodes_alone_to_what_tifffile_shows(
    tmp_path: Path, levels: list[Rgb], subsampling: Any, high: int, restart_mcus: int | None
) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", levels, subsampling=subsampling, restart_mcus=restart_mcus)

    across = 8 if subsampling == "444" else 16
    with opened(path) as tiff:
        assert tiff.is_ndpi
        for page, level in zip(tiff.pages, levels, strict=True):
            assert page.is_tiled
            assert page.chunks == (high, restart_mcus * across if restart_mcus else level.shape[1], 3)
            strips = strips_of(page)
            assert len(strips) == len(page.tags[STARTS].value)
            for number, (y, x, strip) in enumerate(strips):
                alone = decoded_alone(path, page, number)
                assert np.array_equal(strip, alone[: strip.shape[0], : strip.shape[1]])
                part = level[y : y + strip.shape[0], x : x + strip.shape[1]]
                assert far(strip[: part.shape[0], : part.shape[1]], part) < 12


def test_420_strips_differ_from_the_joined_picture_at_their_borders(tmp_path: Path, levels: list[Rgb]) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", levels, subsampling="420")

    with opened(path) as tiff:
        joined = tiff.pages[0].asarray().astype(int)
        strips = np.concatenate([strip for _, _, strip in strips_of(tiff.pages[0])]).astype(int)
    rows = np.flatnonzero(np.abs(joined - strips).max(axis=(1, 2)))
    assert len(rows) > 20
    assert set((rows % 16).tolist()) == {0, 15}


@pytest.mark.parametrize("subsampling", ["422", "444"])
def test_openslide_reads_it(tmp_path: Path, levels: list[Rgb], subsampling: Any) -> None:
    macro = macro_image(levels[0], height=200, width=600)
    path = write_ndpi(
        tmp_path / "a.ndpi", levels, subsampling=subsampling, macro=macro, magnification=40, um_per_px=0.25
    )

    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "hamamatsu"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.objective-power"]) == 40
        assert slide.level_dimensions[0] == (640, 512)
        assert (160, 128) in slide.level_dimensions
        found = np.asarray(slide.read_region((0, 0), 0, (640, 512)).convert("RGB"))
        assert far(found, levels[0]) < 6
        assert far(np.asarray(slide.associated_images["macro"].convert("RGB")), macro) < 4


def test_openslide_recognises_420_too(tmp_path: Path, levels: list[Rgb]) -> None:
    # It cannot decode such strips: it changes the height too late for libjpeg's look-ahead at chroma rows.
    path = write_ndpi(tmp_path / "a.ndpi", levels, subsampling="420")

    assert openslide.OpenSlide.detect_format(path) == "hamamatsu"


def test_macro_and_map_follow_the_levels(tmp_path: Path, levels: list[Rgb]) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", levels, macro=macro_image(levels[1], height=100, width=300))

    with opened(path) as tiff:
        assert [page.tags.valueof(MAGNIFICATION) for page in tiff.pages] == [20, 5, -1, -2]
        assert tiff.pages[3].asarray().shape == (50, 150)


def test_fluorescence_names_its_filter(tmp_path: Path, levels: list[Rgb]) -> None:
    bright = write_ndpi(tmp_path / "a.ndpi", levels)
    dark = write_ndpi(tmp_path / "b.ndpi", levels, content="fluorescence", serial="004711")

    with opened(bright) as a, opened(dark) as b:
        assert 65434 not in a.pages[0].tags
        assert b.pages[0].tags.valueof(65434) == "DAPI"
        assert b.pages[0].tags.valueof(65442) == "004711"


def test_starts_count_as_the_real_scanner_counts(real_slides: Path) -> None:
    path = real_slides / "hamamatsu" / "test3-DAPI-2.ndpi"
    data = path.read_bytes()
    with opened(path) as tiff:
        for page in tiff.pages[:4]:
            start, length = page.tags[273].value[0], page.tags[279].value[0]
            assert np.array_equal(mcu_starts(data[start : start + length]), page.tags[STARTS].value)


def test_directories_have_the_real_files_shape(real_slides: Path, tmp_path: Path, levels: list[Rgb]) -> None:
    made = write_ndpi(
        tmp_path / "a.ndpi", levels, subsampling="444", content="fluorescence", macro=macro_image(levels[0])
    )
    with opened(real_slides / "hamamatsu" / "test3-DAPI-2.ndpi") as real, opened(made) as ours:
        for found, expected in ((ours.pages[0], real.pages[0]), (ours.pages[2], real.pages[4])):
            types = {tag.code: tag.dtype for tag in expected.tags}
            unknown = {tag.code for tag in found.tags} - set(types) - {65427, 530}  # 65427: name of the slide
            assert not unknown
            assert {tag.code: tag.dtype for tag in found.tags if tag.code in types}.items() <= types.items()


@pytest.mark.parametrize(
    ("how", "says"),
    [({"restart_mcus": 7}, "cannot be cut every 7"), ({"restart_mcus": 41}, "cannot be cut every 41")],
    ids=str,
)
def test_strips_must_divide_a_row(tmp_path: Path, levels: list[Rgb], how: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        write_ndpi(tmp_path / "a.ndpi", levels, **how)


def test_a_level_too_large_for_a_jpeg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="does not fit into a JPEG"):
        write_ndpi(tmp_path / "a.ndpi", [np.zeros((8, 65_536, 3), np.uint8)])
