"""How the tiles of a chunk become its bytes, and come back: the contract of all encodings of a level.

A *payload* is what the layout calls so: for most sources the tile as the source has it, byte for byte; for strips
between restart markers (NDPI) their entropy-coded data. Every coding gives back the exact payloads it was given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Payload = bytes
Payloads = Sequence[Payload | None]
"""Of a chunk's tiles from top to bottom; None where the source has no tile."""


class CodingError(ValueError):
    """These bytes are not a chunk of this coding; the message says why, as a phrase behind the chunk's name."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chunk."""

    data: bytes
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    """Tiles that were not encoded as wanted, counted by reason; each is kept exactly nevertheless."""


class ChunkCoding(ABC):
    """One way to keep a level's chunks. Immutable; threads and processes share it (it pickles)."""

    @property
    @abstractmethod
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""

    @property
    @abstractmethod
    def tiles(self) -> int:
        """Tiles of a full chunk: it is `tiles` · tile height pixels high and one tile wide."""

    @property
    @abstractmethod
    def codecs(self) -> list[Json]:
        """Zarr metadata of the chunk's codecs, as they stand inside ``sharding_indexed``."""

    @abstractmethod
    def encode(self, payloads: Payloads) -> Encoded:
        """Return the chunk of at most `tiles` payloads, at least one of which is there.

        The result has been decoded again and compared: `decode` gives back these payloads. Encoding the same payloads
        again gives the same bytes.
        """

    @abstractmethod
    def decode(self, data: bytes) -> list[Payload | None]:
        """Return the payloads of a chunk, at most `tiles`.

        Raises
        ------
        CodingError
            If `data` is not a chunk of this coding; whatever the bytes are, nothing else is raised, and memory stays
            within a small multiple of what a sound chunk of this shape could need.

        """


@dataclass(frozen=True)
class PlainCoding(ChunkCoding):
    """A chunk is one tile's payload as it is.

    Parameters
    ----------
    inner
        Zarr metadata of the codecs that decode it.
    shape
        Height and width of a tile in pixels.

    """

    inner: tuple[Json, ...]
    shape: tuple[int, int]

    def __hash__(self) -> int:
        """Hash by what it writes."""
        return hash((self.shape, len(self.inner)))

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""
        return self.shape

    @property
    def tiles(self) -> int:
        """Return 1."""
        return 1

    @property
    def codecs(self) -> list[Json]:
        """Zarr metadata of the chunk's codecs."""
        return list(self.inner)

    def encode(self, payloads: Payloads) -> Encoded:
        """Return the only payload."""
        (payload,) = payloads
        if payload is None:
            msg = "has no tile"
            raise CodingError(msg)
        return Encoded(payload)

    def decode(self, data: bytes) -> list[Payload | None]:
        """Return the chunk as the only payload."""
        return [data]
