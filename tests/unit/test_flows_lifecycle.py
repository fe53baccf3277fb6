"""The lifecycle without a server: what is begun goes on, what is approved is applied, else people are waited for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest

from tests.approval_kit import People
from tests.move_kit import bare, in_process, places, reopened, tiered_site
from tests.plan_kit import LET_GO, TO_WARM, free_of_approvals, slides_in
from tests.site_kit import tiny_tiff
from wsistore import ops
from wsistore.errors import Kind, StorageError
from wsistore.execute import SerialExecutor
from wsistore.ops import plans_due
from wsistore.ops.approving import approve
from wsistore.ops.facts import facts_table
from wsistore.ops.plans_due import Readiness
from wsistore.settings import ADMINISTRATOR
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.testing.clock import ManualClock
from wsistore.tiers.plans import read_plan
from wsistore_flows import lifecycle_shown
from wsistore_flows.lifecycle import lifecycle
from wsistore_flows.lifecycle_apply import Night
from wsistore_flows.notes import last_run

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
WINDOW = TO_WARM.replace("limits: {", 'limits: {window: "20:00-06:00", ')


class Nights:
    """A site of three tiers in memory whose nights are run by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.folder = folder / "site"
        self.site = tiered_site(self.folder, clock=self.clock)
        self.slides = slides_in(self.site, folder / "in", 3)

    def rules(self, text: str) -> None:
        (self.folder / "rules.yaml").write_text(text, "utf-8")

    def settings(self, text: str) -> None:
        file = self.folder / "wsistore.toml"
        file.write_text(f"{file.read_text('utf-8')}\n{text}", "utf-8")
        before, self.site = self.site, reopened(self.site)
        before.catalog.close()

    def run(self, **parameters: Any) -> tuple[str, str]:
        """Return name and message of the state that a run ends in."""
        opened = ops.open_site(self.folder, clock=self.clock)
        opened._tiers |= self.site._tiers
        with mock.patch("wsistore.ops.site.open_site", return_value=opened):
            state = lifecycle.fn(str(self.folder), **parameters)
        return str(state.name), str(state.message)

    def tiers(self) -> list[dict[str, str]]:
        return [places(self.site, slide) for slide in self.slides]

    def facts(self, name: str = "lifecycle") -> dict[str, Any]:
        found = last_run(self.folder, name)
        return {} if found is None else dict(found.facts)

    def plans(self) -> list[Path]:
        return sorted((self.folder / plans_due.PLANS).glob("*.parquet"))

    def sign(self, key: Any, role: str, plan: Path) -> None:
        approve(self.site, read_plan(plan), role, key)


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    (tmp_path / "in").mkdir()
    with in_process():
        found = Nights(tmp_path)
        try:
            yield found
        finally:
            found.site.catalog.close()


MOVED = [{"warm": "committed"}] * 3
STAYED = [{"hot": "committed"}] * 3


# --- plans that need nobody -------------------------------------------------------------------------------------------


def test_a_plan_that_needs_nobody_is_made_and_applied_in_one_night(nights: Nights) -> None:
    nights.rules(TO_WARM)
    name, message = nights.run()

    assert name == "Completed", message
    assert "3 of 3 slides done (3 moved;" in message
    assert nights.tiers() == MOVED
    facts = nights.facts()
    assert (facts["done"], facts["refused"], facts["failed"], facts["left"]) == (3, 0, 0, 0)
    assert Path(facts["receipt"]).exists()


def test_a_night_without_work_says_so_and_keeps_no_plan(nights: Nights) -> None:
    nights.rules(TO_WARM)
    nights.run()
    nights.clock.advance(86_400)
    assert nights.run() == ("NothingToDo", "The rules want nothing done to any slide now.")
    assert len(nights.plans()) == 1, "that of the first night"
    assert nights.run(plan=False) == ("NothingToDo", "No plan is approved and waits.")


def test_rules_that_would_touch_too_much_stop_the_night(nights: Nights) -> None:
    nights.rules(TO_WARM.replace("move_at_most: 100 %", "move_at_most: 10 %"))
    name, message = nights.run()

    assert name == "Conflict"
    assert "move_at_most" in message
    assert message.endswith("(exit code 5, plan-over-limit)")
    assert nights.tiers() == STAYED


def test_without_rules_the_run_fails_and_says_why(nights: Nights) -> None:
    name, message = nights.run()

    assert name in {"NotThere", "InputNotInOrder", "SiteNotInOrder"}
    assert "rules.yaml" in message
    assert nights.facts() == {}


def test_outside_the_window_a_plan_is_made_and_applied_when_it_opens(nights: Nights) -> None:
    nights.rules(WINDOW)
    nights.clock.advance(12 * 3600)
    name, message = nights.run()
    assert name == "WaitingForWindow"
    assert "20:00-06:00" in message
    assert "3 slides" in message
    assert nights.tiers() == STAYED
    assert nights.run(plan=False)[0] == "WaitingForWindow"
    assert len(nights.plans()) == 1

    nights.clock.advance(12 * 3600)
    assert nights.run(plan=False)[0] == "Completed"
    assert nights.tiers() == MOVED


def test_anytime_is_also_outside_the_window(nights: Nights) -> None:
    nights.rules(WINDOW)
    nights.clock.advance(12 * 3600)

    assert nights.run(anytime=True)[0] == "Completed"
    assert nights.tiers() == MOVED


# --- what was begun ---------------------------------------------------------------------------------------------------


def begun(nights: Nights) -> plans_due.DuePlan:
    """Apply a plan until one row is done, as a process that is ended then."""
    nights.rules(TO_WARM)
    due = plans_due.make_due_plan(nights.site)
    stop = Event()
    with mock.patch("wsistore.ops.applying.BATCH", 1):
        run = ops.apply_plan(nights.site, due.path, executor=SerialExecutor(), jobs=1, stop=stop)
        assert str(next(run).state) == "done"
        stop.set()
        assert list(run) == []
    return due


def test_what_was_begun_goes_on_before_anything_is_planned(nights: Nights) -> None:
    due = begun(nights)
    assert nights.tiers() != MOVED
    name, message = nights.run()

    assert name == "Completed"
    assert due.name in message
    assert "2 of 2 slides done" in message
    assert nights.tiers() == MOVED
    assert nights.plans() == [due.path]


def test_a_begun_plan_whose_file_is_lost_is_told_with_both_ways_out(nights: Nights) -> None:
    due = begun(nights)
    due.path.unlink()
    name, message = nights.run()

    assert name == "NotThere"
    assert f"wsistore apply {due.name} --give-up" in message
    assert str(nights.folder / plans_due.PLANS) in message


def test_a_begun_plan_is_found_by_its_bytes_whatever_it_is_called(nights: Nights) -> None:
    due = begun(nights)
    due.path.rename(due.path.with_name("ours.parquet"))

    assert nights.run()[0] == "Completed"
    assert nights.tiers() == MOVED


def test_a_begun_plan_that_expired_is_closed_and_the_next_night_plans_anew(nights: Nights) -> None:
    begun(nights)
    nights.clock.advance(30 * 86_400)
    name, message = nights.run()
    assert name == "Conflict"
    assert "expired" in message

    assert nights.run()[0] == "Completed"
    assert nights.tiers() == MOVED


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(nights: Nights) -> tuple[Nights, People]:
    """Return a site that wants two approvals of every move, and its people."""
    nights.settings('[approvals]\nfree_moves = "1 B"\nmoves = ["approver", "dim-physician"]')
    crew = People(nights.site, nights.clock)
    crew.add("admin", ADMINISTRATOR, uid=100)
    crew.add("first", "approver", uid=101)
    crew.add("dim", "dim-physician", uid=102)
    nights.rules(TO_WARM)
    return nights, crew


def test_a_plan_that_needs_people_waits_in_no_process_and_is_applied_when_they_approved(
    asked: tuple[Nights, People],
) -> None:
    nights, crew = asked
    name, message = nights.run()
    assert name == "WaitingForApproval"
    (plan,) = nights.plans()
    assert f"wsistore approve {plan} --status" in message
    assert "as approver" in message
    assert "as dim-physician" in message
    assert nights.tiers() == STAYED
    assert nights.run(plan=False) == ("NothingToDo", "No plan is approved and waits.")

    nights.sign(crew.keys["first"], "approver", plan)
    name, message = nights.run(plan=False)
    assert name == "NothingToDo", "people are not told every quarter of an hour"
    assert "still lacks an approval of its moves as dim-physician" in message
    assert nights.tiers() == STAYED

    nights.sign(crew.keys["dim"], "dim-physician", plan)
    name, message = nights.run(plan=False)
    assert name == "Completed", message
    assert nights.tiers() == MOVED


def test_a_plan_that_somebody_has_begun_to_approve_is_not_replaced_by_the_next_night(
    asked: tuple[Nights, People],
) -> None:
    nights, crew = asked
    nights.run()
    (first,) = nights.plans()
    nights.clock.advance(86_400)
    nights.run()
    (first, second) = nights.plans()
    nights.sign(crew.keys["first"], "approver", first)
    nights.clock.advance(86_400)
    name, message = nights.run()

    assert name == "WaitingForApproval"
    assert read_plan(first).digest[:12] in message
    assert nights.plans() == [first, second]
    nights.sign(crew.keys["dim"], "dim-physician", first)
    assert nights.run()[0] == "Completed"
    assert nights.tiers() == MOVED


def test_the_text_of_a_waiting_plan_says_who_must_do_what(asked: tuple[Nights, People]) -> None:
    nights, crew = asked
    due = plans_due.make_due_plan(nights.site)
    nights.sign(crew.keys["first"], "approver", due.path)
    due_now = plans_due.due_plan(nights.site)
    assert due_now is not None
    assert due_now.readiness is Readiness.WAITING
    text = "\n".join(lifecycle_shown._approval(a_run(nights), due_now))

    assert "- an approval of its moves as dim-physician" in text
    assert "- dim-physician: dim" in text
    assert f"approve {due.path} --role dim-physician" in text
    assert f"approve {due.path} --role approver" not in text, "that was given"


def test_somebody_elses_plan_is_not_applied_unasked(nights: Nights) -> None:
    nights.rules(TO_WARM)
    folder = nights.folder / plans_due.PLANS
    folder.mkdir()
    with mock.patch.object(nights.site, "actor", "somebody"):
        ops.make_plan(nights.site, out=folder / "look.parquet")

    assert nights.run(plan=False)[0] == "NothingToDo"
    assert nights.tiers() == STAYED


def test_a_plan_that_was_altered_is_left_alone(nights: Nights, caplog: pytest.LogCaptureFixture) -> None:
    nights.rules(WINDOW)
    nights.clock.advance(12 * 3600)
    nights.run()
    (plan,) = nights.plans()
    plan.write_bytes(plan.read_bytes()[:-100])

    assert nights.run(plan=False)[0] == "NothingToDo"
    assert "is left alone" in caplog.text


# --- nights on which something went wrong -----------------------------------------------------------------------------


def test_a_refused_deletion_is_no_failure_and_is_told(nights: Nights) -> None:
    nights.rules(LET_GO)

    def fed(site: ops.Site, slides: list[str] | None = None) -> Any:
        """Return facts as of a feed of today."""
        facts, today = facts_table(site, slides), nights.clock.now().replace(tzinfo=None)
        column = pa.array([today] * facts.num_rows, pa.timestamp("us"))
        return facts.set_column(facts.schema.get_field_index("feed_as_of"), "feed_as_of", column)

    with (
        free_of_approvals(),
        mock.patch("wsistore.ops.planning.facts_table", fed),
        mock.patch("wsistore.ops.applying_checks.facts_table", fed),
    ):
        plans_due.make_due_plan(nights.site)
        ops.hold(nights.site, nights.slides[:1], "the case of PATIENT-0001")
        name, message = nights.run()

    assert name == "DoneWithRefusals", message
    assert "2 of 3 slides done (2 deleted" in message
    assert "1 refused" in message
    assert nights.facts()["refused"] == 1


def test_a_tier_that_fails_leaves_the_rest_for_the_next_run(nights: Nights) -> None:
    nights.rules(TO_WARM)
    warm = bare(nights.site, "warm")
    away = StorageError("The tier warm denies access.", kind=Kind.STORAGE_DENIED, remedy="Look at its keys.")
    nights.site._tiers["warm"] = FaultStorage(warm, [Rule(FailBefore(away), times=10**6)])
    name, message = nights.run()
    assert name == "TierFailed", message
    assert "0 of 3 slides done" in message
    assert "The tier warm denies access. Look at its keys." in message
    assert "The next run goes on with what is left." in message
    assert message.endswith("(exit code 6, storage-denied)")
    assert nights.facts() == {}, "a failed run catches no other one up"
    nights.site._tiers["warm"] = warm
    assert nights.run()[0] == "Completed"
    assert nights.tiers() == MOVED


def a_run(nights: Nights) -> Any:
    run = mock.Mock(site=nights.site)
    run.step.side_effect = lambda _name, work: work()
    return run


def applied(slide: str, action: str, state: str, reason: str = "", kind: str = "", code: int = 0) -> ops.Applied:
    return ops.Applied(
        slide=slide,
        action=action,
        state=ops.AppliedState(state),
        reason=reason,
        kind=kind,
        exit_code=code,
        bytes_moved=1_600_000_000 if state == "done" else 0,
    )


def test_the_morning_after_one_refused_deletion_one_failed_tier_and_300_moves(nights: Nights) -> None:
    due = plans_due_of(nights)
    night = Night(312)
    night.add([applied(f"slide-{number}", "move", "done") for number in range(300)])
    night.add([applied("slide-400", "delete", "refused", "Slide slide-400 is on hold (PATIENT-0001).", "held", 5)])
    night.left, night.stopped = 11, "The tier cold denies access."
    night.stopper = ops.Failure("storage-denied", "The tier cold denies access. Look at its keys.", 6)
    text = "\n".join(lifecycle_shown._night(a_run(nights), due, night))

    assert night.sentence == "300 of 312 slides done (300 moved; 480.0 GB written), 1 refused, 11 left"
    assert text.startswith("# 300 of 312 slides done\n")
    assert "| move | done | 300 |" in text
    assert "|  | left for the next run | 11 |" in text
    assert "**11 slides left**, for a tier or the site failed: The tier cold denies access." in text
    assert "The next run goes on with what is left." in text
    assert "| delete | refused | 1 |" in text
    assert "**1 slide refused, with nothing done**" in text
    assert "wsistore hold ls" in text
    assert "PATIENT-0001" not in text
    assert f"receipt {due.name}" in text


def test_a_quiet_night_needs_nobody(nights: Nights) -> None:
    due = plans_due_of(nights)
    night = Night(1)
    night.add([applied("slide-1", "move", "done")])

    assert "Nobody is needed." in "\n".join(lifecycle_shown._night(a_run(nights), due, night))


def plans_due_of(nights: Nights) -> plans_due.DuePlan:
    nights.rules(TO_WARM)
    return plans_due.make_due_plan(nights.site)


def test_the_end_of_a_runs_time_leaves_slides_for_the_next(nights: Nights) -> None:
    nights.rules(TO_WARM)
    nights.settings("[flows.lifecycle]\ntimeout_minutes = 60")
    plans_due.make_due_plan(nights.site)
    original = ops.apply_plan

    def late(*arguments: Any, **options: Any) -> Any:
        assert options["until"] == NOW + timedelta(minutes=54)
        nights.clock.advance(55 * 60)
        return original(*arguments, **options)

    with mock.patch("wsistore.ops.applying.apply_plan", late):
        name, message = nights.run()

    assert name == "GoesOn"
    assert "0 of 3 slides done (nothing), 3 left" in message
    assert nights.run()[0] == "Completed"


def test_nothing_that_is_noted_names_a_file(nights: Nights, tmp_path: Path) -> None:
    nights.rules(TO_WARM)
    (result,) = ops.ingest(nights.site, [tiny_tiff(tmp_path / "in" / "PATIENT-0001.tiff", 9)])
    assert result.slide
    name, message = nights.run()

    assert name == "Completed"
    assert "PATIENT-0001" not in message + str(nights.facts())
