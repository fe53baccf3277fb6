"""Tiles that are not JPEG, recoded without loss: smaller, the same pixels, and reversible to the source's bytes.

A chunk stays one tile: several in one chunk save one to two per cent more, and cost as many times the reading. Tiles of
JPEG 2000 and WebP cannot be made again from their pixels (scanners' encoders are not ours, and most lose bits), so
they stay what they are unless zstd finds something in them. A tile that would not come back exactly is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import pixel_codecs, recipes
from wsistore.compress.coding import ChunkCoding, CodingError, Encoded, Json, Payload, Payloads
from wsistore.compress.presets import Encoding
from wsistore.compress.recipes import UNKNOWN, Recipe
from wsistore.compress.recoded_chunk import (
    dump_pixels,
    dump_source,
    dump_source_zstd,
    load,
    most_payload_bytes,
    payload_of,
)
from wsistore.compress.source_chain import PLAIN, Pixels, SourceChain, parse
from wsistore.errors import UnsupportedError

NAME = "wsistore.recoded"
SOURCE, AUTO, ZSTD_PAYLOAD = "source", "auto", "payload-zstd"
"""Candidates beside those for pixels: tiles as they are; the best by measurement; tiles as they are, in zstd."""
CANDIDATES = (*pixel_codecs.CANDIDATES, ZSTD_PAYLOAD, SOURCE)
"""All names, in the order of preference among equals."""
LEAST_GAIN = 0.02
"""Of a sample's bytes, what a candidate must save to be chosen: less is not worth a codec that fewer readers know."""

SETTINGS = frozenset({"candidate", "codecs", "tile_shape"})
"""Of the Zarr codec; all are due."""
_DAMAGED = "tile cannot be decoded"
_NOT_SMALLER = "tile gets no smaller"
_NOT_EXACT = "tile does not come back exactly"


@dataclass(frozen=True, slots=True)
class RecodedCoding(ChunkCoding):
    """Chunks of one tile each.

    Parameters
    ----------
    source
        How the source's tiles become pixels.
    source_codecs
        The same as Zarr metadata: inner codecs of the preset `keep`.
    candidate
        What tiles are recoded to; ``source``: not at all, then chunks and codecs are those of the preset `keep`.

    """

    source: SourceChain
    source_codecs: tuple[Json, ...]
    candidate: str

    @classmethod
    def for_source(
        cls,
        codecs: Sequence[Json],
        chunk_shape: tuple[int, int, int],
        dtype: npt.DTypeLike,
        fill: Any,  # noqa: ARG003  the contract of codings; missing tiles are absent chunks here
        encoding: Encoding,
        sample: Iterable[Payload] = (),
    ) -> RecodedCoding:
        """Return how to encode a level.

        Parameters
        ----------
        codecs
            Inner codecs of the level in the preset `keep`.
        chunk_shape
            (c, y, x) of a tile.
        dtype
            Type of the samples.
        fill
            The array's fill value.
        encoding
            Says which candidate; ``auto`` measures `sample`. One that is not for tiles of this kind leaves them as
            they are.
        sample
            Some tiles of the level.

        Raises
        ------
        CodingError
            If tiles of these codecs cannot be recoded.
        UnsupportedError
            If no candidate has this name.

        """
        source, name = parse(codecs, chunk_shape, dtype), encoding.candidate
        if name not in (AUTO, *CANDIDATES):
            msg = f"There is no way {name!r} to recode tiles."
            raise UnsupportedError(msg, remedy=f"Choose one of {', '.join((AUTO, *CANDIDATES))}.")
        if name == AUTO:
            name = choose(source, sample)
        return cls(source, tuple(codecs), name if name in candidates_for(source) else SOURCE)

    @classmethod
    def from_codecs(
        cls, codecs: Sequence[Json], chunk_shape: tuple[int, int, int], dtype: npt.DTypeLike
    ) -> RecodedCoding:
        """Return the coding of an array that is stored; the inverse of `codecs`.

        Raises
        ------
        CodingError
            If they are not codecs of this coding, or of a newer wsistore.

        """
        named = codecs[0] if len(codecs) == 1 and isinstance(codecs[0], Mapping) else {}
        if named.get("name") != NAME:
            return cls(parse(codecs, chunk_shape, dtype), tuple(codecs), SOURCE)
        return cls(*read_settings(named.get("configuration"), chunk_shape, dtype))

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""
        return self.source.shape[1:]

    @property
    def tiles(self) -> int:
        """One tile to a chunk."""
        return 1

    @property
    def codecs(self) -> list[Json]:
        """Zarr metadata of the chunk's codecs."""
        if self.candidate == SOURCE:
            return list(self.source_codecs)
        settings = {
            "candidate": self.candidate,
            "tile_shape": list(self.tile_shape),
            "codecs": list(self.source_codecs),
        }
        return [{"name": NAME, "configuration": settings}]

    def encode(self, payloads: Payloads) -> Encoded:
        """Return the chunk of one tile, checked by decoding it again.

        Raises
        ------
        CodingError
            If there is not just one tile.

        """
        (payload,) = payloads if len(payloads) == 1 else (None,)
        if payload is None:
            msg = f"is to hold one tile, and {sum(one is not None for one in payloads)} of {len(payloads)} are given"
            raise CodingError(msg)
        if self.candidate == SOURCE:
            return Encoded(bytes(payload))
        return _encoded(self.source, _prepared(self.source, bytes(payload)), self.candidate)

    def decode(self, data: bytes) -> list[Payload | None]:
        """Return the tile of a chunk.

        Raises
        ------
        CodingError
            If `data` is not a chunk of this coding.

        """
        return [data if self.candidate == SOURCE else payload_of(self.source, data)]


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile, undone once for all candidates."""

    payload: bytes
    reason: str = ""
    """Why its pixels cannot stand for it."""
    raw: bytes = b""
    recipe: Recipe = UNKNOWN
    pixels: Pixels | None = None


def _prepared(source: SourceChain, payload: bytes) -> _Tile:
    if source.coding.codec not in PLAIN:
        return _Tile(payload)
    found = recipes.find(source.coding.codec, payload, source.raw_bytes)
    if isinstance(found, str):
        return _Tile(payload, f"tile cannot be recoded: {found}")
    try:
        return _Tile(payload, "", *found, source.decode(payload))
    except CodingError:
        return _Tile(payload, _DAMAGED)


def _encoded(source: SourceChain, tile: _Tile, candidate: str) -> Encoded:
    made = _in_zstd(source, tile.payload) if candidate == ZSTD_PAYLOAD else _recoded(source, tile, candidate)
    plain = dump_source(tile.payload)
    if isinstance(made, bytes) and len(made) < len(plain):
        return Encoded(made)
    return Encoded(plain, {made if isinstance(made, str) else _NOT_SMALLER: 1})


def _in_zstd(source: SourceChain, payload: bytes) -> bytes | str:
    if len(payload) > most_payload_bytes(source):
        return "tile is larger than its samples could be"
    made = dump_source_zstd(payload)
    return made if payload_of(source, made) == payload else _NOT_EXACT


def _recoded(source: SourceChain, tile: _Tile, candidate: str) -> bytes | str:
    """Return a chunk of pixels, or why there is none. That the recipe makes the tile of its samples is known."""
    if tile.pixels is None:
        return tile.reason
    try:
        made = dump_pixels(candidate, tile.recipe, tile.pixels)
        back = load(source, made)
    except (ValueError, RuntimeError):  # what encoders raise for pixels that they cannot hold
        return _NOT_EXACT
    if isinstance(back, bytes) or not np.array_equal(back[0], tile.pixels):
        return _NOT_EXACT
    return made if back[1] == tile.recipe and source.raw(back[0]) == tile.raw else _NOT_EXACT


def candidates_for(source: SourceChain) -> tuple[str, ...]:
    """Return the names of what tiles of `source` can be recoded to, ``source`` last."""
    if source.coding.codec not in PLAIN:
        return ZSTD_PAYLOAD, SOURCE
    width = np.dtype(source.dtype).itemsize
    fit = tuple(name for name, one in pixel_codecs.CANDIDATES.items() if width <= one.most_sample_bytes)
    return *fit, ZSTD_PAYLOAD, SOURCE


_BY_NAME_ONLY = "htj2k"
"""Never the smallest where it was measured, and its library reports damage to nobody: only for who asks for it."""


def choose(source: SourceChain, sample: Iterable[Payload]) -> str:
    """Return the candidate that makes the smallest chunks of `sample`, or ``source`` if none saves enough.

    Of equal ones it is the first. The same sample always gives the same choice.
    """
    tiles = [_prepared(source, bytes(payload)) for payload in sample]
    sizes = {SOURCE: sum(len(tile.payload) for tile in tiles) * (1 - LEAST_GAIN)}
    for name in candidates_for(source):
        if name not in (SOURCE, _BY_NAME_ONLY):
            sizes[name] = sum(len(_encoded(source, tile, name).data) for tile in tiles)
    return min(sizes, key=lambda name: sizes[name])


def check_settings(settings: Any) -> None:
    """Check the codec's configuration as far as that is possible without the array.

    Raises
    ------
    CodingError
        If it is not complete, or of a newer wsistore.

    """
    found = settings if isinstance(settings, Mapping) else {}
    if missing := sorted(SETTINGS - set(found)):
        msg = f"{NAME}: the settings {missing} are missing"
        raise CodingError(msg)
    if unknown := sorted(set(found) - SETTINGS):
        msg = f"{NAME}: the settings {unknown} are not known here; a newer wsistore may know them"
        raise CodingError(msg)
    if not isinstance(found["codecs"], list):
        msg = f"{NAME}: {found['codecs']!r:.80} where the source's codecs are due"
        raise CodingError(msg)
    shape = found["tile_shape"]
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(edge) is int and edge > 0 for edge in shape):
        msg = f"{NAME}: {shape!r:.80} is not the height and width of a tile"
        raise CodingError(msg)
    if found["candidate"] not in CANDIDATES[:-1]:
        msg = f"{NAME}: cannot decode tiles recoded to {found['candidate']!r:.80}; a newer wsistore may"
        raise CodingError(msg)


def read_settings(
    settings: Any, chunk_shape: tuple[int, int, int], dtype: npt.DTypeLike
) -> tuple[SourceChain, tuple[Json, ...], str]:
    """Read the codec's configuration: the source's chain, parsed and as it is, and the candidate.

    Raises
    ------
    CodingError
        If it is not complete, does not fit the array, or is of a newer wsistore.

    """
    check_settings(settings)
    if settings["tile_shape"] != list(chunk_shape[1:]):
        msg = f"{NAME}: tiles of {settings['tile_shape']} pixels where the chunk has {chunk_shape[1:]}"
        raise CodingError(msg)
    return parse(settings["codecs"], chunk_shape, dtype), tuple(settings["codecs"]), settings["candidate"]
