"""The viewer in a real browser, through a real gateway: it shows what the slide is, and whose page it is."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests import gateway_kit
from tests.browser_kit import PATIENCE_MS, chromium
from tests.gateway_kit import PROJECT, TOKEN, Running
from tests.made_slides import WHOLE, wide
from tests.site_kit import memory_site
from tests.views_kit import opened, taken
from wsistore import ops
from wsistore.client.slide import Slide
from wsistore.model import Preset
from wsistore.testing.ndpi import write_ndpi
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_generic_tiff, write_svs
from wsistore.testing.tissue import tissue

HEIGHT, WIDTH, UM = 1500, 2100, 0.5
SIZE = {"width": 1200, "height": 900}
LOADED = "body[data-state=loaded]"


@dataclass
class Shown:
    """A gateway with a few slides, by pseudonym."""

    gateway: Running
    site: ops.Site
    slides: dict[str, str]

    def address(self, pseudonym: str) -> str:
        return f"{self.gateway.url}/projects/{PROJECT}/slides/{pseudonym}/view"

    def overview(self, pseudonym: str, box: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
        """Return a slide scaled to fit into `box` (height, width), and where its top left corner is then."""
        views = opened(self.site, self.slides[pseudonym])
        try:
            return overview(views.copy.slide, box)
        finally:
            views.close()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("viewer")
    levels = list(pyramid(tissue(HEIGHT, WIDTH, seed=9), 2, 3))
    sources = {
        "tiles": write_svs(folder / "a.svs", levels, tile=256),
        "folded": write_svs(folder / "b.svs", [255 - level for level in levels], tile=240, color="rgb"),
        "strips": write_ndpi(folder / "c.ndpi", list(pyramid(tissue(1024, 1536, seed=4), 2, 2)), subsampling="422"),
        "wide": write_generic_tiff(folder / "d.tiff", [wide(one[..., 1]) for one in levels], codec="deflate"),
        "whole": WHOLE["flat-lzw"](folder),
    }
    with memory_site(folder / "site") as site:
        folded = {"folded": Preset.FOLD}
        slides = {name: taken(site, path, folded.get(name, Preset.KEEP)) for name, path in sources.items()}
        access = gateway_kit.access_to(slides)
        known = [{**gateway_kit.row(name), "magnification": 20.0 if name == "tiles" else None} for name in slides]
        table = pa.Table.from_pylist(known, schema=access.views[PROJECT].rows.schema)
        access.views[PROJECT] = replace(access.views[PROJECT], rows=table)
        with gateway_kit.running(site, access, folder / "gateway") as running:
            yield Shown(running, site, slides)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@dataclass
class Visit:
    """A page, and what went over the line and to the console."""

    page: Page
    said: list[str]
    asked: list[str]
    answers: dict[str, int]

    def pixels(self) -> Any:
        """Return what the slide's part of the page shows, (y, x, 3)."""
        data = self.page.locator("#slide").screenshot()
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def context(browser: Browser, shown: Shown) -> Iterator[BrowserContext]:
    """Yield a browser that has signed in."""
    found = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
    found.set_default_timeout(PATIENCE_MS)
    answer = found.request.post(f"{shown.gateway.url}/session", data={"token": TOKEN})
    assert answer.ok
    yield found
    found.close()


def visit(context: BrowserContext) -> Visit:
    page = context.new_page()
    made = Visit(page, [], [], {})
    page.on("console", lambda message: made.said.append(message.text))
    page.on("pageerror", lambda error: made.said.append(str(error)))
    page.on("request", lambda request: made.asked.append(request.url))
    page.on("response", lambda response: made.answers.__setitem__(response.url, response.status))
    return made


def overview(slide: Slide, box: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
    first = slide.levels[0]
    pixels = slide.read_region(0, 0, 0, first.height, first.width)
    ratio = min(box[0] / first.height, box[1] / first.width)
    height, width = round(first.height * ratio), round(first.width * ratio)
    picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture), ((box[0] - height) // 2, (box[1] - width) // 2)


def smooth(pixels: Any) -> Any:
    """Return a picture without its details, which depend on how a browser scales."""
    size = (pixels.shape[1] // 12, pixels.shape[0] // 12)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)).astype(int)


@pytest.mark.parametrize("name", ["tiles", "folded", "strips", "whole"])
def test_the_page_shows_the_slide(context: BrowserContext, shown: Shown, name: str) -> None:
    seen = visit(context)
    seen.page.goto(shown.address(name))
    seen.page.wait_for_selector(LOADED)
    seen.page.add_style_tag(content=".navigator, #scale { display: none !important }")
    found = seen.pixels()
    want, (top, left) = shown.overview(name, found.shape[:2])
    part = found[top : top + want.shape[0], left : left + want.shape[1]]
    difference = np.abs(smooth(part) - smooth(want))[1:-1, 1:-1]  # an edge may fall between two pixels
    assert difference.mean() < 3
    assert difference.max() < 60  # no tile is squeezed, turned or somewhere else
    assert seen.said == []
    assert all(url.startswith((shown.gateway.url, "blob:", "data:")) for url in seen.asked)
    assert {status for url, status in seen.answers.items() if url.startswith("http")} <= {200, 304}
    assert not any(TOKEN in url for url in seen.asked)
    tiles = [url for url in seen.asked if "/tiles/" in url]
    assert tiles
    assert len(tiles) == len(set(tiles))


def test_wide_samples_are_to_be_seen(context: BrowserContext, shown: Shown) -> None:
    seen = visit(context)
    seen.page.goto(shown.address("wide"))
    seen.page.wait_for_selector(LOADED)
    middle = seen.pixels()[200:600, 400:800]
    assert middle.min() < 60
    assert middle.max() > 200
    assert seen.said == []


def number(text: str | None) -> float:
    found = re.search(r"[\d.]+", text or "")
    assert found is not None, text
    return float(found[0])


def test_scale_bar_and_magnification_are_true(context: BrowserContext, shown: Shown) -> None:
    page = visit(context).page
    page.goto(shown.address("tiles"))
    page.wait_for_selector(LOADED)
    box = page.locator("#slide").bounding_box()
    assert box is not None
    at_home = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    assert number(page.locator("#magnification").text_content()) == pytest.approx(20 * at_home, rel=0.02)
    page.keyboard.press("5")  # 20×: a pixel of the slide to one of the screen
    expect(page.locator("#magnification")).to_have_text("20\u00d7")
    bar = page.locator("#scale").bounding_box()
    assert bar is not None
    length = page.locator("#length").text_content()
    assert length is not None
    assert length.endswith("µm")
    assert bar["width"] == pytest.approx(number(length) / UM, rel=0.02)
    assert page.locator("#scale").get_attribute("aria-label") == f"Scale bar: {length}"
    page.keyboard.press("6")
    expect(page.locator("#magnification")).to_have_text("40\u00d7")


_FRAMES = """() => new Promise(done => {
    let left = 60;
    const next = () => left-- ? requestAnimationFrame(next) : done();
    next();
})"""
"""Waits for as many pictures as any movement takes."""


def test_keys_and_buttons(context: BrowserContext, shown: Shown) -> None:
    page = visit(context).page
    page.goto(shown.address("tiles"))
    page.wait_for_selector(LOADED)
    home = page.locator("#magnification").text_content()
    page.keyboard.press("+")
    expect(page.locator("#magnification")).not_to_have_text(str(home))
    page.wait_for_timeout(1000)  # the key's movement goes on for a moment, of some frames
    page.evaluate(_FRAMES)
    page.keyboard.press("0")
    expect(page.locator("#magnification")).to_have_text(str(home))
    page.locator("#in").click()
    expect(page.locator("#magnification")).not_to_have_text(str(home))
    page.locator("#home").click()
    expect(page.locator("#magnification")).to_have_text(str(home))
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.locator("#keys").click()
    expect(page.locator("#help")).to_be_hidden()


@pytest.mark.parametrize("width", [360, 1600])
def test_the_notice_is_always_to_be_seen(context: BrowserContext, shown: Shown, width: int) -> None:
    page = visit(context).page
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(shown.address("tiles"))
    page.wait_for_selector(LOADED)
    for key in ("0", "5", "?"):
        page.keyboard.press(key)
        expect(page.locator("#notice")).to_be_in_viewport(ratio=1)
        assert "Not for primary diagnosis" in str(page.locator("#notice").text_content())
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_signing_in(browser: Browser, shown: Shown) -> None:
    context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    seen = visit(context)
    path = shown.address("tiles").removeprefix(shown.gateway.url)
    assert context.request.get(shown.address("tiles")).status == 401
    seen.page.goto(f"{shown.gateway.url}/viewer/sign-in.html#{path}")
    seen.page.locator("#token").fill("wst_wrong_wrong")
    seen.page.locator("button").click()
    expect(seen.page.locator("#message")).to_be_visible()
    assert not context.cookies()
    seen.page.locator("#token").fill(TOKEN)
    seen.page.locator("button").click()
    seen.page.wait_for_selector(LOADED)
    assert seen.page.url == shown.address("tiles")
    (cookie,) = context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert TOKEN not in json.dumps(cookie)
    assert seen.page.evaluate("document.cookie") == ""
    assert not any(TOKEN in url for url in seen.asked)
    context.clear_cookies()
    seen.page.evaluate("document.title = 'before'")
    assert context.request.get(shown.address("tiles")).status == 401
    context.close()


@pytest.mark.parametrize("target", ["//example.org/projects/a/slides/b/view", "javascript:alert(1)", "/session"])
def test_signing_in_leads_to_slides_only(browser: Browser, shown: Shown, target: str) -> None:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = visit(context).page
    page.goto(f"{shown.gateway.url}/viewer/sign-in.html#{target}")
    page.locator("#token").fill(TOKEN)
    page.locator("button").click()
    page.wait_for_selector("body[data-state=in]")
    assert page.url.startswith(f"{shown.gateway.url}/viewer/sign-in.html")
    context.close()


def test_a_slide_in_an_archive_can_be_asked_for(context: BrowserContext, shown: Shown) -> None:
    seen = visit(context)
    recall = f"/projects/{PROJECT}/slides/tiles/recall"
    answer = {"error": "cold", "message": "It is in an archive.", "recall": recall, "expected_hours": 5.2}
    seen.page.route("**/tiles", lambda route: route.fulfill(status=409, json=answer))
    asked: list[str] = []

    def fulfil(route: Any) -> None:
        asked.append(route.request.method)
        route.fulfill(status=202, json={})

    seen.page.route("**/recall", fulfil)
    seen.page.goto(shown.address("tiles"))
    seen.page.wait_for_selector("body[data-state=cold]")
    assert "about 5 h" in str(seen.page.locator("#message").text_content())
    seen.page.locator("#message button").click()
    expect(seen.page.locator("#message")).to_contain_text("asked for")
    assert asked == ["POST"]


def test_nothing_is_loaded_for_a_slide_that_is_not_shown(context: BrowserContext, shown: Shown) -> None:
    seen = visit(context)
    answer = seen.page.goto(shown.address("nobodys"))
    assert answer is not None
    assert answer.status == 404
    assert "Content-Security-Policy".lower() in context.request.get(shown.address("tiles")).headers


def test_the_library_comes_with_its_licence(shown: Shown) -> None:
    with shown.gateway.client(None) as client:
        licence = client.get("/viewer/openseadragon/LICENSE.txt")
        assert licence.status_code == 200
        assert "Redistribution and use in source and binary forms" in licence.text
        script = client.get("/viewer/openseadragon/openseadragon.min.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert "sourceMappingURL" not in script.text[-300:]
