"""Codings of JPEG tiles: folds kept as JPEG XL, and the folds of strips that a hot store has.

Both are Zarr's `wsistore.fold`; ``inner`` in its configuration says which. What they have in common is that a tile's
pixels are always those of the tile decoded alone, from its own bytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from wsistore.compress import fold
from wsistore.compress.coding import ChunkCoding, CodingError, Encoded, Json, Payload, Payloads
from wsistore.compress.fold import FoldError
from wsistore.compress.fold_container import MISSING, REPEATED, unpack
from wsistore.compress.fold_encoder import ChunkEncoder, undo
from wsistore.compress.fold_forms import Form, StripForm, TileForm
from wsistore.compress.transcoded import TranscodedError

NAME = "wsistore.fold"
TILE_CODEC = "imagecodecs_jpeg"
TRANSPOSE: Json = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
INNERS = ("jpeg", "jpegxl")

FOLD_SETTINGS = frozenset({"inner", "tile_shape", "colorspace_jpeg", "colorspace_data", "tables", "header"})


@dataclass(frozen=True)
class FoldSettings:
    """The configuration of `wsistore.fold`.

    Parameters
    ----------
    inner
        How the fold is kept: ``jpeg`` or ``jpegxl``.
    tile_shape
        Height and width of a tile in pixels.
    colorspace_jpeg, colorspace_data
        Of the coded components, and of the decoded ones; names as in `imagecodecs.JPEG8.CS`. Without the latter three
        components are decoded to RGB, and one to grey.
    tables
        A table-specification stream that completes tiles; only if they are not strips.
    header
        Of strips: what lies before each of them, from SOI to SOS. None if the payloads are JPEG tiles of their own.

    """

    inner: str
    tile_shape: tuple[int, int]
    colorspace_jpeg: str
    colorspace_data: str | None = None
    tables: bytes | None = None
    header: bytes | None = None

    @classmethod
    def from_json(cls, configuration: Mapping[str, Any]) -> Self:
        """Read the codec's configuration from Zarr metadata.

        Raises
        ------
        ValueError
            If it is not complete, or of a newer wsistore.

        """
        if unknown := sorted(set(configuration) - FOLD_SETTINGS):
            msg = f"{NAME}: the settings {unknown} are not known here; a newer wsistore may know them"
            raise ValueError(msg)
        if missing := sorted({"inner", "tile_shape", "colorspace_jpeg"} - set(configuration)):
            msg = f"{NAME}: the settings {missing} are missing"
            raise ValueError(msg)
        inner = configuration["inner"]
        if inner not in INNERS:
            msg = f"{NAME}: cannot decode folds with {inner!r} inside; a newer wsistore may"
            raise ValueError(msg)
        if ("header" in configuration and "tables" in configuration) or (
            inner == "jpeg" and "header" not in configuration
        ):
            msg = f"{NAME}: the settings header and tables do not fit {inner!r} inside"
            raise ValueError(msg)
        spaces = (configuration["colorspace_jpeg"], configuration.get("colorspace_data"))
        if wrong := [space for space in spaces if not isinstance(space, str | None)]:
            msg = f"{NAME}: there is no colour space {wrong[0]!r}"
            raise ValueError(msg)
        tables, header = (from_base64(configuration.get(key), f"{NAME}: {key}") for key in ("tables", "header"))
        return cls(inner, _shape(configuration["tile_shape"]), *spaces, tables, header)

    def to_json(self) -> Json:
        """Return the codec's configuration as Zarr metadata."""
        values = {
            "inner": self.inner,
            "tile_shape": list(self.tile_shape),
            "colorspace_jpeg": self.colorspace_jpeg,
            "colorspace_data": self.colorspace_data,
            "tables": to_base64(self.tables),
            "header": to_base64(self.header),
        }
        return {key: value for key, value in values.items() if value is not None}


def from_base64(value: Any, name: str) -> bytes | None:
    """Return the bytes of a setting; `name` is for messages.

    Raises
    ------
    ValueError
        If it is not base64.

    """
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        msg = f"{name} is not base64 ({error})"
        raise ValueError(msg) from error


def to_base64(value: bytes | None) -> str | None:
    """Return bytes as a setting."""
    return None if value is None else base64.b64encode(value).decode("ascii")


def _shape(value: Any) -> tuple[int, int]:
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(v) is int and 0 < v <= 65_535 for v in value):
        return value[0], value[1]
    msg = f"{NAME}: {value!r:.80} is not the height and width of a tile"
    raise ValueError(msg)


def _only_codec(codecs: list[Json], names: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    """Return name and configuration of the codec behind the transpose, which must be one of `names`.

    Raises
    ------
    CodingError
        If it is none of them.

    """
    try:
        transpose, tile = codecs
        name, configuration = tile["name"], tile.get("configuration", {})
        known = transpose == TRANSPOSE and name in names and isinstance(configuration, Mapping)
    except (KeyError, TypeError, ValueError, AttributeError):
        known = False
    if not known:
        msg = f"has the codecs {codecs!r:.200}, which are not {' or '.join(names)} behind a transpose"
        raise CodingError(msg)
    return name, configuration


def _settings(configuration: Mapping[str, Any]) -> FoldSettings:
    try:
        return FoldSettings.from_json(configuration)
    except ValueError as error:
        raise CodingError(str(error)) from error


def _tiles(chunk_shape: tuple[int, ...], tile_shape: tuple[int, int]) -> int:
    """Return how many tiles make a chunk of shape (c, y, x)."""
    height, width = chunk_shape[-2:]
    if height % tile_shape[0] or width != tile_shape[1] or not height:
        msg = f"has chunks of {height} × {width} pixels, which are not whole tiles of {tile_shape}"
        raise CodingError(msg)
    return height // tile_shape[0]


@dataclass(frozen=True)
class _Folding(ChunkCoding):
    """What both codings of folds share: they are their codec's settings, and a number of tiles."""

    settings: FoldSettings
    most_tiles: int

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""
        return self.settings.tile_shape

    @property
    def tiles(self) -> int:
        """Tiles of a full chunk."""
        return self.most_tiles

    @property
    def codecs(self) -> list[Json]:
        """Zarr metadata of the chunk's codecs."""
        return [TRANSPOSE, {"name": NAME, "configuration": self.settings.to_json()}]

    @classmethod
    def from_codecs(cls, codecs: list[Json], chunk_shape: tuple[int, ...]) -> FoldCoding | StripsCoding:
        """Return the coding that a level's zarr.json describes.

        Parameters
        ----------
        codecs
            Of the chunks: those inside ``sharding_indexed``.
        chunk_shape
            (c, y, x) of a chunk.

        Raises
        ------
        CodingError
            If this is no fold, or one of a newer wsistore.

        """
        _, configuration = _only_codec(codecs, (NAME,))
        settings = _settings(configuration)
        tiles = _tiles(chunk_shape, settings.tile_shape)
        return coding_of(settings, tiles)


@dataclass(frozen=True)
class StripsCoding(_Folding):
    """Strips between restart markers, joined to plain JPEG: what a hot store has of them."""

    def encode(self, payloads: Payloads) -> Encoded:
        """Return the fold of a chunk's strips; those that are missing can only be the last ones.

        Raises
        ------
        CodingError
            If others are missing, or the strips cannot be joined. (Sources of such strips are kept whole.)

        """
        strips = [payload for payload in payloads if payload is not None]
        if any(payload is None for payload in payloads[: len(strips)]):
            msg = "lacks strips between others"
            raise CodingError(msg)
        try:
            return Encoded(fold.join(self.settings.header or b"", strips))
        except FoldError as error:
            raise CodingError(str(error)) from error

    def decode(self, data: bytes) -> list[Payload | None]:
        """Return the strips of a chunk.

        Raises
        ------
        CodingError
            If it is no fold.

        """
        try:
            strips = fold.split(data)
        except FoldError as error:
            raise CodingError(str(error)) from error
        if len(strips) > self.most_tiles:
            msg = f"has {len(strips)} strips where at most {self.most_tiles} can be"
            raise CodingError(msg)
        return list(strips)


@dataclass(frozen=True)
class FoldCoding(_Folding):
    """JPEG tiles or strips, folded and kept as JPEG XL; what libjxl does not give back exactly, as it is."""

    @classmethod
    def for_source(cls, codecs: list[Json], tile_shape: tuple[int, int], tiles: int) -> Self:
        """Return the coding that folds the tiles of a level of the preset `keep`.

        Parameters
        ----------
        codecs
            Of the chunks of the preset `keep`: those inside ``sharding_indexed``.
        tile_shape
            Height and width of a tile in pixels.
        tiles
            How many to fold.

        Raises
        ------
        CodingError
            If the tiles are not JPEG.

        """
        name, configuration = _only_codec(codecs, (TILE_CODEC, NAME))
        if name == NAME:
            settings = replace(_settings(configuration), inner="jpegxl")
        else:
            wanted = ("colorspace_jpeg", "colorspace_data", "tables")
            known = {key: configuration[key] for key in wanted if configuration.get(key) is not None}
            settings = _settings({"inner": "jpegxl", "tile_shape": list(tile_shape), **known})
        if settings.tile_shape != tile_shape:
            msg = f"has strips of {settings.tile_shape} pixels where {tile_shape} are due"
            raise CodingError(msg)
        coding = cls(settings, tiles)
        _ = coding._form  # whether the tables are sound
        return coding

    @property
    def source_codecs(self) -> list[Json]:
        """Zarr metadata of the codecs that the preset `keep` has for the same tiles."""
        settings = replace(self.settings, inner="jpeg").to_json()
        if self.settings.header is not None:
            return [TRANSPOSE, {"name": NAME, "configuration": settings}]
        own = {key: settings[key] for key in ("colorspace_jpeg", "colorspace_data", "tables") if key in settings}
        return [TRANSPOSE, {"name": TILE_CODEC, "configuration": own}]

    @cached_property
    def _form(self) -> Form:
        try:
            if self.settings.header is not None:
                return StripForm(self.settings.header, self.tile_shape)
            return TileForm(self.settings.tables, self.tile_shape)
        except FoldError as error:
            msg = f"has unsound settings: {error}"
            raise CodingError(msg) from error

    def encode(self, payloads: Payloads) -> Encoded:
        """Return the chunk of at most `tiles` payloads; all of it has been undone and compared."""
        if len(payloads) > self.most_tiles or all(payload is None for payload in payloads):
            msg = f"does not have 1 to {self.most_tiles} tiles"
            raise CodingError(msg)
        return ChunkEncoder(self._form, self.tile_shape, payloads).encode()

    def decode(self, data: bytes) -> list[Payload | None]:
        """Return the payloads of a chunk.

        Raises
        ------
        CodingError
            If it is none, or asks for more memory than a sound one.

        """
        codes, parts = unpack(data, self.most_tiles)
        payloads: dict[int, list[bytes]] = {}
        try:
            for number, part in enumerate(parts, REPEATED + 1):
                payloads[number] = undo(part, codes.count(number), self._form, self.tile_shape)[::-1]
        except (FoldError, TranscodedError) as error:
            msg = f"has a part that cannot be undone: {error}"
            raise CodingError(msg) from error
        out: list[Payload | None] = []
        before: bytes | None = None
        for code in codes:
            if code > REPEATED:
                before = payloads[code].pop()
            out.append(None if code == MISSING else before)
        return out


def coding_of(settings: FoldSettings, tiles: int) -> FoldCoding | StripsCoding:
    """Return the coding that the codec's settings describe, for chunks of at most `tiles` tiles."""
    return StripsCoding(settings, tiles) if settings.inner == "jpeg" else FoldCoding(settings, tiles)
