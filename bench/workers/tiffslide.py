"""tiffslide: patches of the vendor's file."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from bench.support.serving import Answer, serve
from bench.workers.patches import run

_tiffslide: Any = import_module("tiffslide")


@cache
def _opened(slide: str) -> Any:
    return _tiffslide.TiffSlide(slide)


def patches(slide: str, positions: list[tuple[int, int]], manner: str, check: bool) -> Answer:
    """Read patches of 256 pixels of level 0."""
    opened = _opened(slide)

    def read(y: int, x: int) -> Any:
        return opened.read_region((x, y), 0, (256, 256), as_array=True)

    return run(read, positions, manner, check)


if __name__ == "__main__":
    serve({"patches": patches})
