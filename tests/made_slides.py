"""Made-up slides of every kind that tests of the store go through: each source's codec, layout and oddity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.slides.base import Codec
from wsistore.testing import mutate
from wsistore.testing.dicom import write_series
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import label_image, pyramid, srgb_profile
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_ome_tiff, write_svs
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]
Maker = Callable[[Path], Path]


def levels(height: int = 500, width: int = 700, count: int = 2) -> list[Pixels]:
    return list(pyramid(tissue(height, width, seed=21), 2, count))


def wide(picture: Pixels) -> Pixels:
    """Return a picture in 16 bits."""
    ramp = np.arange(picture.shape[1], dtype=np.uint16)
    return picture.astype(np.uint16) * 257 - (ramp if picture.ndim == 2 else ramp[:, None])


def generic(name: str, **options: Any) -> Maker:
    return lambda folder: write_generic_tiff(folder / name, levels(), tile=(128, 96 + 32), **options)


def grey(name: str, dtype: str = "uint8", **options: Any) -> Maker:
    def make(folder: Path) -> Path:
        planes = [one[..., 1] for one in levels()]
        return write_generic_tiff(folder / name, planes if dtype == "uint8" else [wide(p) for p in planes], **options)

    return make


def dicom(**layout: Any) -> Maker:
    def make(folder: Path) -> Path:
        write_series(folder / "series", levels(), label=label_image("PATIENT-0001"), **layout)
        return folder / "series"

    return make


def changed(change: Callable[..., Path], *arguments: Any) -> Maker:
    def make(folder: Path) -> Path:
        good = write_svs(folder / "good.svs", levels(), tile=128)
        return change(good, folder / "odd.svs", *arguments)

    return make


TILES: dict[str, tuple[Maker, Codec]] = {
    "svs-420": (lambda f: write_svs(f / "a.svs", levels(), tile=128, icc=srgb_profile()), Codec.JPEG),
    "svs-422": (lambda f: write_svs(f / "a.svs", levels(), tile=128, subsampling=(2, 1)), Codec.JPEG),
    "svs-rgb": (lambda f: write_svs(f / "a.svs", levels(), tile=240, color="rgb"), Codec.JPEG),
    "svs-tables-in-tiles": (lambda f: write_svs(f / "a.svs", levels(), shared_tables=False), Codec.JPEG),
    "svs-33003": (lambda f: write_svs(f / "a.svs", levels(), codec="jp2k-33003"), Codec.JPEG2000),
    "svs-33005": (lambda f: write_svs(f / "a.svs", levels(), codec="jp2k-33005"), Codec.JPEG2000),
    "svs-big": (lambda f: write_svs(f / "a.svs", levels(), bigtiff=True), Codec.JPEG),
    "jpeg-subifds": (generic("a.tiff", subifds=True), Codec.JPEG),
    "jpeg-grey": (grey("a.tiff"), Codec.JPEG),
    "webp": (generic("a.tiff", codec="webp"), Codec.WEBP),
    "lzw-predictor": (generic("a.tiff", codec="lzw", predictor=True), Codec.LZW),
    "lzw-big-endian": (generic("a.tiff", codec="lzw", byteorder=">"), Codec.LZW),
    "deflate": (generic("a.tiff", codec="deflate"), Codec.DEFLATE),
    "none": (generic("a.tiff", codec="none"), Codec.NONE),
    "grey-16-lzw-predictor": (grey("a.tiff", "uint16", codec="lzw", predictor=True), Codec.LZW),
    "grey-16-deflate-predictor-big-endian": (
        grey("a.tiff", "uint16", codec="deflate", predictor=True, byteorder=">"), Codec.DEFLATE
    ),
    "grey-16-none-big-endian": (grey("a.tiff", "uint16", codec="none", byteorder=">"), Codec.NONE),
    "missing-tiles": (generic("a.tiff", missing_tiles=[(0, 0), (1, 2), (3, 3)]), Codec.JPEG),
    "ome-jpeg2000": (lambda f: write_ome_tiff(f / "a.ome.tiff", levels()), Codec.JPEG2000),
    "ome-jpeg": (lambda f: write_ome_tiff(f / "a.ome.tiff", levels(), codec="jpeg"), Codec.JPEG),
    "ndpi-420-narrow": (lambda f: write_ndpi(f / "a.ndpi", levels(512, 768), restart_mcus=8), Codec.JPEG_STRIPS),
    "ndpi-420": (lambda f: write_ndpi(f / "a.ndpi", levels(500, 700)), Codec.JPEG_STRIPS),
    "ndpi-422": (lambda f: write_ndpi(f / "a.ndpi", levels(512, 768), subsampling="422"), Codec.JPEG_STRIPS),
    "ndpi-444-dark": (
        lambda f: write_ndpi(f / "a.ndpi", levels(), subsampling="444", content="fluorescence"), Codec.JPEG_STRIPS
    ),
    "dicom-jpeg": (dicom(), Codec.JPEG),
    "dicom-fragments": (dicom(fragments_per_frame=3), Codec.JPEG),
    "dicom-no-offsets": (dicom(offset_table="empty"), Codec.JPEG),
    "dicom-extended-offsets": (dicom(offset_table="extended"), Codec.JPEG),
    "dicom-sparse": (dicom(sparse=True), Codec.JPEG),
    "dicom-concatenated": (dicom(concatenation=3), Codec.JPEG),
    "dicom-jpeg2000": (dicom(codec="jpeg2000"), Codec.JPEG2000),
    "dicom-native": (dicom(codec="none"), Codec.NONE),
    "dicom-native-planar": (dicom(codec="none", planar=True, implicit=True), Codec.NONE),
    "shared-offsets": (changed(mutate.shared_offsets, (0, 5)), Codec.JPEG),
    "sparse": (changed(mutate.sparse, (0, 7)), Codec.JPEG),
    "padded": (changed(mutate.padded), Codec.JPEG),
    "hidden-bytes-behind-a-tile": (
        changed(lambda good, out: mutate.padded(good, out, padding=b"PATIENT-0001")), Codec.JPEG
    ),
    "no-tile-at-all": (changed(mutate.sparse, range(4 * 6)), Codec.JPEG),
    "differing-tables": (lambda f: mutate.tiles_of_differing_tables(f / "a.tiff"), Codec.JPEG),
    "overriding-tables": (lambda f: mutate.tiles_of_differing_tables(f / "a.tiff", overriding=True), Codec.JPEG),
}  # fmt: skip

WHOLE: dict[str, Maker] = {
    "flat-lzw": lambda f: write_flat_tiff(f / "a.tiff", levels(count=1)[0]),
    "flat-deflate": lambda f: write_flat_tiff(f / "a.tiff", levels(count=1)[0], codec="deflate"),
    "planar-tiff": generic("a.tiff", codec="deflate", planar=True),
    "overlapping": changed(mutate.overlapping),
}
