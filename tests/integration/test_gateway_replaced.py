"""Copies that are moved or encoded anew while a gateway has the slide open: no answer mixes two of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import gateway_kit
from tests.gateway_kit import PROJECT, Running
from tests.move_kit import in_process, moved, tiered_site
from tests.site_kit import ingest, new_site, reencoded, tiny_svs
from wsistore import ops
from wsistore.model import Preset
from wsistore.serve import bodies
from wsistore.serve.views.opened import LOOK_SECONDS

SLIDE = "aaaabbbbccccddddeeeeffff22"
BASE = f"/projects/{PROJECT}/slides/{SLIDE}"
CHUNK = "0/image/c/0/0/0"


@dataclass(frozen=True)
class Open:
    """A gateway that has a slide open, and what it said of it."""

    site: ops.Site
    key: str
    gateway: Running
    client: httpx.Client

    def get(self, name: str, view: str = "", **headers: str) -> httpx.Response:
        return self.client.get(f"{BASE}{view}.zarr/{name}", headers=headers)

    def stored(self, name: str = CHUNK) -> bytes:
        """Return an object of the slide's copy as it lies now."""
        (copy,) = self.site.catalog.copies(self.key)
        return self.site.tier(copy.tier).get(f"store/{self.key}/{copy.attempt}/{name}")


@pytest.fixture(params=["files", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    folder = tmp_path / "site"
    site = ops.open_site(new_site(folder)) if request.param == "files" else tiered_site(folder)
    with site:
        (done,) = ingest(site, tiny_svs(tmp_path / "one.svs", seed=7))
        key = str(done.slide)
        with (
            gateway_kit.running(site, gateway_kit.access_to({SLIDE: key}), tmp_path / "gateway") as gateway,
            gateway.client() as client,
        ):
            yield Open(site, key, gateway, client)


def encode_anew(opened: Open) -> None:
    with in_process():
        reencoded(opened.site, opened.key, Preset.FOLD)


def move(opened: Open) -> None:
    moved(opened.site, opened.key, "warm")


@pytest.mark.parametrize(
    ("act", "view"), [(encode_anew, ""), (encode_anew, ".jpeg"), (encode_anew, ".zstd"), (move, "")]
)
def test_an_open_slide_is_given_up_within_a_second(opened: Open, act: Callable[[Open], None], view: str) -> None:
    names = ("zarr.json", "0/image/zarr.json")
    before = {name: opened.get(name, view) for name in names}
    act(opened)
    time.sleep(LOOK_SECONDS)
    for name in names:
        now = opened.get(name, view, **{"If-None-Match": before[name].headers["etag"]})
        assert now.status_code == 200
        assert now.headers["etag"] != before[name].headers["etag"]
    if act is encode_anew and not view:
        assert opened.get(names[1]).json()["codecs"] != before[names[1]].json()["codecs"]


@pytest.mark.parametrize(
    ("act", "view", "headers"),
    [
        (encode_anew, "", {}),
        (encode_anew, "", {"Range": "bytes=0-9"}),
        (encode_anew, ".jpeg", {}),
        (encode_anew, ".zstd", {}),
        (move, "", {"Range": "bytes=0-9"}),
    ],
)
def test_what_is_read_at_once_is_of_the_new_copy_and_says_so(
    opened: Open, act: Callable[[Open], None], view: str, headers: dict[str, str]
) -> None:
    opened.get("zarr.json", view)  # from here on the slide is open
    tag = opened.client.head(f"{BASE}{view}.zarr/{CHUNK}").headers["etag"]
    old = opened.stored()
    act(opened)
    answer = opened.get(CHUNK, view, **headers)
    assert answer.status_code in {200, 206}
    if not view:
        whole = old if answer.headers["etag"] == tag else opened.stored()
        assert answer.content == (whole[:10] if headers else whole)
        if headers:
            assert answer.headers["content-range"] == f"bytes 0-9/{len(whole)}"
    if answer.headers["etag"] != tag:
        document = opened.get("0/image/zarr.json", view).json()
        again = opened.get(CHUNK, view, **headers)
        assert (again.headers["etag"], again.content) == (answer.headers["etag"], answer.content)
        if not view and act is encode_anew:
            assert "fold" in json.dumps(document["codecs"])


def test_an_answer_that_has_begun_does_not_end_with_another_copy(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BLOCK_BYTES", 64)
    monkeypatch.setattr(bodies, "AT_ONCE_BYTES", 128)
    old = opened.stored()
    path = opened.get(CHUNK).request.url
    blocks = bodies._blocks
    acted: list[bool] = []

    async def slowly(*given: Any) -> Any:
        async for block in blocks(*given):
            yield block
            if not acted:
                acted.append(True)
                encode_anew(opened)

    monkeypatch.setattr(bodies, "_blocks", slowly)
    got = b""
    with opened.client.stream("GET", path) as answer:
        assert int(answer.headers["content-length"]) == len(old)
        try:
            for part in answer.iter_raw():
                got += part
        except httpx.RemoteProtocolError:
            pass  # cut off: the rest is not there any more
    assert acted
    assert old.startswith(got)
    if len(got) < len(old):
        (*_, line) = opened.gateway.lines(2)
        assert (line["status"], line["reason"]) == (200, "ReplacedError")
