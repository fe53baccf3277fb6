"""The Zarr codec ``wsistore.recoded``: chunks of `wsistore.compress.recoded` to pixels."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON

from wsistore.compress.codec_base import named, samples, settings_of
from wsistore.compress.recoded import NAME, SETTINGS, check_settings, read_settings
from wsistore.compress.recoded_chunk import pixels_of


@dataclass(frozen=True)
class Recoded(ArrayBytesCodec):
    """One tile, recoded without loss; decodes to (c, y, x) itself, without a ``transpose``.

    Parameters
    ----------
    settings
        `candidate`, `codecs`, `tile_shape`: see docs/codecs.md.

    """

    is_fixed_size = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Hash by the settings."""
        return hash(repr(sorted(self.settings.items())))

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON.

        Raises
        ------
        ValueError
            If the configuration is not complete, or of a newer wsistore.

        """
        settings = settings_of(data, NAME, SETTINGS)
        check_settings(settings)
        return cls(settings)

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return named(NAME, self.settings)

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        channels, height, width = chunk_spec.shape
        dtype = samples(chunk_spec)
        source, _, _ = read_settings(self.settings, (channels, height, width), dtype.name)
        pixels = pixels_of(source, chunk_bytes.to_bytes())
        return chunk_spec.prototype.nd_buffer.from_numpy_array(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        msg = f"{NAME} keeps a vendor's tiles and encodes none; write pixels with another codec"
        raise NotImplementedError(msg)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a compressed chunk is not known beforehand."""
        raise NotImplementedError
