"""Writes synthetic slides as Aperio SVS, generic tiled TIFF, OME-TIFF and flat TIFF, laid out as scanners do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid5

import numpy as np
import tifffile
from PIL import Image

from wsistore.errors import UnsupportedError
from wsistore.testing.encode import (
    CodecName,
    ColorName,
    Encoding,
    Picture,
    Subsampling,
    check_levels,
    encode,
    shared_tables,
    split_tables,
    strips,
)
from wsistore.testing.files import translated
from wsistore.testing.pages import COMPRESSION, TiledPage, jpeg_color
from wsistore.testing.pictures import Rgb

SvsCodec = Literal["jpeg", "jp2k-33003", "jp2k-33005"]

APERIO = "Aperio Image Library v12.0.15 "

APERIO_PROPERTIES: Mapping[str, str] = {
    "AppMag": "20",
    "StripeWidth": "2040",
    "ScanScope ID": "SS0000",
    "Filename": "SLIDE-0001",
    "Date": "05/14/31",
    "Time": "10:11:12",
    "MPP": "0.5000",
    "Left": "20.000000",
    "Top": "15.000000",
}
"""What a scanner says of a slide unless the caller says otherwise."""

_NAMESPACE = UUID("6f0c2c6e-0000-4000-8000-000000000000")
"""Of the identities of OME-TIFF files: the same slide gets the same, where tifffile would take time and machine."""
_IMAGE_DEPTH = ("ImageDepth", 4, 1, 1, True)
"""Aperio's pages carry SGI's tag for volumes; tifffile writes it only by name."""


def write_svs(
    path: Path,
    levels: Sequence[Rgb],
    *,
    tile: int = 240,
    codec: SvsCodec = "jpeg",
    color: ColorName = "ycbcr",
    subsampling: Subsampling = (2, 2),
    quality: int = 70,
    shared_tables: bool = True,
    thumbnail: Rgb | None = None,
    label: Rgb | None = None,
    macro: Rgb | None = None,
    properties: Mapping[str, str] | None = None,
    icc: bytes | None = None,
    bigtiff: bool = False,
) -> Path:
    """Write a slide in Aperio's layout: level 0, thumbnail, smaller levels, label (LZW strips), macro (JPEG strips).

    Parameters
    ----------
    path
        File to write.
    levels
        (y, x, 3), uint8 each, largest first.
    tile
        Side of a tile in pixels, a multiple of 16.
    codec
        JPEG, or JPEG 2000 under one of Aperio's compression numbers: 33003 codes YCbCr, 33005 RGB.
    color, subsampling, quality
        Of JPEG. RGB is coded without a marker and not subsampled, though the YCbCrSubSampling tag says so, as in
        Aperio's files.
    shared_tables
        Tiles without tables of their own, the tables in JPEGTables; else each tile is complete.
    thumbnail
        (y, x, 3), uint8; None: made from the levels.
    label, macro
        (y, x, 3), uint8; None: the slide has none.
    properties
        Fields of the ImageDescription beside (or instead of) `APERIO_PROPERTIES`.
    icc
        Colour profile of level 0.
    bigtiff
        With 64-bit offsets.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UnsupportedError
        If the levels do not get smaller.
    StorageError
        If the file cannot be written.

    """
    check_levels(levels)
    encoding, compression, name = _svs_encoding(codec, Encoding("jpeg", quality, color, subsampling))
    fields = "".join(f"|{key} = {value}" for key, value in ({**APERIO_PROPERTIES, **(properties or {})}).items())
    height, width = levels[0].shape[:2]
    how = f"({tile}x{tile}) {name} Q={quality}"
    small = thumbnail if thumbnail is not None else _thumbnail(levels[-1])
    tags = {"extratags": [_IMAGE_DEPTH]}
    pages = [TiledPage(level, (tile, tile), encoding, compression, shared_tables) for level in levels]
    with translated(path), tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        whole = f"{APERIO}\r\n{width}x{height} [0,0 {width}x{height}] {how}{fields}"
        pages[0].write(writer, description=whole, iccprofile=icc, **tags)
        reduced = f"{width}x{height} -> {small.shape[1]}x{small.shape[0]} - {fields}"
        _write_jpeg_strips(writer, small, 16, f"{APERIO}\r\n{reduced}")
        for page, level in zip(pages[1:], levels[1:], strict=True):
            reduced = f"{width}x{height} -> {level.shape[1]}x{level.shape[0]} {how}"
            page.write(writer, description=f"{APERIO}\r\n{reduced}", **tags)
        if label is not None:
            _write_lzw_strips(writer, label, f"{APERIO}\r\nlabel {label.shape[1]}x{label.shape[0]}")
        if macro is not None:
            says = f"{APERIO}\r\nmacro {macro.shape[1]}x{macro.shape[0]}"
            _write_jpeg_strips(writer, macro, 16, says, subfiletype=9)
    return path


def _svs_encoding(codec: SvsCodec, jpeg: Encoding) -> tuple[Encoding, int, str]:
    """Return how to encode, TIFF's number for it and Aperio's word for it."""
    if codec == "jp2k-33003":
        return replace(jpeg, codec="jp2k-ycbcr"), 33003, "J2K/YUV16"
    if codec == "jp2k-33005":
        return replace(jpeg, codec="jp2k"), 33005, "J2K/KDU"
    return jpeg, 7, "JPEG/RGB" if jpeg.color == "rgb" else "JPEG/YCC"


def _thumbnail(smallest: Rgb) -> Rgb:
    picture = Image.fromarray(smallest)
    picture.thumbnail((1024, 768))
    return np.asarray(picture)


def _write_jpeg_strips(
    writer: tifffile.TiffWriter, picture: Rgb, rows: int, description: str, *, subfiletype: int = 0
) -> None:
    encoding = Encoding("jpeg", 75, "rgb")
    data = [split_tables(one)[1] for one in strips(picture, rows, lambda one: encode(one, encoding))]
    writer.write(
        iter(data), shape=picture.shape, dtype=picture.dtype, rowsperstrip=rows, compression=7,
        jpegtables=shared_tables(picture, encoding), subfiletype=subfiletype, description=description,
        metadata=None, software=False, extratags=[_IMAGE_DEPTH], **jpeg_color(encoding),
    )  # fmt: skip


def _write_lzw_strips(writer: tifffile.TiffWriter, picture: Rgb, description: str) -> None:
    encoding = Encoding("lzw", predictor=True)
    data = strips(picture, 7, lambda one: encode(one, encoding))
    writer.write(
        iter(data), shape=picture.shape, dtype=picture.dtype, rowsperstrip=7, photometric="rgb", compression=5,
        predictor=2, subfiletype=1, description=description, metadata=None, software=False, extratags=[_IMAGE_DEPTH],
    )  # fmt: skip


def write_generic_tiff(
    path: Path,
    levels: Sequence[Picture],
    *,
    codec: CodecName = "jpeg",
    tile: tuple[int, int] = (256, 256),
    color: ColorName = "ycbcr",
    subsampling: Subsampling = (2, 2),
    quality: int = 80,
    predictor: bool = False,
    planar: bool = False,
    subifds: bool = False,
    shared_tables: bool = True,
    bigtiff: bool = False,
    byteorder: Literal["<", ">"] = "<",
    missing_tiles: Collection[tuple[int, int]] = (),
    um_per_px: float | None = 0.5,
    icc: bytes | None = None,
) -> Path:
    """Write a tiled pyramidal TIFF of no vendor.

    Parameters
    ----------
    path
        File to write.
    levels
        (y, x, 3) or (y, x) each, largest first; uint8, for lossless codecs also wider.
    codec
        ``jp2k`` is number 34712.
    tile
        Height and width in pixels, multiples of 16.
    color, subsampling, quality
        Of JPEG (quality also of WebP and JPEG 2000). For RGB the YCbCrSubSampling tag alone is set by `subsampling`.
    predictor
        Horizontal differences before LZW or deflate.
    planar
        Samples plane by plane; lossless codecs only.
    subifds
        Smaller levels hang below the first page; else they are pages of their own.
    shared_tables
        JPEG: tables in JPEGTables, not in the tiles.
    bigtiff, byteorder
        Flavour of TIFF.
    missing_tiles
        (level, tile) without data: offset and length 0.
    um_per_px
        Written as resolution; None: not written.
    icc
        Colour profile.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UnsupportedError
        If the levels do not get smaller, or codec, tile, predictor and sample type do not go together.
    StorageError
        If the file cannot be written.

    """
    check_levels(levels)
    if planar and (codec not in {"lzw", "deflate", "none"} or levels[0].ndim != 3):
        msg = f"{path} cannot keep {codec} samples of {levels[0].ndim} axes plane by plane."
        raise UnsupportedError(msg, remedy="Use lzw, deflate or none, and a picture in colour.")
    encoding = Encoding(codec, quality, color, subsampling, predictor)
    levels = [level.astype(level.dtype.newbyteorder(byteorder), copy=False) for level in levels]
    with translated(path), tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for number, level in enumerate(levels):
            missing = {one for at, one in missing_tiles if at == number}
            page = TiledPage(level, tile, encoding, COMPRESSION[codec], shared_tables, planar, missing)
            tags: dict[str, Any] = {"subfiletype": 1} if number else {"iccprofile": icc}
            if subifds and not number:
                tags["subifds"] = len(levels) - 1
            page.write(writer, **tags, **_resolution(um_per_px, levels, number))
    return path


def _resolution(um_per_px: float | None, levels: Sequence[Picture], number: int) -> dict[str, Any]:
    if um_per_px is None:
        return {}
    per_cm = tuple(10_000.0 / um_per_px * levels[number].shape[a] / levels[0].shape[a] for a in (1, 0))
    return {"resolution": per_cm, "resolutionunit": "CENTIMETER"}


def write_ome_tiff(
    path: Path,
    levels: Sequence[Picture],
    *,
    codec: CodecName = "jp2k",
    tile: tuple[int, int] = (256, 256),
    quality: int = 80,
    um_per_px: float = 0.5,
    name: str = "SLIDE-0001",
    bigtiff: bool = False,
) -> Path:
    """Write an OME-TIFF: levels as SubIFDs of the first page, OME-XML in its ImageDescription.

    Parameters
    ----------
    path
        File to write.
    levels
        (y, x, 3), uint8 each, largest first.
    codec
        JPEG 2000 is written under the number 33003, though RGB, as Bio-Formats does.
    tile
        Height and width in pixels, multiples of 16.
    quality
        Of lossy codecs.
    um_per_px
        PhysicalSizeX and PhysicalSizeY.
    name
        Name of the image.
    bigtiff
        With 64-bit offsets.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UnsupportedError
        If the levels do not get smaller.
    StorageError
        If the file cannot be written.

    """
    check_levels(levels)
    encoding = Encoding(codec, quality)
    number = 33003 if codec == "jp2k" else COMPRESSION[codec]
    metadata = {
        "UUID": str(uuid5(_NAMESPACE, f"{name} {codec} {levels[0].shape}")),
        "axes": "YXS",
        "Name": name,
        **{f"PhysicalSize{axis}": um_per_px for axis in "XY"},
        **{f"PhysicalSize{axis}Unit": "µm" for axis in "XY"},
    }
    pages = [TiledPage(level, tile, encoding, number, shared_tables=False) for level in levels]
    with translated(path), tifffile.TiffWriter(path, bigtiff=bigtiff, ome=True) as writer:
        pages[0].write(writer, subifds=len(levels) - 1, metadata=metadata)
        for page in pages[1:]:
            page.write(writer, subfiletype=1)
    return path


def write_flat_tiff(path: Path, picture: Picture, *, codec: Literal["lzw", "deflate", "none"] = "lzw") -> Path:
    """Write a TIFF in strips of 16 rows, without tiles or levels: what a camera's software saves.

    Parameters
    ----------
    path
        File to write.
    picture
        (y, x, 3) or (y, x).
    codec
        How strips are compressed.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    StorageError
        If the file cannot be written.

    """
    encoding = Encoding(codec, predictor=codec != "none")
    with translated(path), tifffile.TiffWriter(path) as writer:
        writer.write(
            iter(strips(picture, 16, lambda one: encode(one, encoding))), shape=picture.shape, dtype=picture.dtype,
            rowsperstrip=16, compression=COMPRESSION[codec], predictor=2 if encoding.predictor else None,
            photometric="rgb" if picture.ndim == 3 else "minisblack", metadata=None, software=False,
        )  # fmt: skip
    return path
