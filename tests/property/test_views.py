"""Views of slides, asked for anything: what is not shown is not there, and nothing but our errors comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_slides import TILES
from tests.site_kit import memory_site
from tests.views_kit import documents, keys, opened, taken
from wsistore.compress import complete_jpeg
from wsistore.compress.fold import FoldError
from wsistore.serve.views import SlideViews, View, allowed

PARTS = st.sampled_from(
    ["", "0", "1", "2", "00", "-1", "image", "c", "y", "x", "thumbnail", "icc", "zarr.json", "..", ".", "%2e%2e", "\0",
     "source", "files.json.zst", "private", "store", "٣", "9" * 30]
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=40), st.lists(PARTS, max_size=7).map("/".join))


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlideViews]:
    folder = tmp_path_factory.mktemp("slide")
    with memory_site(folder / "site") as site:
        found = opened(site, taken(site, TILES["svs-422"][0](folder)))
        yield found
        found.close()


@settings(max_examples=300, deadline=None)
@given(view=st.sampled_from(list(View)), key=KEYS)
def test_only_the_keys_of_its_documents_are_there(views: SlideViews, view: View, key: str) -> None:
    nodes = {f"{path}/zarr.json" if path else "zarr.json" for path in documents(views, view)}
    if views.read(view, key) is not None:
        assert key in nodes | set(keys(views, view))
    elif view is not View.RAW:
        assert key not in nodes


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just([]), st.just({}))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_strange_documents_are_refused_in_one_way(views: SlideViews, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(views.copy.documents)))
    document = json.loads(json.dumps(views.copy.documents[path]))
    place: Any = document
    while True:
        names = list(place) if isinstance(place, dict) else list(range(len(place)))
        name = data.draw(st.sampled_from(names))
        if isinstance(place[name], dict | list) and place[name] and data.draw(st.booleans()):
            place = place[name]
            continue
        place[name] = data.draw(VALUES)
        break
    try:
        shown = allowed.array(document) if document.get("node_type") == "array" else allowed.root(document, range(9))
    except allowed.NotAllowedError:
        return
    json.dumps(shown)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_tiles_are_refused_in_one_way(views: SlideViews, data: st.DataObject) -> None:
    tile = views.chunk(View.JPEG, "0/image", (0, 0, 0))
    assert tile is not None
    at = data.draw(st.integers(0, 700))
    broken = tile[:at] + data.draw(st.binary(max_size=6)) + tile[at + data.draw(st.integers(0, 6)) :]
    for made in (broken, broken[: data.draw(st.integers(0, 900))]):
        try:
            found = complete_jpeg.complete(made, None, "YCBCR")
        except FoldError:
            continue
        assert found.startswith(b"\xff\xd8")
        assert found.endswith(b"\xff\xd9")
