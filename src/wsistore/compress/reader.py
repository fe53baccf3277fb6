"""A stored slide: its companion, its layout, and where every byte of the vendor's files lies in the tier."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import bounded, companion, fold, grid, keys, layout, shards
from wsistore.compress.companion import Companion
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.keys import Place
from wsistore.compress.skeleton import SkeletonReader
from wsistore.errors import IntegrityError, Kind, ObjectMissingError
from wsistore.model import Mode
from wsistore.storage.base import Span, Storage, Tail
from wsistore.units import MIB

_REMEDY = "Restore the slide from another copy."
_KEPT_FOLD_BYTES = 48 * MIB
"""Chunks of strips kept split. A file has the strips of a row side by side, so reading it goes through all chunks of a
row again and again: those of the widest slides fit."""


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
        self._arrays: dict[int, tuple[ArrayGrid, str]] = {}
        self._indexes: dict[str, npt.NDArray[np.void]] = {}
        self._folds: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._folds_bytes = 0
        self._lock = Lock()
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
            path = f"{level}/image"
            document = self.document(path)
            where = f"{self.place.store}{path}/zarr.json"
            known = (grid.from_metadata(path, document, where=where), _tile_codec(document, where=where))
            self._arrays[level] = known
        return known

    def document(self, path: str) -> dict[str, Any]:
        """Return the zarr.json of an array or group of the store."""
        where = f"{self.place.store}{path}/zarr.json" if path else f"{self.place.store}zarr.json"
        return bounded.json_object(self._get(where, Span(0, bounded.MOST_JSON_BYTES + 1)), where=where)

    def index(self, level: int, shard: int) -> npt.NDArray[np.void]:
        """Return the index of a shard, of `wsistore.compress.shards.INDEX_DTYPE`."""
        found, _ = self.array(level)
        key = self.place.store + found.shard_key(shard)
        known = self._indexes.get(key)
        if known is None:
            data = self._get(key, Tail(shards.index_bytes(found.index_length)))
            known = shards.decode_index(data, found.index_length, where=key)
            self._indexes[key] = known
        return known

    def chunk(self, level: int, chunk: int) -> bytes:
        """Return the stored bytes of a chunk.

        Raises
        ------
        IntegrityError
            If the shard's index does not have it.

        """
        key, shard, slot = self._shard_of(level, chunk)
        entry = self.index(level, shard)[slot]
        if entry["nbytes"] == shards.ABSENT:
            msg = f"Chunk {chunk} is missing from {key}."
            raise IntegrityError(msg, remedy=_REMEDY)
        return self._get(key, Span(int(entry["offset"]), int(entry["nbytes"])))

    def piece(self, level: int, chunk: int, piece: int) -> bytes:
        """Return the payload of the `piece`-th tile of a fold.

        Raises
        ------
        IntegrityError
            If the chunk is no fold, or lower than that.

        """
        scans = self._scans(level, chunk)
        if not 0 <= piece < len(scans):
            msg = f"Chunk {chunk} of level {level} of slide {self.place.slide} has no tile {piece}."
            raise IntegrityError(msg, remedy=_REMEDY)
        return scans[piece]

    def _scans(self, level: int, chunk: int) -> list[bytes]:
        with self._lock:
            known = self._folds.get((level, chunk))
            if known is not None:
                self._folds.move_to_end((level, chunk))
                return known
        try:
            scans = fold.split(self.chunk(level, chunk))
        except fold.FoldError as error:
            msg = f"Chunk {chunk} in {self._shard_of(level, chunk)[0]} is damaged: {error}."
            raise IntegrityError(msg, remedy=_REMEDY) from error
        with self._lock:
            if (level, chunk) not in self._folds:
                self._folds[level, chunk] = scans
                self._folds_bytes += sum(map(len, scans))
            while self._folds_bytes > _KEPT_FOLD_BYTES and len(self._folds) > 1:
                _, dropped = self._folds.popitem(last=False)
                self._folds_bytes -= sum(map(len, dropped))
        return scans

    def _shard_of(self, level: int, chunk: int) -> tuple[str, int, int]:
        """Return the key and number of the shard that a chunk is in, and its place in the index."""
        found, _ = self.array(level)
        shard, slot = (int(a[0]) for a in found.shard_of_chunk(np.array([chunk], np.int64)))
        return self.place.store + found.shard_key(shard), shard, slot

    def _get(self, key: str, part: Span | Tail | None = None) -> bytes:
        try:
            return self.storage.get(key, part)
        except ObjectMissingError as error:
            msg = f"{key} is missing from {self.storage.url}."
            raise IntegrityError(msg, remedy=_REMEDY) from error


def _tile_codec(document: dict[str, Any], *, where: str) -> str:
    """Return the name of the codec that decodes a tile, from an array's zarr.json that has a grid."""
    try:
        names = [bounded.text(codec["name"]) for codec in document["codecs"][0]["configuration"]["codecs"]]
        return "wsistore.fold" if "wsistore.fold" in names else names[-1]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        msg = f"The codecs of the array {where} are not those that this version of wsistore knows ({error!r:.200})."
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy="A newer wsistore may read it.") from error
