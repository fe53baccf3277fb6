"""wsic: `wsic transcode` to Zarr."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from bench.support.serving import Answer, serve, timed
from bench.workers.jpegs import grid, sample

_transcode: Any = import_module("wsic.cli").transcode.callback


def convert(source: str, folder: str) -> Answer:
    """Repackage `source` as ``<folder>/out.zarr``."""
    Path(folder).mkdir(parents=True)
    return {"seconds": timed(lambda: _transcode(source, str(Path(folder) / "out.zarr"), False))}


def check(source: str, folder: str) -> Answer:
    """Compare chunks with the tiles of the source: are they passed through?"""
    _, columns = grid(source)
    level = Path(folder) / "out.zarr" / "0"
    tiles = sample(source)
    changed = [
        number for number, tile in tiles.items()
        if (level / str(number // columns) / str(number % columns) / "0").read_bytes() != tile
    ]  # fmt: skip
    return {"compared": len(tiles), "changed": changed}


if __name__ == "__main__":
    serve({"convert": convert, "check": check})
