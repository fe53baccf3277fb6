"""Processes that apply one plan and die: a model of its rows, beside the catalogue."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.catalog_kit import NOW, new_catalog
from wsistore.catalog import PlanRecord, RowState
from wsistore.errors import ConflictError

ELSEWHERE = "elsewhere/1:boot:{}:1"


class Applying(RuleBasedStateMachine):
    """Two processes apply a plan, and may die: every row ends once, by whoever took it last."""

    @initialize(count=st.integers(0, 6))
    def begin(self, count: int) -> None:
        self.context = new_catalog()
        self.catalog = self.context.__enter__()
        self.count, self.held, self.ended = count, {}, {}  # type: ignore[var-annotated]
        self.catalog.note_plan(
            PlanRecord(digest="p1", made_at=NOW, expires_at=NOW + timedelta(days=7), author="planner", header={})
        )
        self.catalog.begin_applying("p1", ((f"s{n:04}", "move") for n in range(count)), "operator")

    @rule(who=st.integers(1, 2), limit=st.integers(1, 3))
    def take(self, who: int, limit: int) -> None:
        taken = self.catalog.take_rows(
            "p1", ELSEWHERE.format(who), limit, self.catalog._clock.now() + timedelta(hours=1)
        )
        for step in taken:
            assert step.slide not in self.held
            assert step.slide not in self.ended
            self.held[step.slide] = who

    @rule(who=st.integers(1, 2), place=st.integers(0, 5), state=st.sampled_from(["done", "failed", "refused"]))
    def end(self, who: int, place: int, state: str) -> None:
        slide = f"s{place:04}"
        try:
            self.catalog.end_row("p1", slide, RowState(state), owner=ELSEWHERE.format(who))
        except ConflictError:
            assert self.held.get(slide) != who
        else:
            assert self.held.pop(slide) == who
            self.ended[slide] = state

    @precondition(lambda self: self.held)
    @rule()
    def die(self) -> None:
        self.catalog._clock.advance(7200)  # type: ignore[attr-defined]
        self.held.clear()
        # Their leases have run out: whoever takes them next has them.
        self.take(1, 9)

    @rule()
    def finish(self) -> None:
        try:
            self.catalog.finish_plan("p1")
        except ConflictError:
            assert len(self.ended) < self.count
        else:
            assert len(self.ended) == self.count

    @invariant()
    def adds_up(self) -> None:
        assert sum(self.catalog.count_rows("p1").values()) == self.count
        found = {step.slide: str(step.state) for step in self.catalog.plan_rows("p1")}
        assert {slide: state for slide, state in found.items() if state not in {"waiting", "running"}} == self.ended

    def teardown(self) -> None:
        if hasattr(self, "context"):
            self.context.__exit__(None, None, None)


TestApplying = Applying.TestCase
TestApplying.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
