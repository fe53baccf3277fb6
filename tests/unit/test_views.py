"""Views of slides: the same pixels in each, complete JPEG files, documents by allow-list, nothing at other keys."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image
from zarr.storage import LocalStore

from tests.made_slides import TILES, WHOLE
from tests.site_kit import memory_site, new_site
from tests.views_kit import DECODED, documents, keys, opened, taken, written
from wsistore import ops
from wsistore.client.slide import Slide
from wsistore.compress.tile_codecs import Jpeg
from wsistore.errors import IntegrityError, MissingError, ObjectMissingError
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.ops.serving import ServedCopy, is_current, open_served
from wsistore.serve.views import OpenViews, SlideViews, View
from wsistore.serve.views.opened import LOOK_SECONDS
from wsistore.slides.base import Codec
from wsistore.storage.base import Span, Tail
from wsistore.testing.clock import ManualClock

FOLDED = ["svs-420", "svs-rgb", "jpeg-grey", "missing-tiles", "ndpi-420", "ndpi-422", "differing-tables"]
CASES = [
    *((name, Preset.KEEP) for name in TILES),
    *((name, Preset.FOLD) for name in FOLDED),
    *((name, Preset.PACK) for name in ("svs-420", "ndpi-422")),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ops.Site]:
    with memory_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SlideViews]]:
    """Yield a function that opens a made slide, taken in at its first use into a site of its own."""
    known: dict[tuple[str, Preset], tuple[ops.Site, str]] = {}

    def get(name: str, preset: Preset = Preset.KEEP, first_level: int = 0) -> SlideViews:
        if (name, preset) not in known:
            folder = tmp_path_factory.mktemp("source")
            path = (TILES[name][0] if name in TILES else WHOLE[name])(folder)
            own = memory_site(folder / "site")
            known[name, preset] = own, taken(own, path, preset)
        views.append(opened(*known[name, preset], first_level))
        return views[-1]

    views: list[SlideViews] = []
    yield get
    for one in views:
        one.close()
    for own, _ in known.values():
        own.close()


def pixels(slide: Slide, level: int) -> Any:
    """Return a level as (y, x, c)."""
    size = slide.levels[level]
    return slide.read_region(level, 0, 0, size.height, size.width)


def picture(data: bytes) -> Any:
    """Return what Pillow, which knows of no store, decodes: (y, x, c)."""
    found = np.asarray(Image.open(io.BytesIO(data)))
    return found if found.ndim == 3 else found[..., None]


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), [*CASES, *((name, Preset.KEEP) for name in WHOLE)])
def test_every_view_has_the_slides_pixels(
    slide: Callable[..., SlideViews], name: str, preset: Preset, tmp_path: Path
) -> None:
    views = slide(name, preset)
    assert views.copy.preset is preset
    want = [pixels(views.copy.slide, number) for number in range(len(views.copy.slide.levels))]
    wide = want[0].dtype != np.uint8
    kept_whole = name in WHOLE
    assert set(views.views) == set(View) - ({View.JPEG} if wide else set()) - ({View.RAW} if kept_whole else set())
    for view in views.views:
        store = LocalStore(written(views, view, tmp_path / (view or "raw")), read_only=True)
        with Slide(store, "shown") as shown:
            assert shown.levels == views.copy.slide.levels
            assert shown.magnification == views.copy.slide.magnification
            for number, level in enumerate(want):
                if view is View.JPEG and not has_jpeg(name):
                    assert np.abs(pixels(shown, number).astype(int) - level).mean() < 4
                else:
                    np.testing.assert_array_equal(pixels(shown, number), level)
    if not wide:
        check_files(views, want, "stored" if has_jpeg(name) else "jpeg")


def has_jpeg(name: str) -> bool:
    return name in TILES and TILES[name][1] in {Codec.JPEG, Codec.JPEG_STRIPS}


def check_files(views: SlideViews, want: list[Any], encoded: str) -> None:
    """Check that every chunk of the JPEG view is a file that others open, and, if stored, shows the slide's pixels."""
    for path, document in documents(views, View.JPEG).items():
        if not path.endswith("/image"):
            continue
        level = want[int(path.partition("/")[0])]
        assert document["attributes"]["wsistore"]["encoded"] == encoded
        _, height, width = document["chunk_grid"]["configuration"]["chunk_shape"]
        for key in [key for key in keys(views, View.JPEG) if key.startswith(f"{path}/c/")]:
            row, column = map(int, key.split("/")[-2:])
            part = level[row * height : (row + 1) * height, column * width : (column + 1) * width]
            data = views.read(View.JPEG, key)
            if data is None:
                assert (part == document["fill_value"]).all()
                continue
            found = picture(data)
            assert found.shape == (height, width, level.shape[2])
            if encoded == "stored":
                np.testing.assert_array_equal(found[: part.shape[0], : part.shape[1]], part)
            assert marks(data) <= {0xD8, 0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xDA, 0xE0, 0xEE}
            assert data.startswith(b"\xff\xd8")
            assert data.endswith(b"\xff\xd9")


def marks(data: bytes) -> set[int]:
    """Return the markers before the first scan, read by hand."""
    at, found = 2, {0xD8}
    while data[at + 1] != 0xDA:
        found.add(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found


PLAIN = """
import hashlib, json, sys, zarr
import numpy as np
assert not any(name.startswith(("wsistore", "imagecodecs")) for name in sys.modules)
from zarr.registry import get_codec_class
out = {}
for folder in sys.argv[1:]:
    for path, array in zarr.open_group(folder, mode="r").members(max_depth=None):
        if isinstance(array, zarr.Array):
            for codec in array.metadata.codecs:
                assert type(codec).__module__.startswith("zarr."), codec
            out[f"{folder}:{path}"] = hashlib.sha256(np.ascontiguousarray(array[:]).tobytes()).hexdigest()
assert not any(name.startswith(("wsistore", "imagecodecs")) for name in sys.modules)
print(json.dumps(out))
"""


def test_plain_zarr_reads_the_decoded_view(slide: Callable[..., SlideViews], tmp_path: Path) -> None:
    """A process in which none of our codecs is ever loaded reads every array of it."""
    want: dict[str, str] = {}
    cases = [("svs-420", Preset.FOLD), ("ndpi-420", Preset.KEEP), ("grey-16-none-big-endian", Preset.KEEP)]
    folders = []
    for name, preset in [*cases, ("flat-lzw", Preset.KEEP)]:
        views = slide(name, preset)
        folder = written(views, View.ZSTD, tmp_path / f"{name}-{preset}")
        folders.append(str(folder))
        for number in range(len(views.copy.slide.levels)):
            planes = np.ascontiguousarray(np.moveaxis(pixels(views.copy.slide, number), -1, 0))
            want[f"{folder}:{number}/image"] = hashlib.sha256(planes.tobytes()).hexdigest()
    done = subprocess.run([sys.executable, "-c", PLAIN, *folders], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {key: found[key] for key in want} == want
    assert {key.partition(":")[2] for key in found} >= {"0/y", "0/x", "thumbnail", "icc"}


@pytest.mark.parametrize("name", WHOLE)
def test_slides_kept_whole_show_only_a_thumbnail_as_they_lie(slide: Callable[..., SlideViews], name: str) -> None:
    views = slide(name)
    raw = documents(views, View.RAW)
    assert set(raw) <= {"", "thumbnail", "icc"}
    assert "ome" not in raw[""]["attributes"]
    assert list(keys(views, View.RAW))  # its thumbnail is there, and is read
    assert all(views.read(View.RAW, key) for key in keys(views, View.RAW))


# --- tiles for the viewer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["svs-rgb", "ndpi-422", "grey-16-deflate-predictor-big-endian", "webp", "flat-lzw"])
def test_tiles_cover_each_level(slide: Callable[..., SlideViews], name: str) -> None:
    views = slide(name)
    for level in views.levels:
        rows, columns = -(-level.height // level.tile_height), -(-level.width // level.tile_width)
        want = pixels(views.copy.slide, level.number)
        for row in range(rows):
            for column in range(columns):
                data = views.tile(level.number, row, column)
                assert data is not None
                found = picture(data)
                assert found.shape[:2] == (level.tile_height, level.tile_width)
                top, left = row * level.tile_height, column * level.tile_width
                part = want[top : top + level.tile_height, left : left + level.tile_width]
                if want.dtype == np.uint8:
                    shown = found[: part.shape[0], : part.shape[1]].astype(int)
                    assert np.abs(shown - part).mean() < 4
        for outside in ((rows, 0), (0, columns), (-1, 0), (0, -1)):
            assert views.tile(level.number, *outside) is None
    assert views.tile(len(views.levels), 0, 0) is None


def test_tiles_that_are_missing_show_glass(slide: Callable[..., SlideViews]) -> None:
    views = slide("no-tile-at-all")
    data = views.tile(0, 0, 0)
    assert data is not None
    assert (picture(data) == 255).all()
    assert views.chunk(View.JPEG, "0/image", (0, 0, 0)) is None
    assert views.chunk(View.ZSTD, "0/image", (0, 0, 0)) is None


def test_wide_samples_are_shown_from_dark_to_bright(slide: Callable[..., SlideViews]) -> None:
    views = slide("grey-16-none-big-endian")
    assert views.views == (View.RAW, View.ZSTD)
    data = views.tile(len(views.levels) - 1, 0, 0)
    assert data is not None
    shown = picture(data)
    assert shown.min() < 40
    assert shown.max() > 215


# --- what is shown, and what is not -----------------------------------------------------------------------------------


def test_objects_as_they_lie(site: ops.Site, slide: Callable[..., SlideViews]) -> None:
    for preset in (Preset.KEEP, Preset.PACK):
        views = slide("svs-420", preset)
        copy = views.copy
        shards = [key for key in keys(views, View.RAW) if views.stored(key) is not None]
        assert any("/image/c/0/" in key for key in shards)
        for key in shards:
            whole, found = views.raw(key), views.stored(key)
            assert whole is not None
            assert found is not None
            assert whole == copy.storage.get(copy.place.store + key)
            assert found.size_bytes == len(whole)
            assert views.raw(key, Span(3, 5)) == whole[3:8]
            assert views.raw(key, Tail(4)) == whole[-4:]


def test_files_of_this_machine_are_named(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    path = TILES["svs-420"][0](tmp_path)
    with ops.open_site(folder) as site:
        key = taken(site, path)
        for preset in (Preset.KEEP, Preset.PACK):
            if preset is Preset.PACK:
                (done,) = ops.reencode(site, [key], preset, executor=SerialExecutor())
                assert done.error is None
            views = opened(site, key)
            for name in keys(views, View.RAW):
                found = views.stored(name)
                if found is not None:
                    assert found.path is not None
                    with found.path.open("rb") as file:
                        file.seek(found.start)
                        assert file.read(found.size_bytes) == views.raw(name)


def test_levels_that_a_project_may_not_see(slide: Callable[..., SlideViews], tmp_path: Path) -> None:
    everything, views = slide("svs-420"), slide("svs-420", first_level=1)
    assert [level.number for level in views.levels] == [1]
    for view in views.views:
        names = documents(views, view)
        assert not any(path == "0" or path.startswith("0/") for path in names)
        (multiscale,) = names[""]["attributes"]["ome"]["multiscales"]
        assert [dataset["path"] for dataset in multiscale["datasets"]] == ["1/image"]
        for key in keys(everything, view):
            if key.startswith("0/"):
                assert views.read(view, key) is None
                assert views.raw(key) is None
                assert views.stored(key) is None
        with Slide(LocalStore(written(views, view, tmp_path / (view or "raw")), read_only=True), "shown") as shown:
            assert len(shown.levels) == 1
            assert shown.um_per_px == everything.copy.slide.levels[1].um_per_px
    assert views.tile(0, 0, 0) is None
    assert views.tile(1, 0, 0) is not None
    with pytest.raises(MissingError):
        slide("svs-420", first_level=2)


def test_thumbnail_is_hidden_where_it_would_show_more(slide: Callable[..., SlideViews]) -> None:
    shown = slide("svs-420", first_level=1)
    assert all("thumbnail" in documents(shown, view) for view in shown.views)
    thumbnail = {**shown.copy.documents["thumbnail"], "shape": [3, shown.levels[0].height + 1, 10]}
    said = {**shown.copy.documents, "thumbnail": thumbnail}
    hidden = SlideViews(replace(shown.copy, documents=said), first_level=1)
    for view in hidden.views:
        assert "thumbnail" not in documents(hidden, view)
        assert hidden.read(view, "thumbnail/c/0/0/0") is None


@pytest.mark.parametrize(
    "key",
    [
        "", "/", "zarr.json/", "/zarr.json", "0", "0/", "0/image", "0/image/c", "0/image/c/0/0", "0/image/c/0/0/0/0",
        "0/image/c/0/0/00", "0/image/c/00/0/0", "00/image/c/0/0/0", "0/image/c/0/0/-1", "0/image/c/0/0/+1",
        "0/image/c/0/0/1e0", "0/image/c/0/0/٣", "0/image/c/0/0/0 ", "0/image/c/0/0/0\n", "0/image/c/0/0/0\0",
        "0//image/c/0/0/0", "./0/image/c/0/0/0", "0/../0/image/c/0/0/0", "0/image/c/1/0/0", "0/image/c/0/999999999/0",
        "0/image/c/0/99999999999999999999/0", "9/image/c/0/0/0", "0/z/c/0", "0/y/c/1", "0/y/c/0/0", "0/y/zarr.json/",
        "labels/zarr.json", "../zarr.json", "files.json.zst", "layout.parquet", "source/0", "thumbnail/c/0/0/1",
        "0/image/zarr.JSON", ".zattrs", "wsistore-tier.json",
    ],
)  # fmt: skip
def test_other_keys_are_not_there(slide: Callable[..., SlideViews], key: str) -> None:
    for name in ("svs-420", "flat-lzw"):
        views = slide(name)
        for view in View:
            assert views.read(view, key) is None
        assert views.raw(key) is None
        assert views.stored(key) is None


CANARY = "PATIENT-0001"


def test_documents_say_only_what_is_allowed(site: ops.Site, slide: Callable[..., SlideViews]) -> None:
    """Whatever stands in a stored document besides, at any depth, is not passed on."""
    copy = slide("svs-420").copy
    said = json.loads(json.dumps({path: dict(document) for path, document in copy.documents.items()}))
    for document in said.values():
        plant(document)
    shown = SlideViews(replace(copy, documents=said))
    for view in shown.views:
        text = json.dumps(documents(shown, view))
        assert CANARY not in text
        found, want = documents(shown, view), documents(slide("svs-420"), view)
        assert {path: found[path] for path in found if path} == {path: want[path] for path in want if path}


def plant(value: Any) -> None:
    """Put a canary into every object, and into the label of every channel."""
    if isinstance(value, dict):
        for inner in value.values():
            plant(inner)
        if "node_type" in value or "ome" in value or "multiscales" in value or "datasets" in value or "path" in value:
            value["note"] = CANARY
        if "label" in value:
            value["label"] = CANARY
    elif isinstance(value, list):
        for inner in value:
            plant(inner)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["codecs"][0]["configuration"]["codecs"].append({"name": CANARY}),
        lambda d: d["codecs"][0]["configuration"]["codecs"][1]["configuration"].update(colorspace_jpeg=CANARY),
        lambda d: d["codecs"][0]["configuration"]["codecs"][1]["configuration"].update(tables=CANARY),
        lambda d: d.update(dimension_names=["c", "y", CANARY]),
        lambda d: d.update(data_type=CANARY),
        lambda d: d.update(fill_value=CANARY),
        lambda d: d.pop("shape"),
        lambda d: d.update(codecs=None),
    ],
)
def test_documents_that_are_not_ours_are_refused(slide: Callable[..., SlideViews], change: Any) -> None:
    copy = slide("svs-420").copy
    said = json.loads(json.dumps({path: dict(document) for path, document in copy.documents.items()}))
    change(said["0/image"])
    with pytest.raises(IntegrityError) as raised:
        SlideViews(replace(copy, documents=said))
    assert CANARY not in str(raised.value)


def test_comments_in_shared_tables_are_left_out(slide: Callable[..., SlideViews]) -> None:
    copy = slide("svs-420").copy
    said = json.loads(json.dumps({path: dict(document) for path, document in copy.documents.items()}))
    config = said["0/image"]["codecs"][0]["configuration"]["codecs"][1]["configuration"]
    tables = base64.b64decode(config["tables"])
    comment = b"\xff\xfe" + (2 + len(CANARY)).to_bytes(2, "big") + CANARY.encode()
    config["tables"] = base64.b64encode(tables[:2] + comment + tables[2:]).decode()
    shown = SlideViews(replace(copy, documents=said))
    config = documents(shown, View.RAW)["0/image"]["codecs"][0]["configuration"]["codecs"][1]["configuration"]
    found = base64.b64decode(config["tables"])
    assert CANARY.encode() not in found
    data = copy.slide.group["0/image"].metadata.codecs[0].codecs[1]  # type: ignore[union-attr]
    assert isinstance(data, Jpeg)
    assert data.tables is not None
    assert sorted(found[2:-2]) == sorted(data.tables[2:-2])


def test_documents_open_at_one_request(slide: Callable[..., SlideViews], tmp_path: Path) -> None:
    """The root's consolidated metadata are what Zarr itself would read of every node."""
    views = slide("svs-420")
    for view in views.views:
        folder = written(views, view, tmp_path / (view or "raw"))
        at_once = zarr.open_group(folder, mode="r", use_consolidated=True)
        one_by_one = zarr.open_group(folder, mode="r", use_consolidated=False)
        found = {path: node.metadata.to_dict() for path, node in at_once.members(max_depth=None)}
        want = {path: node.metadata.to_dict() for path, node in one_by_one.members(max_depth=None)}
        for one in (*found.values(), *want.values()):
            one.pop("consolidated_metadata", None)
        assert found == want
        assert len(found) >= 9


def test_etags_tell_copies_views_keys_and_levels_apart(slide: Callable[..., SlideViews]) -> None:
    copies = [slide("svs-420"), slide("svs-420", Preset.FOLD), slide("svs-420", first_level=1)]
    tags = [views.etag(view, key) for views in copies for view in View for key in ("zarr.json", "1/image/c/0/0/0")]
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') and len(tag) == 34 for tag in tags)
    assert copies[0].etag(View.RAW, "zarr.json") == slide("svs-420").etag(View.RAW, "zarr.json")


# --- damage -----------------------------------------------------------------------------------------------------------


def test_damaged_chunks_are_named_in_our_errors(site: ops.Site, tmp_path: Path) -> None:
    key = taken(site, TILES["svs-422"][0](tmp_path))
    views = opened(site, key)
    shard = views.copy.place.store + "0/image/c/0/0/0"
    data = views.copy.storage.get(shard)
    views.copy.storage.put(shard, bytes(len(data) // 2) + data[len(data) // 2 :])
    failures: list[str] = []
    for view in DECODED:
        for name in keys(views, view):
            try:
                views.read(view, name)
            except IntegrityError as error:
                failures.append(str(error))
    assert failures
    assert all("0/image/c/0/0/0" in failure for failure in failures)
    views.copy.storage.delete(shard)
    with pytest.raises(ObjectMissingError):
        views.raw("0/image/c/0/0/0")
    with pytest.raises(IntegrityError):
        opened(site, key).read(View.JPEG, "0/image/c/0/0/0")


# --- slides that stay open --------------------------------------------------------------------------------------------


def test_slides_are_opened_once_and_closed_when_left(site: ops.Site, tmp_path: Path) -> None:
    slides = [taken(site, TILES[name][0](tmp_path / name)) for name in made(tmp_path, "svs-422", "svs-big", "webp")]
    calls: list[str] = []

    def open_copy(slide: str) -> ServedCopy:
        calls.append(slide)
        time.sleep(0.01)
        return open_served(site, slide)

    kept = OpenViews(open_copy, most=2)

    def use(slide: str) -> bytes | None:
        with kept.using(slide) as views:
            return views.read(View.JPEG, "0/image/c/0/0/0")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, [slides[0]] * 32))
    assert calls == slides[:1]
    with kept.using(slides[0]) as held:
        for slide in slides[1:]:
            use(slide)
        assert kept.known(slides[0]) is None
        assert held.read(View.ZSTD, "0/y/c/0") is not None  # it stays open for those who read
    with pytest.raises(MissingError):
        held.copy.slide.read_region(0, 0, 0, 1, 1)
    assert kept.known(slides[2]) is not None
    kept.close()
    with pytest.raises(MissingError), kept.using(slides[2]):
        pass


def made(folder: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (folder / name).mkdir()
    return names


def test_slides_that_changed_are_opened_anew(site: ops.Site, tmp_path: Path) -> None:
    key = taken(site, TILES["svs-tables-in-tiles"][0](tmp_path))
    kept = OpenViews(lambda slide: open_served(site, slide))
    with kept.using(key) as views:
        before = views.copy.place
    (done,) = ops.reencode(site, [key], Preset.FOLD, executor=SerialExecutor())
    assert done.error is None
    with pytest.raises((IntegrityError, ObjectMissingError)), kept.using(key) as views:
        views.read(View.JPEG, "0/image/c/0/0/0")
    with kept.using(key) as views:
        assert views.copy.place != before
        assert views.read(View.JPEG, "0/image/c/0/0/0") is not None
    kept.close()


def test_an_open_slide_is_looked_at_every_second(site: ops.Site, tmp_path: Path) -> None:
    key = taken(site, TILES["svs-420"][0](tmp_path))
    clock, looked = ManualClock(), []

    def look(copy: ServedCopy) -> bool:
        looked.append(copy)
        return is_current(site, copy)

    kept = OpenViews(partial(open_served, site), is_current=look, clock=clock)
    with kept.using(key) as first, kept.using(key):
        pass
    assert looked == []
    clock.advance(LOOK_SECONDS)
    assert kept.known(key) is None  # nobody waits for the catalogue there
    with kept.using(key) as views, kept.using(key):
        assert views is first
    assert len(looked) == 1
    assert kept.known(key) is first
    (done,) = ops.reencode(site, [key], Preset.PACK, executor=SerialExecutor())
    assert done.error is None
    clock.advance(LOOK_SECONDS / 2)
    assert kept.known(key) is first
    clock.advance(LOOK_SECONDS / 2)
    with kept.using(key) as views:
        assert views.copy.preset is Preset.PACK
        assert kept.known(key) is views
    for view in views.views:
        for name in ("zarr.json", "0/image/zarr.json", "0/image/c/0/0/0"):
            assert views.etag(view, name) != first.etag(view, name)
    with pytest.raises(MissingError):
        first.copy.slide.read_region(0, 0, 0, 1, 1)  # it was closed
    kept.close()


def test_who_reads_goes_on_while_a_slide_is_opened_anew(site: ops.Site, tmp_path: Path) -> None:
    key = taken(site, TILES["svs-420"][0](tmp_path))
    clock, answers = ManualClock(), [False]
    kept = OpenViews(partial(open_served, site), is_current=lambda _: answers.pop(), clock=clock)
    with kept.using(key) as reading:
        clock.advance(LOOK_SECONDS)
        with kept.using(key) as views:
            assert views is not reading
        assert reading.read(View.ZSTD, "0/image/c/0/0/0") is not None
    clock.advance(LOOK_SECONDS)
    with pytest.raises(IndexError), kept.using(key):  # a look that fails is no "yes": the next one looks again
        pass
    answers.append(True)
    with kept.using(key) as again:
        assert again is views
    assert not answers
    kept.close()


def test_failures_to_open_reach_all_who_wait(site: ops.Site) -> None:
    started = threading.Event()

    def open_copy(slide: str) -> ServedCopy:
        started.wait(5)
        raise MissingError("There is none.")

    kept = OpenViews(open_copy)

    def use(_: int) -> str:
        try:
            with kept.using("slide"):
                return "opened"
        except MissingError as error:
            return error.message

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(use, number) for number in range(4)]
        started.set()
        assert {task.result() for task in waiting} == {"There is none."}
    assert kept.known("slide") is None
