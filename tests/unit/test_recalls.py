"""Recalls from a rehearsed archive on a manual clock: who is meant, which way, by when, at what price, for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from tests.archive_kit import (
    HOUR,
    advance,
    archive,
    archive_site,
    dies,
    expiries,
    ingested,
    recall,
    reopened,
    states,
)
from tests.move_kit import drop, moved
from tests.site_kit import restored
from wsistore import ops
from wsistore.clock import iso
from wsistore.errors import InputError, MissingError, SiteError, StorageError
from wsistore.model import CopyState
from wsistore.ops.ledgers import tell
from wsistore.ops.merging import _copies, _copy_row, _Lying
from wsistore.ops.recall_lists import parse
from wsistore.ops.stored import commit_of
from wsistore.storage.archive import Retrieval
from wsistore.storage.archive_sim import Way
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock

Files = dict[str, bytes]


class Board:
    """A site with four slides of three cases and two patients; all but the first lie in the archive."""

    def __init__(self, folder: Path, *, count: int = 4, **options: object) -> None:
        self.clock = ManualClock()
        self.site = archive_site(folder / "site", self.clock, **options)  # type: ignore[arg-type]
        said = (("C1", "P1"), ("C1", "P1"), ("C2", "P1"), ("C3", "P2"))
        made = [
            ingested(self.site, folder / "in", seed, case_id=case, patient_id=patient)
            for seed, (case, patient) in enumerate(said[:count], 1)
        ]
        self.slides = [slide for slide, _ in made]
        self.files = dict(made)
        for slide in self.slides[1:]:
            moved(self.site, slide, "cold")

    def pass_hours(self, hours: float) -> None:
        self.clock.advance(hours * HOUR)

    def readable(self, slide: str) -> bool:
        return restored(self.site, slide) == self.files[slide]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path)
    with board.site:
        yield board


# --- who is meant -----------------------------------------------------------------------------------------------------


def test_cases_patients_names_and_keys(board: Board) -> None:
    def meant(*words: str) -> set[str]:
        found = recall(board.site, *words, dry_run=True)
        return {slide.slide for case in found.cases for slide in case.slides}

    one, two, three, four = board.slides
    assert meant("C1") == meant("c1") == {one, two}
    assert meant("P1") == {one, two, three}
    assert meant("slide-4.svs") == meant(four) == meant(four[:8]) == {four}
    assert meant("C1", "P2") == {one, two, four}


def test_a_list_with_headings_and_columns_that_agree_or_do_not(board: Board) -> None:
    text = "IPP;Case\nP1;C2\nP2;C1\nnobody;C3\n;unknown"
    found = ops.recall(board.site, parse(text), dry_run=True)
    assert states(found) == {"C2": "on its way", "C3": "on its way", "P2; C1": "not found", "unknown": "not found"}
    assert next(case.reason for case in found.cases if case.case == "P2; C1")
    assert not next(case.reason for case in found.cases if case.case == "unknown")


def test_a_number_of_a_case_and_of_another_patient_is_not_guessed(board: Board) -> None:
    board.site.catalog.put_metadata({board.slides[3]: {"patient_id": "C1"}})
    found = recall(board.site, "C1", dry_run=True)
    assert states(found) == {"C1": "not found"}
    assert "another patient" in found.cases[0].reason


# --- price and time first ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "way", "state"),
    [
        (None, "bulk", "on its way"),
        (24, "bulk", "on its way"),
        (11, "standard", "on its way"),
        (4, "expedited", "on its way"),
        (0.05, "expedited", "late"),
    ],
)
def test_the_cheapest_way_that_is_fast_enough(board: Board, hours: float | None, way: str, state: str) -> None:
    found = recall(board.site, "C2", hours=hours, dry_run=True)
    assert found.ways == (f"{way} from cold",)
    assert states(found) == {"C2": state}
    assert archive(board.site).bill_eur() == 0
    assert ops.statuses(board.site) == []


def test_what_can_be_read_at_once_costs_nothing_and_stays(board: Board) -> None:
    found = recall(board.site, board.slides[0])
    assert (states(found), found.eur_high, found.bytes_asked) == ({"C1": "ready"}, 0.0, 0)
    assert expiries(board.site, board.slides[0]) == {"hot": None}
    assert recall(board.site, board.slides[0]).name == found.name


def test_a_cost_over_the_limit_is_not_begun_until_confirmed(board: Board) -> None:
    for limit in (0.0, 1e-6):
        found = recall(board.site, "P1", hours=4, max_eur=limit)
        assert found.needs_confirmation
        assert states(found) == {"C1": "needs confirmation of cost", "C2": "needs confirmation of cost"}
    assert ops.statuses(board.site) == []
    assert archive(board.site).bill_eur() == 0
    assert not recall(board.site, "P1", hours=4, max_eur=1000.0).needs_confirmation


def test_the_limit_of_the_site(tmp_path: Path) -> None:
    board = Board(tmp_path, more="\n[recall]\nmax_eur = 0\n")
    with board.site:
        assert recall(board.site, "C2", hours=4).needs_confirmation
        assert recall(board.site, "C2", hours=4, confirmed=True).name


def test_what_cannot_be_asked_for(board: Board) -> None:
    with pytest.raises(InputError):
        recall(board.site)
    with pytest.raises(InputError):
        recall(board.site, "C2", tier="cold")
    with pytest.raises(SiteError):
        recall(board.site, "C2", tier="nowhere")
    with pytest.raises(MissingError):
        ops.statuses(board.site, ["nothing"])


# --- asked for, waited for --------------------------------------------------------------------------------------------


def test_from_asking_to_the_end(board: Board) -> None:
    slide = board.slides[2]
    begun = recall(board.site, "C2", hours=8)
    board.pass_hours(4.9)
    assert advance(board.site) == 0
    (status,) = ops.statuses(board.site)
    assert (status.name, states(status)) == (begun.name, {"C2": "on its way"})
    assert status.expected_at is not None
    board.pass_hours(0.2)
    other = reopened(board.site)  # another day, another process
    assert advance(other) == 0
    assert states(ops.statuses(other)[0]) == {"C2": "ready"}
    until = board.clock.now() + timedelta(hours=8 - 5.1, days=14)
    assert expiries(other, slide) == {"cold": None, "hot": iso(until)}
    assert board.readable(slide)
    kinds = [event.kind for event in other.catalog.events(slide)]
    assert kinds.index("recall-begun") < kinds.index("recalled")
    assert board.site.catalog.check_chains() == []


def test_waiting_ends_when_all_is_there(board: Board) -> None:
    begun = recall(board.site, "P1", hours=30)
    (status,) = ops.wait(board.site, [begun.name])
    assert set(states(status).values()) == {"ready"}
    assert all(board.readable(slide) for slide in board.slides[:3])


def test_waiting_ends_at_the_deadline(board: Board) -> None:
    before = board.clock.now()
    begun = recall(board.site, "C2", hours=0.05)
    (status,) = ops.wait(board.site, [begun.name], poll_seconds=60)
    assert states(status) == {"C2": "late"}
    assert board.clock.now() - before <= timedelta(hours=0.1)


def test_the_same_again_goes_on_and_costs_nothing(board: Board) -> None:
    by = board.clock.now() + timedelta(hours=8)
    lines = parse("C2\nC3")
    first = ops.recall(board.site, lines, by=by)
    bill = archive(board.site).bill_eur()
    board.pass_hours(1)
    assert ops.recall(board.site, lines, by=by).name == first.name
    assert archive(board.site).bill_eur() == bill > 0
    assert len(ops.statuses(board.site)) == 1


def test_a_copy_that_ended_before_it_was_copied_is_asked_for_again_faster(board: Board) -> None:
    recall(board.site, "C2", hours=48)  # bulk: 12 hours, then readable for a day
    bill = archive(board.site).bill_eur()
    board.pass_hours(42)
    advance(board.site)
    (status,) = ops.statuses(board.site)
    assert states(status) == {"C2": "on its way"}
    assert archive(board.site).bill_eur() > bill
    events = [event for event in board.site.catalog.events(board.slides[2]) if event.kind == "recall-begun"]
    assert [event.detail["retrieval"] for event in events] == ["bulk", "standard"]
    board.pass_hours(5.1)
    advance(board.site)
    assert board.readable(board.slides[2])


def test_asking_again_over_the_limit_waits_for_a_confirmation(board: Board) -> None:
    price = recall(board.site, "C2", hours=48, dry_run=True).eur_high
    by = board.clock.now() + timedelta(hours=48)
    begun = ops.recall(board.site, parse("C2"), by=by, max_eur=price * 1.5)
    board.pass_hours(42)
    advance(board.site)
    assert states(ops.statuses(board.site)[0]) == {"C2": "needs confirmation of cost"}
    again = ops.recall(board.site, parse("C2"), by=by, confirmed=True)
    assert (again.name, states(again)) == (begun.name, {"C2": "on its way"})


def test_a_service_that_takes_longer_than_it_states(board: Board) -> None:
    slow = {"GLACIER": {**archive(board.site)._classes["GLACIER"], Retrieval.STANDARD: Way(7 * HOUR)}}
    archive(board.site)._classes = slow
    recall(board.site, "C2", hours=6)
    board.pass_hours(5.5)
    advance(board.site)
    (status,) = ops.statuses(board.site)
    assert states(status) == {"C2": "on its way"}
    assert "longer" in status.cases[0].reason
    board.pass_hours(1)
    advance(board.site)
    assert states(ops.statuses(board.site)[0]) == {"C2": "late"}
    board.pass_hours(1)
    advance(board.site)
    assert states(ops.statuses(board.site)[0]) == {"C2": "ready"}


def test_a_batch_that_was_asked_for_in_part_goes_on(board: Board) -> None:
    inner = archive(board.site)
    rule = Rule(FailBefore(StorageError("no room")), verb=Verb.RESTORE, nth=3, times=1000)
    board.site._tiers["cold"] = FaultStorage(inner, [rule])
    status = recall(board.site, "C2", "C3", hours=24)
    assert set(states(status).values()) == {"on its way"}
    assert any(case.reason for case in status.cases)
    board.site._tiers["cold"] = inner
    board.pass_hours(2)
    assert advance(board.site) == 0
    bill = inner.bill_eur()
    board.pass_hours(12.1)
    assert advance(board.site) == 0
    assert set(states(ops.statuses(board.site)[0]).values()) == {"ready"}
    assert inner.bill_eur() == bill
    assert all(board.readable(slide) for slide in board.slides[2:])


# --- for a time -------------------------------------------------------------------------------------------------------


def fetched(board: Board, **options: object) -> str:
    recall(board.site, "C2", hours=6, **options)
    board.pass_hours(5.1)
    assert advance(board.site) == 0
    assert set(expiries(board.site, board.slides[2])) == {"cold", "hot"}
    return board.slides[2]


def test_a_temporary_copy_goes_when_its_time_is_over_and_not_before(board: Board) -> None:
    slide = fetched(board, keep=timedelta(days=2))
    board.pass_hours(48)
    assert list(ops.expire(board.site)) == []
    board.pass_hours(1)
    (row,) = ops.expire(board.site)
    assert (row.slide, row.is_dropped, row.error) == (slide, True, None)
    assert expiries(board.site, slide) == {"cold": None}
    assert "recall-expired" in [event.kind for event in board.site.catalog.events(slide)]
    assert ops.statuses(board.site) == []


def test_a_hold_keeps_it_until_the_release(board: Board) -> None:
    slide = fetched(board, keep=timedelta(days=2))
    ops.hold(board.site, [slide], "dispute")
    board.pass_hours(60)
    (row,) = ops.expire(board.site)
    assert row.error is not None
    assert row.error.kind == "held"
    assert board.readable(slide)
    ops.release(board.site, [slide])
    assert [row.is_dropped for row in ops.expire(board.site)] == [True]


def test_the_last_good_copy_stays(board: Board) -> None:
    slide = fetched(board, keep=timedelta(days=2))
    storage = archive(board.site)
    victim = next(info.key for info in storage.list("store/") if slide in info.key)
    storage.delete(victim)
    board.pass_hours(60)
    (row,) = ops.expire(board.site)
    assert not row.is_dropped
    assert row.error is not None
    assert board.readable(slide)


def test_two_recalls_of_a_slide(board: Board) -> None:
    slide = fetched(board, keep=timedelta(days=2))
    before = expiries(board.site, slide)["hot"]
    bill = archive(board.site).bill_eur()
    status = recall(board.site, "C2", hours=100, keep=timedelta(days=3))
    assert (states(status), status.eur_high) == ({"C2": "ready"}, 0.0)
    after = expiries(board.site, slide)["hot"]
    assert before is not None
    assert after is not None
    assert after > before
    recall(board.site, "C2", hours=1, keep=timedelta(hours=1))
    assert expiries(board.site, slide)["hot"] == after
    assert archive(board.site).bill_eur() == bill


def test_two_recalls_under_way_pay_once_and_keep_the_longer(board: Board) -> None:
    recall(board.site, "C2", hours=8, keep=timedelta(days=1))
    bill = archive(board.site).bill_eur()
    recall(board.site, "P1", hours=8, keep=timedelta(days=9))
    assert archive(board.site).bill_eur() > bill  # of the other slide of the patient
    board.pass_hours(5.2)
    assert advance(board.site) == 0
    assert {str(case.state) for status in ops.statuses(board.site) for case in status.cases} == {"ready"}
    until = expiries(board.site, board.slides[2])["hot"]
    assert until == iso(board.clock.now() + timedelta(hours=8 - 5.2, days=9))


def test_a_copy_that_is_asked_for_becomes_one_that_stays(board: Board) -> None:
    slide = fetched(board)
    assert moved(board.site, slide, "hot", keep_source=True).status == "exists"
    assert expiries(board.site, slide) == {"cold": None, "hot": None}


def test_nothing_that_stays_rests_on_a_temporary_copy(board: Board) -> None:
    slide = fetched(board)
    refused = drop(board.site, slide, "cold")
    assert refused.error is not None
    assert refused.error.kind == "last-copy"
    assert set(expiries(board.site, slide)) == {"cold", "hot"}


def test_recover_moves_recalls_on_and_lets_go(board: Board) -> None:
    recall(board.site, "C2", hours=8, keep=timedelta(days=1))
    board.pass_hours(5.1)
    ops.advance(board.site)
    assert "hot" in expiries(board.site, board.slides[2])
    board.pass_hours(30)
    assert ops.recover_all(board.site).failed == 0
    assert expiries(board.site, board.slides[2]) == {"cold": None}


# --- cut short --------------------------------------------------------------------------------------------------------


def test_killed_at_any_call_it_goes_on_and_stays_temporary(tmp_path: Path) -> None:
    def asked(board: Board) -> None:
        recall(board.site, "C2", hours=6, keep=timedelta(days=2))

    def fetched_so_far(board: Board) -> None:
        board.pass_hours(5.1)
        advance(board.site)

    def ended(board: Board) -> None:
        board.pass_hours(60)
        list(ops.expire(board.site))

    acts = (asked, fetched_so_far, ended)
    for which, act in enumerate(acts):
        for part in (0.0, 0.2, 0.5, 0.8, 0.99):
            board = Board(tmp_path / f"{which}-{part}", count=3)
            with board.site:
                for before in acts[:which]:
                    before(board)
                calls = _CALLS.get(which) or _count(tmp_path / f"calls-{which}", acts, which)
                _CALLS[which] = calls
                nth = 1 + int(part * (calls - 1))
                assert dies(board.site, partial(act, board), nth, after=nth % 2 == 0).is_dead
                slide = board.slides[2]
                assert expiries(board.site, slide).get("hot", "gone") is not None
                if which < 2:
                    asked(board)
                    board.pass_hours(6)
                    ops.recover(board.site)
                    assert advance(board.site) == 0
                    assert board.readable(slide)
                    assert expiries(board.site, slide)["hot"] is not None
                    board.pass_hours(100)
                ops.recover_all(board.site)
                assert expiries(board.site, slide) == {"cold": None}
                assert board.site.catalog.check_chains() == []


_CALLS: dict[int, int] = {}


def _count(folder: Path, acts: tuple[Callable[[Board], None], ...], which: int) -> int:
    board = Board(folder, count=3)
    with board.site:
        for before in acts[:which]:
            before(board)
        return len(dies(board.site, partial(acts[which], board), 10**9, after=False).calls)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_temporary_copy_stays_one_when_the_catalogue_is_lost(board: Board, *, is_told: bool) -> None:
    """Also where no ledger has heard of it yet: its commit tells."""

    def tell_all() -> None:
        for tier in board.site.settings.tiers:
            tell(board.site, tier.name)

    tell_all()
    slide = fetched(board)
    before = expiries(board.site, slide)
    if is_told:
        tell_all()
    board.site.catalog.close()
    for path in board.site.folder.glob("catalog.db*"):
        path.unlink()
    with mock.patch("wsistore.ops.rebuilding.open_tier", lambda tier, **_: board.site._tiers[tier.name]):
        ops.rebuild_catalog(board.site.folder, clock=board.clock)
    with reopened(board.site) as site:
        assert expiries(site, slide) == before
        board.pass_hours(24 * 15)
        assert [(one.tier, one.is_dropped) for one in ops.expire(site)] == [("hot", True)]
        assert set(expiries(site, slide)) == {"cold"}


def test_a_lost_catalogue_does_not_make_temporary_copies_permanent(board: Board) -> None:
    slide = fetched(board)
    (state,) = [state for state, _ in board.site.catalog.all_states() if state["slide"]["slide"] == slide]
    copy = board.site.catalog.copies(slide)[-1]
    told = next(row for row in state["copies"] if row["attempt"] == copy.attempt)
    assert copy.tier == "hot"
    row = _copy_row(_Lying("hot", commit_of(copy), ""), told, CopyState.COMMITTED)
    assert row["expires_at"] == copy.expires_at is not None


def test_a_lost_catalogue_does_not_let_a_temporary_copy_replace_one_that_stays(board: Board) -> None:
    slide = fetched(board)
    recalled = commit_of(board.site.catalog.copies(slide)[-1])
    lasting = replace(recalled, attempt="a" * 20, expires_at="", objects=())
    later = replace(recalled, number=recalled.number + 1)
    lying = [_Lying("hot", lasting, ""), _Lying("hot", later, "")]
    state = {"copies": [], "sources": [{"n": recalled.version}]}
    rows = _copies(state, lying, {"hot"}, mock.Mock(side_effect=MissingError("It is not there.")))
    assert [row["state"] for row in rows] == ["committed", "committed"]
    lying[1] = _Lying("hot", replace(later, expires_at=""), "")
    rows = _copies(state, lying, {"hot"}, mock.Mock(side_effect=MissingError("It is not there.")))
    assert [row["state"] for row in rows] == ["dropping", "committed"]
