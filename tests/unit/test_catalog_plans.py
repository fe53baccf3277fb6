"""Plans in the catalogue: noted once, applied once, row by row, by processes that may die."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.catalog_kit import NOW, new_catalog
from wsistore.catalog import Catalog, PlanRecord, PlanState, RowState
from wsistore.catalog.owner import Owner
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, MissingError
from wsistore.testing.clock import ManualClock

LATER = NOW + timedelta(hours=1)
ELSEWHERE = "elsewhere/1:boot:{}:1"


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    """Return an empty catalogue."""
    with new_catalog() as made:
        yield made


def record(digest: str, minutes: int = 0, author: str = "planner") -> PlanRecord:
    made_at = NOW + timedelta(minutes=minutes)
    expires = made_at + timedelta(days=7)
    return PlanRecord(digest=digest, made_at=made_at, expires_at=expires, author=author, header={"rows": 3})


def begun(catalog: Catalog, count: int = 3, digest: str = "p1") -> None:
    catalog.note_plan(record(digest))
    catalog.begin_applying(digest, ((f"s{n:04}", "move") for n in range(count)), "operator")


def test_a_plan_is_noted_once(catalog: Catalog) -> None:
    made = catalog.note_plan(record("p1"))
    assert (made.state, made.made_at, made.header) == (PlanState.MADE, iso(NOW), {"rows": 3})
    assert catalog.note_plan(record("p1")) == made == catalog.plan("p1")
    with pytest.raises(ConflictError, match="noted already"):
        catalog.note_plan(record("p1", author="another"))
    catalog.note_plan(record("p2", minutes=1))
    assert [plan.digest for plan in catalog.plans()] == ["p2", "p1"]
    with pytest.raises(MissingError) as caught:
        catalog.plan("p3")
    assert caught.value.kind is Kind.PLAN_MISSING


def test_rows_are_taken_in_order_and_ended(catalog: Catalog) -> None:
    begun(catalog, 2500)
    assert catalog.count_rows("p1") == {RowState.WAITING: 2500}
    assert [step.slide for step in catalog.plan_rows("p1")] == [f"s{n:04}" for n in range(2500)]
    me = ELSEWHERE.format(1)
    taken = catalog.take_rows("p1", me, 2, LATER)
    assert [(step.slide, step.state, step.action) for step in taken] == [
        ("s0000", RowState.RUNNING, "move"),
        ("s0001", RowState.RUNNING, "move"),
    ]
    catalog.end_row("p1", "s0000", RowState.DONE, owner=me, detail={"bytes": 7})
    catalog.end_row("p1", "s0001", RowState.REFUSED, "held", owner=me)
    assert [step.slide for step in catalog.plan_rows("p1", RowState.REFUSED)] == ["s0001"]
    (done,) = catalog.plan_rows("p1", RowState.DONE)
    assert (done.detail, done.ended_at) == ({"bytes": 7}, iso(NOW))
    for slide in ("s0000", "s0002", "nothing"):
        with pytest.raises(ConflictError, match="another process"):
            catalog.end_row("p1", slide, RowState.DONE, owner=me)


def test_a_plan_is_applied_once_and_to_its_end(catalog: Catalog) -> None:
    begun(catalog, 2)
    me = ELSEWHERE.format(1)
    with pytest.raises(ConflictError, match="2 rows of the plan"):
        catalog.finish_plan("p1")
    for step in catalog.take_rows("p1", me, 9, LATER):
        catalog.end_row("p1", step.slide, RowState.FAILED, "no", owner=me)
    assert catalog.take_rows("p1", me, 9, LATER) == []
    assert catalog.reopen_rows("p1") == 2
    for step in catalog.take_rows("p1", me, 9, LATER):
        catalog.end_row("p1", step.slide, RowState.DONE, owner=me)
    assert catalog.finish_plan("p1") == catalog.finish_plan("p1")
    assert catalog.plan("p1").state is PlanState.APPLIED
    assert catalog.reopen_rows("p1", RowState.DONE) == 0
    for again in (lambda: catalog.begin_applying("p1", [], "operator"), lambda: catalog.supersede("p1")):
        with pytest.raises(ConflictError) as caught:
            again()
        assert caught.value.kind is Kind.PLAN_CLOSED


def test_to_go_on_changes_no_rows(catalog: Catalog) -> None:
    begun(catalog)
    before = list(catalog.plan_rows("p1"))
    catalog.begin_applying("p1", [("another", "delete")], "somebody")
    assert list(catalog.plan_rows("p1")) == before
    assert catalog.plan("p1").actor == "operator"


def test_one_plan_at_a_time_and_older_ones_are_superseded(catalog: Catalog) -> None:
    for number, digest in enumerate(["old", "now", "new"]):
        catalog.note_plan(record(digest, minutes=number))
    catalog.begin_applying("now", [("s1", "move")], "operator")
    assert {plan.digest: plan.state for plan in catalog.plans()} == {
        "old": PlanState.SUPERSEDED,
        "now": PlanState.APPLYING,
        "new": PlanState.MADE,
    }
    with pytest.raises(ConflictError, match="is being applied"):
        catalog.begin_applying("new", [], "operator")
    with pytest.raises(ConflictError, match="superseded"):
        catalog.begin_applying("old", [], "operator")
    catalog.supersede("now")
    assert catalog.supersede("now").state is PlanState.SUPERSEDED
    catalog.begin_applying("new", [], "operator")
    with pytest.raises(ConflictError, match="superseded"):
        catalog.finish_plan("now")


def test_rows_of_dead_processes_are_taken_over(catalog: Catalog) -> None:
    begun(catalog)
    alive, dead = str(Owner.current()), str(Owner.current()).rpartition(":")[0] + ":1"
    catalog.take_rows("p1", alive, 1, LATER)
    catalog.take_rows("p1", dead, 1, LATER)
    mine = catalog.take_rows("p1", "other/1:b:1:1", 9, LATER)
    assert [step.slide for step in mine] == ["s0001", "s0002"]
    assert mine[0].detail["before"]["owner"] == dead
    assert "before" not in mine[1].detail


def test_leases(catalog: Catalog) -> None:
    begun(catalog)
    clock = catalog._clock
    assert isinstance(clock, ManualClock)
    first, second = ELSEWHERE.format(1), ELSEWHERE.format(2)
    catalog.take_rows("p1", first, 9, LATER)
    assert catalog.take_rows("p1", second, 9, LATER) == []
    clock.advance(3000)
    catalog.extend_rows("p1", first, LATER + timedelta(hours=1))
    clock.advance(3000)
    assert catalog.take_rows("p1", second, 9, LATER) == []
    clock.advance(3000)
    assert len(catalog.take_rows("p1", second, 9, LATER + timedelta(hours=9))) == 3
    with pytest.raises(ConflictError):
        catalog.end_row("p1", "s0000", RowState.DONE, owner=first)


def test_the_latest_moment_is_that_of_whatever_happened_last(catalog: Catalog) -> None:
    assert catalog.latest_moment() == ""
    catalog.note_plan(record("p1"))
    assert catalog.latest_moment() == iso(NOW)
    clock = catalog._clock
    assert isinstance(clock, ManualClock)
    clock.advance(60)
    catalog.begin_applying("p1", [], "operator")
    assert catalog.latest_moment() == iso(clock.now())
