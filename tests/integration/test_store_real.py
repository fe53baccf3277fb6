"""Every real slide in the store: pixels, bytes, metadata, privacy, size, and the vendor's file read back."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import openslide
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store_kit import PLACE, REAL, Stored, check_pixels, store, stored_chunks, tiles_of
from wsistore.compress.extents import map_source
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import open_view
from wsistore.compress.verify import verify_copy
from wsistore.model import Mode, fingerprint
from wsistore.slides.base import Codec


@pytest.fixture(scope="module", params=REAL)
def stored(request: pytest.FixtureRequest, real_slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return store(real_slides / request.param, tmp_path_factory.mktemp("tier") / "tier")


@pytest.fixture(scope="module")
def read_back(stored: Stored) -> StoredSlide:
    return StoredSlide(stored.storage, PLACE)


def test_every_real_slide_is_kept_as_tiles(stored: Stored) -> None:
    assert stored.source.mode is Mode.TILES


def test_pixels_of_every_tile_are_those_of_the_source(stored: Stored) -> None:
    for number, level in enumerate(stored.source.levels):
        seen = check_pixels(stored, number)
        assert seen == len(np.unique(level.segments["tile"])) > 0


def test_every_chunk_is_the_tile_of_the_source_byte_for_byte(stored: Stored) -> None:
    for number, level in enumerate(stored.source.levels):
        assert level.coding is not None
        tiles = {divmod(tile, level.grid[1]): data for tile, data in tiles_of(stored.source, level)}
        chunks = stored_chunks(stored, number)
        if level.coding.codec is not Codec.JPEG_STRIPS:
            assert chunks == tiles
            continue
        height = stored.image(number).chunks[1] // level.tile_height
        for (row, column), chunk in chunks.items():
            strips = [tiles[row * height + n, column] for n in range(height) if (row * height + n, column) in tiles]
            body = b"".join(strip + bytes((0xFF, 0xD0 + n % 8)) for n, strip in enumerate(strips))[:-2] + b"\xff\xd9"
            assert chunk.endswith(body)
            assert len(chunk) - len(body) < 64, "a fold's header has no tables"
        assert sum(chunk.count(b"\xff\xd9") for chunk in chunks.values()) == len(chunks)


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_xarray_opens_one_node_per_level_in_micrometres(stored: Stored) -> None:
    with xr.open_datatree(stored.store, engine="zarr", consolidated=False) as tree:
        assert sorted(tree.children) == sorted(str(number) for number in range(len(stored.source.levels)))
        base = stored.source.um_per_px or (1.0, 1.0)
        first = stored.source.levels[0]
        for number, level in enumerate(stored.source.levels):
            image = tree[f"{number}/image"]
            assert image.dims == ("c", "y", "x")
            assert image.dtype == np.dtype(level.dtype)
            for axis, length, whole, um in zip(
                "yx", (level.height, level.width), (first.height, first.width), base, strict=True
            ):
                values, step = image[axis].to_numpy(), um * whole / length
                assert len(values) == length
                assert image[axis].attrs["units"] == ("micrometer" if stored.source.um_per_px else "pixel")
                assert np.allclose(values, (np.arange(length) + 0.5) * step - um / 2, rtol=1e-9, atol=1e-9)


def test_levels_lie_over_each_other(stored: Stored) -> None:
    """The middle of every level is the middle of level 0."""
    with xr.open_datatree(stored.store, engine="zarr", consolidated=False) as tree:
        for axis in "yx":
            middles = [float(tree[f"{n}/{axis}"].mean()) for n in range(len(stored.source.levels))]
            assert np.allclose(middles, middles[0])


def test_the_metadata_follow_ome_ngff(stored: Stored) -> None:
    check_ngff(stored.group())


def check_ngff(group: zarr.Group) -> None:
    """Check the rules of OME-NGFF 0.5 for images, as its text words them."""
    ome: Any = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    axes = multiscale["axes"]
    assert 2 <= len(axes) <= 5
    assert len({axis["name"] for axis in axes}) == len(axes), "names are unique"
    kinds = [axis["type"] for axis in axes]
    assert kinds == sorted(kinds, key=["time", "channel", "space"].index), "time, then channel, then space"
    assert kinds.count("space") in {2, 3}
    assert [axis["name"] for axis in axes][-2:] == ["y", "x"]
    assert multiscale["datasets"]
    sizes = []
    for dataset in multiscale["datasets"]:
        array = group[dataset["path"]]
        assert isinstance(array, zarr.Array)
        assert array.ndim == len(axes)
        assert array.metadata.dimension_names == tuple(axis["name"] for axis in axes)  # type: ignore[union-attr]
        scale, *others = dataset["coordinateTransformations"]
        assert scale["type"] == "scale", "exactly one scale, first"
        assert [one["type"] for one in others] in ([], ["translation"])
        for one in (scale, *others):
            assert len(one[one["type"]]) == len(axes)
            assert all(isinstance(value, float) for value in one[one["type"]])
        assert all(value > 0 for value in scale["scale"])
        sizes.append(array.shape[-2:])
    assert sizes == sorted(sizes, reverse=True), "from the largest to the smallest"
    omero = ome["omero"]
    assert len(omero["channels"]) == group[multiscale["datasets"][0]["path"]].shape[0]  # type: ignore[union-attr]
    for channel in omero["channels"]:
        assert len(bytes.fromhex(channel["color"])) == 3
        assert set(channel["window"]) == {"min", "max", "start", "end"}


def test_the_thumbnail_shows_the_slide(stored: Stored) -> None:
    picture = stored.group()["thumbnail"]
    assert isinstance(picture, zarr.Array)
    first = stored.source.levels[0]
    channels, height, width = picture.shape
    assert channels == first.channels
    assert max(height, width) <= 512
    assert height / width == pytest.approx(first.height / first.width, rel=0.02, abs=2 / width)
    shown = np.asarray(picture[:]).astype(float)
    number = max(n for n, level in enumerate(stored.source.levels) if n == 0 or max(level.height, level.width) >= 128)
    pixels = np.asarray(stored.image(number)[:]).astype(float)
    assert np.abs(shown.mean(axis=(1, 2)) - pixels.mean(axis=(1, 2))).max() < 5


# --- privacy and size -------------------------------------------------------------------------------------------------


def telling(stored: Stored) -> dict[str, str]:
    """Return what must not be found in the shared tree, by what it is."""
    found = {f"field {name}": value for name, value in stored.source.identifying.items() if len(value.strip()) >= 4}
    for file in stored.draft.files:
        found[f"name of {file.name}"] = Path(file.name).name
        found[f"SHA-256 of {file.name}"] = file.sha256
    found["fingerprint"] = fingerprint(stored.draft.files)
    if stored.source.scanned_at:
        found["date"] = stored.source.scanned_at
    return found


def readable(path: Path) -> bytes:
    """Return an object's bytes, and what they hold where they are compressed as a whole."""
    data = path.read_bytes()
    for codec in (numcodecs.Zstd(), numcodecs.Blosc()):
        try:
            return data + bytes(codec.decode(data))
        except (RuntimeError, ValueError):
            continue
    return data


def test_nothing_in_the_shared_tree_tells_whose_slide_it_is(stored: Stored) -> None:
    shared = [path for path in (stored.root / "store").rglob("*") if path.is_file()]
    assert len(shared) > 5
    objects = {str(path.relative_to(stored.root)): readable(path).lower() for path in shared}
    for what, text in telling(stored).items():
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            wanted = text.strip().lower().encode(encoding)
            for key, data in objects.items():
                assert wanted not in data, f"{what} in {key}"
                assert text.strip().lower() not in key.lower(), f"{what} in the key {key}"
        digest = bytes.fromhex(text) if what.startswith(("SHA", "finger")) else b"no hash"
        assert not any(digest in data for data in objects.values()), what


def test_the_companion_does_tell(stored: Stored, read_back: StoredSlide) -> None:
    assert read_back.companion.identifying == stored.source.identifying
    assert read_back.companion.files == stored.draft.files
    assert read_back.companion.fingerprint == fingerprint(stored.draft.files)


def test_stored_bytes_are_those_of_the_source_and_two_percent_at_most(stored: Stored) -> None:
    source = sum(file.size_bytes for file in stored.draft.files)
    kept = sum(path.stat().st_size for path in stored.root.rglob("*") if path.is_file())
    assert kept == sum(record.size_bytes for record in stored.draft.objects)
    if source > 500_000:
        assert kept <= 1.02 * source


def test_objects_are_recorded_as_they_lie(stored: Stored) -> None:
    lying = {path.relative_to(stored.root).as_posix(): path for path in stored.root.rglob("*") if path.is_file()}
    assert set(lying) == {record.key for record in stored.draft.objects}
    for record in stored.draft.objects:
        data = lying[record.key].read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (record.size_bytes, record.sha256)
    assert json.loads(lying[PLACE.store + "zarr.json"].read_bytes())["attributes"]["wsistore"]["format"] == 1


# --- the source again -------------------------------------------------------------------------------------------------


def test_the_copy_verifies(stored: Stored) -> None:
    seen: list[int] = []
    verdict = verify_copy(stored.storage, PLACE, stored.draft.objects, stored.draft.files, progress=seen.append)
    assert verdict.objects == len(stored.draft.objects)
    assert verdict.bytes_read == sum(record.size_bytes for record in stored.draft.objects)
    assert sum(seen) == sum(file.size_bytes for file in stored.draft.files)


def test_every_file_reads_as_it_was(stored: Stored, read_back: StoredSlide) -> None:
    mapped = map_source(read_back)
    for number, file in enumerate(stored.source.files):
        with open_view(read_back, mapped, number) as view:
            assert view.read() == file.path.read_bytes()
            assert view.read() == b""
            assert view.seek(0) == 0
            assert view.readall() == file.path.read_bytes() if hasattr(view, "readall") else True


def test_any_range_reads_as_it_was(stored: Stored, read_back: StoredSlide) -> None:
    mapped = map_source(read_back)
    contents = [file.path.read_bytes() for file in stored.source.files]
    views = [open_view(read_back, mapped, number) for number in range(len(contents))]

    @settings(max_examples=60, database=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(contents) - 1))
        content = contents[number]
        near = st.sampled_from(mapped.files[number]["offset"].tolist()).flatmap(lambda at: st.integers(at - 3, at + 3))
        start = max(0, data.draw(near | st.integers(0, len(content) + 10)))
        length = data.draw(st.integers(0, 300) | st.integers(0, 200_000))
        views[number].seek(start)
        assert views[number].read(length) == content[start : start + length]

    check()
    for view in views:
        view.close()


def test_tifffile_reads_the_slide_through_the_view(stored: Stored, read_back: StoredSlide) -> None:
    if stored.source.format == "dicom":
        pytest.skip("tifffile does not read DICOM")
    mapped, path = map_source(read_back), stored.source.files[0].path
    with open_view(read_back, mapped, 0) as view, tifffile.TiffFile(view) as ours, tifffile.TiffFile(path) as theirs:
        assert len(ours.pages) == len(theirs.pages)
        for one, other in zip(ours.pages, theirs.pages, strict=True):
            assert isinstance(one, tifffile.TiffPage)
            assert isinstance(other, tifffile.TiffPage)
            np.testing.assert_equal({t.code: t.value for t in one.tags}, {t.code: t.value for t in other.tags})
            if one.imagelength * one.imagewidth < 30e6:
                assert np.array_equal(one.asarray(), other.asarray())


def test_openslide_reads_what_was_read_through_the_view_in_a_random_order(
    stored: Stored, read_back: StoredSlide, tmp_path: Path
) -> None:
    try:
        theirs = openslide.OpenSlide(stored.source.files[0].path)
    except openslide.OpenSlideError:
        pytest.skip("OpenSlide does not read the original either")
    mapped, rng = map_source(read_back), random.Random(5)
    for number, file in enumerate(stored.draft.files):
        blocks = list(range(0, file.size_bytes, 50_001))
        rng.shuffle(blocks)
        with open_view(read_back, mapped, number) as view, (tmp_path / file.name).open("wb") as copy:
            for at in blocks:
                view.seek(at)
                copy.seek(at)
                copy.write(view.read(50_001))
    with openslide.OpenSlide(tmp_path / stored.draft.files[0].name) as ours, theirs:
        assert dict(ours.properties) == dict(theirs.properties)
        assert ours.level_dimensions == theirs.level_dimensions
        for level, (width, height) in enumerate(ours.level_dimensions):
            size = (min(width, 1500), min(height, 1500))
            corner = (int((width - size[0]) * ours.level_downsamples[level] / 2), 0)
            assert ours.read_region(corner, level, size) == theirs.read_region(corner, level, size)
    shutil.rmtree(tmp_path)


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(st.just("seek"), st.integers(-4000, 4000), st.integers(0, 2))
        | st.tuples(st.just("read"), st.integers(-1, 5000), st.just(0))
        | st.tuples(st.just("tell"), st.just(0), st.just(0)),
        max_size=12,
    )
)
def test_the_view_moves_as_a_file_in_memory_does(small_view: tuple[Any, Any, bytes], steps: list[Any]) -> None:
    read_back, mapped, content = small_view
    model = io.BytesIO(content)
    for raw in (False, True):
        model.seek(0)
        with open_view(read_back, mapped, 0) as buffered:
            view = buffered.raw if raw else buffered
            for step in steps:
                assert acted(view, *step) == acted(model, *step), step


def acted(file: Any, what: str, first: int, second: int) -> Any:
    try:
        if what == "seek":
            return file.seek(first, second)
        return file.read(first) if what == "read" else file.tell()
    except ValueError:
        return ValueError


@pytest.fixture(scope="module")
def small_view(real_slides: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, bytes]:
    made = store(real_slides / "tiff/small.svs", tmp_path_factory.mktemp("small") / "tier")
    slide = StoredSlide(made.storage, PLACE)
    return slide, map_source(slide), made.source.files[0].path.read_bytes()


def test_the_view_is_a_read_only_file(small_view: tuple[Any, Any, bytes]) -> None:
    slide, mapped, content = small_view
    view = open_view(slide, mapped, 0)
    assert (view.readable(), view.seekable(), view.writable()) == (True, True, False)
    assert view.name == "small.svs"
    assert view.seek(10**9) == 10**9
    assert view.read(1) == b""
    assert view.seek(-10, 2) == len(content) - 10
    assert view.read() == content[-10:]
    with pytest.raises(ValueError, match="whence"):
        view.raw.seek(0, 7)
    raw = view.raw
    view.close()
    view.close()
    for act in (raw.tell, lambda: raw.seek(0, 0), lambda: raw.read(1)):
        with pytest.raises(ValueError, match="closed"):
            act()
