"""Slides behind a gateway: found, opened, read; what is sent and what is not; what goes wrong on the way."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr

import wsistore
from tests.gateway_stub import TOKEN, Gateway, serving
from tests.store_kit import Stored, store
from wsistore.client import tokens
from wsistore.client.connecting import Connection, View, connect
from wsistore.errors import (
    ConflictError,
    DeniedError,
    IntegrityError,
    Kind,
    MissingError,
    ObjectArchivedError,
    SiteError,
    StorageError,
    TransientError,
    WsistoreError,
)
from wsistore.storage.http import HttpStorage
from wsistore.storage.http_service import HttpOptions
from wsistore.storage.retry import RetryPolicy
from wsistore.testing.pictures import pyramid, srgb_profile
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue

Pixels = npt.NDArray[Any]

HEIGHT, WIDTH = 330, 470
QUICK = HttpOptions(retry=RetryPolicy(attempts=3, first_delay_seconds=0.001, longest_delay_seconds=0.01))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("source")
    path = write_svs(folder / "a.svs", pyramid(tissue(HEIGHT, WIDTH, seed=51), 2, 3), tile=64, icc=srgb_profile())
    return store(path, folder / "tier")


@pytest.fixture(scope="module")
def whole(stored: Stored) -> list[Pixels]:
    """Return the pixels of each level, (y, x, c)."""
    return [np.moveaxis(np.asarray(stored.image(n)[:]), 0, -1) for n in range(len(stored.source.levels))]


@pytest.fixture
def gateway(stored: Stored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateway]:
    monkeypatch.delenv(tokens.VARIABLE, raising=False)
    monkeypatch.delenv(tokens.FILE_VARIABLE, raising=False)
    monkeypatch.setattr(tokens, "DEFAULT_FILE", tmp_path / "no-token")
    with serving(Gateway({"aaaa": stored.store, "bbbb": stored.store, "cccc": stored.store})) as found:
        yield found
    tokens.forget(found.url)


@pytest.fixture
def connection(gateway: Gateway) -> Iterator[Connection]:
    with connect(gateway.url, token=TOKEN, options=QUICK) as found:
        yield found


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_slide_behind_a_gateway_is_the_same_slide(connection: Connection, whole: list[Pixels]) -> None:
    with connection.open("aaaa") as slide:
        assert slide.name == "aaaa"
        assert slide.mpp == pytest.approx(0.5)
        for level, pixels in enumerate(whole):
            assert np.array_equal(slide.read_region(level, 0, 0, *pixels.shape[:2]), pixels)
        patches = slide.read_patches(0, [(3, 5), (200, 300)], 70, 80)
        assert np.array_equal(patches[1], whole[0][200:270, 300:380])
        assert slide.associated["thumbnail"].ndim == 3
        assert slide.icc_profile


@pytest.mark.parametrize("chunks", [None, "auto"])
def test_a_tree_behind_a_gateway_has_the_pixels(connection: Connection, whole: list[Pixels], chunks: Any) -> None:
    with connection.open("aaaa") as slide:
        tree = slide.to_datatree(chunks=chunks)
        assert tree["0/image"].dims == ("c", "y", "x")
        assert tree["0/image"].y.attrs["units"] == "micrometer"
        assert np.array_equal(np.moveaxis(np.asarray(tree["1/image"].to_numpy()), 0, -1), whole[1])


def test_names_are_found_without_consolidated_metadata(
    gateway: Gateway, stored: Stored, tmp_path: Path, whole: list[Pixels]
) -> None:
    shutil.copytree(stored.store, tmp_path / "s")
    root = json.loads((tmp_path / "s/zarr.json").read_bytes())
    root.pop("consolidated_metadata", None)
    (tmp_path / "s/zarr.json").write_text(json.dumps(root))
    gateway.slides["aaaa"] = tmp_path / "s"
    with connect(gateway.url, token=TOKEN) as connection, connection.open("aaaa") as slide:
        tree = slide.to_datatree(chunks=None)
        assert set(tree.children) >= {"0", "1", "2"}
        assert np.array_equal(np.moveaxis(np.asarray(tree["2/image"].to_numpy()), 0, -1), whole[2])


@pytest.mark.parametrize("many", [True, False])
def test_little_more_is_moved_than_what_is_needed(gateway: Gateway, whole: list[Pixels], many: bool) -> None:
    """What goes over the wire for a region is its chunks; a warm region takes one round trip per shard."""
    gateway.many = many
    with connect(gateway.url, token=TOKEN) as connection, connection.open("aaaa") as slide:
        slide.cache_bytes = 0
        slide.read_region(0, 0, 0, 10, 10)
        gateway.asked.clear()
        gateway.sent = 0
        got = slide.read_region(0, 128, 128, 128, 128)  # 2 × 2 tiles
    assert np.array_equal(got, whole[0][128:256, 128:256])
    good = [one for one in gateway.chunk_requests() if one[2]]
    assert len(good) <= (1 if many else 3)
    if many:
        assert gateway.sent < 40_000


def test_a_server_without_ranges_is_said_to_be_one(gateway: Gateway, connection: Connection, stored: Stored) -> None:
    gateway.ranges = False
    with connection.open("aaaa") as slide, pytest.raises(WsistoreError) as caught:
        slide.read_region(0, 0, 0, 64, 64)
    assert caught.value.remedy


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_search_reads_all_pages(gateway: Gateway, connection: Connection) -> None:
    gateway.page = 2
    gateway.rows["bbbb"] = {"organ": "colon", "width": 400, "diagnoses": ["C18"]}
    found = connection.search()
    assert list(found["slide"]) == ["aaaa", "bbbb", "cccc"]
    assert found["width"].tolist()[1] == 400
    assert found.columns[0] == "slide"
    assert list(connection.search(organ="colon")["slide"]) == ["bbbb"]
    assert list(connection.search(limit=1)["slide"]) == ["aaaa"]
    assert len(connection.search(organ="none such")) == 0
    table = connection.search_arrow()
    assert table.column("slide").to_pylist() == ["aaaa", "bbbb", "cccc"]
    assert table.column("diagnoses").to_pylist()[1] == ["C18"]


def test_a_filter_that_names_no_column_is_said(connection: Connection) -> None:
    with pytest.raises(MissingError, match="No such column") as caught:
        connection.search(ssn=1)
    assert caught.value.kind is Kind.CONDITION_INVALID


def test_the_only_project_need_not_be_named(gateway: Gateway, connection: Connection) -> None:
    assert connection.project == "study"
    gateway.projects.append("other")
    with connect(gateway.url, token=TOKEN) as second, pytest.raises(MissingError, match="2 projects") as caught:
        second.search()
    assert "other" in caught.value.remedy
    gateway.projects.clear()
    with connect(gateway.url, token=TOKEN) as third, pytest.raises(MissingError, match="no project"):
        third.search()


def test_what_is_not_there_is_named(gateway: Gateway, connection: Connection) -> None:
    with pytest.raises(MissingError, match="no slide zzzz in project study") as caught:
        connection.open("zzzz")
    assert caught.value.kind is Kind.SLIDE_MISSING
    with connect(gateway.url, "nowhere", token=TOKEN) as other, pytest.raises(MissingError, match="project nowhere"):
        other.search()
    with pytest.raises(MissingError, match="view"):
        connection.open("aaaa", view="tiff")  # type: ignore[arg-type]


@pytest.mark.parametrize("slide", ["../..", "a/b", "a?b", "%2e%2e", "a b", "é", "."])
def test_a_pseudonym_is_no_path(gateway: Gateway, connection: Connection, slide: str) -> None:
    with pytest.raises(MissingError):
        connection.open(slide)
    assert all(target.startswith("/projects") for _, target, _ in gateway.asked)


def test_a_cold_slide_says_how_to_get_it(gateway: Gateway, connection: Connection) -> None:
    gateway.rows["aaaa"] = {"readiness": "cold"}
    with pytest.raises(ObjectArchivedError, match=r"recall\('aaaa'\)"):
        connection.open("aaaa")
    assert connection.recall("aaaa")["state"] == "asked"
    assert gateway.asked[-1][0] == "POST"


def test_a_slide_that_turns_cold_is_said_to_be(gateway: Gateway, connection: Connection) -> None:
    with connection.open("aaaa") as slide:
        gateway.rows["aaaa"] = {"readiness": "cold"}
        with pytest.raises(ObjectArchivedError, match="12 hours"):
            slide.read_region(0, 0, 0, 64, 64)


@pytest.mark.parametrize("view", ["stored", "zstd"])
def test_a_slide_that_is_taken_away_does_not_turn_into_background(
    gateway: Gateway, connection: Connection, stored: Stored, view: View
) -> None:
    """To a gateway what is revoked is as if it were not there, as is a chunk that the scanner never wrote."""
    with connection.open("aaaa", view=view) as slide:
        slide.cache_bytes = 0
        del gateway.slides["aaaa"]
        with pytest.raises(MissingError, match="not there any more"):
            slide.read_region(0, 0, 0, 64, 64)
        with pytest.raises(MissingError, match="not there any more"):
            slide.group["0/image"][:, :10, :10]  # type: ignore[index]


def test_a_shard_that_was_never_written_is_background(
    gateway: Gateway, connection: Connection, stored: Stored, tmp_path: Path
) -> None:
    shutil.copytree(stored.store, tmp_path / "s")
    shutil.rmtree(tmp_path / "s/0/image/c")
    gateway.slides["aaaa"] = tmp_path / "s"
    with connection.open("aaaa") as slide:
        assert (slide.read_region(0, 0, 0, 64, 64) == 255).all()


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_without_a_token_it_is_said_where_one_is_looked_for(gateway: Gateway) -> None:
    with pytest.raises(DeniedError, match=tokens.VARIABLE) as caught:
        connect(gateway.url).search()
    assert caught.value.kind is Kind.TOKEN_MISSING


def test_a_token_comes_from_the_environment_or_a_file(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    assert connect(gateway.url, token_file=file).project == "study"
    monkeypatch.setenv(tokens.FILE_VARIABLE, str(file))
    assert connect(gateway.url).project == "study"
    file.chmod(0o640)
    with pytest.raises(SiteError, match="read by others"):
        connect(gateway.url).projects()
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)
    assert connect(gateway.url).project == "study"
    with pytest.raises(DeniedError, match="cannot be read"):
        connect(gateway.url, token_file=tmp_path / "none").projects()


@pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Other: 1", "é", "x\0"])
def test_what_is_no_token_is_refused_and_not_shown(gateway: Gateway, token: str) -> None:
    with pytest.raises(DeniedError) as caught:
        connect(gateway.url, token=token)
    assert not token.strip() or token not in str(caught.value)


def test_a_token_that_is_refused_is_said_to_be_and_not_shown(gateway: Gateway) -> None:
    with pytest.raises(DeniedError) as caught:
        connect(gateway.url, token="wst_other_secret").search()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.__cause__)


def test_the_token_is_in_no_pickle(gateway: Gateway, connection: Connection, whole: list[Pixels]) -> None:
    with connection.open("aaaa") as slide:
        tree = slide.to_datatree()
        for one in (connection, slide, tokens.Authorization(gateway.url)):
            assert TOKEN.encode() not in pickle.dumps(one)
        assert "secret" not in repr(tokens.Fixed("secret"))
        assert TOKEN not in repr(tree["0/image"].data.__dask_graph__())
        again = pickle.loads(pickle.dumps(slide))
    with again:
        assert np.array_equal(again.read_region(2, 0, 0, 20, 20), whole[2][:20, :20])


def test_a_token_goes_to_no_other_machine_unencrypted() -> None:
    with pytest.raises(StorageError, match="not encrypted"):
        connect("http://gateway.example.org", token=TOKEN)
    for bad in ("", "gateway", "ftp://x", "https://user:password@host", "https://host?x=1", "https://host:99999"):
        with pytest.raises(StorageError) as caught:
            connect(bad, token=TOKEN)
        assert "password" not in caught.value.message


def test_a_redirection_is_not_followed(gateway: Gateway, connection: Connection) -> None:
    with connection.open("aaaa") as slide:
        gateway.faults.append((302, {"Location": "http://127.0.0.1:9/steal"}, b""))
        with pytest.raises(WsistoreError, match="302"):
            slide.read_region(0, 0, 0, 64, 64)


# --- faults -----------------------------------------------------------------------------------------------------------

PASSING = [
    (503, {}, b""),
    (429, {"Retry-After": "0"}, b"{}"),
    (500, {}, b"[" * 1000),
    (502, {}, b"\xff"),
    (206, {"Content-Length": "99", "Connection": "close", "Content-Range": "bytes 0-98/10000"}, b"short"),
    (200, {"Content-Length": "10", "Connection": "close"}, b""),
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_fails_in_passing_is_repeated(
    gateway: Gateway, connection: Connection, whole: list[Pixels], fault: tuple[int, dict[str, str], bytes]
) -> None:
    with connection.open("aaaa") as slide:
        gateway.faults.extend([fault, fault])
        assert np.array_equal(slide.read_region(0, 0, 0, 64, 64), whole[0][:64, :64])


def test_what_goes_on_failing_is_said(gateway: Gateway, connection: Connection) -> None:
    with connection.open("aaaa") as slide:
        gateway.faults.extend([(503, {}, b"")] * 3)
        with pytest.raises(TransientError, match="503"):
            slide.read_region(0, 0, 0, 64, 64)


def test_a_server_that_is_not_there_is_said(gateway: Gateway) -> None:
    with connect("http://127.0.0.1:1", "study", token=TOKEN, options=QUICK) as away, pytest.raises(TransientError):
        away.search()


GARBLED = [
    (206, {}, b"x" * 10),
    (206, {"Content-Range": "bytes 5-2/10"}, b"x"),
    (206, {"Content-Range": "bytes 0-9/10"}, b"x" * 3),
    (206, {"Content-Type": "multipart/byteranges; boundary=b"}, b"--b\r\n\r\n--b--"),
    (206, {"Content-Type": "multipart/byteranges; boundary=b"}, b"--b\r\nContent-Range: bytes 0-99/100\r\n\r\nxx"),
    (206, {"Content-Type": "multipart/byteranges; boundary=b"}, b""),
    (403, {}, b"no"),
    (418, {}, b""),
    (204, {}, b""),
    (416, {}, b""),
    (200, {}, b"garbage"),
]


@pytest.mark.parametrize("fault", GARBLED)
def test_an_answer_that_makes_no_sense_is_an_error_of_ours(
    gateway: Gateway, connection: Connection, fault: tuple[int, dict[str, str], bytes]
) -> None:
    with connection.open("aaaa") as slide:
        gateway.faults.extend([fault] * 8)
        with pytest.raises((StorageError, IntegrityError)):
            slide.read_region(0, 0, 0, 64, 64)


def test_a_slide_that_was_written_anew_meanwhile_is_not_mixed(gateway: Gateway, connection: Connection) -> None:
    with connection.open("aaaa") as slide:
        slide.cache_bytes = 0
        slide.read_region(0, 0, 0, 64, 64)
        gateway.salt = "another"
        with pytest.raises(ConflictError, match="anew"):
            slide.read_region(0, 64, 64, 64, 64)


# --- the cache on disk ------------------------------------------------------------------------------------------------


def test_chunks_are_fetched_once(gateway: Gateway, tmp_path: Path, whole: list[Pixels]) -> None:
    where = tmp_path / "cache"
    for round_ in range(2):
        with connect(gateway.url, token=TOKEN, cache=where) as connection, connection.open("aaaa") as slide:
            gateway.sent = 0
            for _ in range(2):
                slide.cache_bytes = 0
                assert np.array_equal(slide.read_region(0, 0, 0, HEIGHT, WIDTH), whole[0])
            assert connection.cache is not None
            assert connection.cache.hits > 0
            if round_:
                assert gateway.sent < 2000, "only the shards' indexes"
    assert stat.S_IMODE(where.stat().st_mode) == 0o700


@pytest.fixture
def unsharded(stored: Stored, gateway: Gateway, tmp_path: Path) -> Gateway:
    """Let the gateway show a slide as its views are: each chunk an object of its own."""
    group = zarr.open_group(tmp_path / "view", mode="w", zarr_format=3, attributes=stored.group().attrs.asdict())
    for number in range(len(stored.source.levels)):
        pixels = np.asarray(stored.image(number)[:])
        group.create_array(f"{number}/image", data=pixels, chunks=(3, 64, 64), fill_value=255)
    gateway.slides["aaaa"] = tmp_path / "view"
    return gateway


def chunk_keys(gateway: Gateway) -> list[str]:
    return [target for _, target, _ in gateway.chunk_requests() if "/image/c/" in target]


@pytest.mark.parametrize("threads", [1, None])
def test_chunks_of_a_view_are_fetched_many_at_a_time(
    unsharded: Gateway, connection: Connection, whole: list[Pixels], threads: int | None
) -> None:
    """However few decode: a server far away answers as late for one as for sixteen."""
    with connection.open("aaaa") as slide:
        slide.threads = threads
        unsharded.gather, unsharded.most_under_way = 8, 0
        unsharded.gathered.clear()
        assert np.array_equal(slide.read_region(0, 0, 0, HEIGHT, WIDTH), whole[0])
    assert 8 <= unsharded.most_under_way <= 16
    assert len(chunk_keys(unsharded)) == len(set(chunk_keys(unsharded)))


def test_chunks_of_a_view_are_fetched_once(unsharded: Gateway, tmp_path: Path, whole: list[Pixels]) -> None:
    for round_ in range(2):
        with (
            connect(unsharded.url, token=TOKEN, cache=tmp_path / "c") as connection,
            connection.open("aaaa", view="jpeg") as slide,
        ):
            unsharded.asked.clear()
            for _ in range(2):
                slide.cache_bytes = 0
                assert np.array_equal(slide.read_region(0, 0, 0, HEIGHT, WIDTH), whole[0])
            tiles = len(chunk_keys(unsharded))
            assert tiles == (0 if round_ else 6 * 8)
            with connection.open("aaaa", view="zstd") as other:  # another view has other bytes
                other.read_region(0, 0, 0, 64, 64)
            assert len(chunk_keys(unsharded)) == tiles + (0 if round_ else 1)


def test_the_bound_holds_for_a_view(unsharded: Gateway, tmp_path: Path, whole: list[Pixels]) -> None:
    most = 50_000
    with connect(unsharded.url, token=TOKEN, cache=tmp_path / "c", cache_bytes=most) as connection:
        with connection.open("aaaa", view="zstd") as slide:
            for y in range(0, HEIGHT, 64):
                assert np.array_equal(slide.read_region(0, y, 0, 64, WIDTH), padded(whole[0], y, 64))
                kept = sum(path.stat().st_size for path in (tmp_path / "c").rglob("*") if path.is_file())
                assert kept <= most
        assert kept > most / 3


def padded(pixels: Pixels, y: int, height: int) -> Pixels:
    found = np.full((height, *pixels.shape[1:]), 255, pixels.dtype)
    found[: len(pixels) - y] = pixels[y : y + height]
    return found


@pytest.mark.parametrize("changed", ["before", "meanwhile"])
def test_a_view_that_is_written_anew_is_not_kept_as_what_it_was(
    unsharded: Gateway, tmp_path: Path, whole: list[Pixels], changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk does not say which copy it is of: it is kept only if the copy is still the same once it is there."""
    with connect(unsharded.url, token=TOKEN, cache=tmp_path / "c") as connection:
        with connection.open("aaaa", view="jpeg") as slide:
            if changed == "before":
                unsharded.salt = "another"
            else:
                monkeypatch.setattr(HttpStorage, "get", _changing(HttpStorage.get, unsharded))
            assert np.array_equal(slide.read_region(0, 0, 0, 64, 64), whole[0][:64, :64])
            assert connection.cache is not None
            assert connection.cache.size_bytes == 0
        monkeypatch.undo()
        with connection.open("aaaa", view="jpeg") as slide:
            slide.read_region(0, 0, 0, 64, 64)
            assert connection.cache.size_bytes > 0


def _changing(get: Any, gateway: Gateway) -> Any:
    """Return a `get` after whose first chunk all is written anew."""

    def got(*args: Any, **more: Any) -> bytes:
        data: bytes = get(*args, **more)
        if "/c/" in args[1]:
            gateway.salt = "another"
        return data

    return got


def test_what_cannot_be_asked_for_again_is_read_all_the_same(
    unsharded: Gateway, tmp_path: Path, whole: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> bool:
        msg = "no"
        raise TransientError(msg, remedy="Wait.")

    monkeypatch.setattr(HttpStorage, "is_unchanged", fails)
    with connect(unsharded.url, token=TOKEN, cache=tmp_path / "c") as connection, connection.open("aaaa") as slide:
        assert np.array_equal(slide.read_region(0, 0, 0, 64, 64), whole[0][:64, :64])
        assert connection.cache is not None
        assert connection.cache.size_bytes == 0


def test_the_cache_forgets_what_was_written_anew(gateway: Gateway, tmp_path: Path, whole: list[Pixels]) -> None:
    for salt in ("", "another"):
        gateway.salt = salt
        with connect(gateway.url, token=TOKEN, cache=tmp_path / "c") as connection, connection.open("aaaa") as slide:
            gateway.sent = 0
            assert np.array_equal(slide.read_region(0, 0, 0, HEIGHT, WIDTH), whole[0])
            assert gateway.sent > 10_000


def test_a_damaged_entry_is_fetched_anew(gateway: Gateway, tmp_path: Path, whole: list[Pixels]) -> None:
    for damage in (lambda data: data[:-1], lambda data: b"", lambda data: bytes([data[0] ^ 1]) + data[1:]):
        with connect(gateway.url, token=TOKEN, cache=tmp_path / "c") as connection, connection.open("aaaa") as slide:
            assert np.array_equal(slide.read_region(0, 0, 0, HEIGHT, WIDTH), whole[0])
        for path in (tmp_path / "c").rglob("*"):
            if path.is_file():
                path.write_bytes(damage(path.read_bytes()))


def test_the_program_offers_it() -> None:
    assert wsistore.connect is connect
    assert os.environ.get(tokens.VARIABLE) is None
