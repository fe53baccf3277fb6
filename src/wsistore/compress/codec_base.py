"""What all Zarr codecs here share: their JSON, and running the decoders of tiles, bytes and filters in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

Pixels = npt.NDArray[Any]


def settings_of(data: dict[str, JSON], name: str, known: frozenset[str]) -> dict[str, Any]:
    """Return the configuration in a codec's JSON.

    Raises
    ------
    ValueError
        If it has settings that are not `known`: decoding without heeding them could give other pixels.

    """
    _, configuration = parse_named_configuration(data, name, require_configuration=False)
    found: dict[str, Any] = dict(configuration or {})
    if unknown := sorted(set(found) - known):
        msg = f"{name}: the settings {unknown} are not known here; a newer wsistore may know them"
        raise ValueError(msg)
    return found


def named(name: str, settings: Mapping[str, Any]) -> dict[str, JSON]:
    """Return a codec's JSON; what is None is left out, and so is an empty configuration."""
    configuration = {key: value for key, value in settings.items() if value is not None}
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


def samples(spec: ArraySpec) -> np.dtype[Any]:
    """Return the NumPy type of a chunk's samples, in native byte order."""
    dtype: np.dtype[Any] = spec.dtype.to_native_dtype()
    return dtype.newbyteorder("=")


class TileCodec(ArrayBytesCodec):
    """Shared shape of the decoders: one compressed picture to one chunk, in a thread."""

    is_fixed_size = False
    name: ClassVar[str]

    def decode_into(self, data: bytes, out: Pixels) -> None:
        """Fill a chunk.

        Parameters
        ----------
        data
            The chunk's stored bytes.
        out
            (y, x, channels), or (y, x) for one channel; holds the array's fill value. A picture of another shape or
            type is refused, before memory is spent on it.

        Raises
        ------
        ValueError
            If the bytes do not decode to that shape and type.
        RuntimeError
            If the codec library refuses the bytes.

        """
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        pixels = np.full(chunk_spec.shape, chunk_spec.fill_value, samples(chunk_spec))
        flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        self.decode_into(chunk_bytes.to_bytes(), flat)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        msg = f"{self.name} keeps a vendor's tiles and encodes none; write pixels with another codec"
        raise NotImplementedError(msg)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a compressed chunk is not known beforehand."""
        raise NotImplementedError


class ByteCodec(BytesBytesCodec):
    """Shared shape of the byte decoders."""

    is_fixed_size = False
    name: ClassVar[str]

    def decode_bytes(self, data: bytes, most: int) -> bytes:
        """Return the decompressed bytes.

        Parameters
        ----------
        data
            Compressed bytes.
        most
            Bytes that the chunk's samples take; more than these are never made.

        """
        raise NotImplementedError

    def encode_bytes(self, data: bytes) -> bytes:
        """Return the compressed bytes."""
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        most = int(np.prod(chunk_spec.shape, dtype=np.int64)) * samples(chunk_spec).itemsize
        return chunk_spec.prototype.buffer.from_bytes(self.decode_bytes(chunk_bytes.to_bytes(), most))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        data = await asyncio.to_thread(self.encode_bytes, chunk_bytes.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(data)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Refuse: the size of a compressed chunk is not known beforehand."""
        raise NotImplementedError


class Filter(ArrayArrayCodec):
    """Shared shape of the array filters."""

    is_fixed_size = True

    def decode_array(self, pixels: Pixels) -> Pixels:
        """Undo the filter."""
        raise NotImplementedError

    def encode_array(self, pixels: Pixels) -> Pixels:
        """Apply the filter."""
        raise NotImplementedError

    def _decode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        stored = chunk_array.as_numpy_array()
        pixels = self.decode_array(np.ascontiguousarray(stored, stored.dtype.newbyteorder("=")))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels.reshape(chunk_spec.shape))

    async def _decode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_array, chunk_spec)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> NDBuffer | None:
        pixels = self.encode_array(np.ascontiguousarray(chunk_array.as_numpy_array()))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return the same size."""
        return input_byte_length


@dataclass(frozen=True)
class WithSettings:
    """A codec whose settings tell its encoder something, and its decoder only what the subclass reads from them.

    They are kept as they were, so that the metadata of an array stay what they are.
    """

    name: ClassVar[str]
    known: ClassVar[frozenset[str]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Hash by name and settings."""
        return hash((self.name, repr(sorted(self.settings.items()))))

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """Make the codec from its JSON.

        Raises
        ------
        ValueError
            If it has settings that cannot be heeded.

        """
        return cls(settings_of(data, cls.name, cls.known))

    def to_dict(self) -> dict[str, JSON]:
        """Return the codec's JSON."""
        return named(self.name, self.settings)
