"""Zarr codecs that decode the vendors' tiles, registered through Zarr's entry points.

The ``imagecodecs_*`` codecs have the names and configurations that `imagecodecs.zarr` gives them, so that stores open
with either implementation; where both are installed ours is chosen, on purpose (see `prefer_ours`). They decode with
the same libraries. Ours encode nothing that is lossy: a store is made from tiles, not from pixels.

All array-to-bytes codecs here work on chunks of shape (y, x) or (y, x, channels); a ``transpose`` before them gives
the array its OME order (c, y, x).
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import imagecodecs
import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from wsistore.compress import fold
from wsistore.slides.decode import rgb_from_ycbcr

Pixels = npt.NDArray[Any]


def _configuration(data: dict[str, JSON], name: str) -> dict[str, Any]:
    _, configuration = parse_named_configuration(data, name, require_configuration=False)
    return dict(configuration or {})


class _TileCodec(ArrayBytesCodec):
    """Shared shape of the decoders: one compressed picture to one chunk, in a thread."""

    is_fixed_size = False
    name: ClassVar[str]

    def decode_bytes(self, data: bytes, shape: tuple[int, ...]) -> Pixels:
        """Return the picture of one chunk of `shape`."""
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        pixels = self.decode_bytes(chunk_bytes.to_bytes(), chunk_spec.shape)
        dtype = chunk_spec.dtype.to_native_dtype()
        pixels = pixels.astype(dtype, copy=False).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        msg = f"{self.name} keeps a vendor's tiles and encodes none; export the slide to another codec instead"
        raise NotImplementedError(msg)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a compressed chunk is not known beforehand."""
        raise NotImplementedError


@dataclass(frozen=True)
class Jpeg(_TileCodec):
    """JPEG by libjpeg-turbo; ``tables`` completes abbreviated streams."""

    name = "imagecodecs_jpeg"
    tables: bytes | None = None
    colorspace_jpeg: str | None = None
    colorspace_data: str | None = None
    level: int | None = None

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON; ``tables`` is base64."""
        config = _configuration(data, cls.name)
        tables = config.get("tables")
        known = {"tables", "colorspace_jpeg", "colorspace_data", "level"}
        if unknown := set(config) - known:
            msg = f"{cls.name}: cannot honour {sorted(unknown)}"
            raise ValueError(msg)
        return cls(
            tables=base64.b64decode(tables) if tables else None,
            colorspace_jpeg=config.get("colorspace_jpeg"),
            colorspace_data=config.get("colorspace_data"),
            level=config.get("level"),
        )

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        config: dict[str, JSON] = {}
        for key in ("level", "colorspace_data", "colorspace_jpeg"):
            value = getattr(self, key)
            if value is not None:
                config[key] = value
        if self.tables is not None:
            config["tables"] = base64.b64encode(self.tables).decode("ascii")
        return {"name": self.name, "configuration": config}

    def decode_bytes(self, data: bytes, shape: tuple[int, ...]) -> Pixels:
        """Return (y, x) or (y, x, 3) uint8."""
        return imagecodecs.jpeg8_decode(
            data, tables=self.tables, colorspace=self.colorspace_jpeg, outcolorspace=self.colorspace_data
        )

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        pixels = np.squeeze(chunk_array.as_numpy_array())
        if self.tables is not None or self.level is None:
            return await super()._encode_single(chunk_array, chunk_spec)
        data = await asyncio.to_thread(imagecodecs.jpeg8_encode, np.atleast_2d(pixels), level=self.level)
        return chunk_spec.prototype.buffer.from_bytes(data)


@dataclass(frozen=True)
class _Plain(_TileCodec):
    """A codec whose configuration does not change decoding."""

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec; encoder settings in the configuration do not matter for decoding."""
        _configuration(data, cls.name)
        return cls()

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return {"name": self.name}


@dataclass(frozen=True)
class Jpeg2k(_Plain):
    """JPEG 2000 by OpenJPEG."""

    name = "imagecodecs_jpeg2k"

    def decode_bytes(self, data: bytes, shape: tuple[int, ...]) -> Pixels:
        """Return (y, x) or (y, x, channels)."""
        return imagecodecs.jpeg2k_decode(data)


@dataclass(frozen=True)
class Webp(_Plain):
    """WebP by libwebp."""

    name = "imagecodecs_webp"

    def decode_bytes(self, data: bytes, shape: tuple[int, ...]) -> Pixels:
        """Return (y, x, 3) uint8."""
        return imagecodecs.webp_decode(data, hasalpha=False)


@dataclass(frozen=True)
class Fold(_TileCodec):
    """k vertically adjacent JPEG tiles kept as one JPEG, split before decoding: see `wsistore.compress.fold`."""

    name = "wsistore.fold"
    tile_shape: tuple[int, int] = (8, 8)
    header: bytes = b""
    colorspace_jpeg: str = "YCBCR"
    inner: str = "jpeg"

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON.

        Raises
        ------
        ValueError
            If the configuration is of a newer wsistore.

        """
        config = _configuration(data, cls.name)
        if unknown := set(config) - {"tile_shape", "header", "colorspace_jpeg", "inner"}:
            msg = f"{cls.name}: unknown settings {sorted(unknown)}; a newer wsistore may know them"
            raise ValueError(msg)
        if config.get("inner") != "jpeg":
            msg = f"{cls.name}: cannot decode folds with {config.get('inner')!r} inside; a newer wsistore may"
            raise ValueError(msg)
        height, width = config["tile_shape"]
        return cls(
            tile_shape=(int(height), int(width)),
            header=base64.b64decode(config["header"]),
            colorspace_jpeg=config["colorspace_jpeg"],
        )

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return {
            "name": self.name,
            "configuration": {
                "inner": self.inner,
                "tile_shape": list(self.tile_shape),
                "colorspace_jpeg": self.colorspace_jpeg,
                "header": base64.b64encode(self.header).decode("ascii"),
            },
        }

    def decode_bytes(self, data: bytes, shape: tuple[int, ...]) -> Pixels:
        """Return (k·tile height, tile width, channels) uint8, each tile decoded alone."""
        out = np.zeros(shape, np.uint8)
        height, width = self.tile_shape
        for number, scan in enumerate(fold.split(data)):
            tile = imagecodecs.jpeg8_decode(
                fold.tile(self.header, scan),
                colorspace=self.colorspace_jpeg,
                outcolorspace="RGB" if shape[-1] == 3 else None,
            )
            rows = out[number * height : (number + 1) * height]
            rows[...] = tile.reshape(*tile.shape[:2], shape[-1])[: rows.shape[0], :width]
        return out


class _Bytes(BytesBytesCodec):
    """Shared shape of the byte decoders."""

    is_fixed_size = False
    name: ClassVar[str]

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec; encoder settings in the configuration do not matter for decoding."""
        _configuration(data, cls.name)
        return cls()

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return {"name": self.name}

    def decode_bytes(self, data: bytes) -> bytes:
        """Return the decompressed bytes."""
        raise NotImplementedError

    def encode_bytes(self, data: bytes) -> bytes:
        """Return the compressed bytes."""
        raise NotImplementedError

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        data = await asyncio.to_thread(self.decode_bytes, chunk_bytes.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        data = await asyncio.to_thread(self.encode_bytes, chunk_bytes.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(data)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a compressed chunk is not known beforehand."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lzw(_Bytes):
    """TIFF's LZW."""

    name = "imagecodecs_lzw"

    def decode_bytes(self, data: bytes) -> bytes:
        """Return the decompressed bytes."""
        return bytes(imagecodecs.lzw_decode(data))

    def encode_bytes(self, data: bytes) -> bytes:
        """Return the compressed bytes."""
        return bytes(imagecodecs.lzw_encode(data))


@dataclass(frozen=True)
class Zlib(_Bytes):
    """TIFF's deflate: the zlib format."""

    name = "imagecodecs_zlib"

    def decode_bytes(self, data: bytes) -> bytes:
        """Return the decompressed bytes."""
        return bytes(imagecodecs.zlib_decode(data))

    def encode_bytes(self, data: bytes) -> bytes:
        """Return the compressed bytes."""
        return bytes(imagecodecs.zlib_encode(data))


class _Filter(ArrayArrayCodec):
    """Shared shape of the array filters."""

    is_fixed_size = True

    def decode_array(self, pixels: Pixels) -> Pixels:
        """Undo the filter."""
        raise NotImplementedError

    def encode_array(self, pixels: Pixels) -> Pixels:
        """Apply the filter."""
        raise NotImplementedError

    async def _decode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        pixels = self.decode_array(chunk_array.as_numpy_array())
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels.reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer | None:
        pixels = self.encode_array(chunk_array.as_numpy_array())
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return the same size."""
        return input_byte_length


@dataclass(frozen=True)
class Delta(_Filter):
    """Differences along an axis: TIFF's horizontal predictor."""

    axis: int = -1
    dist: int = 1

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON."""
        return cls(**_configuration(data, "imagecodecs_delta"))

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return {"name": "imagecodecs_delta", "configuration": {"axis": self.axis, "dist": self.dist}}

    def decode_array(self, pixels: Pixels) -> Pixels:
        """Sum the differences, modulo the sample's range."""
        return imagecodecs.delta_decode(np.ascontiguousarray(pixels), axis=self.axis, dist=self.dist)

    def encode_array(self, pixels: Pixels) -> Pixels:
        """Take the differences, modulo the sample's range."""
        return imagecodecs.delta_encode(np.ascontiguousarray(pixels), axis=self.axis, dist=self.dist)


@dataclass(frozen=True)
class YCbCr(_Filter):
    """Full-range YCbCr samples, last axis, to RGB: JPEG 2000 tiles of Aperio's compression 33003.

    The conversion is `wsistore.slides.decode.rgb_from_ycbcr`.
    """

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON."""
        _configuration(data, "wsistore.ycbcr")
        return cls()

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return {"name": "wsistore.ycbcr"}

    def decode_array(self, pixels: Pixels) -> Pixels:
        """Convert (y, x, 3) uint8 YCbCr to RGB."""
        return rgb_from_ycbcr(pixels)

    def encode_array(self, pixels: Pixels) -> Pixels:
        """Refuse: rounding would lose bits."""
        msg = "wsistore.ycbcr decodes only"
        raise NotImplementedError(msg)


_OURS: dict[str, type] = {
    "imagecodecs_jpeg": Jpeg,
    "imagecodecs_jpeg2k": Jpeg2k,
    "imagecodecs_webp": Webp,
    "imagecodecs_lzw": Lzw,
    "imagecodecs_zlib": Zlib,
    "imagecodecs_delta": Delta,
    "wsistore.fold": Fold,
    "wsistore.ycbcr": YCbCr,
}


def prefer_ours() -> None:
    """Tell Zarr which implementation to take where `imagecodecs-zarr` offers the same names.

    Zarr loads every entry point of a name before it chooses, so importing this module is early enough; a choice that
    the user has configured stays.
    """
    chosen = zarr.config.get("codecs", {})
    ours = {f"codecs.{name}": f"{cls.__module__}.{cls.__qualname__}" for name, cls in _OURS.items()}
    zarr.config.set({key: value for key, value in ours.items() if key.removeprefix("codecs.") not in chosen})


prefer_ours()
