"""The gateway over a site on disk, by HTTP."""

from __future__ import annotations

import email
import io
from collections.abc import Iterator
from dataclasses import replace
from email.policy import HTTP
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numcodecs.zstd import Zstd
from PIL import Image

from tests import gateway_kit
from tests.gateway_kit import PROJECT, Running
from tests.site_kit import ingest, new_site, reencoded, store_hashes, tiny_svs
from wsistore import ops
from wsistore.errors import ObjectArchivedError
from wsistore.model import Preset
from wsistore.ops.serving import open_served
from wsistore.serve.gateway import Gateway
from wsistore.serve.limits import new_table
from wsistore.serve.making import Shared, of_site
from wsistore.serve.sessions import new_key
from wsistore.serve.views import OpenViews

SLIDE = "aaaabbbbccccddddeeeeffff22"
ZARR = f"/projects/{PROJECT}/slides/{SLIDE}.zarr"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ops.Site]:
    folder = tmp_path_factory.mktemp("site")
    with ops.open_site(new_site(folder)) as opened:
        ingest(opened, tiny_svs(folder / "slides" / "one.svs"))
        yield opened


@pytest.fixture(scope="module")
def key(site: ops.Site) -> str:
    (row,) = site.catalog.slides()
    return row.slide


@pytest.fixture
def gateway(site: ops.Site, key: str, tmp_path: Path) -> Iterator[Running]:
    with gateway_kit.running(site, gateway_kit.access_to({SLIDE: key}), tmp_path) as started:
        yield started


@pytest.fixture
def client(gateway: Running) -> Iterator[httpx.Client]:
    with gateway.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def objects(site: ops.Site, key: str) -> dict[str, bytes]:
    """All that is stored of the slide and may be shared, but the documents."""
    (copy,) = site.catalog.copies(key)
    names = [name for name in store_hashes(site, key) if not name.endswith("zarr.json")]
    return {name: site.tier("hot").get(f"store/{key}/{copy.attempt}/{name}") for name in names}


def test_stored_objects_come_byte_for_byte(client: httpx.Client, objects: dict[str, bytes]) -> None:
    assert any(name.startswith("0/image/c/") for name in objects)
    for name, data in objects.items():
        answer = client.get(f"{ZARR}/{name}")
        assert answer.status_code == 200
        assert answer.content == data
        assert "immutable" in answer.headers["cache-control"]
        assert "private" in answer.headers["cache-control"]


CHUNK = f"{ZARR}/0/image/c/0/0/0"


@pytest.fixture(scope="module")
def chunk(objects: dict[str, bytes]) -> bytes:
    return objects["0/image/c/0/0/0"]


def test_a_range(client: httpx.Client, chunk: bytes) -> None:
    answer = client.get(CHUNK, headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.content) == (206, chunk[100:200])
    assert answer.headers["content-range"] == f"bytes 100-199/{len(chunk)}"
    assert client.get(CHUNK, headers={"Range": "bytes=-36"}).content == chunk[-36:]
    assert client.get(CHUNK, headers={"Range": f"bytes={len(chunk)}-"}).status_code == 416


def test_several_ranges(client: httpx.Client, chunk: bytes) -> None:
    answer = client.get(CHUNK, headers={"Range": "bytes=5-9,0-1,-4"})
    assert answer.status_code == 206
    kind = answer.headers["content-type"]
    message = email.message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + answer.content, policy=HTTP)
    parts = [(part["content-range"].partition("/")[0], part.get_content()) for part in message.iter_parts()]
    end = len(chunk)
    assert parts == [
        ("bytes 5-9", chunk[5:10]),
        ("bytes 0-1", chunk[:2]),
        (f"bytes {end - 4}-{end - 1}", chunk[-4:]),
    ]


def test_head_tells_the_size_and_sends_nothing(client: httpx.Client, chunk: bytes) -> None:
    answer = client.head(CHUNK, headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(chunk)))
    answer = client.head(f"/projects/{PROJECT}/slides/{SLIDE}.zstd.zarr/0/image/c/0/0/0")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize("view", ["", ".jpeg", ".zstd"])
@pytest.mark.parametrize("name", ["zarr.json", "0/image/zarr.json", "0/image/c/0/0/0"])
def test_what_a_client_has_is_not_sent_again(client: httpx.Client, view: str, name: str) -> None:
    path = f"/projects/{PROJECT}/slides/{SLIDE}{view}.zarr/{name}"
    first = client.get(path)
    assert first.status_code == 200
    etag = first.headers["etag"]
    again = client.get(path, headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content
    if not name.endswith("json"):
        ranged = {"Range": "bytes=0-9", "If-Range": '"other"'}
        assert client.get(path, headers=ranged).content == first.content
        assert client.get(path, headers={**ranged, "If-Range": etag}).content == first.content[:10]


def test_etags_differ_by_project(site: ops.Site, key: str, tmp_path: Path) -> None:
    access = gateway_kit.access_to({SLIDE: key})
    access.tokens["two"] = gateway_kit.caller("researcher-2", "other")
    access.views["other"] = gateway_kit.project_view({SLIDE: key}, name="other")
    with gateway_kit.running(site, access, tmp_path) as started, started.client() as one, started.client("two") as two:
        etags = set()
        for name in ("zarr.json", "0/image/c/0/0/0"):
            mine, theirs = one.get(f"{ZARR}/{name}"), two.get(f"/projects/other/slides/{SLIDE}.zarr/{name}")
            assert mine.content == theirs.content
            etags |= {mine.headers["etag"], theirs.headers["etag"]}
        assert len(etags) == 4


def test_plain_zarr_reads_the_view_of_pixels(client: httpx.Client, site: ops.Site, key: str) -> None:
    base = f"/projects/{PROJECT}/slides/{SLIDE}.zstd.zarr"
    chunks = client.get(f"{base}/0/image/zarr.json").json()
    assert {codec["name"] for codec in chunks["codecs"]} <= {"bytes", "zstd", "transpose"}
    with ops.open_slide(key, site=site) as slide:
        pixels = slide.read_region(0, 0, 0, 64, 64)
    data = client.get(f"{base}/0/image/c/0/0/0").content
    raw = np.frombuffer(zarr_zstd(data), np.uint8)
    shape = chunks["chunk_grid"]["configuration"]["chunk_shape"]
    assert np.array_equal(raw.reshape(shape)[:, :64, :64], np.moveaxis(np.asarray(pixels), -1, 0)[:, :64, :64])


def test_tiles_are_jpegs(client: httpx.Client) -> None:
    base = f"/projects/{PROJECT}/slides/{SLIDE}"
    (first, second) = client.get(f"{base}/tiles").json()["levels"]
    assert (first["width"], first["height"], second["width"]) == (400, 320, 100)
    answer = client.get(f"{base}/tiles/0/0/0.jpeg")
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (first["tile_width"], first["tile_height"])
    assert client.get(f"{base}/tiles/0/999/0.jpeg").status_code == 404


def test_projects_and_slides(client: httpx.Client) -> None:
    (project,) = client.get("/projects").json()["projects"]
    assert project == client.get(f"/projects/{PROJECT}").json()
    assert (project["name"], project["slides"]) == (PROJECT, 1)
    (found,) = client.get(project["links"]["slides"]).json()["slides"]
    assert found["slide"] == SLIDE
    one = client.get(f"/projects/{PROJECT}/slides/{SLIDE}").json()
    assert client.get(f"{one['links']['zarr']}/zarr.json").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/", "/projects/other", "/projects/other/slides", f"/projects/{PROJECT}/slides/nobody",
        f"{ZARR}/0/image/c/9/9/9", f"{ZARR}/private/x", f"{ZARR}/zarr%2ejson", f"{ZARR}/0//zarr.json",
        f"/projects/{PROJECT}/slides/{SLIDE}/x",
    ],
)  # fmt: skip
def test_all_that_is_not_there_is_told_in_the_same_words(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.content == client.get("/projects/nothing").content


def test_without_a_token_nothing_is_told(gateway: Running) -> None:
    with gateway.client(None) as nobody:
        told = {nobody.get(path).content for path in ("/projects", "/nothing", f"{ZARR}/zarr.json", "/projects/other")}
        assert len(told) == 1
        assert nobody.get("/projects").status_code == 401
        assert nobody.get("/health").json() == {"status": "ok", "login": None}
        assert nobody.get("/openapi.json").json()["openapi"].startswith("3.")


def test_methods(client: httpx.Client) -> None:
    answer = client.post(f"{ZARR}/zarr.json")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_one_line_for_each_request(gateway: Running, client: httpx.Client, chunk: bytes) -> None:
    client.get(CHUNK, headers={"Range": "bytes=0-9"})
    client.get("/projects/PATIENT-0001/slides/PATIENT-0002")
    with gateway.client("bad") as nobody:
        nobody.get(CHUNK)
    good, alien, bad = gateway.lines(3)
    assert (good["user"], good["project"], good["pseudonym"]) == ("researcher-1", PROJECT, SLIDE)
    assert (good["what"], good["view"], good["status"], good["bytes"]) == ("zarr", "raw", 206, 10)
    assert good["ms"] >= 0
    assert (alien["user"], alien["project"], alien["pseudonym"], alien["status"]) == ("researcher-1", None, None, 404)
    assert (bad["user"], bad["status"], bad["reason"]) == (None, 401, "token-invalid")
    text = gateway.log.read_text()
    assert "PATIENT" not in text
    assert gateway_kit.TOKEN not in text


def test_too_many_requests(gateway: Running, client: httpx.Client) -> None:
    gateway.access.limit(requests_per_second=3.0)
    answers = [client.get(f"{ZARR}/zarr.json") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    more = (client.get(f"{ZARR}/zarr.json") for _ in range(1000))  # a slow machine asks little more often than it may
    refused = next(answer for answer in more if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"] == "limit"
    with gateway.client(None) as nobody:
        assert nobody.get("/health").status_code == 200


def test_a_quota_is_heeded_and_counted(gateway: Running, client: httpx.Client, chunk: bytes) -> None:
    gateway.access.limit(bytes_quota=len(chunk) + 1)
    assert client.get(CHUNK).status_code == 200
    assert client.get(CHUNK, headers={"Range": "bytes=0-0"}).status_code == 206
    answer = client.get(CHUNK)
    assert (answer.status_code, answer.json()["error"]) == (429, "quota")
    assert gateway.access.bytes_spent == len(chunk) + 1


def test_levels_below_the_first_are_not_there(site: ops.Site, key: str, tmp_path: Path) -> None:
    access = gateway_kit.access_to({SLIDE: key}, first_level=1)
    with gateway_kit.running(site, access, tmp_path) as started, started.client() as client:
        for view in ("", ".jpeg", ".zstd"):
            base = f"/projects/{PROJECT}/slides/{SLIDE}{view}.zarr"
            assert client.get(f"{base}/0/image/zarr.json").status_code == 404
            assert client.get(f"{base}/0/image/c/0/0/0").status_code == 404
            assert client.get(f"{base}/1/image/c/0/0/0").status_code == 200
            assert '"0/' not in client.get(f"{base}/zarr.json").text


def test_a_copy_that_was_encoded_anew_meanwhile_is_found(site: ops.Site, key: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    with ops.open_site(new_site(folder)) as own:
        ingest(own, tiny_svs(folder / "one.svs", seed=7))
        (row,) = own.catalog.slides()
        access = gateway_kit.access_to({SLIDE: row.slide})
        with gateway_kit.running(own, access, tmp_path) as started, started.client() as client:
            path = f"/projects/{PROJECT}/slides/{SLIDE}.jpeg.zarr/0/image/c/0/0/0"
            before = client.get(path).content
            reencoded(own, row.slide, Preset.FOLD)
            assert client.get(path).content == before
            assert client.get(f"{ZARR}/zarr.json").status_code == 200


def test_an_archived_slide_says_where_to_ask(site: ops.Site, key: str, tmp_path: Path) -> None:
    class Archived(OpenViews):
        def using(self, slide: str, first_level: int = 0) -> Any:
            raise ObjectArchivedError(f"store/{slide} is archived.")

    access = gateway_kit.access_to({SLIDE: key})
    shared = Shared(site.folder, new_table(tmp_path / "limits"), new_key())

    def make() -> Gateway:
        return of_site(site, access, shared, opened=Archived(partial(open_served, site)))

    with gateway_kit.serving(make) as url:
        answer = httpx.get(
            f"{url}{ZARR}/zarr.json", headers={"Authorization": f"Bearer {gateway_kit.TOKEN}"}, timeout=240
        )
    assert answer.status_code == 409
    told = answer.json()
    assert (told["error"], told["recall"]) == ("cold", f"/projects/{PROJECT}/slides/{SLIDE}/recall")
    assert key not in answer.text


def test_recall_of_what_is_there(client: httpx.Client) -> None:
    path = f"/projects/{PROJECT}/slides/{SLIDE}/recall"
    assert client.get(path).json() == {"state": "ready", "expected_hours": None}
    answer = client.post(path)
    assert (answer.status_code, answer.json()["state"]) == (200, "ready")


def test_recall_needs_its_scope(gateway: Running, client: httpx.Client) -> None:
    view = gateway.access.views[PROJECT]
    gateway.access.views[PROJECT] = replace(view, scopes=frozenset({"read"}))
    assert client.post(f"/projects/{PROJECT}/slides/{SLIDE}/recall").status_code == 403


def test_a_browsers_session(gateway: Running) -> None:
    with gateway.client(None) as browser:
        assert browser.post("/session", json={"token": "bad"}).status_code == 401
        assert browser.post("/session", json={"token": gateway_kit.TOKEN}).json()["user"] == "researcher-1"
        assert browser.get(f"{ZARR}/zarr.json").status_code == 200
        recall = f"/projects/{PROJECT}/slides/{SLIDE}/recall"
        assert browser.post(recall).status_code == 401  # any page can have a browser send a cookie
        assert browser.post(recall, headers={"Origin": "https://other.example"}).status_code == 401
        assert browser.post(recall, headers={"Origin": gateway.url}).status_code == 200
        gateway.access.tokens.clear()
        assert browser.get(f"{ZARR}/zarr.json").status_code == 401
        browser.delete("/session")
        assert not browser.cookies


def test_a_browser_without_a_session_is_asked_to_sign_in(gateway: Running) -> None:
    page = f"/projects/{PROJECT}/slides/{SLIDE}/view"
    with gateway.client(None) as browser:
        asked = browser.get(page, headers={"Accept": "text/html,*/*"})
        assert (asked.status_code, asked.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert f'href="/viewer/sign-in.html#{page}"' in asked.text
        alien = browser.get(page.replace(SLIDE, "nobody"), headers={"Accept": "text/html,*/*"})
        assert alien.text.replace("nobody", SLIDE) == asked.text
        assert browser.get("/viewer/sign-in.html").status_code == 200
        browser.post("/session", json={"token": gateway_kit.TOKEN})
        assert "script-src 'self'" in browser.get(page).headers["content-security-policy"]


def test_without_an_access_log_nothing_is_answered(site: ops.Site, key: str, tmp_path: Path) -> None:
    access = gateway_kit.access_to({SLIDE: key})
    with gateway_kit.running(site, access, tmp_path / "a") as started, started.client() as client:
        assert client.get("/projects").status_code == 200
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no device that is always full")
    site.settings = replace(site.settings, serve=replace(site.settings.serve, access_log=str(full)))
    shared = Shared(site.folder, new_table(tmp_path / "limits"), new_key())
    with gateway_kit.serving(lambda: of_site(site, access, shared)) as url:
        mine = {"Authorization": f"Bearer {gateway_kit.TOKEN}"}
        httpx.get(f"{url}/projects", headers=mine, timeout=240)
        answers = [httpx.get(f"{url}/projects", headers=mine, timeout=240).status_code for _ in range(4)]
    assert answers == [503] * 4


def zarr_zstd(data: bytes) -> bytes:
    return bytes(Zstd().decode(data))
