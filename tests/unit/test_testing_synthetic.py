"""The set of made-up slides: one of each format, the same for a seed, recognised by other software."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import openslide
import pydicom
import pytest
import tifffile

from wsistore.testing.synthetic import synthetic_set


def opened(path: Path) -> Any:
    """Return the file; without types, since its pages may be of two."""
    return tifffile.TiffFile(path)


def hashes(paths: list[Path]) -> dict[str, str]:
    files = [one for path in paths for one in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return {f"{one.parent.name}/{one.name}": hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in synthetic_set(tmp_path_factory.mktemp("a") / "set", seed=1)}


def test_there_is_one_of_each(slides: dict[str, Path]) -> None:
    assert list(slides) == [
        "he-ycbcr.svs", "ihc-rgb.svs", "he-jpeg.tiff", "he-jpeg2000.ome.tiff", "dapi-420.ndpi", "he-dicom",
        "ihc-flat.tiff",
    ]  # fmt: skip
    assert {openslide.OpenSlide.detect_format(slides[name]) for name in ("he-ycbcr.svs", "ihc-rgb.svs")} == {"aperio"}
    assert openslide.OpenSlide.detect_format(slides["he-jpeg.tiff"]) == "generic-tiff"
    assert openslide.OpenSlide.detect_format(slides["dapi-420.ndpi"]) == "hamamatsu"
    with opened(slides["he-jpeg2000.ome.tiff"]) as tiff:
        assert tiff.is_ome
    with opened(slides["ihc-flat.tiff"]) as tiff:
        assert not tiff.pages[0].is_tiled
    kinds = {str(pydicom.dcmread(one).ImageType[2]) for one in slides["he-dicom"].iterdir()}
    assert {"VOLUME", "LABEL", "OVERVIEW"} <= kinds


def test_slides_carry_made_up_identities_of_their_own(slides: dict[str, Path]) -> None:
    titles = []
    for name in ("he-ycbcr.svs", "ihc-rgb.svs"):
        with openslide.OpenSlide(slides[name]) as slide:
            titles.append(slide.properties["aperio.Title"])
            assert {"label", "macro", "thumbnail"} <= set(slide.associated_images)
    assert titles == ["PATIENT-0011", "PATIENT-0012"]


def test_the_same_seed_gives_the_same_bytes(slides: dict[str, Path], tmp_path: Path) -> None:
    again = synthetic_set(tmp_path / "set", seed=1)
    other = synthetic_set(tmp_path / "other", seed=2)

    assert hashes(again) == hashes(list(slides.values()))
    assert not set(hashes(other).values()) & set(hashes(again).values())
