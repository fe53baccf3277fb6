"""A process that dies at every call of a tier and every step of the catalogue that a move makes: nothing is ever lost.

Calls are enumerated: the n-th one of a move is struck for n = 1, 2, 3, … until a move makes no such call. Of those that
change nothing only some are struck: what they leave behind is what the one before left.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.move_kit import assert_at_rest, assert_whole, dies, drop, in_process, move, moved, tiered_site
from tests.site_faults import Crash
from tests.site_kit import files_of, ingest, tiny_series, tiny_tiff
from wsistore import ops
from wsistore.model import Preset
from wsistore.testing.clock import ManualClock


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


def told(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


Case = tuple[str, dict[str, object]]
CASES: dict[str, list[Case]] = {
    "as-it-is": [("warm", {}), ("hot", {})],
    "encoded": [("warm", {"preset": Preset.FOLD}), ("hot", {"preset": Preset.KEEP})],
    "packed": [("cold", {"preset": Preset.PACK}), ("warm", {"preset": Preset.PACK}), ("hot", {"preset": Preset.KEEP})],
}


def enumerated(
    site: ops.Site, slide: str, files: dict[str, bytes], cases: list[Case], places: range, *, after: bool, changes: bool
) -> tuple[int, set[str], bool]:
    """Let moves die at the calls of `places`; return how often, at what kinds of calls, and whether that was all."""
    deaths, kinds = 0, set[str]()
    for nth in places:
        alive = 0
        for to, options in cases:
            fate = dies(
                site,
                lambda to=to, options=options: move(site, slide, to, **options),  # type: ignore[misc]
                nth,
                after=after,
                changes=changes,
            )
            if fate.is_dead:
                deaths += 1
                kinds.add(":".join(fate.calls[-1].split(":")[:2]))
                assert_whole(site, slide, files)
                assert ops.recover(site).failed == 0, fate.calls[-1]
                assert_whole(site, slide, files)
                moved(site, slide, to, **options)
            else:
                alive += 1
            assert_at_rest(site, slide, files, to)
        if alive == len(cases):
            return deaths, kinds, True
    return deaths, kinds, False


@pytest.mark.slow
# To die after a call is to die before the next one, but for what other threads do.
@pytest.mark.parametrize(("after", "step"), [(False, 1), (True, 9)], ids=["before", "after"])
@pytest.mark.parametrize("case", CASES)
def test_process_dies_at_every_call_of_a_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str, step: int, *, after: bool
) -> None:
    """Before every call that changes something, and after every ninth: all is met that a death can leave behind."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    deaths, kinds, is_all, span = 0, set[str](), False, 9 * step
    for first in range(1, 400, span):
        with tiered_site(tmp_path / f"site{first}") as site:  # a new one: events are many, and are looked at each time
            slide = str(ingest(site, path)[0].slide)
            places = range(first, first + span, step)
            died, at, is_all = enumerated(site, slide, files_of(path), CASES[case], places, after=after, changes=True)
        deaths, kinds = deaths + died, kinds | at
        if is_all:
            break
    assert is_all, "it never came to an end"
    told(capsys, f"{deaths} deaths {'after' if after else 'before'} calls of {len(kinds)} kinds, losses 0 ({case})")
    if after:
        return
    assert {"catalogue:begin_reencode", "catalogue:mark_written", "catalogue:claim_reencode"} <= kinds
    assert {"catalogue:commit_reencode", "catalogue:prove_drop", "catalogue:finish_drop"} <= kinds
    assert {"warm:put", "hot:delete"} <= kinds


def test_process_dies_at_some_calls_of_a_move(tmp_path: Path) -> None:
    """The same with a step over all calls, those that only read too, and with a history that grows."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        places = range(1, 400, 7)
        deaths, kinds, is_all = enumerated(
            site, slide, files_of(path), CASES["as-it-is"], places, after=False, changes=False
        )
    assert is_all
    assert deaths > 10
    assert {"warm:get", "warm:list"} & kinds


@pytest.mark.slow
@pytest.mark.parametrize(("after", "changes"), [(False, True), (True, False)], ids=["before", "after"])
def test_process_dies_at_every_call_of_a_drop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, after: bool, changes: bool
) -> None:
    """Before every call that changes something, and after every fourth call, whatever it does."""
    path = tiny_series(tmp_path / "in")
    deaths = 0
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        files = files_of(path)
        for nth in range(1, 1000, 4 if after else 1):
            moved(site, slide, "warm", keep_source=True)
            fate = dies(site, lambda: drop(site, slide, "warm"), nth, after=after, changes=changes)
            if fate.is_dead:
                deaths += 1
                assert_whole(site, slide, files)
                assert ops.recover(site).failed == 0
                assert_whole(site, slide, files)
                result = drop(site, slide, "warm")
                assert result.status in {"dropped", "unchanged"}
            assert_at_rest(site, slide, files, "hot")
            if not fate.is_dead:
                break
        else:
            pytest.fail("it never came to an end")
    told(capsys, f"{deaths} deaths of drops, losses 0")
    assert deaths > (5 if after else 12)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_recovery_dies_at_every_call_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A move dies at its last calls, with something left to finish; then its recovery dies at each of its calls."""
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    deaths = 0
    with tiered_site(tmp_path / "site") as site:
        slide, files = str(ingest(site, path)[0].slide), files_of(path)
        tiers = ["warm", "hot"]
        calls = len(dies(site, lambda: move(site, slide, "warm"), 10**6, after=False).calls)
        tiers.reverse()
        for nth in range(calls - 22, calls, 3):
            for inner in range(1, 200):
                to = tiers[0]
                assert dies(site, lambda to=to: move(site, slide, to), nth, after=False).is_dead  # type: ignore[misc]
                fate = dies(site, lambda: ops.recover(site), inner, after=inner % 2 == 0)
                deaths += 1 + fate.is_dead
                assert_whole(site, slide, files)
                assert ops.recover(site).failed == 0
                moved(site, slide, to)
                assert_at_rest(site, slide, files, to)
                tiers.reverse()
                if not fate.is_dead:
                    break
            else:
                pytest.fail("the recovery never came to an end")
    told(capsys, f"{deaths} deaths of moves and recoveries, losses 0")


def test_what_is_there_is_not_copied_again(tmp_path: Path) -> None:
    path = tiny_series(tmp_path / "in")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        whole = dies(site, lambda: move(site, slide, "warm", keep_source=True), 10**6, after=False).calls
        drop(site, slide, "warm")
        puts = [number for number, call in enumerate(whole, 1) if call.startswith("warm:put:store")]
        dies(site, lambda: move(site, slide, "warm"), puts[-1], after=True)
        again = dies(site, lambda: move(site, slide, "warm"), 10**6, after=False).calls
        assert len([call for call in again if call.startswith("warm:put:store")]) < len(puts) // 2
        assert_at_rest(site, slide, files_of(path), "warm")


def test_crash_is_no_error_that_anybody_handles() -> None:
    assert not issubclass(Crash, Exception)


def test_what_was_left_while_the_clock_was_wrong_is_not_kept_for_years(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site", clock=clock) as site:
        slide = str(ingest(site, path)[0].slide)
        today = clock.now()
        clock.jump(today + timedelta(days=400))
        assert dies(site, lambda: move(site, slide, "warm"), 20, after=False).is_dead
        clock.jump(today)
        assert ops.recover(site) == ops.Recovered(0, 1, 0)
        assert_at_rest(site, slide, files_of(path), "hot")
