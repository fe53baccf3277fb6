"""JPEG tiles of all kinds for tests: made by Pillow and libjpeg-turbo, or bent from such."""

from __future__ import annotations

import io
import struct
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image

from wsistore.compress.coding import Json
from wsistore.compress.folding import TILE_CODEC, TRANSPOSE, FoldCoding, to_base64

Pixels = npt.NDArray[np.uint8]
Sampling = Literal["4:4:4", "4:2:2", "4:2:0", "4:1:1", "grey", "rgb"]
SAMPLINGS: tuple[Sampling, ...] = ("4:4:4", "4:2:2", "4:2:0", "4:1:1", "grey", "rgb")

_FACTORS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2), "4:1:1": (4, 1)}


def tile_of(pixels: Pixels, sampling: Sampling = "4:2:0", **options: Any) -> bytes:
    """Return (y, x, 3) pixels as a complete JPEG; options are those of Pillow's encoder."""
    if sampling == "4:1:1":  # Pillow has no word for it
        return bytes(imagecodecs.jpeg8_encode(pixels, level=options.get("quality", 75), subsampling=_FACTORS[sampling]))
    if sampling == "rgb":
        options["keep_rgb"] = True
    elif sampling != "grey":
        options["subsampling"] = sampling
    out = io.BytesIO()
    Image.fromarray(pixels if sampling != "grey" else pixels[..., 1]).save(out, "JPEG", **{"quality": 75} | options)
    return out.getvalue()


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """Return code and bytes of all segments up to SOS, found by their lengths alone."""
    at, found = 2, []
    while True:
        stop = at + 2 + int(struct.unpack_from(">H", data, at + 2)[0])
        found.append((data[at + 1], data[at:stop]))
        if data[at + 1] == 0xDA:
            return found
        at = stop


def abbreviated(tile: bytes, shared: tuple[int, ...] = (0xDB, 0xC4)) -> tuple[bytes, bytes]:
    """Return the stream of tables and the tile without them, as a TIFF has them; `shared` tells which tables."""
    own = segments(tile)
    tables = b"".join(data for code, data in own if code in shared)
    rest = b"".join(data for code, data in own if code not in shared)
    scan = tile[2 + sum(len(data) for _, data in own) :]
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + rest + scan


def with_segment(tile: bytes, code: int, body: bytes) -> bytes:
    """Return the tile with one more segment behind SOI."""
    return tile[:2] + struct.pack(">BBH", 0xFF, code, len(body) + 2) + body + tile[2:]


def with_frame_code(tile: bytes, code: int) -> bytes:
    """Return the tile with another marker than SOF0."""
    at = tile.index(b"\xff\xc0")
    return tile[: at + 1] + bytes([code]) + tile[at + 2 :]


def decoded(tile: bytes, sampling: Sampling, tables: bytes | None = None) -> Pixels:
    """Return the pixels of a tile decoded alone by libjpeg-turbo."""
    pixels: Pixels = imagecodecs.jpeg8_decode(
        tile, tables=tables, colorspace=space_of(sampling), outcolorspace="GRAYSCALE" if sampling == "grey" else "RGB"
    )
    return pixels


def space_of(sampling: Sampling) -> str:
    """Return what the coded components are."""
    return {"grey": "GRAYSCALE", "rgb": "RGB"}.get(sampling, "YCBCR")


def keep_codecs(sampling: Sampling, tables: bytes | None = None) -> list[Json]:
    """Return the codecs that a hot store has for such tiles."""
    config: Json = {"colorspace_jpeg": space_of(sampling)}
    config["colorspace_data"] = "GRAYSCALE" if sampling == "grey" else "RGB"
    if tables is not None:
        config["tables"] = to_base64(tables)
    return [TRANSPOSE, {"name": TILE_CODEC, "configuration": config}]


def folding(
    shape: tuple[int, int], tiles: int = 8, sampling: Sampling = "4:2:0", tables: bytes | None = None
) -> FoldCoding:
    """Return the coding that folds such tiles."""
    return FoldCoding.for_source(keep_codecs(sampling, tables), shape, tiles)
