"""Writes one page of a TIFF from a picture: the part that all synthetic TIFF slides share."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import tifffile

from wsistore.testing.encode import Encoding, Picture, abbreviated, encoded_tiles, shared_tables

COMPRESSION = {
    "jpeg": 7, "jp2k": 34712, "jp2k-ycbcr": 34712, "webp": 50001, "lzw": 5, "deflate": 8, "none": 1,
}  # fmt: skip
"""TIFF's numbers of what `encode` makes."""


@dataclass(frozen=True, slots=True)
class TiledPage:
    """One page of a TIFF, tiled."""

    picture: Picture
    tile: tuple[int, int]
    encoding: Encoding
    compression: int
    shared_tables: bool = True
    planar: bool = False
    missing: Collection[int] = ()

    def write(self, writer: tifffile.TiffWriter, **tags: Any) -> None:
        """Append the page; `tags` are arguments of `tifffile.TiffWriter.write`."""
        if self.encoding.codec == "jpeg":
            tags |= self._jpeg_tags()
        shape = self.picture.shape
        if self.planar:
            shape = (shape[2], *shape[:2])
            tags["planarconfig"] = "separate"
        elif len(shape) == 3:
            tags["planarconfig"] = "contig"
        tags.setdefault("photometric", "rgb" if len(self.picture.shape) == 3 else "minisblack")
        writer.write(
            self._tiles(), shape=shape, dtype=self.picture.dtype, tile=self.tile, compression=self.compression,
            predictor=2 if self.encoding.predictor else None, **{"metadata": None, "software": False} | tags,
        )  # fmt: skip

    def _tiles(self) -> Iterator[bytes]:
        planes = [self.picture[..., c] for c in range(self.picture.shape[2])] if self.planar else [self.picture]
        for plane in planes:
            tiles = encoded_tiles(plane, self.tile, self.encoding, missing=self.missing)
            cut_out = self.encoding.codec == "jpeg" and self.shared_tables
            yield from abbreviated(tiles) if cut_out else tiles

    def _jpeg_tags(self) -> dict[str, Any]:
        tags: dict[str, Any] = {}
        if self.shared_tables:
            tags["jpegtables"] = shared_tables(self.picture, self.encoding)
        if self.picture.ndim == 3:
            tags |= jpeg_color(self.encoding)
        return tags


def jpeg_color(encoding: Encoding) -> dict[str, Any]:
    """Return how to tell tifffile what the components of JPEG tiles are."""
    if encoding.color == "rgb":
        return {"photometric": "rgb", "subsampling": encoding.subsampling, "compressionargs": {"outcolorspace": "RGB"}}
    return {"photometric": "ycbcr", "subsampling": encoding.subsampling}
