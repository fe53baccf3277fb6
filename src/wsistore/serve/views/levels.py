"""The pixels of one level, cut into the chunks of a view: the scanner's own JPEG data if it has such, else decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import imagecodecs
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ShardingCodec

from wsistore.client.slide import Slide
from wsistore.compress import complete_jpeg
from wsistore.compress.cache import MakingCache
from wsistore.compress.chunk_bytes import ChunkBytes, Indexes, SyncObjects
from wsistore.compress.chunk_decoders import decoder_of
from wsistore.compress.coding import Payload
from wsistore.compress.fold import FoldError
from wsistore.compress.grid import from_metadata
from wsistore.compress.tile_codecs import Fold, Jpeg
from wsistore.compress.zarr_store import ReadOnlyStore
from wsistore.errors import IntegrityError, WsistoreError
from wsistore.units import MIB

Pixels = npt.NDArray[Any]
Undone = tuple[Payload | None, ...]
Folds = MakingCache[tuple[str, int, int], Undone]
"""Payloads of folds that were undone, by attempt, level and chunk: all slides of a process share one."""

QUALITY = 90
"""Of pictures that are encoded here, because the slide has no JPEG data."""
EDGE = 512
"""Pixels; of chunks where the slide's own are no good."""
_LEAST_EDGE, _MOST_EDGE = 64, 2048
"""Pixels; of a slide's own tiles that become chunks of decoded views."""
_LEAST_PIXELS, _MOST_PIXELS = 64 * 1024, 1024 * 1024
"""Of strips that become one chunk together."""
_FOLDS_BYTES = 256 * MIB


def folds(most_bytes: int = _FOLDS_BYTES) -> Folds:
    """Return an empty cache of folds that were undone."""
    return MakingCache(most_bytes, lambda payloads: 64 + sum(len(one or b"") for one in payloads))


class LevelSource(Protocol):
    """Where the chunks of a level come from. Threads share it."""

    @property
    def is_stored(self) -> bool:
        """Whether the JPEG chunks are the scanner's own data."""
        ...

    @property
    def space(self) -> str:
        """Of the components in the JPEG chunks: RGB, YCBCR or GRAYSCALE."""
        ...

    @property
    def jpeg_shape(self) -> tuple[int, int] | None:
        """Height and width of a JPEG chunk; None where pixels of this kind are no JPEG."""
        ...

    @property
    def pixel_shape(self) -> tuple[int, int]:
        """Height and width of a chunk of decoded pixels."""
        ...

    def jpeg(self, row: int, column: int) -> bytes | None:
        """Return a JPEG chunk, complete; None where the slide has nothing."""
        ...

    def pixels(self, row: int, column: int) -> Pixels | None:
        """Return a chunk as (y, x, c), of full size at the edges too; None where the slide has nothing."""
        ...


def level_source(
    slide: Slide, number: int, store: ReadOnlyStore, indexes: Indexes, kept: Folds, attempt: str
) -> LevelSource:
    """Return what cuts the level `number` of a slide.

    Parameters
    ----------
    slide
        Decodes pixels of any kind.
    number
        Of the level.
    store
        The stored hierarchy, for what is passed on undecoded.
    indexes, kept
        Caches of shard indexes, of this slide, and of folds.
    attempt
        Of the copy: the slide's name in `kept`.

    """
    found = slide.group[f"{number}/image"]
    if not isinstance(found, zarr.Array):
        msg = f"{slide.name} has no array in level {number}."
        raise IntegrityError(msg, remedy="Verify the slide, and restore it from another copy.")
    codec = _jpeg_codec(found)
    if codec is not None:
        return StoredJpeg(found, codec, number, ChunkStore(found, store, indexes, slide.name), kept, attempt)
    return DecodedLevel(slide, number, found)


def _jpeg_codec(array: zarr.Array[Any]) -> Jpeg | Fold | None:
    """Return the codec whose chunks are JPEG data that can be shown as they are."""
    metadata: Any = array.metadata
    codecs = tuple(metadata.codecs)
    if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec) or array.dtype != np.uint8:
        return None
    codec, space = codecs[0].codecs[-1], "RGB" if array.shape[0] == 3 else "GRAYSCALE"
    if len(codecs[0].codecs) != 2 or not isinstance(codec, Jpeg | Fold) or (codec.colorspace_data or space) != space:
        return None
    return codec if complete_jpeg.COMPONENTS.get(codec.colorspace_jpeg or "") == array.shape[0] else None


class ChunkStore:
    """The stored chunks of a level, by number."""

    def __init__(self, array: zarr.Array[Any], store: ReadOnlyStore, indexes: Indexes, name: str) -> None:
        metadata: Any = array.metadata
        grid = from_metadata(array.path, metadata.to_dict(), where=f"{array.path}/zarr.json")
        self.chunks = ChunkBytes(SyncObjects(store), grid, sharded=True, indexes=indexes, name=name)
        self.grid, self.name = grid, name

    def get(self, chunk: int) -> bytes | None:
        """Return a chunk; None if there is none."""
        (place,) = self.chunks.locate([chunk])
        return None if place is None else self.chunks.fetch([place])[0]

    @contextmanager
    def decoding(self, chunk: int) -> Iterator[None]:
        """Turn what codec libraries raise into errors of ours."""
        try:
            yield
        except WsistoreError:
            raise
        except Exception as error:  # they raise what they like
            msg = f"{self.chunks.key(chunk)} of {self.name} cannot be decoded ({type(error).__name__}: {error!s:.200})."
            raise IntegrityError(msg, remedy="Verify the slide, and restore it from another copy.") from error


class StoredJpeg:
    """A level of JPEG tiles, or of strips, folded or not: nothing is decoded to show it as JPEG.

    A chunk of the JPEG view is one tile. Strips are shown many to a chunk, if that leaves all pixels as they are.
    """

    is_stored = True

    def __init__(
        self, array: zarr.Array[Any], codec: Jpeg | Fold, number: int, chunks: ChunkStore, kept: Folds, attempt: str
    ) -> None:
        self._codec, self._chunks, self._kept, self._name = codec, chunks, kept, (attempt, number)
        self._decoder = decoder_of(array, chunks.grid.chunk_shape)
        _, height, width = chunks.grid.chunk_shape
        self._tile_height = codec.tile_shape[0] if isinstance(codec, Fold) else height
        self._joins = codec.header is not None and complete_jpeg.joins_exactly(codec.header)
        self.space = codec.colorspace_jpeg or "GRAYSCALE"
        strips = 1 if codec.header is None else _strips(height // self._tile_height, self._tile_height * width)
        self.jpeg_shape = (self._tile_height * (strips if self._joins else 1), width)
        self.pixel_shape = (self._tile_height * strips, width)

    def jpeg(self, row: int, column: int) -> bytes | None:
        """Return a JPEG chunk."""
        tiles = self.jpeg_shape[0] // self._tile_height
        chunk, payloads = self._payloads(row * tiles, column, tiles)
        if payloads is None or all(one is None for one in payloads):
            return None
        try:
            return self._complete(payloads, tiles)
        except FoldError:  # an unusual tile, or a strip that is missing: shown all the same, as it decodes
            with self._chunks.decoding(chunk):
                return encoded(self._decoded(row * tiles, column, tiles, payloads))

    def _complete(self, payloads: Undone, tiles: int) -> bytes:
        codec, found = self._codec, [one for one in payloads if one is not None]
        if codec.header is None:
            return complete_jpeg.complete(found[0], codec.tables, self.space)
        if len(found) < len(payloads):
            msg = "strips are missing"
            raise FoldError(msg)
        # A column may end before its last chunk does: what is put there is below the level's edge.
        return complete_jpeg.complete_strips(codec.header, found + [found[-1]] * (tiles - len(found)), self.space)

    def pixels(self, row: int, column: int) -> Pixels | None:
        """Return a chunk of decoded pixels."""
        tiles = self.pixel_shape[0] // self._tile_height
        chunk, payloads = self._payloads(row * tiles, column, tiles)
        if payloads is None or all(one is None for one in payloads):
            return None
        with self._chunks.decoding(chunk):
            return self._decoded(row * tiles, column, tiles, payloads)

    def _payloads(self, tile_row: int, column: int, tiles: int) -> tuple[int, Undone | None]:
        """Return the chunk that `tiles` tiles from one down lie in, and those of them that it has; None if none."""
        grid = self._chunks.grid
        (down, across), per_chunk = grid.chunk_grid, grid.chunk_shape[1] // self._tile_height
        chunk_row, piece = divmod(tile_row, per_chunk)
        chunk = chunk_row * across + column
        if not (0 <= chunk_row < down and 0 <= column < across):
            return chunk, None
        undone = self._kept.get((*self._name, chunk), lambda: self._undo(chunk)) if per_chunk > 1 else self._undo(chunk)
        found = undone[piece : piece + tiles]
        return chunk, found or None

    def _undo(self, chunk: int) -> Undone:
        data = self._chunks.get(chunk)
        if data is None:
            return ()
        with self._chunks.decoding(chunk):
            return tuple(self._decoder.payloads(data))

    def _decoded(self, tile_row: int, column: int, tiles: int, payloads: Undone) -> Pixels:
        """Return the pixels of `payloads`, (tiles · tile height, width, c)."""
        height = tiles * self._tile_height
        _, pixels = self._decoder.decode(payloads, 0, height)
        return pixels[:height]


def _strips(of: int, pixels: int) -> int:
    """Return how many strips of so many pixels go into a chunk of a view: a divisor of those of a stored one."""
    fitting = [count for count in range(1, of + 1) if not of % count and count * pixels <= _MOST_PIXELS]
    most = max(fitting, default=1)
    return most if most * pixels >= _LEAST_PIXELS else of


class DecodedLevel:
    """A level of any other kind, or of a slide kept whole: decoded, and encoded as JPEG for who wants that."""

    is_stored = False

    def __init__(self, slide: Slide, number: int, array: zarr.Array[Any], shape: tuple[int, int] | None = None) -> None:
        self._slide, self._number = slide, number
        channels, self._height, self._width = array.shape
        self._fill = array.fill_value
        self.space = "YCBCR" if channels == 3 else "GRAYSCALE"
        self.pixel_shape = shape or _own_shape(array)
        self.jpeg_shape = self.pixel_shape if array.dtype == np.uint8 and channels in {1, 3} else None

    def jpeg(self, row: int, column: int) -> bytes | None:
        """Return a JPEG chunk."""
        pixels = None if self.jpeg_shape is None else self.pixels(row, column)
        return None if pixels is None else encoded(pixels)

    def pixels(self, row: int, column: int) -> Pixels | None:
        """Return a chunk of decoded pixels."""
        height, width = self.pixel_shape
        if row < 0 or column < 0 or row * height >= self._height or column * width >= self._width:
            return None
        pixels = self._slide.read_region(self._number, row * height, column * width, height, width)
        return None if np.all(pixels == self._fill) else pixels


def _own_shape(array: zarr.Array[Any]) -> tuple[int, int]:
    """Return height and width of a level's tiles, if they are good for chunks."""
    metadata: Any = array.metadata
    sharding = metadata.codecs[0] if len(metadata.codecs) == 1 else None
    chunk = sharding.chunk_shape if isinstance(sharding, ShardingCodec) else array.chunks
    good = all(_LEAST_EDGE <= edge <= _MOST_EDGE for edge in chunk[1:])
    return (chunk[1], chunk[2]) if good else (EDGE, EDGE)


def encoded(pixels: Pixels) -> bytes:
    """Return (y, x, c) uint8 of one or three channels as JPEG."""
    picture = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return bytes(imagecodecs.jpeg8_encode(picture, level=QUALITY, subsampling="444"))


def as_bytes(pixels: Pixels) -> bytes:
    """Return an array's samples, little-endian, zstd-compressed: a chunk of the codecs ``bytes`` and ``zstd``."""
    samples = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return bytes(imagecodecs.zstd_encode(samples.tobytes(), level=1))
