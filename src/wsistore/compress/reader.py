"""A stored slide: its companion, its layout, and where every byte of the vendor's files lies in the tier."""

from __future__ import annotations

import json
from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from wsistore.compress import companion, fold, grid, keys, layout, shards
from wsistore.compress.companion import Companion
from wsistore.compress.grid import ArrayGrid
from wsistore.compress.keys import Place
from wsistore.compress.skeleton import SkeletonReader
from wsistore.errors import IntegrityError, ObjectMissingError
from wsistore.model import Mode
from wsistore.storage.base import Span, Storage, Tail

_REMEDY = "Restore the slide from another copy."
_KEPT_FOLDS = 64
"""Chunks of strips kept split: neighbouring reads of a file ask for the same ones."""


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
        self.companion: Companion = companion.decode(self._get(where), where=where)
        self._arrays: dict[int, tuple[ArrayGrid, str]] = {}
        self._indexes: dict[str, npt.NDArray[np.void]] = {}
        self._folds: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
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
            found = grid.from_metadata(path, document)
            codecs = document["codecs"][0]["configuration"]["codecs"]
            known = (found, next((c["name"] for c in codecs if c["name"] == "wsistore.fold"), codecs[-1]["name"]))
            self._arrays[level] = known
        return known

    def document(self, path: str) -> dict[str, Any]:
        """Return the zarr.json of an array or group of the store."""
        where = f"{self.place.store}{path}/zarr.json" if path else f"{self.place.store}zarr.json"
        try:
            found: dict[str, Any] = json.loads(self._get(where))
        except ValueError as error:
            msg = f"{where} is damaged ({error})."
            raise IntegrityError(msg, remedy=_REMEDY) from error
        return found

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
        found, _ = self.array(level)
        shard, slot = (int(a[0]) for a in found.shard_of_chunk(np.array([chunk], np.int64)))
        entry = self.index(level, shard)[slot]
        key = self.place.store + found.shard_key(shard)
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
        with self._lock:
            scans = self._folds.get((level, chunk))
        if scans is None:
            try:
                scans = fold.split(self.chunk(level, chunk))
            except fold.FoldError as error:
                msg = f"Chunk {chunk} of level {level} of slide {self.place.slide} is damaged: {error}."
                raise IntegrityError(msg, remedy=_REMEDY) from error
            with self._lock:
                self._folds[level, chunk] = scans
                while len(self._folds) > _KEPT_FOLDS:
                    self._folds.popitem(last=False)
        if piece >= len(scans):
            msg = f"Chunk {chunk} of level {level} of slide {self.place.slide} has no tile {piece}."
            raise IntegrityError(msg, remedy=_REMEDY)
        return scans[piece]

    def _get(self, key: str, part: Span | Tail | None = None) -> bytes:
        try:
            return self.storage.get(key, part)
        except ObjectMissingError as error:
            msg = f"{key} is missing from {self.storage.url}."
            raise IntegrityError(msg, remedy=_REMEDY) from error
