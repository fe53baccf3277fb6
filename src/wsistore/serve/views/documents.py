"""The Zarr documents of each view of a slide, all made when it is opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import zarr

from wsistore.compress import metadata
from wsistore.errors import IntegrityError, Kind
from wsistore.ops.serving import ServedCopy
from wsistore.serve.views import allowed
from wsistore.serve.views.levels import QUALITY, LevelSource

Json = dict[str, Any]
Documents = dict[str, Json]
"""By path of the node: empty for the root, ``0/image`` for an array."""

CORE_CODECS: list[Json] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
]
_TRANSPOSE: Json = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
_EXTRAS = ("thumbnail", "icc")
_COORDINATES = ("y", "x")


def stored(copy: ServedCopy, levels: range) -> Documents:
    """Return the documents of a slide as it lies, by allow-list.

    Raises
    ------
    IntegrityError
        If one of them is not one that wsistore writes.

    """
    try:
        found = {"": allowed.root(copy.documents[""], levels)}
        for number in levels if "ome" in found[""]["attributes"] else ():
            found[str(number)] = allowed.group()
            for name in ("image", *_COORDINATES):
                found[f"{number}/{name}"] = allowed.array(copy.documents[f"{number}/{name}"])
        found.update({name: allowed.array(copy.documents[name]) for name in _EXTRAS if name in copy.documents})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = f"slide {copy.place.slide} in {copy.tier}"
        msg = f"The documents of {where} are not as wsistore writes them ({error!s:.200})."
        remedy = "Verify the slide; a newer wsistore may know what it holds."
        raise IntegrityError(msg, kind=Kind.FORMAT_UNKNOWN, remedy=remedy) from error
    if "thumbnail" in found and not _is_small(found["thumbnail"], copy, levels):
        del found["thumbnail"]
    return found


def _is_small(thumbnail: Json, copy: ServedCopy, levels: range) -> bool:
    """Say whether a thumbnail shows no more than the levels that may be seen."""
    first = copy.slide.levels[levels.start]
    return not levels.start or (thumbnail["shape"][1] <= first.height and thumbnail["shape"][2] <= first.width)


def jpeg(copy: ServedCopy, raw: Documents, sources: Mapping[int, LevelSource]) -> Documents:
    """Return the documents of the view in which each chunk is a complete JPEG."""
    found = _decoded(copy, raw, list(sources), "jpeg")
    for number, source in sources.items():
        if source.jpeg_shape is not None:
            space = "GRAYSCALE" if source.space == "GRAYSCALE" else "RGB"
            codec = {"colorspace_data": space, "colorspace_jpeg": source.space}
            codecs: list[Json] = [_TRANSPOSE, {"name": "imagecodecs_jpeg", "configuration": codec}]
            what = {"encoded": "stored"} if source.is_stored else {"encoded": "jpeg", "quality": QUALITY}
            found[f"{number}/image"] = _image(copy, number, source.jpeg_shape, codecs, what)
    if "thumbnail" in raw:
        found["thumbnail"] = raw["thumbnail"]
    return found


def pixels(copy: ServedCopy, raw: Documents, sources: Mapping[int, LevelSource]) -> Documents:
    """Return the documents of the view that needs no codec but those that every Zarr has."""
    found = _decoded(copy, raw, list(sources), "zstd")
    for number, source in sources.items():
        found[f"{number}/image"] = _image(copy, number, source.pixel_shape, CORE_CODECS, {"encoded": "zstd"})
    if "thumbnail" in raw:
        shape = raw["thumbnail"]["shape"]
        chunk = {"name": "regular", "configuration": {"chunk_shape": shape}}
        found["thumbnail"] = {**raw["thumbnail"], "chunk_grid": chunk, "codecs": CORE_CODECS}
    return found


def _decoded(copy: ServedCopy, raw: Documents, levels: Sequence[int], view: str) -> Documents:
    """Return all but the pictures of a view that is made from what is stored."""
    attributes: Any = copy.slide.group.attrs.asdict()
    ome = allowed.ome(attributes["ome"], range(levels[0], levels[-1] + 1))
    ours = {**allowed.ours(attributes["wsistore"]), "view": view}
    found: Documents = {"": metadata.group({"ome": ome, "wsistore": ours})}
    for number in levels:
        found[str(number)] = allowed.group()
        found.update({f"{number}/{name}": _coordinate(copy, number, name) for name in _COORDINATES})
    return {**found, **({"icc": raw["icc"]} if "icc" in raw else {})}


def _array(copy: ServedCopy, path: str) -> zarr.Array[Any]:
    found = copy.slide.group[path]
    if not isinstance(found, zarr.Array):
        msg = f"Slide {copy.place.slide} has no array {path}."
        raise IntegrityError(msg, remedy="Verify the slide, and restore it from another copy.")
    return found


def _image(copy: ServedCopy, number: int, shape: tuple[int, int], codecs: list[Json], ours: Json) -> Json:
    array = _array(copy, f"{number}/image")
    chunk, fill = (array.shape[0], *shape), array.fill_value.item()
    names = ["c", "y", "x"]
    attributes = {"wsistore": ours}
    return metadata.array(array.shape, chunk, array.dtype.name, codecs, names, fill=fill, attributes=attributes)


def _coordinate(copy: ServedCopy, number: int, name: str) -> Json:
    array = _array(copy, f"{number}/{name}")
    attributes = allowed.coordinate(array.attrs.asdict())
    return metadata.array(array.shape, array.shape, array.dtype.name, CORE_CODECS, [name], attributes=attributes)


def keyed(documents: Documents) -> dict[str, bytes]:
    """Return the documents as they are sent, by key; that of the root holds all others too."""
    # In order: of the children of a group Zarr finds only those that stand together.
    inner = {path: documents[path] for path in sorted(documents) if path}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": inner}
    found = {f"{path}/zarr.json": metadata.dump(document) for path, document in inner.items()}
    return {"zarr.json": metadata.dump({**documents[""], "consolidated_metadata": consolidated}), **found}


def grid_of(document: Json) -> tuple[int, ...]:
    """Return how many chunks an array has along each axis."""
    chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
    return tuple(math.ceil(length / chunk) for length, chunk in zip(document["shape"], chunks, strict=True))
