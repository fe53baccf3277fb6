"""Zarr views of sources that are not stored: a vendor's file read in place, tile by tile or through its library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from typing_extensions import override
from zarr.abc.store import ByteRequest

from wsistore.compress import fold, metadata
from wsistore.compress.levels import LevelPlan, codec_chain, plan_level
from wsistore.compress.source_bytes import SourceBytes
from wsistore.compress.zarr_store import ReadOnlyStore, cut
from wsistore.slides.base import Codec, Source

Json = dict[str, Any]
_CHUNK_KEY = re.compile(r"(\d{1,9})/image/c/0/(\d{1,9})/(\d{1,9})")
_WHOLE_CHUNK = 512
"""Edge in pixels of a chunk that a vendor's library is asked for."""


class RegionReader(Protocol):
    """What a vendor's library offers for a `whole` slide."""

    def read_region(self, level: int, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Return (height, width, 3) uint8; it need not bear being called from several threads at once."""
        ...


class _VirtualStore(ReadOnlyStore):
    """Documents in memory, chunks made when asked for."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._documents: dict[str, bytes] = {}

    @override
    def __eq__(self, value: object) -> bool:
        return self is value

    def __hash__(self) -> int:
        return id(self)

    @override
    def __str__(self) -> str:
        return f"source://{self._source.files[0].name}"

    @override
    def read(self, key: str, request: ByteRequest | None) -> bytes | None:
        known = self._documents.get(key)
        if known is not None:
            return cut(known, request)
        named = _CHUNK_KEY.fullmatch(key)
        if named is None:
            return None
        level, row, column = (int(part) for part in named.groups())
        data = self.chunk(level, row, column) if level < len(self._source.levels) else None
        return None if data is None else cut(data, request)

    @override
    def names(self, prefix: str) -> Iterable[str]:
        return (key for key in self._documents if key.startswith(prefix))

    def chunk(self, level: int, row: int, column: int) -> bytes | None:
        raise NotImplementedError

    def _describe(self, number: int, chunks: tuple[int, int, int], dtype: str, codecs: list[Json]) -> None:
        level = self._source.levels[number]
        shape = (chunks[0], level.height, level.width)
        fill = metadata.fill_value(self._source, dtype)
        document = metadata.array(shape, chunks, dtype, codecs, ["c", "y", "x"], fill=fill)
        self._documents[f"{number}/zarr.json"] = metadata.dump(metadata.group())
        self._documents[f"{number}/image/zarr.json"] = metadata.dump(document)
        for axis, name in enumerate("yx"):
            document, values = metadata.coordinate(self._source, number, axis)
            document["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]
            self._documents[f"{number}/{name}/zarr.json"] = metadata.dump(document)
            self._documents[f"{number}/{name}/c/0"] = values.tobytes()


class TileStore(_VirtualStore):
    """A source in `tiles` mode: chunks are the tiles where they lie in the vendor's files."""

    def __init__(self, source: Source, files: SourceBytes) -> None:
        super().__init__(source)
        self._files = files
        self._plans: list[LevelPlan] = [plan_level(level, n) for n, level in enumerate(source.levels)]
        self._documents["zarr.json"] = metadata.dump(metadata.root(source))
        for number, plan in enumerate(self._plans):
            self._describe(number, plan.grid.chunk_shape, plan.level.dtype, codec_chain(plan))

    @override
    def chunk(self, level: int, row: int, column: int) -> bytes | None:
        plan = self._plans[level]
        coding, columns = plan.level.coding, plan.level.grid[1]
        first = row * plan.fold_height
        if column >= columns:
            return None
        tiles = range(first * columns + column, min(first + plan.fold_height, plan.level.grid[0]) * columns, columns)
        parts = [part for part in (self._tile(plan, tile) for tile in tiles) if part is not None]
        if not parts:
            return None
        if coding is not None and coding.codec is Codec.JPEG_STRIPS:
            return fold.join(coding.header or b"", parts)
        return parts[0]

    def _tile(self, plan: LevelPlan, tile: int) -> bytes | None:
        segments = plan.level.segments
        start, end = np.searchsorted(segments["tile"], [tile, tile + 1]).tolist()
        if start == end:
            return None
        rows: Iterator[Any] = iter(segments[start:end])
        return b"".join(self._files.read(int(r["file"]), int(r["offset"]), int(r["length"])) for r in rows)


class LibraryStore(_VirtualStore):
    """A source in `whole` mode: chunks are pixels that the vendor's library decodes."""

    def __init__(self, source: Source, reader: RegionReader) -> None:
        super().__init__(source)
        self._reader, self._lock = reader, Lock()
        self._documents["zarr.json"] = metadata.dump(metadata.described(source))
        for number in range(len(source.levels)):
            transpose = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
            self._describe(number, (3, _WHOLE_CHUNK, _WHOLE_CHUNK), "uint8", [transpose, {"name": "bytes"}])

    @override
    def chunk(self, level: int, row: int, column: int) -> bytes | None:
        size = self._source.levels[level]
        y, x = row * _WHOLE_CHUNK, column * _WHOLE_CHUNK
        height, width = min(_WHOLE_CHUNK, size.height - y), min(_WHOLE_CHUNK, size.width - x)
        if height <= 0 or width <= 0:
            return None
        out = np.full((_WHOLE_CHUNK, _WHOLE_CHUNK, 3), metadata.fill_value(self._source, "uint8"), np.uint8)
        with self._lock:  # Zarr asks for several chunks at once
            out[:height, :width] = self._reader.read_region(level, y, x, height, width)
        return out.tobytes()
