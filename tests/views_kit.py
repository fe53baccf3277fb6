"""What tests of the gateway's views share: slides in a site, opened as views, and views written out as Zarr stores."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsistore import ops
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.ops.ingesting import ingest_one
from wsistore.ops.serving import open_served
from wsistore.serve.views import SlideViews, View
from wsistore.serve.views.documents import grid_of

Json = dict[str, Any]
DECODED = (View.JPEG, View.ZSTD)


def taken(site: ops.Site, path: Path, preset: Preset = Preset.KEEP) -> str:
    """Take a slide in, encode it, and return its key."""
    result = ingest_one(site, path, tier="hot")
    assert result.slide is not None, result
    if preset is not Preset.KEEP:
        (done,) = ops.reencode(site, [result.slide], preset, executor=SerialExecutor())
        assert done.error is None, done
    return str(result.slide)


def opened(site: ops.Site, key: str, first_level: int = 0) -> SlideViews:
    """Open a slide of a site."""
    return SlideViews(open_served(site, key), first_level=first_level)


def documents(views: SlideViews, view: View) -> dict[str, Json]:
    """Return all documents of a view by path, as the root's consolidated metadata have them."""
    root = views.document(view, "zarr.json")
    assert root is not None
    found: Json = json.loads(root)
    inner = found.pop("consolidated_metadata")["metadata"]
    return {"": found, **inner}


def keys(views: SlideViews, view: View) -> Iterator[str]:
    """Yield the keys of all chunks that a view's documents say there could be."""
    for path, document in documents(views, view).items():
        if document["node_type"] == "array":
            for index in itertools.product(*(range(count) for count in grid_of(document))):
                yield f"{path}/c/{'/'.join(map(str, index))}"


def written(views: SlideViews, view: View, folder: Path) -> Path:
    """Write a view out as a Zarr store: each document at its own key, and every chunk that there is."""
    names = [f"{path}/zarr.json" if path else "zarr.json" for path in documents(views, view)]
    for name in [*names, *keys(views, view)]:
        data = views.read(view, name)
        if data is not None:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return folder
