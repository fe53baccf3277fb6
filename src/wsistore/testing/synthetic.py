"""A handful of made-up slides in several formats, for the demo and for tests that want one of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wsistore.testing.dicom import write_series
from wsistore.testing.files import translated
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import Rgb, label_image, macro_image, pyramid, srgb_profile
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_ome_tiff, write_svs
from wsistore.testing.tissue import Stain, tissue

Size = Literal["small", "demo"]


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a laboratory writes on a slide; nobody's."""

    number: int
    stain: Stain

    @property
    def patient(self) -> str:
        return f"PATIENT-{self.number:04}"

    @property
    def case(self) -> str:
        return f"CASE-2031-{self.number:04}"

    @property
    def label(self) -> Rgb:
        names = {"he": "H&E", "ihc": "IHC", "dapi": "DAPI"}
        return label_image(f"{self.patient}\n{self.case}  A1\n{names[self.stain]}  2031-05-14")

    @property
    def aperio(self) -> Mapping[str, str]:
        return {
            "ScanScope ID": "SS0001",
            "Filename": f"{self.case} A1",
            "Title": self.patient,
            "User": f"USER-{self.number:04}",
            "BarcodeID": f"BARCODE-{self.number:04}",
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """What a writer is given."""

    levels: list[Rgb]
    macro: Rgb
    identity: _Identity


@dataclass(frozen=True, slots=True)
class _Recipe:
    """One slide of the set."""

    name: str
    stain: Stain
    small: tuple[int, int]
    demo: tuple[int, int]
    """Height and width of level 0."""
    write: Callable[[Path, _Picture], Any]


def synthetic_set(folder: Path, *, seed: int, size: Size = "small") -> list[Path]:
    """Make slides of several formats and stains in `folder`.

    Parameters
    ----------
    folder
        Is made if it is not there.
    seed
        Same seed and size, same bytes.
    size
        ``"small"``: about 1000 pixels wide, in a second or two; ``"demo"``: some 4000 to 9000 pixels wide, about
        200 million pixels in all, in about half a minute on two cores, with at most about 1 GB of memory.

    Returns
    -------
    list of Path
        Each a slide to ingest: an SVS in YCbCr 4:2:0, an SVS in RGB, a generic JPEG TIFF, an OME-TIFF in JPEG 2000,
        an NDPI-like file in 4:2:0, the folder of a DICOM series, and a flat TIFF in strips.

    Raises
    ------
    StorageError
        If a file cannot be written.

    """
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def make(number: int) -> Path:
        recipe = _RECIPES[number]
        path = folder / recipe.name
        height, width = recipe.demo if size == "demo" else recipe.small
        image = tissue(height, width, seed=seed * 100 + number, stain=recipe.stain)
        identity = _Identity(seed * 10 + number + 1, recipe.stain)
        levels = pyramid(image, 4, 3)
        with translated(path):
            recipe.write(path, _Picture(levels, macro_image(levels[-1], label=identity.label), identity))
        return path

    tissue(1, 1, seed=0)  # draws the cells that all pictures share, so that not every thread does
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(make, range(len(_RECIPES))))


def _svs_ycbcr(path: Path, picture: _Picture) -> None:
    write_svs(
        path, picture.levels, tile=256, quality=85, label=picture.identity.label, macro=picture.macro,
        properties=picture.identity.aperio, icc=srgb_profile(),
    )  # fmt: skip


def _svs_rgb(path: Path, picture: _Picture) -> None:
    write_svs(
        path, picture.levels, tile=240, color="rgb", quality=75, label=picture.identity.label, macro=picture.macro,
        properties=picture.identity.aperio,
    )  # fmt: skip


def _dicom(path: Path, picture: _Picture) -> None:
    identity = picture.identity
    patient = {"PatientName": identity.patient, "PatientID": identity.patient, "AccessionNumber": identity.case}
    write_series(path, picture.levels, label=identity.label, macro=picture.macro, patient=patient, seed=identity.number)


_RECIPES = (
    _Recipe("he-ycbcr.svs", "he", (900, 1200), (8192, 9216), _svs_ycbcr),
    _Recipe("ihc-rgb.svs", "ihc", (720, 960), (6240, 5040), _svs_rgb),
    _Recipe(
        "he-jpeg.tiff", "he", (700, 800), (5000, 6200),
        lambda path, picture: write_generic_tiff(path, picture.levels, quality=85),
    ),
    _Recipe(
        "he-jpeg2000.ome.tiff", "he", (512, 512), (3000, 3000),
        lambda path, picture: write_ome_tiff(path, picture.levels, name=picture.identity.case),
    ),
    _Recipe(
        "dapi-420.ndpi", "dapi", (768, 1024), (6144, 5120),
        lambda path, picture: write_ndpi(
            path, picture.levels, content="fluorescence", quality=90, macro=picture.macro,
            reference=picture.identity.case,
        ),
    ),
    _Recipe("he-dicom", "he", (600, 700), (5120, 4096), _dicom),
    _Recipe(
        "ihc-flat.tiff", "ihc", (480, 640), (2000, 2400),
        lambda path, picture: write_flat_tiff(path, picture.levels[0]),
    ),
)  # fmt: skip
