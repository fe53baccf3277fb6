"""Stores behind a URL: what fsspec raises becomes an error of ours, and a server that ignores ranges is noticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

from typing_extensions import override
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import FsspecStore, WrapperStore

from wsistore.errors import StorageError, WsistoreError


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn what fsspec and the libraries below it raise into `StorageError`."""
    try:
        yield
    except WsistoreError:
        raise
    except Exception as error:  # each protocol has errors of its own, and they always mean the same
        msg = f"{url} cannot be read ({type(error).__name__}: {str(error)[:200]})."
        raise StorageError(msg, remedy="Check the address, the network and the credentials.") from error


def ranges_ignored(url: str) -> StorageError:
    """Return the error for a server that sends whole files where parts were asked for."""
    msg = f"The server of {url} does not answer byte ranges: each tile would take a whole shard."
    return StorageError(msg, remedy="Serve it by one that does (nginx, S3, …), or copy the slide here first.")


class RemoteStore(WrapperStore[FsspecStore]):
    """A folder behind a URL."""

    @override
    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        where = f"{self._store.fs.unstrip_protocol(self._store.path)}/{key}"
        with reached(where):
            data = await self._store.get(key, prototype, byte_range)
        if data is not None and len(data) > _most(byte_range, len(data)):
            raise ranges_ignored(where)
        return data

    @override
    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    @override
    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder: as the server lists them, or, if it lists nothing, as slides have them."""
        try:
            found = [name async for name in self._store.list_dir(prefix)]
        except Exception:  # each protocol has errors of its own; most web servers list nothing
            found = []
        for name in found or await self._usual(prefix.strip("/")):
            yield name

    async def _usual(self, folder: str) -> list[str]:
        """Return which of the names that a slide has in a folder are there."""
        data = await self.get(f"{folder}/zarr.json".lstrip("/"), default_buffer_prototype())
        try:
            document = json.loads(data.to_bytes()) if data is not None else {}
            if document.get("node_type") != "group":
                return []
            names = ["image", "y", "x"]
            if not folder:
                datasets = document["attributes"]["ome"]["multiscales"][0]["datasets"]
                names = [*dict.fromkeys(one["path"].split("/")[0] for one in datasets), "thumbnail", "icc"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return []
        there = await asyncio.gather(*(self.exists(f"{folder}/{name}/zarr.json".lstrip("/")) for name in names))
        return [name for name, is_there in zip(names, there, strict=True) if is_there]


def _most(request: ByteRequest | None, otherwise: int) -> int:
    """Return the most bytes that a request can be answered with."""
    if isinstance(request, RangeByteRequest):
        return request.end - request.start
    return request.suffix if isinstance(request, SuffixByteRequest) else otherwise
