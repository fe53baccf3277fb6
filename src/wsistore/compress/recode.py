"""Other encodings of a stored slide's pixels, for export: chunks that more software decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

from wsistore.compress import bounded, metadata, shards
from wsistore.compress.coding import ChunkCoding, CodingError
from wsistore.compress.reader import StoredSlide
from wsistore.errors import IntegrityError, Kind, UnsupportedError

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
        codec = _source_codecs(stored, number)[-1]["name"]
        if codec not in {"imagecodecs_jpeg", "wsistore.fold"}:
            msg = f"The tiles of slide {stored.place.slide} are {codec.removeprefix('imagecodecs_')}, not JPEG."
            remedy = "Export it as stored, or with --codec zstd: JPEG would lose bits."
            raise UnsupportedError(msg, kind=Kind.UNSUPPORTED_PIXELS, remedy=remedy)


def _source_codecs(stored: StoredSlide, number: int) -> list[Json]:
    """Return the inner codecs of a level as the slide had them at first."""
    keep = stored.companion.keep
    document = stored.document(f"{number}/image") if keep is None else dict(keep.arrays[number])
    codecs: list[Json] = document["codecs"][0]["configuration"]["codecs"]
    return codecs


def unfold(stored: StoredSlide, folder: Path) -> None:
    """Replace every folded array of an exported hierarchy by one whose chunks are single JPEG tiles.

    A chunk is the source's tile; or one strip, where the header that all strips share is in the codec's configuration,
    as `imagecodecs_jpeg` has it. Pixels are the same to the bit, because each tile is still decoded alone.

    Raises
    ------
    IntegrityError
        If a chunk cannot be undone.

    """
    for number in range(len(stored.companion.levels)):
        grid, coding = stored.array(number)[0], stored.coding(number)
        if stored.is_plain(number):
            continue
        document = stored.document(f"{number}/image")
        config = document["codecs"][0]["configuration"]
        config["chunk_shape"] = [grid.chunk_shape[0], *coding.tile_shape]
        config["codecs"] = [_tile_codec(codec, grid.shape[0]) for codec in _source_codecs(stored, number)]
        (folder / f"{number}/image/zarr.json").write_bytes(metadata.dump(document))
        for shard in range(grid.shard_grid[0] * grid.shard_grid[1]):
            path = folder / grid.shard_key(shard)
            if path.exists():
                index = stored.index(number, shard)
                made = _unfold_shard(path.read_bytes(), index, coding, grid.chunks_per_shard, grid.shard_key(shard))
                path.write_bytes(made)


def _tile_codec(codec: Json, channels: int) -> Json:
    """Return the codec of single tiles, given that of the source's chunks."""
    if codec["name"] != "wsistore.fold":
        return codec
    settings = codec["configuration"]
    configuration = {
        "header": settings["header"],
        "colorspace_jpeg": settings["colorspace_jpeg"],
        "colorspace_data": "RGB" if channels == 3 else "GRAYSCALE",
    }
    return {"name": "imagecodecs_jpeg", "configuration": configuration}


def _unfold_shard(data: bytes, index: Any, coding: ChunkCoding, chunks_per_shard: tuple[int, int], where: str) -> bytes:
    down, across = chunks_per_shard
    out = bytearray()
    made = shards.empty_index(down * across * coding.tiles)
    for slot, (offset, nbytes) in enumerate(zip(index["offset"].tolist(), index["nbytes"].tolist(), strict=True)):
        if nbytes == shards.ABSENT:
            continue
        row, column = divmod(slot, across)
        try:
            payloads = coding.decode(data[offset : offset + nbytes])
        except CodingError as error:
            msg = f"A chunk of {where} {error}."
            raise IntegrityError(msg, remedy=bounded.REMEDY) from error
        for piece, payload in enumerate(payloads):
            if payload is not None:
                made[(row * coding.tiles + piece) * across + column] = (len(out), len(payload))
                out += payload
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
