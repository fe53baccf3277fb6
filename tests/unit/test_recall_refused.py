"""A retrieval that the archive has no room for: the next way that is fast enough, told, and within the limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.archive_kit import HOUR, advance, archive, archive_site, ingested, recall, states
from tests.move_kit import moved
from tests.site_kit import restored
from wsistore import ops
from wsistore.catalog import recalls
from wsistore.errors import Kind, TransientError
from wsistore.events import EventKind
from wsistore.ops import recalling
from wsistore.ops.recall_plans import Ways
from wsistore.storage.archive import Retrieval
from wsistore.storage.archive_sim import ArchiveStorage
from wsistore.testing.clock import ManualClock


class Board:
    """A site with two slides of a case in an archive, which has room for so many fast retrievals."""

    def __init__(self, folder: Path, *, named: Retrieval | None = None) -> None:
        self.clock = ManualClock()
        options: dict[str, Any] = {} if named is None else {"more": f'retrieval = "{named}"\n'}
        self.site = archive_site(folder / "site", self.clock, **options)
        made = [ingested(self.site, folder / "in", seed, case_id="C1") for seed in (1, 2)]
        self.slides, self.files = [slide for slide, _ in made], dict(made)
        for slide in self.slides:
            moved(self.site, slide, "cold")
        self.room = 0
        self.asked: list[Retrieval] = []

    def begin_restore(self, storage: ArchiveStorage, real: Any, key: str, **options: Any) -> Any:
        if options["retrieval"] is Retrieval.EXPEDITED:
            if not self.room:
                msg = "There is no room."
                raise TransientError(msg, kind=Kind.RETRIEVAL_REFUSED)
            self.room -= 1
        self.asked.append(options["retrieval"])
        return real(storage, key, **options)

    def ways(self, name: str) -> set[tuple[str, str]]:
        return {(str(one.state), one.retrieval) for one in recalls.slides_of(self.site.catalog, name)}

    def begun(self, slide: str) -> list[dict[str, Any]]:
        events = self.site.catalog.events(slide)
        return [dict(event.detail) for event in events if event.kind == EventKind.RECALL_BEGUN]


def patched(board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    real = ArchiveStorage.begin_restore
    monkeypatch.setattr(
        ArchiveStorage, "begin_restore", lambda self, key, **options: board.begin_restore(self, real, key, **options)
    )
    return board


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    board = patched(Board(tmp_path), monkeypatch)
    with board.site:
        yield board


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    board = patched(Board(tmp_path, named=Retrieval.EXPEDITED), monkeypatch)
    with board.site:
        yield board


def test_the_cheapest_other_way_is_taken_and_told(named: Board) -> None:
    """Nothing is pressing; the site's settings name the fastest way."""
    planned = recall(named.site, "C1", dry_run=True)
    assert planned.ways == ("expedited from cold",)
    found = recall(named.site, "C1")
    assert states(found) == {"C1": "on its way"}
    assert named.ways(found.name) == {("asked", "bulk")}
    assert all("expedited" in slide.reason and "bulk" in slide.reason for case in found.cases for slide in case.slides)
    row = recalls.recalls(named.site.catalog, [found.name])[0]
    assert row.eur < planned.eur_high, "what was refused is not paid for"
    for slide in named.slides:
        (begun,) = named.begun(slide)
        assert begun["retrieval"] == "bulk"
        assert "expedited" in begun["reason"]
    advance(named.site)
    assert all(slide.reason for case in ops.statuses(named.site)[0].cases for slide in case.slides), "still told"
    named.clock.advance(13 * HOUR)
    advance(named.site)
    assert states(ops.statuses(named.site)[0]) == {"C1": "ready"}
    assert all(restored(named.site, slide) == named.files[slide] for slide in named.slides)


def test_a_slower_way_that_is_typically_fast_enough_is_taken_at_once(board: Board) -> None:
    found = recall(board.site, "C1", hours=4.5)
    assert recall(board.site, "C1", hours=4.5, dry_run=True).ways == ("expedited from cold",)
    assert board.ways(found.name) == {("asked", "standard")}


def test_where_no_other_way_is_fast_enough_it_is_tried_again(board: Board) -> None:
    found = recall(board.site, "C1", hours=2)
    assert board.ways(found.name) == {("planned", "expedited")}
    assert board.asked == []
    assert all("No room" in slide.reason for case in found.cases for slide in case.slides)
    assert recalls.recalls(board.site.catalog, [found.name])[0].eur == pytest.approx(0, abs=1e-12)
    board.clock.advance(HOUR)
    advance(board.site)
    assert board.asked == []
    board.room = 1000
    advance(board.site)
    assert board.ways(found.name) == {("asked", "expedited")}
    board.clock.advance(0.2 * HOUR)
    advance(board.site)
    assert states(ops.statuses(board.site)[0]) == {"C1": "ready"}


def test_too_late_for_any_the_fastest_other_way_is_taken(board: Board) -> None:
    found = recall(board.site, "C1", hours=2)
    board.clock.advance(1.99 * HOUR)
    advance(board.site)
    assert board.ways(found.name) == {("asked", "standard")}
    assert states(ops.statuses(board.site)[0]) == {"C1": "late"}
    board.clock.advance(6 * HOUR)
    advance(board.site)
    assert states(ops.statuses(board.site)[0]) == {"C1": "ready"}


def test_room_for_some_objects_only(named: Board) -> None:
    named.room = 1
    found = recall(named.site, "C1")
    assert named.asked.count(Retrieval.EXPEDITED) == 1
    assert set(named.asked) == {Retrieval.EXPEDITED, Retrieval.BULK}
    row = recalls.recalls(named.site.catalog, [found.name])[0]
    assert row.eur > 0, "the one that was taken is paid for"
    named.clock.advance(13 * HOUR)
    advance(named.site)
    assert states(ops.statuses(named.site)[0]) == {"C1": "ready"}


def let_others_cost(times: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the slower ways cost so many times what the fastest does."""
    real = Ways._all_options

    def dear(self: Ways, copy: Any) -> list[Any]:
        options = real(self, copy)
        fast = next(one for one in options if one.retrieval is Retrieval.EXPEDITED)
        return [fast if one is fast else replace(one, restore_eur=fast.restore_eur * times) for one in options]

    monkeypatch.setattr(Ways, "_all_options", dear)


def test_another_way_over_the_limit_waits_to_be_confirmed(named: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = recall(named.site, "C1", dry_run=True)
    let_others_cost(10.0, monkeypatch)
    found = recall(named.site, "C1", max_eur=planned.eur_high)
    assert states(found) == {"C1": "needs confirmation of cost"}
    assert named.asked == []
    assert archive(named.site).bill_eur() == 0
    again = recall(named.site, "C1", confirmed=True)
    assert again.name == found.name
    advance(named.site)
    assert {state for state, _ in named.ways(found.name)} == {"asked"}
    assert set(named.asked) <= {Retrieval.STANDARD, Retrieval.BULK}


@pytest.mark.parametrize("in_turn", [False, True])
def test_slides_side_by_side_share_the_limit(named: Board, monkeypatch: pytest.MonkeyPatch, in_turn: bool) -> None:
    """Another way fits for one slide, not for two, whether they are asked for in turn or at once."""
    planned = recall(named.site, "C1", dry_run=True)
    let_others_cost(1.5, monkeypatch)
    if in_turn:
        monkeypatch.setattr(recalling, "side_by_side", lambda items, act: [act(one) for one in items])
    found = recall(named.site, "C1", max_eur=planned.eur_high)
    ways = {(str(one.state), one.retrieval) for one in recalls.slides_of(named.site.catalog, found.name)}
    assert ways == {("asked", "bulk"), ("confirm", "expedited")}
    assert recalls.recalls(named.site.catalog, [found.name])[0].eur <= planned.eur_high
