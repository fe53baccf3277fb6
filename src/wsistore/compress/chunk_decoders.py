"""From a chunk's stored bytes to pixels (y, x, c): the rows that are wanted, where the codec can tell them apart."""

from __future__ import annotations

from typing import Any, Protocol

import imagecodecs
import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.codec import Codec
from zarr.codecs import ShardingCodec, TransposeCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.registry import get_pipeline_class

from wsistore.compress import fold, jpeg_rows
from wsistore.compress.codec_base import TileCodec
from wsistore.compress.coding import Payloads
from wsistore.compress.folding import coding_of
from wsistore.compress.tile_codecs import Fold, Jpeg

Pixels = npt.NDArray[Any]
_ORDER = (1, 2, 0)


class ChunkDecoder(Protocol):
    """One way to decode the chunks of an array. Threads share it."""

    @property
    def folds(self) -> bool:
        """Whether a chunk has several payloads, which are worth keeping: getting them may take longer than decoding."""
        ...

    def payloads(self, data: bytes) -> Payloads:
        """Return the payloads of a chunk; of one that is no fold there is one, its bytes."""
        ...

    def decode(self, payloads: Payloads, top: int, bottom: int) -> tuple[int, Pixels]:
        """Return at least the rows [`top`, `bottom`) of a chunk.

        Returns
        -------
        first
            Number of the first row that is returned.
        pixels
            (rows, x, c), from row `first` on.

        """
        ...


class _Single:
    """A chunk is one payload."""

    folds = False

    def payloads(self, data: bytes) -> Payloads:
        """Return the chunk's bytes."""
        return [data]


class JpegTiles(_Single):
    """Chunks that are one JPEG each. Rows below those that are wanted are not decoded."""

    def __init__(self, codec: Jpeg, shape: tuple[int, int, int]) -> None:
        self._codec, self._shape = codec, shape

    def decode(self, payloads: Payloads, top: int, bottom: int) -> tuple[int, Pixels]:
        """Return the rows from 0 to `bottom` or somewhat further."""
        stream, rows = self.stream(payloads[0] or b"", bottom)
        pixels = np.empty((rows, *self._shape[1:]), np.uint8)
        self.fill(stream, pixels)
        return 0, pixels

    def stream(self, payload: bytes, bottom: int) -> tuple[bytes, int]:
        """Return a JPEG that has the first `bottom` rows of a tile, and how many it has."""
        header = self._codec.header
        stream = payload if header is None else b"".join((header, payload, fold.EOI))
        height = self._shape[0]
        return (stream, height) if bottom >= height else jpeg_rows.shortened(stream, bottom, height)

    def fill(self, stream: bytes, pixels: Pixels) -> None:
        """Decode a JPEG into (y, x, c)."""
        codec = self._codec
        imagecodecs.jpeg8_decode(
            stream,
            tables=codec.tables,
            colorspace=codec.colorspace_jpeg,
            outcolorspace=codec.colorspace_data,
            out=pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        )


class JpegFolds:
    """Folds of JPEG tiles or strips: of those only the ones that are wanted are decoded, each alone."""

    folds = True

    def __init__(self, codec: Fold, spec: ArraySpec) -> None:
        rows, _, channels = spec.shape
        self._tile_shape, self._channels, self._fill_value = codec.tile_shape, channels, spec.fill_value
        self._coding = coding_of(codec.settings, rows // codec.tile_shape[0])
        data = codec.colorspace_data or ("GRAYSCALE" if channels == 1 else "RGB")
        tile = Jpeg(codec.tables, codec.header, codec.colorspace_jpeg, data)
        self._tile = JpegTiles(tile, (*codec.tile_shape, channels))

    def payloads(self, data: bytes) -> Payloads:
        """Undo a fold."""
        return self._coding.decode(data)

    def decode(self, payloads: Payloads, top: int, bottom: int) -> tuple[int, Pixels]:
        """Return the rows of the tiles that have a row in [`top`, `bottom`)."""
        height, width = self._tile_shape
        first, last = top // height, -(-bottom // height)
        pixels = np.empty(((last - first) * height, width, self._channels), np.uint8)
        for number in range(first, last):
            payload = payloads[number] if number < len(payloads) else None
            start = (number - first) * height
            if payload is None:
                pixels[start : start + height] = self._fill_value
            else:
                stream, rows = self._tile.stream(payload, bottom - number * height)
                self._tile.fill(stream, pixels[start : start + rows])
        return first * height, pixels[: bottom - first * height]


class WholeTiles(_Single):
    """Chunks that one of our codecs decodes as a whole."""

    def __init__(self, codec: TileCodec, spec: ArraySpec) -> None:
        self._codec, self._spec = codec, spec

    def decode(self, payloads: Payloads, top: int, bottom: int) -> tuple[int, Pixels]:
        """Return all rows."""
        buffer = self._spec.prototype.buffer.from_bytes(payloads[0] or b"")
        return 0, self._codec._decode_sync(buffer, self._spec).as_numpy_array()


class AnyChunks(_Single):
    """Chunks of whatever codecs Zarr has, decoded by Zarr."""

    def __init__(self, codecs: tuple[Codec, ...], spec: ArraySpec) -> None:
        self._pipeline, self._spec = get_pipeline_class().from_codecs(codecs), spec

    def decode(self, payloads: Payloads, top: int, bottom: int) -> tuple[int, Pixels]:
        """Return all rows."""
        buffer = self._spec.prototype.buffer.from_bytes(payloads[0] or b"")
        (decoded,) = sync(self._pipeline.decode([(buffer, self._spec)]))
        if decoded is None:
            msg = "Zarr decoded it to nothing"
            raise ValueError(msg)
        return 0, np.moveaxis(decoded.as_numpy_array(), 0, -1)


def decoder_of(array: zarr.Array[Any], chunk_shape: tuple[int, int, int]) -> ChunkDecoder:
    """Return what decodes the chunks of a (c, y, x) array, which have the shape `chunk_shape`."""
    metadata: Any = array.metadata
    spec = metadata.get_chunk_spec((0, 0, 0), array.config, default_buffer_prototype())
    codecs: tuple[Codec, ...] = tuple(metadata.codecs)
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        codecs = tuple(codecs[0].codecs)
    channels, height, width = chunk_shape
    spec = _with_shape(spec, chunk_shape)
    match codecs:
        case (TransposeCodec(order=order), TileCodec() as codec) if tuple(order) == _ORDER:
            shape = (height, width, channels)
            if isinstance(codec, Jpeg) and array.dtype == np.uint8:
                return JpegTiles(codec, shape)
            if isinstance(codec, Fold) and not height % codec.tile_shape[0] and width == codec.tile_shape[1]:
                return JpegFolds(codec, _with_shape(spec, shape))
            return WholeTiles(codec, _with_shape(spec, shape))
        case _:
            return AnyChunks(codecs, spec)


def _with_shape(spec: ArraySpec, shape: tuple[int, int, int]) -> ArraySpec:
    return ArraySpec(shape, spec.dtype, spec.fill_value, spec.config, spec.prototype)
