"""What the operating system and hashlib can do: the yardsticks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.support.disk import drop_from_cache, fsync, read_through
from bench.support.serving import Answer, serve, timed

_BLOCK_BYTES = 4 << 20


def copy_verified(source: str, folder: str) -> Answer:
    """Copy, fsync, SHA-256 of the source, one uncached read of the copy: one after the other, as a script would."""
    target = Path(folder) / "copy"
    target.parent.mkdir(parents=True)

    def run() -> None:
        shutil.copyfile(source, target)
        fsync(target)
        with open(source, "rb") as stream:  # noqa: PTH123
            hashlib.file_digest(stream, "sha256")
        drop_from_cache(target)
        read_through(target)

    return {"seconds": timed(run)}


def limit_of_ingest(source: str, folder: str) -> Answer:
    """Do what no verified ingest can do without, and nothing else: in two threads, for it has two hashes at a time.

    The source is hashed, its copy is hashed as it is written and flushed; then the copy is read back from the medium,
    and each block hashed twice: for the object, and for the source that is rebuilt of it.
    """
    target = Path(folder) / "copy"
    target.parent.mkdir(parents=True)

    def run(pool: ThreadPoolExecutor) -> None:
        whole = pool.submit(_hash, source)
        stored = hashlib.sha256()
        with target.open("wb", buffering=0) as out:

            def store(block: memoryview) -> None:
                out.write(block)
                stored.update(block)

            _each_block(source, store)
        fsync(target)
        first = whole.result()
        drop_from_cache(target)
        read, rebuilt = hashlib.sha256(), hashlib.sha256()

        def twice(block: memoryview) -> None:
            other = pool.submit(read.update, block)
            rebuilt.update(block)
            other.result()

        _each_block(target, twice)
        if len({first, stored.digest(), read.digest(), rebuilt.digest()}) != 1:
            msg = f"{target} is not {source}"
            raise OSError(msg)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        return {"seconds": timed(lambda: run(pool))}


def limit_of_restore(source: str, folder: str) -> Answer:
    """Copy and hash side by side: less than that gives no file back whose hash was compared."""
    target = Path(folder) / "copy"
    target.parent.mkdir(parents=True)

    def run(pool: ThreadPoolExecutor) -> None:
        hashing: Future[bytes] = pool.submit(_hash, source)
        with target.open("wb", buffering=0) as out:
            _each_block(source, out.write)
        hashing.result()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        return {"seconds": timed(lambda: run(pool))}


def _hash(path: str) -> bytes:
    digest = hashlib.sha256()
    _each_block(path, digest.update)
    return digest.digest()


def _each_block(path: str | Path, act: Callable[[memoryview], object]) -> None:
    """Give the blocks of a file to `act`, one buffer for all of them, the next one fetched meanwhile."""
    block, place = memoryview(bytearray(_BLOCK_BYTES)), 0
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
        os.posix_fadvise(stream.fileno(), 0, 2 * _BLOCK_BYTES, os.POSIX_FADV_WILLNEED)
        while count := stream.readinto(block):
            place += count
            os.posix_fadvise(stream.fileno(), place + _BLOCK_BYTES, _BLOCK_BYTES, os.POSIX_FADV_WILLNEED)
            act(block[:count])


def copy(source: str, folder: str, flush: bool) -> Answer:
    """Run ``cp`` (its process start, about a millisecond, included); `flush`: fsync the copy too."""
    target = Path(folder) / "copy"
    target.parent.mkdir(parents=True)

    def run() -> None:
        # On file systems that can, cp would share the blocks and copy nothing.
        subprocess.run(["cp", "--reflink=never", source, target], check=True)
        if flush:
            fsync(target)

    return {"seconds": timed(run)}


if __name__ == "__main__":
    serve({
        "copy_verified": copy_verified,
        "copy": copy,
        "limit_of_ingest": limit_of_ingest,
        "limit_of_restore": limit_of_restore,
    })  # fmt: skip
