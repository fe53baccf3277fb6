"""Zarr codecs that decode the vendors' tiles: what Zarr's entry points name.

The ``imagecodecs_*`` codecs have the names and configurations that `imagecodecs.zarr` gives them, so that stores open
with either implementation; where both are installed ours is chosen, on purpose (see `prefer_ours`). They decode with
the same libraries. Nothing is encoded with loss: a store is made from tiles, not from pixels.

The codecs work on chunks of shape (y, x) or (y, x, channels); a ``transpose`` before them gives the array its OME
order (c, y, x).
"""

from __future__ import annotations

import zarr

from wsistore.compress.byte_codecs import Delta, Lzw, YCbCr, Zlib
from wsistore.compress.recoded_codec import Recoded
from wsistore.compress.tile_codecs import Fold, Jpeg, Jpeg2k, Webp

__all__ = ["Delta", "Fold", "Jpeg", "Jpeg2k", "Lzw", "Recoded", "Webp", "YCbCr", "Zlib", "prefer_ours"]

_OTHERS_HAVE: dict[str, type] = {
    "imagecodecs_delta": Delta,
    "imagecodecs_jpeg": Jpeg,
    "imagecodecs_jpeg2k": Jpeg2k,
    "imagecodecs_lzw": Lzw,
    "imagecodecs_webp": Webp,
    "imagecodecs_zlib": Zlib,
}


def prefer_ours() -> None:
    """Tell Zarr which implementation to take where `imagecodecs-zarr` offers the same names.

    Zarr loads every entry point of a name before it chooses, so importing this module is early enough. These are
    defaults of Zarr's configuration: what a user chose, or chooses, stays.
    """
    chosen = {name: f"{cls.__module__}.{cls.__qualname__}" for name, cls in _OTHERS_HAVE.items()}
    zarr.config.update_defaults({"codecs": chosen})


prefer_ours()
