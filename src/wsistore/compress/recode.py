"""Other encodings of a stored slide's pixels, for export: chunks that more software decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

from wsistore.compress import fold, metadata, shards
from wsistore.compress.reader import StoredSlide
from wsistore.errors import Kind, UnsupportedError

Json = dict[str, Any]

_ZSTD_LEVEL = 3
_TALLEST_CHUNK = 512
"""Chunks of exported pixels are about this many pixels high and wide."""
_SHARD_CHUNKS = 8
"""Chunks along each side of an exported shard."""


def jpeg_only(stored: StoredSlide) -> None:
    """Refuse a slide whose tiles are not JPEG: encoding them as JPEG would lose bits.

    Raises
    ------
    UnsupportedError
        Naming the codec that its tiles have.

    """
    for number in range(len(stored.companion.levels)):
        _, codec = stored.array(number)
        if codec not in {"imagecodecs_jpeg", "wsistore.fold"}:
            msg = f"The tiles of slide {stored.place.slide} are {codec.removeprefix('imagecodecs_')}, not JPEG."
            remedy = "Export it as stored, or with --codec zstd: JPEG would lose bits."
            raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy=remedy)


def unfold(stored: StoredSlide, folder: Path) -> None:
    """Replace every folded array of an exported hierarchy by one whose chunks are single JPEG tiles.

    A chunk is one strip; the header that all strips share is in the codec's configuration, as `imagecodecs_jpeg` has
    it. Pixels are the same to the bit, because each tile is still decoded alone.
    """
    for number in range(len(stored.companion.levels)):
        grid, codec = stored.array(number)
        if codec != "wsistore.fold":
            continue
        document = stored.document(f"{number}/image")
        config = document["codecs"][0]["configuration"]
        settings = config["codecs"][-1]["configuration"]
        height, width = settings["tile_shape"]
        config["chunk_shape"] = [grid.chunk_shape[0], height, width]
        config["codecs"][-1] = {"name": "imagecodecs_jpeg", "configuration": _strip_config(settings, grid.shape[0])}
        (folder / f"{number}/image/zarr.json").write_bytes(metadata.dump(document))
        per_fold = grid.chunk_shape[1] // height
        for shard in range(grid.shard_grid[0] * grid.shard_grid[1]):
            path = folder / grid.shard_key(shard)
            if path.exists():
                index = stored.index(number, shard)
                path.write_bytes(_unfold_shard(path.read_bytes(), index, per_fold, grid.chunks_per_shard))


def _strip_config(settings: Json, channels: int) -> Json:
    return {
        "header": settings["header"],
        "colorspace_jpeg": settings["colorspace_jpeg"],
        "colorspace_data": "RGB" if channels == 3 else "GRAYSCALE",
    }


def _unfold_shard(data: bytes, index: Any, per_fold: int, chunks_per_shard: tuple[int, int]) -> bytes:
    down, across = chunks_per_shard
    out = bytearray()
    made = shards.empty_index(down * across * per_fold)
    for slot, (offset, nbytes) in enumerate(zip(index["offset"].tolist(), index["nbytes"].tolist(), strict=True)):
        if nbytes == shards.ABSENT:
            continue
        row, column = divmod(slot, across)
        for piece, scan in enumerate(fold.split(data[offset : offset + nbytes])):
            made[(row * per_fold + piece) * across + column] = (len(out), len(scan))
            out += scan
    return bytes(out) + shards.encode_index(made)


def write_pixels(source: zarr.Group, folder: Path, progress: Callable[[int], None]) -> None:
    """Write the hierarchy `source` to `folder` with its images as ``bytes`` + ``zstd``, which every reader knows."""
    target = zarr.open_group(folder, mode="w-", zarr_format=3, attributes=source.attrs.asdict())
    for name, array in source.arrays():
        _copy_small(array, target, name)
    for level, group in source.groups():
        made = target.create_group(level)
        for name, array in group.arrays():
            if name == "image":
                _write_image(array, made, progress)
            else:
                _copy_small(array, made, name)


def _names(array: Any) -> Any:
    return array.metadata.dimension_names


def _copy_small(array: Any, target: zarr.Group, name: str) -> None:
    values = np.asarray(array[:])
    serializer, compressors = BytesCodec(), [BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")]
    made = target.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        serializer=serializer,
        compressors=compressors,
        fill_value=array.fill_value,
        dimension_names=_names(array),
        attributes=array.attrs.asdict(),
    )
    made[...] = values


def _write_image(array: Any, target: zarr.Group, progress: Callable[[int], None]) -> None:
    channels, rows, columns = array.shape
    chunk = (channels, _near(array.chunks[1]), _near(array.chunks[2]))
    shard = (channels, chunk[1] * _SHARD_CHUNKS, chunk[2] * _SHARD_CHUNKS)
    made = target.create_array(
        "image",
        shape=array.shape,
        chunks=chunk,
        shards=shard,
        dtype=array.dtype,
        compressors=[ZstdCodec(level=_ZSTD_LEVEL)],
        fill_value=array.fill_value,
        dimension_names=_names(array),
    )
    for y in range(0, rows, shard[1]):
        for x in range(0, columns, shard[2]):
            pixels = np.asarray(array[:, y : y + shard[1], x : x + shard[2]])
            made[:, y : y + shard[1], x : x + shard[2]] = pixels
            progress(pixels.nbytes)


def _near(length: int) -> int:
    """Return a multiple of a tile's edge that is near `_TALLEST_CHUNK`."""
    return length * max(1, round(_TALLEST_CHUNK / length)) if length <= _TALLEST_CHUNK else _TALLEST_CHUNK
