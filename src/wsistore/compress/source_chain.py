"""What the inner codecs of the preset `keep` say of a level's tiles, and the way from a tile to its pixels and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress.coding import CodingError, Json
from wsistore.errors import BrokenError
from wsistore.slides.base import Codec, Color, Level, TileCoding, empty_segments
from wsistore.slides.decode import decode_tile

Pixels = npt.NDArray[Any]
PLAIN = frozenset({Codec.NONE, Codec.LZW, Codec.DEFLATE})
"""Codecs whose tiles are samples, compressed without loss."""

_TRANSPOSE = {"order": [1, 2, 0]}
_PICTURES: Mapping[str, Codec] = {"imagecodecs_jpeg2k": Codec.JPEG2000, "imagecodecs_webp": Codec.WEBP}
_COMPRESSORS: Mapping[str, Codec] = {"imagecodecs_lzw": Codec.LZW, "imagecodecs_zlib": Codec.DEFLATE}
_TYPES = frozenset("ui")


@dataclass(frozen=True, slots=True)
class SourceChain:
    """How a source's tile becomes pixels.

    Parameters
    ----------
    coding
        As the level had it.
    shape
        Channels, height and width of a tile.
    dtype
        NumPy name of the samples.

    """

    coding: TileCoding
    shape: tuple[int, int, int]
    dtype: str

    @property
    def raw_bytes(self) -> int:
        """Bytes that a tile's samples take."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def decode(self, payload: bytes) -> Pixels:
        """Return the pixels of a tile, shape (y, x, c), native byte order: the truth.

        Raises
        ------
        CodingError
            If it does not decode to that.

        """
        channels, height, width = self.shape
        level = Level(height, width, height, width, self.coding, empty_segments(), channels, self.dtype)
        try:
            return decode_tile(level, payload)
        except BrokenError as error:
            msg = f"has a damaged tile ({error.message})"
            raise CodingError(msg) from error

    def raw(self, pixels: Pixels) -> bytes:
        """Return the samples as they lie in a tile before it is compressed: differences, planes, byte order.

        Parameters
        ----------
        pixels
            Shape (y, x, c).

        """
        if self.coding.predictor:
            before = pixels[:, :-1]
            pixels = np.concatenate((pixels[:, :1], pixels[:, 1:] - before), axis=1, dtype=pixels.dtype)
        if self.coding.planar:
            pixels = pixels.transpose(2, 0, 1)
        return pixels.astype(pixels.dtype.newbyteorder(">" if self.coding.big_endian else "<")).tobytes()


def parse(codecs: Sequence[Json], shape: tuple[int, int, int], dtype: npt.DTypeLike) -> SourceChain:
    """Read the inner codecs of an array of the preset `keep` whose tiles are not JPEG.

    Raises
    ------
    CodingError
        If they are not of a kind that is known here.

    """
    rest = [_named(codec) for codec in codecs]
    kind = np.dtype(dtype)
    planar = not (rest and rest[0][0] == "transpose")
    if not planar and rest.pop(0)[1] != _TRANSPOSE:
        raise _unknown(codecs)
    convert = _next(rest, "wsistore.ycbcr")
    predictor = _next(rest, "imagecodecs_delta", {"axis": -1 if planar else -2, "dist": 1})
    serializer, settings = rest.pop(0) if rest else ("", {})
    codec = _PICTURES.get(serializer, Codec.NONE)
    big = settings.get("endian") == "big"
    if serializer == "bytes" and rest and rest[0][0] in _COMPRESSORS:
        codec = _COMPRESSORS[rest.pop(0)[0]]
    plain = codec in PLAIN
    sound = serializer == "bytes" if plain else not planar and not predictor
    if rest or not sound or (convert and codec is not Codec.JPEG2000) or kind.kind not in _TYPES or kind.itemsize > 4:
        raise _unknown(codecs)
    color = Color.YCBCR if convert else Color.GRAY if shape[0] == 1 else Color.RGB
    coding = TileCoding(codec, color, predictor=predictor, planar=planar, big_endian=big and kind.itemsize > 1)
    return SourceChain(coding, shape, kind.newbyteorder("=").name)


def _named(codec: Any) -> tuple[str, Json]:
    """Return a codec's name and configuration."""
    found = (codec.get("name"), codec.get("configuration", {})) if isinstance(codec, dict) else (None, None)
    if isinstance(found[0], str) and isinstance(found[1], dict):
        return found[0], found[1]
    msg = f"{codec!r:.80} where a codec is due"
    raise CodingError(msg)


def _next(rest: list[tuple[str, Json]], name: str, settings: Json | None = None) -> bool:
    """Take the next codec off if it is this one."""
    if not rest or rest[0] != (name, settings or {}):
        return False
    rest.pop(0)
    return True


def _unknown(codecs: Sequence[Json]) -> CodingError:
    names = [codec["name"] for codec in codecs]
    return CodingError(f"cannot recode tiles of the codecs {names}; a newer wsistore may")
