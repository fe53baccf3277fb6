"""Zarr codecs that undo what TIFF does to plain samples: LZW, deflate, differencing, and YCbCr."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import imagecodecs
from zarr.core.common import JSON

from wsistore.compress.codec_base import ByteCodec, Filter, Pixels, WithSettings, named, settings_of
from wsistore.slides.decode import rgb_from_ycbcr


@dataclass(frozen=True)
class Lzw(WithSettings, ByteCodec):
    """TIFF's LZW."""

    name = "imagecodecs_lzw"
    known = frozenset()

    __hash__ = WithSettings.__hash__

    def decode_bytes(self, data: bytes, most: int) -> bytes:
        """Return the decompressed bytes."""
        return bytes(imagecodecs.lzw_decode(data, out=most))

    def encode_bytes(self, data: bytes) -> bytes:
        """Return the compressed bytes."""
        return bytes(imagecodecs.lzw_encode(data))


@dataclass(frozen=True)
class Zlib(WithSettings, ByteCodec):
    """TIFF's deflate: the zlib format."""

    name = "imagecodecs_zlib"
    known = frozenset({"level"})

    __hash__ = WithSettings.__hash__

    def decode_bytes(self, data: bytes, most: int) -> bytes:
        """Return the decompressed bytes."""
        return bytes(imagecodecs.zlib_decode(data, out=most))

    def encode_bytes(self, data: bytes) -> bytes:
        """Return the compressed bytes."""
        return bytes(imagecodecs.zlib_encode(data, level=self.settings.get("level")))


@dataclass(frozen=True)
class Delta(Filter):
    """Differences along an axis: TIFF's horizontal predictor."""

    axis: int = -1
    dist: int = 1

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON.

        Raises
        ------
        ValueError
            If it has settings that cannot be heeded.

        """
        config = settings_of(data, "imagecodecs_delta", frozenset({"axis", "dist"}))
        if wrong := {key: value for key, value in config.items() if type(value) is not int}:
            msg = f"imagecodecs_delta: {wrong} must be whole numbers"
            raise ValueError(msg)
        return cls(**config)

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return named("imagecodecs_delta", {"axis": self.axis, "dist": self.dist})

    def decode_array(self, pixels: Pixels) -> Pixels:
        """Sum the differences, modulo the sample's range."""
        decoded: Pixels = imagecodecs.delta_decode(pixels, axis=self.axis, dist=self.dist)
        return decoded

    def encode_array(self, pixels: Pixels) -> Pixels:
        """Take the differences, modulo the sample's range."""
        encoded: Pixels = imagecodecs.delta_encode(pixels, axis=self.axis, dist=self.dist)
        return encoded


@dataclass(frozen=True)
class YCbCr(Filter):
    """Full-range YCbCr samples, last axis, to RGB: JPEG 2000 tiles of Aperio's compression 33003.

    The conversion is `wsistore.slides.decode.rgb_from_ycbcr`.
    """

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON.

        Raises
        ------
        ValueError
            If it has settings: there are none.

        """
        settings_of(data, "wsistore.ycbcr", frozenset())
        return cls()

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return named("wsistore.ycbcr", {})

    def decode_array(self, pixels: Pixels) -> Pixels:
        """Convert (y, x, 3) uint8 YCbCr to RGB."""
        return rgb_from_ycbcr(pixels)

    def encode_array(self, pixels: Pixels) -> Pixels:
        """Refuse: rounding would lose bits."""
        msg = "wsistore.ycbcr decodes only"
        raise NotImplementedError(msg)
