"""What the operating system and hashlib can do: the yardsticks."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from bench.support.disk import drop_from_cache, fsync, read_through
from bench.support.serving import Answer, serve, timed


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
    serve({"copy_verified": copy_verified, "copy": copy})
