"""A slide in an archive, through the gateway: refused with the way to it, recalled by its researcher, and read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import gateway_kit
from tests.archive_kit import HOUR, advance, archive_site, classes, ingested
from tests.gateway_kit import PROJECT, Running
from tests.move_kit import moved
from tests.site_kit import restored
from wsistore import ops
from wsistore.serve.views.opened import LOOK_SECONDS
from wsistore.testing.clock import ManualClock

SLIDE = "aaaabbbbccccddddeeeeffff22"
BASE = f"/projects/{PROJECT}/slides/{SLIDE}"
CHUNK = "0/image/c/0/0/0"
READS = (
    f"{BASE}.zarr/zarr.json", f"{BASE}.zarr/{CHUNK}", f"{BASE}.jpeg.zarr/{CHUNK}", f"{BASE}.zstd.zarr/{CHUNK}",
    f"{BASE}/tiles", f"{BASE}/tiles/0/0/0.jpeg",
)  # fmt: skip
RECALL = "\n[recall]\nmax_eur = 5.0\n"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest) -> Iterator[ops.Site]:
    with archive_site(tmp_path / "site", clock, more=getattr(request, "param", RECALL)) as opened:
        ingested(opened, tmp_path / "in")
        yield opened


@pytest.fixture
def slide(site: ops.Site) -> str:
    (row,) = site.catalog.slides()
    return row.slide


@pytest.fixture
def gateway(site: ops.Site, slide: str, tmp_path: Path) -> Iterator[Running]:
    with gateway_kit.running(site, gateway_kit.access_to({SLIDE: slide}), tmp_path / "gateway") as started:
        yield started


def test_it_is_refused_with_the_way_to_it_then_recalled_and_read(
    site: ops.Site, slide: str, gateway: Running, clock: ManualClock
) -> None:
    with gateway.client() as client:
        before = {path: client.get(path).content for path in READS}
        moved(site, slide, "cold")
        assert set(classes(site, slide).values()) >= {"GLACIER"}
        clock.advance(2 * LOOK_SECONDS)  # it was open: that it is elsewhere now is seen in a second
        for path in READS:
            for answer in (client.get(path), client.get(path, headers={"Range": "bytes=0-9"})):
                assert answer.status_code == 409, path
                told = answer.json()
                assert (told["error"], told["recall"]) == ("cold", f"{BASE}/recall")
                assert told["expected_hours"] == pytest.approx(12.0, abs=0.5)  # the cheapest way takes so long at most
                assert slide not in answer.text
                assert "memory:" not in answer.text

        hours = pytest.approx(12.0, abs=0.5)  # the clock stands still but for pauses of whoever waits for something
        assert client.get(told["recall"]).json() == {"state": "cold", "expected_hours": hours}
        asked = client.post(told["recall"])
        assert (asked.status_code, asked.json()) == (202, {"state": "coming", "expected_hours": hours})
        assert client.post(told["recall"]).json() == {"state": "coming", "expected_hours": hours}
        assert len(ops.statuses(site)) == 1  # asked twice it is one recall

        clock.advance(2 * HOUR)
        advance(site)
        assert client.get(READS[0]).status_code == 409
        now = client.get(told["recall"]).json()
        assert (now["state"], now["expected_hours"]) == ("coming", pytest.approx(10.0, abs=0.5))

        clock.advance(11 * HOUR)
        advance(site)
        assert client.get(told["recall"]).json()["state"] == "ready"
        assert {path: client.get(path).content for path in READS} == before
    assert restored(site, slide)
    lines = [line["status"] for line in gateway.lines(len(READS) * 4 + 6)]
    assert lines.count(409) == 2 * len(READS) + 1


@pytest.mark.parametrize("site", [""], indirect=True)
def test_where_no_price_is_set_nothing_is_begun(
    site: ops.Site, slide: str, gateway: Running, clock: ManualClock
) -> None:
    moved(site, slide, "cold")
    with gateway.client() as client:
        assert client.get(READS[0]).status_code == 409
        asked = client.post(f"{BASE}/recall")
        assert (asked.status_code, asked.json()["state"]) == (202, "needs-approval")
        assert ops.statuses(site) == []
        clock.advance(13 * HOUR)
        advance(site)
        assert client.get(f"{BASE}/recall").json()["state"] == "cold"
        assert client.get(READS[0]).status_code == 409
