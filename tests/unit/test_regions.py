"""Reading regions: how little is fetched and decoded, what is kept, many threads, other processes, damaged stores."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from zarr.storage import LocalStore

from tests.integration.test_reencode_store import reencoded
from tests.store_kit import Stored, in_memory, store
from wsistore import ops
from wsistore.client.opening import open_path, open_url
from wsistore.client.slide import Slide
from wsistore.compress import chunk_decoders, regions, shards, threads
from wsistore.compress.chunk_bytes import ChunkBytes, Place
from wsistore.compress.folding import FoldCoding
from wsistore.compress.presets import ENCODINGS
from wsistore.compress.regions import ChunkPixels, ZarrPixels
from wsistore.compress.threads import processors
from wsistore.compress.zarr_store import TierStore
from wsistore.errors import IntegrityError, MissingError, UnsupportedError, WsistoreError
from wsistore.model import Preset
from wsistore.storage.base import Span
from wsistore.storage.local import LocalStorage
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_flat_tiff, write_generic_tiff, write_svs
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]
SIDE, TILE = 640, 64


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    levels = pyramid(tissue(SIDE, SIDE, seed=61), 2, 2)
    return write_svs(tmp_path_factory.mktemp("source") / "a.svs", levels, tile=TILE)


@pytest.fixture(scope="module")
def stored(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return store(source, tmp_path_factory.mktemp("tier") / "tier")


@pytest.fixture(scope="module")
def folded(stored: Stored) -> Stored:
    return reencoded(stored, replace(ENCODINGS[Preset.FOLD], fold_height=4), "fold")[0]


@pytest.fixture(scope="module")
def whole(stored: Stored) -> Pixels:
    return np.moveaxis(np.asarray(stored.image(0)[:]), 0, -1)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many parts each trip to a tier asks for."""
    noted: list[int] = []
    plain = LocalStorage.get_many

    def get_many(self: LocalStorage, key: str, parts: Sequence[Span]) -> list[bytes]:
        noted.append(len(parts))
        return plain(self, key, parts)

    monkeypatch.setattr(LocalStorage, "get_many", get_many)
    return noted


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the rows of each JPEG that is decoded."""
    noted: list[int] = []
    plain = chunk_decoders.JpegTiles.fill

    def fill(self: chunk_decoders.JpegTiles, stream: bytes, pixels: Pixels) -> None:
        noted.append(len(pixels))
        plain(self, stream, pixels)

    monkeypatch.setattr(chunk_decoders.JpegTiles, "fill", fill)
    return noted


@pytest.fixture
def undone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note each fold that is undone."""
    noted: list[int] = []
    plain = FoldCoding.decode

    def decode(self: FoldCoding, data: bytes) -> Any:
        noted.append(len(data))
        return plain(self, data)

    monkeypatch.setattr(FoldCoding, "decode", decode)
    return noted


# --- how little is done -----------------------------------------------------------------------------------------------


def test_layouts_of_ours_are_read_directly(stored: Stored, folded: Stored, source: Path) -> None:
    for path in (stored.store, folded.store, source):
        with open_path(path) as slide:
            assert all(isinstance(level, ChunkPixels) for level in slide._pixels)


def test_a_tile_is_fetched_and_decoded_once_per_call(
    stored: Stored, whole: Pixels, spans: list[int], decoded: list[int]
) -> None:
    with open_path(stored.store) as slide:
        slide.cache_bytes = 0
        patches = slide.read_patches(0, [[10, 10], [12, 14], [50, 50], [10, 10]], 100, 100)
    assert spans == [9]
    assert len(decoded) == 9
    assert np.array_equal(patches[2], whole[50:150, 50:150])


def test_rows_that_nobody_wants_are_not_decoded(stored: Stored, whole: Pixels, decoded: list[int]) -> None:
    with open_path(stored.store) as slide:
        assert np.array_equal(slide.read_region(0, 64, 0, 20, 10), whole[64:84, :10])
    assert len(decoded) == 1
    assert 20 <= decoded[0] <= 24


def test_a_tile_that_was_used_in_part_is_kept_for_its_neighbours(
    stored: Stored, whole: Pixels, spans: list[int], decoded: list[int]
) -> None:
    with open_path(stored.store) as slide:
        slide.read_region(0, 0, 0, 64, 100)
        assert len(decoded) == 2
        assert np.array_equal(slide.read_region(0, 0, 100, 64, 28), whole[:64, 100:128])
        assert (len(decoded), spans) == (2, [2]), "all of it was kept"
        slide.read_region(0, 0, 0, 64, 64)
        assert len(decoded) == 3, "a tile that was used as a whole is not kept"


def test_fewer_rows_than_are_wanted_are_not_enough(stored: Stored, whole: Pixels) -> None:
    with open_path(stored.store) as slide:
        slide.read_region(0, 0, 0, 10, 10)
        assert np.array_equal(slide.read_region(0, 0, 0, 60, 60), whole[:60, :60])
        assert np.array_equal(slide.read_region(0, 0, 0, 20, 60), whole[:20, :60])


def test_a_fold_is_undone_once_and_kept(
    folded: Stored, whole: Pixels, undone: list[int], spans: list[int], decoded: list[int]
) -> None:
    with open_path(folded.store) as slide:
        patches = slide.read_patches(0, [[0, 0], [200, 30], [100, 40]], 50, 20)
        assert len(undone) == 1
        assert np.array_equal(patches[1], whole[200:250, 30:50])
        seen, trips = len(decoded), len(spans)
        assert np.array_equal(slide.read_region(0, 130, 10, 40, 40), whole[130:170, 10:50])
        assert (len(undone), len(spans)) == (1, trips), "nothing was fetched"
        assert len(decoded) == seen + 1, "of a fold, only the tile that is wanted is decoded"
        slide.cache_bytes = 0
        slide.read_region(0, 130, 10, 40, 40)
        assert len(undone) == 2


def test_what_is_kept_stays_within_its_bound(stored: Stored, folded: Stored) -> None:
    rng = np.random.default_rng(5)
    for one in (stored, folded):
        with open_path(one.store) as slide:
            slide.cache_bytes = 30_000
            for y, x in rng.integers(0, SIDE - 90, (40, 2)).tolist():
                slide.read_region(0, y, x, 90, 90)
                assert slide._kept.chunks.size_bytes <= 30_000
            assert len(slide._kept.chunks) > 0


def test_other_layouts_are_read_through_zarr(whole: Pixels, tmp_path: Path, stored: Stored) -> None:
    """Here: one channel per chunk, in no shards; another program may have written it."""
    shutil.copytree(stored.store, tmp_path / "s")
    shutil.rmtree(tmp_path / "s/0/image")
    made = zarr.create_array(
        LocalStore(tmp_path / "s/0/image"), shape=(3, SIDE, SIDE), chunks=(1, 100, 90), dtype="uint8", fill_value=255
    )
    made[...] = np.moveaxis(whole, -1, 0)
    with open_path(tmp_path / "s") as slide:
        assert isinstance(slide._pixels[0], ZarrPixels)
        assert np.array_equal(slide.read_region(0, 90, 80, 120, 130), whole[90:210, 80:210])


@pytest.fixture
def far(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slide]:
    """A slide in a store that is asked for many objects at once, a little at a time."""
    monkeypatch.setattr(regions, "_FAR_BATCH_BYTES", 5_000)
    monkeypatch.setattr(regions, "_READERS", 2)
    with in_memory(stored.store) as slide:
        yield slide


def test_from_far_away_the_next_bytes_come_while_others_are_decoded(
    far: Slide, whole: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    again = threading.Event()
    fetch, decode = ChunkBytes.fetch, ChunkPixels.decode

    def noted(self: ChunkBytes, places: Sequence[Place]) -> list[bytes]:
        asked.append(len(places))
        if len(asked) > 1:
            again.set()
        return fetch(self, places)

    def late(self: ChunkPixels, *arguments: Any) -> Any:
        assert again.wait(60), "nothing more was asked for meanwhile"
        return decode(self, *arguments)

    monkeypatch.setattr(ChunkBytes, "fetch", noted)
    monkeypatch.setattr(ChunkPixels, "decode", late)
    assert np.array_equal(far.read_region(0, 0, 0, SIDE, SIDE), whole)
    assert len(asked) > 3
    assert sum(asked) == (SIDE // TILE) ** 2


@pytest.mark.parametrize("what", ["fetch", "decode"])
def test_from_far_away_the_first_failure_ends_it(far: Slide, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    numbers = itertools.count(1)
    owner: Any = {"fetch": ChunkBytes, "decode": ChunkPixels}[what]
    plain = getattr(owner, what)

    def failing(self: Any, *arguments: Any) -> Any:
        number = next(numbers)
        calls.append(number)
        if number >= 3:
            raise IntegrityError("It is damaged.")
        return plain(self, *arguments)

    monkeypatch.setattr(owner, what, failing)
    with pytest.raises(IntegrityError, match="damaged"):
        far.read_region(0, 0, 0, SIDE, SIDE)
    before = len(calls)
    threading.Event().wait(0.2)
    assert len(calls) == before <= 3 + 4 * max(2, processors())  # of a hundred


@pytest.mark.parametrize("positions", [[1, 2], [[1, 2, 3]], [[0.5, 1.0]], [["a", "b"]], [[[1, 2]]]])
def test_positions_that_are_none_are_said(stored: Stored, positions: Any) -> None:
    with open_path(stored.store) as slide, pytest.raises(MissingError, match=r"\(n, 2\)"):
        slide.read_patches(0, positions, 8, 8)


def test_no_positions_give_no_patches(stored: Stored) -> None:
    with open_path(stored.store) as slide:
        assert slide.read_patches(0, [], 8, 9).shape == (0, 8, 9, 3)
        assert np.all(slide.read_patches(0, [[10**17, -(10**18)]], 8, 9) == 255)


# --- threads and processes --------------------------------------------------------------------------------------------


def test_many_threads_read_one_slide(folded: Stored, stored: Stored, whole: Pixels) -> None:
    rng = np.random.default_rng(7)
    places = rng.integers(-30, SIDE, (120, 2)).tolist()
    padded = np.pad(whole, ((100, 100), (100, 100), (0, 0)), constant_values=255)
    for one in (stored, folded):
        with open_path(one.store) as slide, ThreadPoolExecutor(8) as pool:
            slide.cache_bytes = 200_000
            regions = pool.map(lambda place: slide.read_region(0, place[0], place[1], 77, 99), places)
            for region, (y, x) in zip(regions, places, strict=True):
                assert np.array_equal(region, padded[y + 100 : y + 177, x + 100 : x + 199])


def test_closing_while_others_read_gives_pixels_or_says_so(stored: Stored, whole: Pixels) -> None:
    for _ in range(10):
        slide = open_path(stored.store)
        begun = threading.Barrier(4)

        def read(slide: Slide = slide, begun: threading.Barrier = begun) -> str:
            begun.wait(240)
            end = time.monotonic() + 120
            while time.monotonic() < end:
                try:
                    assert np.array_equal(slide.read_region(0, 5, 5, 200, 200), whole[5:205, 5:205])
                except MissingError as error:
                    return error.message
            return ""

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            begun.wait(240)
            slide.close()
            assert all("closed" in reader.result(240) for reader in readers)


def read_elsewhere(slide: Slide) -> tuple[Pixels, int | None, int]:
    with slide:
        return slide.read_region(0, 100, 200, 150, 160), slide.threads, slide.cache_bytes


@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_a_slide_goes_to_another_process(stored: Stored, whole: Pixels, how: str) -> None:
    with open_path(stored.store) as slide:
        slide.threads, slide.cache_bytes = 1, 12345
        slide.read_region(0, 0, 0, SIDE, SIDE)  # this process has threads of its own by now
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(how)) as pool:
            region, threads, cache_bytes = pool.submit(read_elsewhere, slide).result(120)
        assert np.array_equal(region, whole[100:250, 200:360])
        assert (threads, cache_bytes) == (1, 12345)
        assert slide.read_region(0, 0, 0, 5, 5).shape == (5, 5, 3), "here it is still open"


def test_a_forked_process_reads_what_was_open_before(stored: Stored, whole: Pixels) -> None:
    with open_path(stored.store) as slide:
        slide.read_region(0, 0, 0, SIDE, SIDE)
        child = os.fork()
        if not child:
            os._exit(0 if np.array_equal(slide.read_region(0, 9, 9, 300, 300), whole[9:309, 9:309]) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_every_way_of_opening_pickles(stored: Stored, source: Path, tmp_path: Path, whole: Pixels) -> None:
    shutil.make_archive(str(tmp_path / "a"), "zip", stored.store)
    flat = write_flat_tiff(tmp_path / "flat.tiff", tissue(100, 120, seed=3))
    for opened in (
        open_path(stored.store), open_path(tmp_path / "a.zip"), open_url(stored.store.as_uri()), open_path(source)
    ):  # fmt: skip
        with opened, pickle.loads(pickle.dumps(opened)) as again:
            assert again.name == opened.name
            assert np.array_equal(again.read_region(0, 3, 4, 70, 80), whole[3:73, 4:84])
    with open_path(flat) as opened, pickle.loads(pickle.dumps(opened)) as again:
        assert np.array_equal(again.read_region(0, 0, 0, 9, 9), opened.read_region(0, 0, 0, 9, 9))


def test_slides_of_a_site_pickle_without_it(source: Path, tmp_path: Path, whole: Pixels) -> None:
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site") as site:
        key = ops.ingest_one(site, source, tier="hot").slide
        flat = ops.ingest_one(site, write_flat_tiff(tmp_path / "flat.tiff", tissue(99, 88, seed=3)), tier="hot").slide
        assert key is not None
        assert flat is not None
        slides = []
        for one in (key, flat):
            with ops.open_slide(one, site=site) as opened:
                slides.append(pickle.dumps(opened))
    for data in slides:
        with pickle.loads(data) as again:
            assert "thumbnail" in again.associated or again.name == flat
            if again.name == key:
                assert np.array_equal(again.read_region(0, 3, 4, 70, 80), whole[3:73, 4:84])


def test_a_slide_that_cannot_be_opened_again_says_so(stored: Stored) -> None:
    with (
        Slide(LocalStore(stored.store, read_only=True), "bare") as slide,
        pytest.raises(UnsupportedError, match="bare"),
    ):
        pickle.dumps(slide)
    with pytest.raises(MissingError, match="closed"):
        pickle.dumps(slide)


def test_the_first_failure_ends_the_work_and_reaches_the_caller() -> None:
    done: list[int] = []

    def job(number: int) -> Callable[[], None]:
        def run() -> None:
            if number == 3:
                raise KeyError(number)
            if number > 3:
                time.sleep(0.001)
            done.append(number)

        return run

    with pytest.raises(KeyError):
        threads.run([job(n) for n in range(1000)], threads=2)
    assert len(done) < 999
    threads.run([job(n) for n in range(4, 50)])
    assert set(range(4, 50)) <= set(done)
    threads.run([])


# --- damaged stores ---------------------------------------------------------------------------------------------------


def shard_of(folder: Path) -> Path:
    (path,) = (path for path in (folder / "0/image/c").rglob("*") if path.is_file())
    return path


def test_flipped_bits_are_integrity_errors_or_other_pixels(stored: Stored, folded: Stored, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    refused = 0
    for number, one in enumerate([stored, folded]):
        shutil.copytree(one.store, tmp_path / f"{number}")
        path = shard_of(tmp_path / f"{number}")
        data = path.read_bytes()
        for at in rng.integers(0, len(data), 40).tolist():
            bad = bytearray(data)
            bad[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            with open_path(tmp_path / f"{number}") as slide:
                try:
                    assert slide.read_region(0, 0, 0, SIDE, SIDE).shape == (SIDE, SIDE, 3)
                except IntegrityError as error:
                    assert str(tmp_path / f"{number}") in error.message  # noqa: PT017
                    refused += 1
    assert refused > 5


@pytest.mark.parametrize("left", [0, 3, 0.5, 0.9, -1])
def test_a_truncated_shard_is_an_integrity_error(stored: Stored, tmp_path: Path, left: float) -> None:
    shutil.copytree(stored.store, tmp_path / "s")
    path = shard_of(tmp_path / "s")
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data)) if 0 < left < 1 else int(left)])
    with open_path(tmp_path / "s") as slide, pytest.raises(IntegrityError, match="0/image/c/0/0/0"):
        slide.read_region(0, 0, 0, 100, 100)


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 2**62), (2**63, 5), (2**61, 7), (5, 10**9)])
def test_an_index_that_names_what_is_not_there_is_an_integrity_error(
    stored: Stored, tmp_path: Path, offset: int, nbytes: int
) -> None:
    shutil.copytree(stored.store, tmp_path / "s")
    path = shard_of(tmp_path / "s")
    data, chunks = path.read_bytes(), (SIDE // TILE) ** 2
    index = shards.decode_index(data[-shards.index_bytes(chunks) :], chunks, where="").copy()
    index[0] = (offset, nbytes)
    path.write_bytes(data[: -shards.index_bytes(chunks)] + shards.encode_index(index))
    with open_path(tmp_path / "s") as slide:
        with pytest.raises(IntegrityError, match="0/image/c/0/0/0"):
            slide.read_region(0, 0, 0, 10, 10)
        assert slide.read_region(0, 100, 100, 10, 10).shape == (10, 10, 3), "the others are still read"


def test_a_shard_that_is_gone_is_background_unless_a_commit_names_it(stored: Stored, tmp_path: Path) -> None:
    shutil.copytree(stored.store, tmp_path / "s")
    shard_of(tmp_path / "s").unlink()
    with open_path(tmp_path / "s") as slide:
        assert np.all(slide.read_region(0, 0, 0, 50, 50) == 255)
    missing = TierStore(LocalStorage(tmp_path / "s"), "", required=["0/image/c/0/0/0"])
    with Slide(missing, "named") as slide, pytest.raises(IntegrityError, match="missing"):
        slide.read_region(0, 0, 0, 50, 50)


def test_a_chunk_of_another_size_is_refused(stored: Stored, tmp_path: Path) -> None:
    """A sound JPEG of another height must not be taken for the tile, cut short or not."""
    other = store(write_generic_tiff(tmp_path / "b.tiff", [tissue(SIDE, SIDE, seed=2)], tile=(128, 64)), tmp_path / "t")
    shutil.copytree(stored.store, tmp_path / "s")
    path, data = shard_of(tmp_path / "s"), shard_of(other.store).read_bytes()
    chunks = (SIDE // TILE) * (SIDE // 128)
    from_other = shards.decode_index(data[-shards.index_bytes(chunks) :], chunks, where="")
    index = shards.empty_index((SIDE // TILE) ** 2)
    index[0] = from_other[0]
    path.write_bytes(data[: -shards.index_bytes(chunks)] + shards.encode_index(index))
    with open_path(tmp_path / "s") as slide:
        for rows in (10, 64):
            with pytest.raises(WsistoreError, match="row 0, column 0"):
                slide.read_region(0, 0, 0, rows, 10)
