"""What may be said of a slide: its stored Zarr documents, rebuilt from what is known to be harmless, all else left out.

Nothing is passed on because it was not forbidden: each field, each codec and each setting stands in a table here, and
text is passed on only where it is one of a few words. So a document that some other program wrote, or that a newer
wsistore added a field to, shows no more than these.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from wsistore.compress import complete_jpeg
from wsistore.compress.fold import FoldError

Json = dict[str, Any]

LEVEL_KEY = re.compile(r"(0|[1-9]\d{0,2})")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_AXES = {"c", "y", "x", "thumbnail_y", "thumbnail_x", "icc_byte"}
_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"}
_SPACES = {"RGB", "YCBCR", "GRAYSCALE", "CMYK", "YCCK"}
_LABELS = {"R", "G", "B", "gray"}

_CODECS: Mapping[str, frozenset[str]] = {
    "blosc": frozenset({"cname", "clevel", "shuffle", "typesize", "blocksize"}),
    "bytes": frozenset({"endian"}),
    "crc32c": frozenset(),
    "imagecodecs_delta": frozenset({"axis", "dist"}),
    "imagecodecs_jpeg": frozenset({"level", "tables", "header", "colorspace_data", "colorspace_jpeg"}),
    "imagecodecs_jpeg2k": frozenset(),
    "imagecodecs_lzw": frozenset(),
    "imagecodecs_webp": frozenset({"hasalpha"}),
    "imagecodecs_zlib": frozenset(),
    "sharding_indexed": frozenset({"chunk_shape", "codecs", "index_codecs", "index_location"}),
    "transpose": frozenset({"order"}),
    "wsistore.fold": frozenset({"inner", "tile_shape", "colorspace_jpeg", "colorspace_data", "tables", "header"}),
    "wsistore.recoded": frozenset({"candidate", "codecs", "tile_shape"}),
    "wsistore.ycbcr": frozenset(),
    "zstd": frozenset({"level", "checksum"}),
}


class NotAllowedError(ValueError):
    """The document is not one that may be shown; the message says why."""


def group() -> Json:
    """Return a group without attributes: that of a level."""
    return {"zarr_format": 3, "node_type": "group"}


def root(document: Mapping[str, Any], levels: range) -> Json:
    """Return the root group with the levels that may be shown.

    Raises
    ------
    NotAllowedError
        If it is not one of a slide.

    """
    with _known():
        attributes = _object(document.get("attributes", {}))
        shown: Json = {"wsistore": ours(_object(attributes.get("wsistore", {})))}
        if "ome" in attributes:
            shown = {"ome": ome(_object(attributes["ome"]), levels), **shown}
        return {**group(), "attributes": shown}


@contextmanager
def _known() -> Iterator[None]:
    """Refuse documents that are built in another way than is expected, without a word of what they say."""
    try:
        yield
    except NotAllowedError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        msg = f"a document is not as wsistore writes it ({type(error).__name__})"
        raise NotAllowedError(msg) from error


def ours(attributes: Mapping[str, Any]) -> Json:
    """Return wsistore's own attributes."""
    found: Json = {"format": _whole(attributes.get("format", 1))}
    if "mode" in attributes:
        found["mode"] = _among(attributes["mode"], {"tiles", "whole"})
    if "content" in attributes:
        found["content"] = _among(attributes["content"], {"brightfield", "fluorescence"})
    if "magnification" in attributes:
        found["magnification"] = _number(attributes["magnification"])
    return found


def ome(attributes: Mapping[str, Any], levels: range) -> Json:
    """Return OME-Zarr's attributes; of the levels those that are in `levels`."""
    (multiscale,) = attributes["multiscales"]
    shown = {
        "name": "slide",
        "axes": [_axis(axis) for axis in multiscale["axes"]],
        "datasets": [_dataset(d) for d in multiscale["datasets"] if _level(d["path"]) in levels],
    }
    found: Json = {"version": "0.5", "multiscales": [shown]}
    if "omero" in attributes:
        found["omero"] = _omero(_object(attributes["omero"]))
    return found


def _level(path: Any) -> int:
    number, _, rest = str(path).partition("/")
    if not LEVEL_KEY.fullmatch(number) or rest != "image":
        msg = "a level has an unknown path"
        raise NotAllowedError(msg)
    return int(number)


def _axis(axis: Mapping[str, Any]) -> Json:
    found = {"name": _among(axis["name"], _AXES), "type": _among(axis["type"], {"channel", "space"})}
    return {**found, **({"unit": "micrometer"} if axis.get("unit") == "micrometer" else {})}


def _dataset(dataset: Mapping[str, Any]) -> Json:
    kinds = {"scale", "translation"}
    transforms = [
        {kind: [_number(n) for n in one[kind]], "type": kind}
        for one in dataset["coordinateTransformations"]
        for kind in (_among(one["type"], kinds),)
    ]
    return {"path": f"{_level(dataset['path'])}/image", "coordinateTransformations": transforms}


def _omero(omero: Mapping[str, Any]) -> Json:
    channels = []
    for number, channel in enumerate(omero.get("channels", [])):
        label = channel.get("label")
        shown: Json = {"label": label if label in _LABELS else f"channel {number}", "active": bool(channel["active"])}
        if re.fullmatch("[0-9A-Fa-f]{6}", str(channel.get("color"))):
            shown["color"] = channel["color"]
        shown["window"] = {name: _number(channel["window"][name]) for name in ("min", "max", "start", "end")}
        channels.append(shown)
    model = "greyscale" if _object(omero.get("rdefs", {})).get("model") == "greyscale" else "color"
    return {"channels": channels, "rdefs": {"model": model}}


def array(document: Mapping[str, Any]) -> Json:
    """Return an array of a slide: pixels, coordinates, thumbnail, colour profile.

    Raises
    ------
    NotAllowedError
        If it is of a kind that is not known.

    """
    with _known():
        return _array(document)


def _array(document: Mapping[str, Any]) -> Json:
    grid = document["chunk_grid"]
    if grid["name"] != "regular" or document["chunk_key_encoding"]["name"] != "default":
        msg = "an array has an unknown grid"
        raise NotAllowedError(msg)
    separator = document["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
    shown: Json = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": _wholes(document["shape"]),
        "data_type": _among(document["data_type"], _TYPES),
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": _wholes(grid["configuration"]["chunk_shape"])},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": _among(separator, {"/"})}},
        "fill_value": _number(document["fill_value"]),
        "codecs": [_codec(one) for one in document["codecs"]],
        "dimension_names": [_among(name, _AXES) for name in document["dimension_names"]],
    }
    attributes = coordinate(_object(document.get("attributes", {})))
    return {**shown, **({"attributes": attributes} if attributes else {})}


def coordinate(attributes: Mapping[str, Any]) -> Json:
    """Return the attributes of a coordinate; of other arrays nothing."""
    found: Json = {}
    if "units" in attributes:
        found["units"] = _among(attributes["units"], {"micrometer", "pixel"})
    return {**found, **{k: _number(attributes[k]) for k in ("scale_factor", "add_offset") if k in attributes}}


def _codec(codec: Mapping[str, Any]) -> Json:
    name = _among(codec["name"], _CODECS)
    settings = _object(codec.get("configuration", {}))
    shown = {key: _setting(key, settings[key]) for key in settings if key in _CODECS[name]}
    if name not in {"imagecodecs_jpeg2k", "imagecodecs_webp", "imagecodecs_jpeg"} and set(shown) != set(settings):
        msg = f"the codec {name} has unknown settings"  # it would decode to something else without them
        raise NotAllowedError(msg)
    return {"name": name, **({"configuration": shown} if shown else {})}


def _setting(key: str, value: Any) -> Any:
    if key in {"codecs", "index_codecs"}:
        return [_codec(one) for one in value]
    if key == "tables":
        return _rebuilt(value, complete_jpeg.bare_tables)
    if key == "header":
        return _rebuilt(value, complete_jpeg.bare_header)
    if key.startswith("colorspace"):
        return _among(value, _SPACES)
    if isinstance(value, list):
        return _wholes(value)
    if isinstance(value, str):
        return _word(value)
    return value if isinstance(value, bool) else _number(value)


def _rebuilt(value: Any, rebuild: Any) -> str:
    try:
        return base64.b64encode(rebuild(base64.b64decode(value, validate=True))).decode("ascii")
    except (binascii.Error, FoldError, TypeError) as error:
        msg = "JPEG tables cannot be read"
        raise NotAllowedError(msg) from error


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        msg = "no object where one is due"
        raise NotAllowedError(msg)
    return value


def _among(value: Any, known: Any) -> str:
    if isinstance(value, str) and value in known:
        return value
    msg = "an unknown word"
    raise NotAllowedError(msg)


def _word(value: str) -> str:
    if _WORD.fullmatch(value):
        return value
    msg = "text where a word is due"
    raise NotAllowedError(msg)


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    msg = "no number where one is due"
    raise NotAllowedError(msg)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    msg = "no whole number where one is due"
    raise NotAllowedError(msg)


def _wholes(values: Any) -> list[int]:
    return [_whole(value) for value in values]
