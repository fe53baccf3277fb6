"""Plain zarr-python on the stored hierarchy, with the codecs that decode its tiles and nothing else of ours."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from bench.support.serving import Answer, serve
from bench.workers.patches import run

_np: Any = import_module("numpy")
_zarr: Any = import_module("zarr")


@cache
def _opened(slide: str) -> Any:
    return _zarr.open_array(f"{slide}/0/image", mode="r")


def patches(slide: str, positions: list[tuple[int, int]], manner: str, check: bool) -> Answer:
    """Read patches of 256 pixels of level 0."""
    array = _opened(slide)

    def read(y: int, x: int) -> Any:
        return _np.moveaxis(array[:, y : y + 256, x : x + 256], 0, -1)

    return run(read, positions, manner, check)


if __name__ == "__main__":
    serve({"patches": patches})
