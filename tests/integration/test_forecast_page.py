"""The page of a forecast in a real browser at three widths: no console error, nothing cut off, the sets' figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser

from tests.browser_kit import chromium, new_page
from wsistore.ops.forecasting import forecast_scenarios


class Written(NamedTuple):
    folder: Path
    language: str


@pytest.fixture(scope="module", params=["en", "fr"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Return a forecast of all scenarios that ship."""
    folder = tmp_path_factory.mktemp("forecast")
    forecast_scenarios([], years=4, begins="2027-01", out=folder, language=request.param)
    return Written(folder, request.param)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("width", [360, 900, 1600])
def test_at_three_widths(browser: Browser, written: Written, width: int) -> None:
    page = new_page(browser, viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    page.goto((written.folder / "forecast.html").as_uri())
    page.emulate_media(media="print")
    page.emulate_media(media="screen")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.locator("html").get_attribute("lang") == written.language
    assert page.locator("svg[role=img]").count() == 4 + 3 + 2 * 6
    found = {
        str(one.get_attribute("data-figure")): float(str(one.get_attribute("value")))
        for one in page.locator("data[data-figure]").all()
    }
    page.close()
    assert [one for one in said if not one.startswith("data:")] == []
    for row in pq.read_table(written.folder / "years.parquet").to_pylist():
        key = f"{row['Scenario']}/{row['Year']}"
        assert found[f"{key}/eur"] == pytest.approx(row["EurCentral"])
        assert found[f"{key}/eur-sum"] == pytest.approx(row["CumulativeEurCentral"])
        assert found[f"{key}/bytes"] == pytest.approx(row["BytesStoredCentral"])
