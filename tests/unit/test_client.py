"""A slide as people open it: from a folder, a zip file, a vendor's file or a URL; regions, levels, errors."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.store_kit import Stored, store
from wsistore.client.opening import is_url, open_path, open_url
from wsistore.client.slide import Slide
from wsistore.errors import InputError, IntegrityError, Kind, MissingError, StorageError, UnsupportedError
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import label_image, pyramid, srgb_profile
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_svs
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]

HEIGHT, WIDTH = 330, 470


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    levels = pyramid(tissue(HEIGHT, WIDTH, seed=51), 2, 3)
    path = tmp_path_factory.mktemp("source") / "a.svs"
    return write_svs(path, levels, tile=64, label=label_image("CASE-0001"), icc=srgb_profile())


@pytest.fixture(scope="module")
def stored(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return store(source, tmp_path_factory.mktemp("tier") / "tier")


@pytest.fixture(scope="module")
def whole(stored: Stored) -> list[Pixels]:
    """Return the pixels of each level, (y, x, c)."""
    return [np.moveaxis(np.asarray(stored.image(n)[:]), 0, -1) for n in range(len(stored.source.levels))]


def zipped(folder: Path, path: Path, compression: int = zipfile.ZIP_STORED, extra: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                entry = zipfile.ZipInfo(one.relative_to(folder).as_posix())
                entry.compress_type, entry.extra = compression, extra
                archive.writestr(entry, one.read_bytes())
    return path


@pytest.fixture(scope="module")
def ozx(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zipped(stored.store, tmp_path_factory.mktemp("zip") / "a.ozx")


# --- regions and levels -----------------------------------------------------------------------------------------------

REGIONS = [
    (0, 0, 0, HEIGHT, WIDTH),
    (0, 60, 60, 10, 10),
    (0, 100, 3, 1, 1),
    (1, 0, 0, 50, 60),
    (2, 5, 7, 30, 41),
]


@pytest.mark.parametrize(("level", "y", "x", "height", "width"), REGIONS)
def test_regions_are_the_pixels(
    stored: Stored, whole: list[Pixels], level: int, y: int, x: int, height: int, width: int
) -> None:
    with open_path(stored.store) as slide:
        region = slide.read_region(level, y, x, height, width)
    assert region.dtype == np.uint8
    assert np.array_equal(region, whole[level][y : y + height, x : x + width])


@pytest.mark.parametrize(
    ("y", "x", "height", "width"),
    [
        (-10, -20, 30, 40),
        (HEIGHT - 5, WIDTH - 6, 20, 20),
        (-50, 100, 20, 20),
        (HEIGHT, 0, 5, 5),
        (0, WIDTH + 100, 5, 5),
        (-7, -7, HEIGHT + 14, WIDTH + 14),
    ],
)
def test_what_lies_outside_reads_as_background(
    stored: Stored, whole: list[Pixels], y: int, x: int, height: int, width: int
) -> None:
    padded = np.pad(whole[0], ((200, 200), (200, 200), (0, 0)), constant_values=255)
    with open_path(stored.store) as slide:
        region = slide.read_region(0, y, x, height, width)
    assert np.array_equal(region, padded[200 + y : 200 + y + height, 200 + x : 200 + x + width][:height, :width])


@pytest.mark.parametrize(("level", "height", "width"), [(3, 5, 5), (-1, 5, 5), (0, 0, 5), (0, 5, -1)])
def test_levels_and_sizes_that_are_not_there_are_said(stored: Stored, level: int, height: int, width: int) -> None:
    with open_path(stored.store) as slide, pytest.raises(MissingError, match="levels 0 to 2"):
        slide.read_region(level, 0, 0, height, width)


@pytest.mark.parametrize("edge", [2**20, 2**31, 2**62, 2**70])
def test_more_than_there_is_memory_for_is_no_damage(stored: Stored, edge: int) -> None:
    with open_path(stored.store) as slide:
        with pytest.raises(MissingError, match="at once"):
            slide.read_region(0, 0, 0, edge, edge)
        with pytest.raises(MissingError, match="at once"):
            slide.read_patches(0, [(0, 0)] * 1000, edge, edge)


def test_levels_say_their_size(stored: Stored) -> None:
    with open_path(stored.store) as slide:
        assert [(one.height, one.width) for one in slide.levels] == [(330, 470), (165, 235), (83, 118)]
        assert [one.downsample for one in slide.levels] == pytest.approx([1, 2, 4], rel=0.02)
        assert slide.mpp == pytest.approx(0.5)
        assert slide.um_per_px == pytest.approx((0.5, 0.5))
        assert slide.levels[1].um_per_px == pytest.approx((0.5 * 330 / 165, 0.5 * 470 / 235))
        assert slide.magnification == 20.0
        assert repr(slide) == f"<Slide {stored.store}: 470 × 330 px, 3 levels>"


def test_a_slide_without_a_pixel_size_has_none(tmp_path: Path) -> None:
    write_generic_tiff(tmp_path / "a.tiff", [tissue(200, 300, seed=1)], um_per_px=None)
    with open_path(store(tmp_path / "a.tiff", tmp_path / "tier").store) as slide:
        assert slide.mpp is None
        assert slide.um_per_px is None
        assert slide.levels[0].um_per_px is None
        assert slide.magnification is None


def test_the_pictures_that_are_shared(stored: Stored) -> None:
    with open_path(stored.store) as slide:
        assert list(slide.associated) == ["thumbnail"]
        assert slide.associated["thumbnail"].shape[2] == 3
        assert slide.icc_profile == stored.source.icc_profile
        assert slide.icc_profile is not None
        with pytest.raises(KeyError):
            slide.associated["label"]


def test_the_pictures_of_a_vendors_file(source: Path) -> None:
    with open_path(source) as slide:
        assert sorted(slide.associated) == ["label", "thumbnail"]
        assert slide.associated["label"].shape == label_image("CASE-0001").shape


@pytest.mark.parametrize("chunks", ["auto", None, {}])
def test_a_tree_has_the_pixels(stored: Stored, whole: list[Pixels], chunks: Any) -> None:
    with open_path(stored.store) as slide, slide.to_datatree(chunks=chunks) as tree:
        assert sorted(tree.children) == ["0", "1", "2"]
        for number, expected in enumerate(whole):
            image = tree[f"{number}/image"]
            assert (image.chunks is None) == (chunks is None)
            assert np.array_equal(np.moveaxis(image.to_numpy(), 0, -1), expected)
        near = tree["0"].to_dataset().sel(y=50.0, x=100.0, method="nearest").image.to_numpy()
        assert np.array_equal(near, whole[0][100, 200])


def test_closing_twice_is_closing_once(stored: Stored) -> None:
    calls: list[int] = []
    slide = open_path(stored.store).closing_with(lambda: calls.append(1))
    slide.close()
    slide.close()
    assert calls == [1]
    for act in (
        lambda: slide.read_region(0, 0, 0, 1, 1),
        slide.to_datatree,
        lambda: slide.icc_profile,
    ):
        with pytest.raises(MissingError, match="closed"):
            act()


# --- the same slide, wherever it is opened ----------------------------------------------------------------------------


def check_same(slide: Slide, whole: list[Pixels]) -> None:
    with slide:
        assert [(one.height, one.width) for one in slide.levels] == [one.shape[:2] for one in whole]
        for number, expected in enumerate(whole):
            assert np.array_equal(slide.read_region(number, 0, 0, *expected.shape[:2]), expected)


def test_a_zipped_store_is_the_same_slide(ozx: Path, whole: list[Pixels]) -> None:
    check_same(open_path(ozx), whole)
    with open_path(ozx) as slide, slide.to_datatree(chunks=None) as tree:
        assert np.array_equal(np.moveaxis(tree["1/image"].to_numpy(), 0, -1), whole[1])


@pytest.mark.parametrize("name", ["a.zip", "a.OZX"])
def test_a_zip_file_of_another_program_is_the_same_slide(
    stored: Stored, whole: list[Pixels], tmp_path: Path, name: str
) -> None:
    """Compressed, or with extra fields in the local headers."""
    check_same(open_path(zipped(stored.store, tmp_path / name, zipfile.ZIP_DEFLATED)), whole)
    extra = b"\x55\x99\x04\x00abcd"
    check_same(open_path(zipped(stored.store, tmp_path / name, extra=extra)), whole)


def test_a_vendors_file_opened_in_place_is_the_same_slide(source: Path, whole: list[Pixels]) -> None:
    check_same(open_path(source), whole)


def test_strips_opened_in_place_are_the_same_slide(tmp_path: Path) -> None:
    levels = pyramid(tissue(256, 384, seed=52), 2, 2)
    write_ndpi(tmp_path / "a.ndpi", levels, restart_mcus=4)
    kept = store(tmp_path / "a.ndpi", tmp_path / "tier")
    expected = [np.moveaxis(np.asarray(kept.image(n)[:]), 0, -1) for n in range(2)]
    check_same(open_path(tmp_path / "a.ndpi"), expected)
    check_same(open_path(kept.store), expected)


def test_a_whole_slide_opened_in_place_has_its_pixels(tmp_path: Path) -> None:
    picture = tissue(700, 1100, seed=53)
    write_flat_tiff(tmp_path / "a.tiff", picture)
    with open_path(tmp_path / "a.tiff") as slide:
        assert np.array_equal(slide.read_region(0, 0, 0, 700, 1100), picture)
        assert np.array_equal(slide.read_region(0, 505, 505, 20, 30), picture[505:525, 505:535])
        assert np.all(slide.read_region(0, 690, 1090, 20, 20)[10:] == 255)


def test_a_store_of_a_whole_slide_says_that_its_pixels_are_elsewhere(tmp_path: Path) -> None:
    write_flat_tiff(tmp_path / "a.tiff", tissue(100, 120, seed=53))
    kept = store(tmp_path / "a.tiff", tmp_path / "tier")
    with pytest.raises(UnsupportedError, match="kept whole"):
        open_path(kept.store)


# --- over HTTP --------------------------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; with `ranges`, also parts of files."""

    ranges = lists = True
    status = status_of_chunks = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def list_directory(self, path: Any) -> Any:
        if self.lists:
            return super().list_directory(path)
        self.send_error(404)
        return None

    def do_GET(self) -> None:
        status = self.status or ("/image/c/" in self.path and self.status_of_chunks)
        if status:
            self.send_error(status)
            return
        path = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not (self.ranges and wanted and path.is_file()):
            super().do_GET()
            return
        data = path.read_bytes()
        first, last = wanted.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(len(data), int(last) + 1) if first and last else len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop])


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path, **options: Any) -> str:
        handler = type("Configured", (Handler,), options)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_url_is_told_from_a_path() -> None:
    assert is_url("https://example.org/a")
    assert is_url("s3://bucket/a")
    assert not is_url("a/b.svs")
    assert not is_url("0123456789")


def test_a_store_behind_a_url_is_the_same_slide(stored: Stored, whole: list[Pixels], serve: Serve) -> None:
    url = serve(stored.store)
    check_same(open_url(url), whole)
    with open_url(url) as slide, slide.to_datatree(chunks=None) as tree:
        assert np.array_equal(np.moveaxis(tree["2/image"].to_numpy(), 0, -1), whole[2])


def test_a_tree_behind_a_server_that_lists_nothing(stored: Stored, whole: list[Pixels], serve: Serve) -> None:
    with open_url(serve(stored.store, lists=False)) as slide, slide.to_datatree(chunks=None) as tree:
        assert sorted(tree.children) == ["0", "1", "2"]
        assert sorted(map(str, tree["1"].to_dataset().variables)) == ["image", "x", "y"]
        assert np.array_equal(np.moveaxis(tree["1/image"].to_numpy(), 0, -1), whole[1])


def test_a_zipped_store_behind_a_url_is_the_same_slide(ozx: Path, whole: list[Pixels], serve: Serve) -> None:
    check_same(open_url(f"{serve(ozx.parent)}/a.ozx"), whole)


def test_a_file_url_works_too(stored: Stored, whole: list[Pixels], ozx: Path) -> None:
    check_same(open_url(stored.store.as_uri()), whole)
    check_same(open_url(ozx.as_uri()), whole)


def test_a_server_that_ignores_ranges_is_said_to(stored: Stored, ozx: Path, serve: Serve) -> None:
    """It sends the whole shard, whose first bytes must not be taken for the tile."""
    with open_url(serve(stored.store, ranges=False)) as slide, pytest.raises(StorageError, match="byte ranges"):
        slide.read_region(0, 0, 0, 64, 64)
    with pytest.raises(StorageError, match="range"), open_url(f"{serve(ozx.parent, ranges=False)}/a.ozx") as slide:
        slide.read_region(0, 0, 0, 64, 64)


@pytest.mark.parametrize("path", ["", "/a.ozx"])
def test_a_url_where_nothing_is_is_a_clear_error(tmp_path: Path, serve: Serve, path: str) -> None:
    for url in (
        serve(tmp_path) + path,
        "http://127.0.0.1:1" + path,
        "nosuch://x" + path,
        serve(tmp_path, status=500) + path,
    ):
        with pytest.raises((StorageError, IntegrityError)) as caught:
            open_url(url)
        assert url in caught.value.message
        assert caught.value.remedy


def test_a_server_that_fails_later_is_a_storage_error(stored: Stored, serve: Serve) -> None:
    with open_url(serve(stored.store, status_of_chunks=503)) as slide, pytest.raises(StorageError, match="503"):
        slide.read_region(0, 0, 0, 64, 64)


# --- what is no slide -------------------------------------------------------------------------------------------------

GARBAGE = [
    b"", b"null", b"[]", b"7", b"{", b"[" * 100_000, b'{"zarr_format":2}', b'{"zarr_format":3,"node_type":"array"}',
    b'{"zarr_format":3,"node_type":"group"}', b"\xff\xfe",
    b'{"zarr_format":3,"node_type":"group","attributes":{"ome":7}}',
    b'{"zarr_format":3,"node_type":"group","attributes":{"wsistore":[]}}',
    b'{"zarr_format":3,"node_type":"group","attributes":{"ome":{"multiscales":[]}}}',
    b'{"zarr_format":3,"node_type":"group","attributes":{"ome":{"multiscales":[{"datasets":[]}]}}}',
    b'{"zarr_format":3,"node_type":"group","attributes":{"ome":{"multiscales":[{"datasets":[{"path":"0/image"}]}]}}}',
    b'{"zarr_format":3,"node_type":"group","attributes":{"ome":{"multiscales":[{"datasets":[{"path":"../.."}]}]}}}',
    b'{"zarr_format":3,"node_type":"group","attributes":{"ome":{"multiscales":[{"axes":"yx","datasets":[{"path":7}]}]}}}',
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE)
def test_a_folder_that_is_no_slide_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "zarr.json").write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        open_path(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.kind is Kind.FORMAT_UNKNOWN


def changed(stored: Stored, folder: Path, key: str, change: Callable[[Any], Any]) -> Path:
    shutil.copytree(stored.store, folder)
    path = folder / key
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    return folder


def test_a_level_with_a_codec_that_is_not_known_is_said(stored: Stored, tmp_path: Path) -> None:
    def change(document: Any) -> Any:
        document["codecs"][0]["configuration"]["codecs"][-1]["name"] = "nobody.knows"
        return document

    with pytest.raises(IntegrityError, match=r"nobody\.knows"):
        open_path(changed(stored, tmp_path / "s", "0/image/zarr.json", change))


@pytest.mark.parametrize("damage", ["index", "tile", "short"])
def test_damaged_shards_are_integrity_errors(stored: Stored, tmp_path: Path, damage: str) -> None:
    shutil.copytree(stored.store, tmp_path / "s")
    for path in (tmp_path / "s/0/image/c").rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            if damage == "index":
                data[-3] ^= 1
            elif damage == "tile":
                data[: len(data) // 2] = bytes(len(data) // 2)
            path.write_bytes(data[:5] if damage == "short" else data)
    with open_path(tmp_path / "s") as slide, pytest.raises(IntegrityError) as caught:
        slide.read_region(0, 0, 0, 330, 470)
    assert str(tmp_path / "s") in caught.value.message


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all" * 100, b"PK\x05\x06" + bytes(18)])
def test_a_zip_file_that_is_none_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.ozx").write_bytes(data)
    with pytest.raises((InputError, IntegrityError), match=r"a\.ozx"):
        open_path(tmp_path / "a.ozx")


def test_a_damaged_zip_file_is_a_clear_error(ozx: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data = ozx.read_bytes()
    for _ in range(40):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), 20).tolist() + rng.integers(len(data) - 3000, len(data), 5).tolist():
            bad[at] ^= 0xFF
        (tmp_path / "a.ozx").write_bytes(bad[: rng.integers(len(data) // 2, len(data) + 1)])
        try:
            with open_path(tmp_path / "a.ozx") as slide:
                slide.read_region(0, 0, 0, 330, 470)
        except (InputError, IntegrityError) as error:
            assert "a.ozx" in error.message  # noqa: PT017


def test_a_path_where_nothing_is(tmp_path: Path) -> None:
    for path in (tmp_path / "no.svs", tmp_path / ("x" * 300), tmp_path / "file/below"):
        with pytest.raises((MissingError, InputError)):
            open_path(path)
    (tmp_path / "no-slide.txt").write_text("hello")
    with pytest.raises(InputError):
        open_path(tmp_path / "no-slide.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises((InputError, IntegrityError)):
        open_path(tmp_path / "empty")
