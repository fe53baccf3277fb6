"""The binary form of a Zarr shard: chunks in any order, then the index of where they lie (zarr-specs, sharding 1.0)."""

from __future__ import annotations

import struct

import google_crc32c
import numpy as np
import numpy.typing as npt

from wsistore.errors import IntegrityError

INDEX_DTYPE = np.dtype([("offset", "<u8"), ("nbytes", "<u8")])
ABSENT = 2**64 - 1
"""Offset and size of a chunk that is not there."""
_CRC_BYTES = 4


def index_bytes(chunks: int) -> int:
    """Return the size of the index of a shard of `chunks` chunks."""
    return chunks * INDEX_DTYPE.itemsize + _CRC_BYTES


def empty_index(chunks: int) -> npt.NDArray[np.void]:
    """Return an index of `chunks` absent chunks."""
    index = np.empty(chunks, INDEX_DTYPE)
    index["offset"] = ABSENT
    index["nbytes"] = ABSENT
    return index


def encode_index(index: npt.NDArray[np.void]) -> bytes:
    """Return the index as it lies at the end of the shard, with its crc32c."""
    data = index.astype(INDEX_DTYPE, copy=False).tobytes()
    return data + struct.pack("<I", google_crc32c.value(data))


def decode_index(data: bytes, chunks: int, *, where: str) -> npt.NDArray[np.void]:
    """Return the index from the last bytes of a shard.

    Parameters
    ----------
    data
        The last ``index_bytes(chunks)`` bytes of the shard.
    chunks
        Chunks of the shard, absent ones included.
    where
        The shard's key, for the message.

    Raises
    ------
    IntegrityError
        If the bytes are too few or their crc32c is wrong.

    """
    if len(data) != index_bytes(chunks):
        msg = f"The shard {where} is too short for its index."
        raise IntegrityError(msg, remedy="Restore the slide from another copy.")
    body, crc = data[:-_CRC_BYTES], struct.unpack("<I", data[-_CRC_BYTES:])[0]
    if google_crc32c.value(body) != crc:
        msg = f"The index of the shard {where} is damaged: its crc32c does not agree."
        raise IntegrityError(msg, remedy="Restore the slide from another copy.")
    return np.frombuffer(body, INDEX_DTYPE)
