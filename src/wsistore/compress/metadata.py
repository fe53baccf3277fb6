"""The zarr.json documents of a store: OME-Zarr 0.5, nothing that names a patient, a day or another view of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc

from wsistore.compress.levels import LevelPlan, codec_chain
from wsistore.model import Mode
from wsistore.slides.base import Content, Source

FORMAT = 1
"""Version of the store format; docs/store-format.md describes each."""

Json = dict[str, Any]

_BLOSC_LEVEL = 3
"""As small as higher levels make coordinates; the highest takes a hundred times as long."""
_INDEX_CODECS: list[Json] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_COORDINATE_CODECS: list[Json] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {
        "name": "blosc",
        "configuration": {"cname": "zstd", "clevel": _BLOSC_LEVEL, "shuffle": "shuffle", "typesize": 4, "blocksize": 0},
    },
]


def dump(document: Json) -> bytes:
    """Return a document as compact JSON."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def group(attributes: Json | None = None) -> Json:
    """Return a Zarr group."""
    return {"zarr_format": 3, "node_type": "group", **({"attributes": attributes} if attributes else {})}


def array(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    codecs: list[Json],
    names: list[str],
    *,
    fill: float = 0,
    attributes: Json | None = None,
) -> Json:
    """Return a Zarr array with a regular grid and the default chunk keys."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "dimension_names": names,
        **({"attributes": attributes} if attributes else {}),
    }


def fill_value(source: Source, dtype: str) -> int:
    """Return what absent tiles read as: glass, or black for fluorescence."""
    return 0 if source.content is Content.FLUORESCENCE else int(np.iinfo(np.dtype(dtype)).max)


def image(plan: LevelPlan, source: Source) -> Json:
    """Return the array of one level, (c, y, x), sharded."""
    level, grid = plan.level, plan.grid
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(grid.chunk_shape),
            "codecs": codec_chain(plan),
            "index_codecs": _INDEX_CODECS,
            "index_location": "end",
        },
    }
    return array(
        grid.shape,
        grid.shard_shape,
        level.dtype,
        [sharding],
        ["c", "y", "x"],
        fill=fill_value(source, level.dtype),
    )


def scale(source: Source, number: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return pixel size and position of the first pixel's centre of a level, each (y, x).

    In micrometres, or in pixels of level 0 where the source gives no size. The centre of level 0's first pixel is the
    origin; all levels cover the same area.
    """
    first, level = source.levels[0], source.levels[number]
    base = source.um_per_px or (1.0, 1.0)
    steps = (base[0] * (first.height / level.height), base[1] * (first.width / level.width))
    return steps, ((steps[0] - base[0]) / 2, (steps[1] - base[1]) / 2)


def coordinate(source: Source, number: int, axis: int) -> tuple[Json, npt.NDArray[np.uint32]]:
    """Return the array document and the stored values of a level's coordinate: axis 0 is y, 1 is x.

    Stored are the pixels' numbers, packed as the CF conventions say (section 8.1): micrometres are ``scale_factor`` ×
    number + ``add_offset``, which is what xarray gives. As floats the coordinates of a small slide's many levels would
    take more bytes than all its other metadata.
    """
    steps, starts = scale(source, number)
    length = (source.levels[number].height, source.levels[number].width)[axis]
    attributes = {
        "units": "micrometer" if source.um_per_px else "pixel",
        "scale_factor": steps[axis],
        "add_offset": starts[axis],
    }
    document = array((length,), (length,), "uint32", _COORDINATE_CODECS, ["yx"[axis]], attributes=attributes)
    return document, np.arange(length, dtype="<u4")


def pack_coordinate(values: npt.NDArray[np.uint32]) -> bytes:
    """Return the only chunk of a coordinate array."""
    return bytes(Blosc(cname="zstd", clevel=_BLOSC_LEVEL, shuffle=Blosc.SHUFFLE).encode(values))


def root(source: Source) -> Json:
    """Return the store's root group; without levels for a slide that is kept `whole`."""
    return described(source) if source.mode is Mode.TILES else group({"wsistore": _ours(source)})


def with_arrays(root_document: bytes, arrays: Mapping[str, Json]) -> bytes:
    """Return a root group whose consolidated metadata, if it has such, hold these arrays, by path."""
    document = json.loads(root_document)
    consolidated = document.get("consolidated_metadata")
    if not consolidated:
        return root_document
    consolidated["metadata"].update({path: dict(array) for path, array in arrays.items()})
    return dump(document)


def described(source: Source) -> Json:
    """Return the root group of a hierarchy that has the source's levels."""
    return group({"ome": _ome(source), "wsistore": _ours(source)})


def _ours(source: Source) -> Json:
    ours: Json = {"format": FORMAT, "mode": str(source.mode), "content": str(source.content)}
    if source.magnification:
        ours["magnification"] = source.magnification
    return ours


def _ome(source: Source) -> Json:
    unit = {"unit": "micrometer"} if source.um_per_px else {}
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", **unit} for n in "yx")]
    datasets = []
    for number in range(len(source.levels)):
        steps, starts = scale(source, number)
        transforms = [{"type": "scale", "scale": [1.0, *steps]}, {"type": "translation", "translation": [0.0, *starts]}]
        datasets.append({"path": f"{number}/image", "coordinateTransformations": transforms})
    multiscale = {"name": "slide", "axes": axes, "datasets": datasets}
    return {"version": "0.5", "multiscales": [multiscale], "omero": _omero(source)}


def _omero(source: Source) -> Json:
    level = source.levels[0]
    top = int(np.iinfo(np.dtype(level.dtype)).max)
    window = {"min": 0, "max": top, "start": 0, "end": top}
    colors = [("R", "FF0000"), ("G", "00FF00"), ("B", "0000FF")] if level.channels == 3 else [("gray", "FFFFFF")]
    channels = [{"label": name, "color": color, "active": True, "window": window} for name, color in colors]
    return {"channels": channels, "rdefs": {"model": "color" if level.channels == 3 else "greyscale"}}
