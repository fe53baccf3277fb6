"""A stored slide: its companion, its layout, and where every byte of the vendor's files lies in the tier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from wsistore.compress import bounded, companion, grid, keys, layout, shards
from wsistore.compress.cache import MakingCache
from wsistore.compress.coding import ChunkCoding, CodingError, Payload, Payloads, PlainCoding
from wsistore.compress.codings import coding_of
from wsistore.compress.companion import Companion
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.keys import Place
from wsistore.compress.skeleton import SkeletonReader
from wsistore.errors import IntegrityError, Kind, ObjectMissingError
from wsistore.model import Mode
from wsistore.storage.base import Span, Storage, Tail
from wsistore.units import MIB

_REMEDY = "Restore the slide from another copy."
_KEPT_BYTES = 64 * MIB
"""Payloads kept of chunks that were undone. A file has the tiles of a row side by side, so reading it goes through all
chunks of a row again and again: those of the widest slides fit in the presets `keep` and `fold`."""
_MOST_PER_SAMPLE = 16
_MOST_BESIDE = MIB
"""A chunk with more stored bytes than so many for each of its samples, and these, is not sound."""
_MOST_OFFSET = 2**62
_ENTRY = ("offset", "nbytes")


@runtime_checkable
class Packed(Protocol):
    """What a storage offers whose objects lie within others."""

    def resolve(self, key: str) -> tuple[str, int]:
        """Return the key of the object that holds the bytes of `key`, and where in it they start."""
        ...


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """Where the bytes of a chunk lie."""

    key: str
    """Of the object that holds them: the shard, or the archive that it lies in."""
    start: int
    length_bytes: int


class StoredSlide:
    """One copy of a slide, read through its tier only. Threads may share it.

    Parameters
    ----------
    storage
        The tier.
    place
        Slide and attempt, as the commit names them.

    Raises
    ------
    IntegrityError
        If the companion is damaged or missing, or of an unknown format.

    """

    def __init__(self, storage: Storage, place: Place) -> None:
        self.storage, self.place = storage, place
        where = place.private + keys.FILES
        data = self._get(where, Span(0, bounded.MOST_JSON_BYTES))
        self.companion: Companion = companion.decode(data, where=where)
        if (self.companion.slide, self.companion.attempt) != (place.slide, place.attempt):
            msg = f"{where} is the companion of another slide or attempt."
            raise IntegrityError(msg, remedy=_REMEDY)
        self._images: dict[int, dict[str, Any]] = {}
        self._arrays: dict[int, tuple[ArrayGrid, str]] = {}
        self._indexes: dict[str, npt.NDArray[np.void]] = {}
        self._codings: dict[int, ChunkCoding] = {}
        self._undone: MakingCache[tuple[int, int], tuple[Payload | None, ...]]
        self._undone = MakingCache(_KEPT_BYTES, lambda payloads: sum(len(part) for part in payloads if part))
        index = self.companion.skeleton
        self.skeleton = None if index is None else SkeletonReader(storage, place.private + keys.SKELETON, index)

    def layout(self) -> npt.NDArray[np.void]:
        """Return the layout, of `wsistore.compress.layout.LAYOUT_DTYPE`; empty for a `whole` slide."""
        if self.companion.mode is Mode.WHOLE:
            return np.zeros(0, layout.LAYOUT_DTYPE)
        where = self.place.private + keys.LAYOUT
        return layout.decode(self._get(where), where=where)

    def array(self, level: int) -> tuple[ArrayGrid, str]:
        """Return a level's grids and the name of its tile codec."""
        known = self._arrays.get(level)
        if known is None:
            document, where = self._image(level)
            known = (grid.from_metadata(f"{level}/image", document, where=where), _tile_codec(document, where=where))
            self._arrays[level] = known
        return known

    def coding(self, level: int) -> ChunkCoding:
        """Return how the chunks of a level are kept."""
        known = self._codings.get(level)
        if known is None:
            document, where = self._image(level)
            known = self._codings[level] = coding_of(document, where=where)
        return known

    def is_plain(self, level: int) -> bool:
        """Say whether a chunk of a level is the payload of its only tile, as it is."""
        return isinstance(self.coding(level), PlainCoding)

    def locate(self, key: str) -> tuple[str, int]:
        """Return the key of the object that holds the bytes of the store's or companion's `key`, and where they start.

        Raises
        ------
        IntegrityError
            If there are none.

        """
        if not isinstance(self.storage, Packed):
            return key, 0
        try:
            return self.storage.resolve(key)
        except ObjectMissingError as error:
            raise self._missing(key) from error

    def _image(self, level: int) -> tuple[dict[str, Any], str]:
        """Return the zarr.json of a level's image and its key."""
        path = f"{level}/image"
        known = self._images.get(level)
        if known is None:
            known = self._images[level] = self.document(path)
        return known, f"{self.place.store}{path}/zarr.json"

    def document(self, path: str) -> dict[str, Any]:
        """Return the zarr.json of an array or group of the store."""
        where = f"{self.place.store}{path}/zarr.json" if path else f"{self.place.store}zarr.json"
        return bounded.json_object(self._get(where, Span(0, bounded.MOST_JSON_BYTES + 1)), where=where)

    def index(self, level: int, shard: int) -> npt.NDArray[np.void]:
        """Return the index of a shard, of `wsistore.compress.shards.INDEX_DTYPE`.

        Raises
        ------
        IntegrityError
            If it is damaged, or says of a chunk that it is larger than a sound one can be.

        """
        found, _ = self.array(level)
        key = self.place.store + found.shard_key(shard)
        known = self._indexes.get(key)
        if known is None:
            data = self._get(key, Tail(shards.index_bytes(found.index_length)))
            known = shards.decode_index(data, found.index_length, where=key)
            _check_index(known, found, key)
            self._indexes[key] = known
        return known

    def chunk_ranges(self, level: int, chunks: npt.NDArray[np.int64]) -> list[ChunkRange]:
        """Return where the stored bytes of chunks lie.

        Raises
        ------
        IntegrityError
            If a shard's index does not have one; and as `index`.

        """
        found, _ = self.array(level)
        shard, slot = found.shard_of_chunk(chunks)
        ranges: list[ChunkRange | None] = [None] * len(chunks)
        for number in np.unique(shard).tolist():
            here = np.flatnonzero(shard == number)
            key = self.place.store + found.shard_key(number)
            entries = self.index(level, number)[slot[here]]
            if np.any(entries["nbytes"] == shards.ABSENT):
                absent = chunks[here][entries["nbytes"] == shards.ABSENT]
                msg = f"Chunk {absent[0]} is missing from {key}."
                raise IntegrityError(msg, remedy=_REMEDY)
            holder, before = self.locate(key)
            for at, start, length in zip(here.tolist(), *(entries[n].tolist() for n in _ENTRY), strict=True):
                ranges[at] = ChunkRange(holder, before + start, length)
        return [one for one in ranges if one is not None]

    def chunk(self, level: int, chunk: int) -> bytes:
        """Return the stored bytes of a chunk; raises as `chunk_ranges`."""
        (where,) = self.chunk_ranges(level, np.array([chunk], np.int64))
        return self._get(where.key, Span(where.start, where.length_bytes))

    def undo(self, level: int, chunk: int, data: bytes) -> tuple[Payload | None, ...]:
        """Return the payloads that `data`, the stored bytes of a chunk, are made of.

        Raises
        ------
        IntegrityError
            If they are damaged.

        """
        try:
            return tuple(self.coding(level).decode(data))
        except CodingError as error:
            found, _ = self.array(level)
            key = found.shard_key(int(found.shard_of_chunk(np.array([chunk], np.int64))[0][0]))
            msg = f"Chunk {chunk} in {self.place.store}{key} is damaged: {error}."
            raise IntegrityError(msg, remedy=_REMEDY) from error

    def payloads(self, level: int, chunk: int) -> tuple[Payload | None, ...]:
        """Return the payloads of a chunk's tiles from top to bottom; None where there is no tile.

        What was undone last is kept; of several threads that ask for the same chunk one undoes it.

        Raises
        ------
        IntegrityError
            If the chunk is missing or damaged.

        """
        return self._undone.get((level, chunk), lambda: self.undo(level, chunk, self.chunk(level, chunk)))

    def piece(self, level: int, chunk: int, piece: int) -> Payload:
        """Return the payload of the `piece`-th tile of a chunk.

        Raises
        ------
        IntegrityError
            As `payloads`; and if the chunk has no such tile.

        """
        return self.piece_of(self.payloads(level, chunk), level, chunk, piece)

    def piece_of(self, payloads: Payloads, level: int, chunk: int, piece: int) -> Payload:
        """Return the `piece`-th of a chunk's payloads; raises `IntegrityError` if there is none."""
        found = payloads[piece] if 0 <= piece < len(payloads) else None
        if found is None:
            msg = f"Chunk {chunk} of level {level} of slide {self.place.slide} has no tile {piece}."
            raise IntegrityError(msg, remedy=_REMEDY)
        return found

    def _get(self, key: str, part: Span | Tail | None = None) -> bytes:
        try:
            return self.storage.get(key, part)
        except ObjectMissingError as error:
            raise self._missing(key) from error

    def _missing(self, key: str) -> IntegrityError:
        return IntegrityError(f"{key} is missing from {self.storage.url}.", remedy=_REMEDY)


def _check_index(index: npt.NDArray[np.void], found: ArrayGrid, key: str) -> None:
    there = index[index["nbytes"] != shards.ABSENT]
    most = min(_MOST_PER_SAMPLE * math.prod(found.chunk_shape) + _MOST_BESIDE, _MOST_OFFSET)
    if np.any((there["nbytes"] > most) | (there["offset"] > _MOST_OFFSET)):
        msg = f"The index of {key} does not fit the slide's layout: it has chunks that are too large."
        raise IntegrityError(msg, remedy=_REMEDY)


def _tile_codec(document: dict[str, Any], *, where: str) -> str:
    """Return the name of the codec that decodes a tile, from an array's zarr.json that has a grid."""
    try:
        names = [bounded.text(codec["name"]) for codec in document["codecs"][0]["configuration"]["codecs"]]
        return "wsistore.fold" if "wsistore.fold" in names else names[-1]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        msg = f"The codecs of the array {where} are not those that this version of wsistore knows ({error!r:.200})."
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="A newer wsistore may read it.") from error
