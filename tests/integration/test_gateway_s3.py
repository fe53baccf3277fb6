"""The gateway over a tier on a real S3 server: objects pass through, and URLs are signed where the site says so."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import numpy as np
import pytest
from numcodecs.zstd import Zstd
from PIL import Image

from tests import gateway_kit
from tests.gateway_kit import PROJECT, TOKEN
from tests.move_kit import moved
from tests.s3_kit import S3Bucket
from tests.s3_move_kit import with_bucket
from tests.site_kit import ingest, reencoded, tiny_svs
from wsistore import ops
from wsistore.model import Preset

SLIDE = "aaaabbbbccccddddeeeeffff22"
BASE = f"/projects/{PROJECT}/slides/{SLIDE}"
CHUNK = "0/image/c/0/0/0"


@pytest.fixture
def site(s3_bucket: S3Bucket, tmp_path: Path) -> Iterator[ops.Site]:
    with ops.open_site(with_bucket(tmp_path / "site", s3_bucket)) as opened:
        slide = str(ingest(opened, tiny_svs(tmp_path / "a.svs"))[0].slide)
        moved(opened, slide, "far")
        yield opened


def test_objects_pass_through_and_are_read_by_signed_urls(site: ops.Site, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    (row,) = site.catalog.slides()
    (stored,) = (key for key in sorted(s3_bucket.keys()) if key.endswith(f"/{CHUNK}"))
    data = s3_bucket.get(stored)
    site.settings = replace(site.settings, serve=replace(site.settings.serve, presign=True))
    with (
        gateway_kit.running(site, gateway_kit.access_to({SLIDE: row.slide}), tmp_path) as started,
        started.client() as client,
    ):
        assert client.get(f"{BASE}.zarr/{CHUNK}").content == data
        assert client.get(f"{BASE}.zarr/{CHUNK}", headers={"Range": "bytes=7-90"}).content == data[7:91]
        told = client.post(f"{BASE}/presign", json={"keys": [CHUNK], "seconds": 60}).json()
        assert (list(told["urls"]), told["expires_in"]) == ([CHUNK], 60)
        read = httpx.get(told["urls"][CHUNK], headers={"Range": "bytes=0-9"}, timeout=240)
        assert (read.status_code, read.content) == (206, data[:10])
        assert httpx.put(told["urls"][CHUNK], content=b"x", timeout=240).status_code == 403
        assert s3_bucket.get(stored) == data
        for wrong in (["zarr.json"], ["../x"], ["0/zarr.json"], [], ["x"], "x", [1]):
            answer = client.post(f"{BASE}/presign", json={"keys": wrong})
            assert answer.status_code == 400, wrong
            assert "X-Amz" not in answer.text
        assert client.post(f"{BASE}/presign", json={"keys": [CHUNK], "seconds": 901}).status_code == 400


def test_nothing_is_signed_unless_the_site_says_so(site: ops.Site, tmp_path: Path) -> None:
    (row,) = site.catalog.slides()
    with gateway_kit.running(site, gateway_kit.access_to({SLIDE: row.slide}), tmp_path) as started:
        answer = httpx.post(
            f"{started.url}{BASE}/presign",
            headers={"Authorization": f"Bearer {TOKEN}"},
            content=json.dumps({"keys": [CHUNK]}),
            timeout=240,
        )
    assert (answer.status_code, answer.json()["error"]) == (409, "presign")


def test_a_signed_url_gives_nothing_but_its_key(site: ops.Site, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    (row,) = site.catalog.slides()
    keys = sorted(s3_bucket.keys())
    (stored,) = (key for key in keys if key.endswith(f"/{CHUNK}"))
    private = next(key for key in keys if "/private/" in key or key.startswith("private/") or "companion" in key)
    site.settings = replace(site.settings, serve=replace(site.settings.serve, presign=True))
    access = gateway_kit.access_to({SLIDE: row.slide})
    with gateway_kit.running(site, access, tmp_path) as started, started.client() as client:
        url = client.post(f"{BASE}/presign", json={"keys": [CHUNK]}).json()["urls"][CHUNK]
    parts = urlsplit(url)
    assert parts.path.endswith(stored)
    assert httpx.get(url, timeout=240).content == s3_bucket.get(stored)
    others = [key for key in keys if key != stored]
    assert private in others
    for key in others:
        answer = httpx.get(url.replace(stored, key), timeout=240)
        assert answer.status_code == 403, key
    query = dict(parse_qsl(parts.query))
    assert int(query["X-Amz-Expires"]) == 300
    folder = parts.path[: parts.path.index(s3_bucket.name) + len(s3_bucket.name)]
    altered = [
        f"{folder}?{parts.query}", f"{folder}?list-type=2&{parts.query}", f"{parts.path}?versions&{parts.query}",
        f"{parts.path}?{urlencode({**query, 'X-Amz-Expires': '604800'})}", parts.path, folder,
    ]  # fmt: skip
    for target in altered:
        assert httpx.get(f"{parts.scheme}://{parts.netloc}{target}", timeout=240).status_code == 403, target
    for method in ("PUT", "DELETE", "POST"):
        assert httpx.request(method, url, content=b"x", timeout=240).status_code in {403, 405}, method
    assert sorted(s3_bucket.keys()) == keys
    assert s3_bucket.server.secret_key not in url


def test_a_signed_url_ends(site: ops.Site, s3_bucket: S3Bucket, tmp_path: Path) -> None:
    (row,) = site.catalog.slides()
    site.settings = replace(site.settings, serve=replace(site.settings.serve, presign=True))
    access = gateway_kit.access_to({SLIDE: row.slide})
    with gateway_kit.running(site, access, tmp_path) as started, started.client() as client:
        told = client.post(f"{BASE}/presign", json={"keys": [CHUNK], "seconds": 15}).json()
        assert httpx.get(told["urls"][CHUNK], timeout=240).status_code == 200
        end = time.monotonic() + 120
        while (answer := httpx.get(told["urls"][CHUNK], timeout=240)).status_code == 200:
            assert time.monotonic() < end
            time.sleep(0.5)
        assert answer.status_code == 403
        # What is revoked has no new one.
        access.tokens.clear()
        assert client.post(f"{BASE}/presign", json={"keys": [CHUNK]}).status_code == 401


@pytest.mark.parametrize("preset", [Preset.KEEP, Preset.FOLD, Preset.PACK])
def test_views_of_slides_that_lie_on_s3_are_those_of_files(site: ops.Site, tmp_path: Path, preset: Preset) -> None:
    """Every chunk of both decoded views, of the second level too, and ranges of what is stored."""
    (row,) = site.catalog.slides()
    if preset is not Preset.KEEP:
        reencoded(site, row.slide, preset)
    (copy,) = site.catalog.copies(row.slide)
    assert (copy.tier, copy.preset) == ("far", preset)
    with ops.open_slide(tmp_path / "a.svs") as source:
        levels = [np.asarray(source.read_region(n, 0, 0, at.height, at.width)) for n, at in enumerate(source.levels)]
    site.settings = replace(site.settings, serve=replace(site.settings.serve, presign=True))
    access = gateway_kit.access_to({SLIDE: row.slide})
    with gateway_kit.running(site, access, tmp_path) as started, started.client() as client:
        for number, level in enumerate(levels):
            for view, decode in ((".jpeg", of_jpeg), (".zstd", of_zstd)):
                base = f"{BASE}{view}.zarr/{number}/image"
                document = client.get(f"{base}/zarr.json").json()
                _, height, width = shape = document["chunk_grid"]["configuration"]["chunk_shape"]
                for top, left in itertools.product(range(0, level.shape[0], height), range(0, level.shape[1], width)):
                    answer = client.get(f"{base}/c/0/{top // height}/{left // width}")
                    assert answer.status_code == 200
                    part = level[top : top + height, left : left + width]
                    found = decode(answer.content, shape)[: part.shape[0], : part.shape[1]]
                    assert np.array_equal(found, part), (view, number, top, left)
        whole = client.get(f"{BASE}.zarr/{CHUNK}")
        assert client.get(f"{BASE}.zarr/{CHUNK}", headers={"Range": "bytes=-36"}).content == whole.content[-36:]
        signed = client.post(f"{BASE}/presign", json={"keys": [CHUNK]})
        assert signed.status_code == (409 if preset is Preset.PACK else 200)  # it lies within another object
        assert row.slide not in signed.text or signed.status_code == 200
    assert {line["status"] for line in map(json.loads, started.log.read_text().splitlines())} <= {200, 206, 409}


def of_jpeg(data: bytes, _: list[int]) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


def of_zstd(data: bytes, shape: list[int]) -> Any:
    return np.moveaxis(np.frombuffer(bytes(Zstd().decode(data)), np.uint8).reshape(shape), 0, -1)
