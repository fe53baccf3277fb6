"""The replay of a day's arrivals tells what went wrong: a benchmark that overlooks a lost slide measures nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.support.watching import Watched, _check, _Scanner, arrivals, small_slide
from tests.site_kit import ingest, new_site
from wsistore import ops


@pytest.mark.parametrize("count", [1, 50, 1400])
def test_arrivals_come_in_their_order_within_the_time(count: int) -> None:
    moments = arrivals(count, 864.0)
    assert len(moments) == count
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] < 864


def test_small_slides_differ_and_are_the_same_each_time() -> None:
    assert len({small_slide(seed) for seed in range(20)}) == 20
    assert small_slide(3) == small_slide(3)


def test_what_the_scanner_writes_is_whole(tmp_path: Path) -> None:
    datas = [small_slide(seed) for seed in range(4)]
    scanner = _Scanner(tmp_path, datas, [0.0] * 4)
    scanner.run()
    found = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {f"{number}.tiff": data for number, data in enumerate(datas)}
    assert set(scanner.whole_at) == set(found)


def test_missed_doubled_and_left_slides_are_problems(tmp_path: Path) -> None:
    share, site = tmp_path / "share", new_site(tmp_path / "site")
    scanner = _Scanner(share, [small_slide(seed) for seed in range(3)], [0.0] * 3)
    share.mkdir()
    scanner.run()
    twin = tmp_path / "twin" / "1.tiff"
    twin.parent.mkdir()
    twin.write_bytes(small_slide(9))
    with ops.open_site(site) as opened:
        ingest(opened, share / "rack0" / "0.tiff", share / "rack1" / "1.tiff", twin)
    (share / "rack0" / "0.tiff").unlink()
    found = Watched(3, 1.0)
    _check(site, share, scanner, found)

    problems = "\n".join(found.problems)
    assert "2.tiff is missed" in problems
    assert "1.tiff is there 2 times" in problems
    assert "1.tiff is left" in problems
    assert "0.tiff: ['ingested']" in problems  # it went without an event
    assert found.once == 0.0
    assert all(-1 < wait < time.time() for wait in found.waits)
