"""Zarr codecs that decode one compressed picture to one chunk: JPEG, JPEG 2000, WebP, and folds of JPEG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

import imagecodecs
from zarr.core.common import JSON

from wsistore.compress import fold
from wsistore.compress.codec_base import Pixels, TileCodec, WithSettings, named, settings_of
from wsistore.compress.folding import FOLD_SETTINGS, FoldSettings, coding_of, from_base64, to_base64
from wsistore.slides import jpeg2000


@dataclass(frozen=True)
class Jpeg(TileCodec):
    """JPEG by libjpeg-turbo.

    Parameters
    ----------
    tables
        A table-specification stream that completes abbreviated streams.
    header
        What lies before every chunk's bytes, from SOI to SOS; they are completed with EOI too.
    colorspace_jpeg, colorspace_data
        Of the coded components, and of the decoded ones; names as in `imagecodecs.JPEG8.CS`.
    encoding
        The settings that concern encoders only.

    """

    name = "imagecodecs_jpeg"
    tables: bytes | None = None
    header: bytes | None = None
    colorspace_jpeg: str | None = None
    colorspace_data: str | None = None
    encoding: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Hash by what decoding depends on."""
        return hash((self.tables, self.header, self.colorspace_jpeg, self.colorspace_data))

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON; `tables` and `header` are base64 there.

        Raises
        ------
        ValueError
            If it has settings that cannot be heeded.

        """
        config = settings_of(data, cls.name, _JPEG_SETTINGS)
        binary = {key: config.pop(key, None) for key in ("tables", "header")}
        spaces = {key: config.pop(key, None) for key in ("colorspace_jpeg", "colorspace_data")}
        if wrong := [value for value in spaces.values() if value is not None and not _is_space(value)]:
            msg = f"{cls.name}: there is no colour space {wrong[0]!r}"
            raise ValueError(msg)
        streams = {k: None if v is None else from_base64(v, f"{cls.name}: {k}") for k, v in binary.items()}
        encoding = {k: v for k, v in config.items() if v is not None}
        return cls(streams["tables"], streams["header"], **spaces, encoding=encoding)

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        spaces = {"colorspace_data": self.colorspace_data, "colorspace_jpeg": self.colorspace_jpeg}
        streams = {"tables": to_base64(self.tables), "header": to_base64(self.header)}
        return named(self.name, {**self.encoding, **spaces, **streams})

    def decode_into(self, data: bytes, out: Pixels) -> None:
        """Fill (y, x) or (y, x, channels) uint8."""
        stream = data if self.header is None else self.header + data + fold.EOI
        imagecodecs.jpeg8_decode(
            stream, tables=self.tables, colorspace=self.colorspace_jpeg, outcolorspace=self.colorspace_data, out=out
        )


_JPEG_SETTINGS = frozenset(
    {
        "level", "bitspersample", "tables", "header", "colorspace_data", "colorspace_jpeg", "subsampling", "optimize",
        "smoothing", "lossless", "predictor",
    }
)  # fmt: skip


def _is_space(value: Any) -> bool:
    return isinstance(value, str) and value.upper() in {name.upper() for name in imagecodecs.JPEG8.CS.__members__}


@dataclass(frozen=True)
class Jpeg2k(WithSettings, TileCodec):
    """JPEG 2000 by OpenJPEG."""

    name = "imagecodecs_jpeg2k"
    known = frozenset(
        {"level", "codecformat", "colorspace", "tile", "bitspersample", "resolutions", "reversible", "mct", "verbose",
         "numthreads"}
    )  # fmt: skip

    __hash__ = WithSettings.__hash__

    def decode_into(self, data: bytes, out: Pixels) -> None:
        """Fill (y, x) or (y, x, channels)."""
        if not jpeg2000.boxed(data):  # OpenJPEG decodes it all before anybody sees its size
            stream = jpeg2000.parse(data)
            if (stream.height, stream.width) != out.shape[:2]:
                msg = f"{self.name}: {stream.height} × {stream.width} pixels where the chunk has {out.shape[:2]}"
                raise ValueError(msg)
        imagecodecs.jpeg2k_decode(data, numthreads=1, out=out)


@dataclass(frozen=True)
class Webp(WithSettings, TileCodec):
    """WebP by libwebp."""

    name = "imagecodecs_webp"
    known = frozenset({"level", "lossless", "method", "hasalpha", "numthreads", "delay"})

    __hash__ = WithSettings.__hash__

    def decode_into(self, data: bytes, out: Pixels) -> None:
        """Fill (y, x, channels) uint8."""
        imagecodecs.webp_decode(data, hasalpha=self.settings.get("hasalpha"), out=out)


@dataclass(frozen=True)
class Fold(TileCodec):
    """k vertically adjacent JPEG tiles kept together, taken apart before decoding: see `wsistore.compress.folding`.

    Parameters
    ----------
    tile_shape, header, colorspace_jpeg, inner, tables, colorspace_data
        As `FoldSettings` has them.

    """

    name = "wsistore.fold"
    tile_shape: tuple[int, int] = (8, 8)
    header: bytes | None = None
    colorspace_jpeg: str = "YCBCR"
    inner: str = "jpeg"
    tables: bytes | None = None
    colorspace_data: str | None = None

    @cached_property
    def settings(self) -> FoldSettings:
        """The codec's configuration."""
        return FoldSettings(**asdict(self))

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON.

        Raises
        ------
        ValueError
            If the configuration is not complete, or of a newer wsistore.

        """
        settings = FoldSettings.from_json(settings_of(data, cls.name, FOLD_SETTINGS))
        for space in (settings.colorspace_jpeg, settings.colorspace_data):
            if space is not None and not _is_space(space):
                msg = f"{cls.name}: there is no colour space {space!r}"
                raise ValueError(msg)
        return cls(**asdict(settings))

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return named(self.name, self.settings.to_json())

    def decode_into(self, data: bytes, out: Pixels) -> None:
        """Fill (k · tile height, tile width, channels) uint8, each tile decoded alone; the rest stays as it is."""
        settings = self.settings
        height, width = settings.tile_shape
        if out.shape[0] % height or out.shape[1] != width:
            msg = f"{self.name}: tiles of {height} × {width} pixels where the chunk has {out.shape[:2]}"
            raise ValueError(msg)
        coding = coding_of(settings, out.shape[0] // height)
        for number, payload in enumerate(coding.decode(data)):
            if payload is None:
                continue
            imagecodecs.jpeg8_decode(
                payload if settings.header is None else fold.tile(settings.header, payload),
                tables=settings.tables,
                colorspace=settings.colorspace_jpeg,
                outcolorspace=settings.colorspace_data or ("RGB" if out.ndim == 3 else "GRAYSCALE"),
                out=out[number * height : (number + 1) * height],
            )
