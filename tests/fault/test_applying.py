"""Plans applied: once, row by row, asked again each time; stopped, killed, altered, replayed, held, grown stale."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from unittest import mock

import pyarrow as pa
import pytest

from tests.approval_kit import people
from tests.elimination_kit import ELIMINATION_STEPS, eliminated, left_of
from tests.execute_kit import wait_until
from tests.flows_kit import Hold
from tests.keys_kit import encrypting
from tests.move_kit import bare, dies, in_process, moved, places, reopened, tiered_site
from tests.plan_kit import LET_GO, TO_WARM, applied, applying, free_of_approvals, planned, slides_in
from tests.site_faults import DEAD
from tests.site_kit import cli, command, files_of, new_site, restored, tiny_tiff
from wsistore import ops
from wsistore.catalog.plans import PlanState, RowState, SlideStep
from wsistore.errors import ConflictError, InputError, IntegrityError, Kind, MissingError, StorageError, WsistoreError
from wsistore.ops.applying_checks import Checker, Verdict
from wsistore.ops.approval_contract import ApprovalScope
from wsistore.ops.approval_policy import Given
from wsistore.ops.approving import Approved, approve
from wsistore.ops.certificates import check_certificate
from wsistore.ops.facts import facts_table
from wsistore.ops.metadata import read_metadata
from wsistore.ops.planning import make_plan
from wsistore.ops.receipts import certificates, receipt
from wsistore.ops.roster import revoke_approver
from wsistore.ops.stored import note_failure
from wsistore.ops.visas import add_visa
from wsistore.ops.visas_given import GivenVisa, VisaScope
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.testing.clock import ManualClock
from wsistore.tiers.plans import Header, read_plan, write_plan


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


def states(rows: dict[str, ops.Applied]) -> list[str]:
    return sorted(str(row.state) for row in rows.values())


def refused(site: ops.Site, plan: Path) -> Kind:
    """Return why a plan is refused as a whole."""
    with pytest.raises(WsistoreError) as caught:
        applied(site, plan)
    return caught.value.kind


# --- the whole plan ---------------------------------------------------------------------------------------------------


def test_a_plan_is_applied_once_and_leaves_a_receipt(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 3)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        run = applying(site, made.path)
        rows = {row.slide: row for row in run}
        assert states(rows) == ["done"] * 3
        assert [places(site, slide) for slide in slides] == [{"warm": "committed"}] * 3
        assert restored(site, slides[0]) == files_of(tmp_path / "in" / "slide-1.tiff")
        assert (run.stopped, run.left) == ("", 0)
        document = json.loads(Path(run.receipt).read_text())["document"]
        stored = sum(copy.bytes_stored for slide in slides for copy in site.catalog.copies(slide))
        assert document["totals"]["done"] == 3
        assert document["totals"]["bytes_moved"] == stored
        assert abs(document["totals"]["bytes_planned"] - stored) < stored // 10
        assert document["state"] == "applied"
        assert "3 done" in Path(run.receipt).with_suffix(".txt").read_text()
        assert refused(site, made.path) == Kind.PLAN_CLOSED
        assert len(site.catalog.events(slides[0])) == len(reopened(site).catalog.events(slides[0]))


def test_an_altered_plan_is_refused(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides_in(site, tmp_path / "in", 1)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        whole = made.path.read_bytes()
        for place in (20, len(whole) // 2, len(whole) - 100):
            data = bytearray(whole)
            data[place] ^= 1
            (tmp_path / "flipped.parquet").write_bytes(bytes(data))
            assert refused(site, tmp_path / "flipped.parquet") in {Kind.PLAN_INVALID, Kind.PLAN_MISSING}
        (tmp_path / "flipped.parquet").write_bytes(whole[:-9])
        assert refused(site, tmp_path / "flipped.parquet") == Kind.PLAN_INVALID
        plan = read_plan(made.path)
        write_plan(tmp_path / "other.parquet", _later(plan.header), plan.rows)
        with pytest.raises(MissingError) as caught:
            applied(site, tmp_path / "other.parquet")
        assert caught.value.kind == Kind.PLAN_MISSING
        assert refused(site, tmp_path / "nothing.parquet") == Kind.PATH_MISSING


def _later(header: Header) -> Header:
    return replace(header, expires_at=header.expires_at + timedelta(days=900))


def test_an_expired_plan_is_refused_and_one_that_was_begun_ends(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site:
        slides = slides_in(site, tmp_path / "in", 6)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        run = applying(site, made.path)
        next(run)
        run.close()
        assert site.catalog.plan(made.digest).state == PlanState.APPLYING
        clock.jump(clock.now() + timedelta(days=30))
        assert refused(site, made.path) == Kind.PLAN_EXPIRED
        assert site.catalog.plan(made.digest).state == PlanState.APPLIED
        counts = site.catalog.count_rows(made.digest)
        assert counts[RowState.REFUSED] >= 1
        assert counts[RowState.REFUSED] + counts[RowState.DONE] == len(slides)
        again = make_plan(site, out=tmp_path / "again.parquet")
        assert states(applied(site, again.path)) == ["done"] * counts[RowState.REFUSED]
        assert [places(site, slide) for slide in slides] == [{"warm": "committed"}] * 6


def test_a_plan_is_superseded_by_one_that_was_made_later_and_applied(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site:
        slides_in(site, tmp_path / "in", 2)
        first = planned(site, TO_WARM, tmp_path / "first.parquet")
        clock.jump(clock.now() + timedelta(minutes=1))
        second = planned(site, TO_WARM.replace("warm", "cold"), tmp_path / "second.parquet")
        assert states(applied(site, second.path)) == ["done"] * 2
        assert refused(site, first.path) == Kind.PLAN_CLOSED


def test_a_plan_over_its_limits_or_without_approval_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site, Feed(clock.now()):
        slides = slides_in(site, tmp_path / "in", 2)
        over = planned(site, TO_WARM.replace("100 %", "10 %"), tmp_path / "over.parquet")
        assert refused(site, over.path) == Kind.PLAN_OVER_LIMIT
        deletes = planned(site, LET_GO, tmp_path / "deletes.parquet")
        assert refused(site, deletes.path) == Kind.NOT_APPROVED
        assert site.catalog.count_rows(deletes.digest) == {}
        assert [places(site, slide) for slide in slides] == [{"hot": "committed"}] * 2


def test_one_plan_at_a_time_until_it_is_given_up(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site:
        slides_in(site, tmp_path / "in", 6)
        first = planned(site, TO_WARM, tmp_path / "first.parquet")
        run = applying(site, first.path)
        next(run)
        run.close()
        clock.jump(clock.now() + timedelta(minutes=1))
        second = planned(site, TO_WARM.replace("warm", "cold"), tmp_path / "second.parquet")
        assert refused(site, second.path) == Kind.BUSY
        ops.give_up_plan(site, first.digest)
        assert refused(site, first.path) == Kind.PLAN_CLOSED
        applied(site, second.path)
        assert site.catalog.plan(second.digest).state == PlanState.APPLIED


# --- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_whose_slide_changed_is_refused(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        moved(site, slides[0], "cold", keep_source=True)
        rows = applied(site, made.path)
        assert (str(rows[slides[0]].state), str(rows[slides[1]].state)) == ("refused", "done")
        assert "changed" in rows[slides[0]].reason
        assert places(site, slides[0]) == {"cold": "committed", "hot": "committed"}


def test_a_hold_between_planning_and_applying_is_seen(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        ops.hold(site, [slides[0]], "a court asked")
        rows = applied(site, made.path)
        assert str(rows[slides[0]].state) == "refused"
        assert "on hold" in rows[slides[0]].reason
        assert places(site, slides[0]) == {"hot": "committed"}
        assert places(site, slides[1]) == {"warm": "committed"}


def test_a_hold_after_the_last_look_is_seen_by_the_mover(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 1)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        look = Checker.look

        def held(self: Checker, steps: list[SlideStep]) -> dict[str, Verdict]:
            found = look(self, steps)
            ops.hold(site, slides, "in the last moment")
            return found

        with mock.patch("wsistore.ops.applying_checks.Checker.look", held):
            rows = applied(site, made.path)
        assert states(rows) == ["refused"]
        assert rows[slides[0]].kind == "held"
        assert places(site, slides[0]) == {"hot": "committed"}


def test_copies_that_a_rule_wants_are_asked_for_by_the_drop_itself(tmp_path: Path) -> None:
    """Another copy is found to be damaged after the last look: one would do for the settings, the rule wants two."""
    rules = TO_WARM.replace("tier: warm", "tier: warm, copies: 2")
    with tiered_site(tmp_path / "site") as site:
        (slide,) = slides_in(site, tmp_path / "in", 1)
        for tier in ("warm", "cold"):
            moved(site, slide, tier, keep_source=True)
        made = planned(site, rules, tmp_path / "plan.parquet")
        row = read_plan(made.path).row(slide)
        assert row is not None
        dropped = [step["tier"] for step in row["steps"]]
        (left,) = {"hot", "cold"} - set(dropped)
        real = Checker.look

        def look(self: Checker, steps: Sequence[SlideStep]) -> dict[str, Verdict]:
            found = real(self, steps)
            (copy,) = [one for one in site.catalog.copies(slide) if one.tier == left]
            note_failure(site, copy, IntegrityError("It rotted.", remedy="Scrub."))
            return found

        with mock.patch.object(Checker, "look", look):
            rows = applied(site, made.path)
        assert (str(rows[slide].state), rows[slide].kind) == ("refused", Kind.LAST_COPY)
        assert places(site, slide) == {"warm": "committed", dropped[0]: "committed", left: "suspect"}


def test_verifying_a_slide_does_not_change_it(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 1)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        list(ops.verify(site, slides))
        assert states(applied(site, made.path)) == ["done"]


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        ops.hold(site, [slides[0]], "a court asked")
        before = [len(site.catalog.events(slide)) for slide in slides]
        rows = applied(site, made.path, dry_run=True)
        assert states(rows) == ["planned", "refused"]
        assert rows[slides[1]].steps == ("move from hot to warm as keep",)
        assert [len(site.catalog.events(slide)) for slide in slides] == before
        assert site.catalog.plan(made.digest).state == PlanState.MADE


# --- stopping and going on --------------------------------------------------------------------------------------------


def test_stopped_by_window_until_bytes_or_somebody_it_goes_on(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2030, 1, 1, 12, tzinfo=UTC))
    with tiered_site(tmp_path / "site", clock=clock) as site:
        slides = slides_in(site, tmp_path / "in", 3)
        size = max(site.catalog.copies(slide)[0].bytes_stored for slide in slides)
        rules = TO_WARM.replace("limits: {", f'limits: {{window: "20:00-06:00", move_bytes_per_day: {size + 2000} B, ')
        made = planned(site, rules, tmp_path / "plan.parquet")
        run = applying(site, made.path)
        assert list(run) == []
        assert "window" in run.stopped
        clock.jump(datetime(2030, 1, 1, 21, tzinfo=UTC))
        asked = Event()
        asked.set()
        run = applying(site, made.path, stop=asked)
        assert (list(run), run.stopped) == ([], "It was stopped.")
        run = applying(site, made.path, until=clock.now())
        assert list(run) == []
        assert "until" in run.stopped
        run = applying(site, made.path)
        first = [row for row in run if str(row.state) == "done"]
        assert len(first) == 1
        if run.left:  # what the plan did not put off for another night itself
            assert "in a day" in run.stopped
            clock.jump(datetime(2030, 1, 2, 3, tzinfo=UTC))  # the same night
            assert [row for row in applying(site, made.path) if str(row.state) == "done"] == []
            clock.jump(datetime(2030, 1, 2, 20, 30, tzinfo=UTC))
            assert len([row for row in applying(site, made.path) if str(row.state) == "done"]) == 1


def test_what_was_interrupted_is_given_back_and_not_done_twice(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 3)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        run = applying(site, made.path)
        first = next(run)
        run.close()
        assert site.catalog.count_rows(made.digest).get(RowState.RUNNING, 0) == 0
        rows = applied(site, made.path)
        assert first.slide not in rows
        assert len(rows) == 2
        for slide in slides:
            assert [event.kind for event in site.catalog.events(slide)].count("copied") == 1
        assert site.catalog.plan(made.digest).state == PlanState.APPLIED


def test_two_processes_share_the_rows(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 6)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        other = reopened(site)
        with mock.patch("wsistore.ops.applying.BATCH", 2):
            one, two = applying(site, made.path), applying(other, made.path)
            rows = [next(one), next(two)]
            rows += [*one, *two]
        assert sorted(row.slide for row in rows) == sorted(slides)
        assert {str(row.state) for row in rows} == {"done"}
        assert site.catalog.plan(made.digest).state == PlanState.APPLIED


def test_a_tier_that_is_away_stops_it_and_rows_wait(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        away = StorageError("the medium is out", kind=Kind.TIER_MISSING)
        site._tiers["warm"] = FaultStorage(bare(site, "warm"), [Rule(FailBefore(away), times=10**9)])
        run = applying(site, made.path)
        assert {str(row.state) for row in run} == {"waiting"}
        assert "medium is out" in run.stopped
        assert run.failure is not None
        assert run.left == 2
        site._tiers["warm"] = bare(site, "warm")
        assert states(applied(site, made.path)) == ["done"] * 2
        assert [places(site, slide) for slide in slides] == [{"warm": "committed"}] * 2


# --- what cannot be undone --------------------------------------------------------------------------------------------


def ending(facts: pa.Table, feed: datetime) -> pa.Table:
    """Return facts as if the hospital's feed were of `feed`."""
    column = pa.array([feed.replace(tzinfo=None)] * facts.num_rows, pa.timestamp("us"))
    return facts.set_column(facts.schema.get_field_index("feed_as_of"), facts.schema.field("feed_as_of"), column)


class Feed:
    """The hospital's feed: of when it is, whatever was imported."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __enter__(self) -> Feed:
        def fed(site: ops.Site, slides: list[str] | None = None) -> pa.Table:
            return ending(facts_table(site, slides), self.at)

        self._patches = [
            mock.patch("wsistore.ops.planning.facts_table", fed),
            mock.patch("wsistore.ops.applying_checks.facts_table", fed),
        ]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


def test_slides_are_deleted_with_certificates(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site, Feed(clock.now()), free_of_approvals():
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, LET_GO, tmp_path / "plan.parquet")
        ops.hold(site, [slides[0]], "a court asked")
        run = applying(site, made.path)
        rows = {row.slide: row for row in run}
        assert (str(rows[slides[0]].state), str(rows[slides[1]].state)) == ("refused", "done")
        assert rows[slides[1]].bytes_deleted > 0
        assert [row.slide for row in site.catalog.slides()] == [slides[0]]
        ((slide, certificate),) = certificates(site, made.digest)
        assert slide == slides[1]
        assert check_certificate(site, certificate)
        assert certificate["document"]["authority"]["plan"] == made.digest
        assert certificate["document"]["why"]["rule"] == "old"
        assert certificate["document"]["why"]["keep_until"] == "2020-01-01"
        assert (Path(run.receipt).with_suffix("") / f"{slide}.json").is_file()
        found = receipt(site, made.digest)
        assert check_certificate(site, found)
        assert found["document"]["totals"]["certified"] == 1


def test_a_feed_that_went_stale_between_refuses_deletions(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site, free_of_approvals():
        slides_in(site, tmp_path / "in", 2)
        with Feed(clock.now()):
            made = planned(site, LET_GO, tmp_path / "plan.parquet")
            clock.jump(clock.now() + timedelta(days=6, hours=23))
        with Feed(clock.now() - timedelta(days=8)):
            rows = applied(site, made.path)
        assert states(rows) == ["refused"] * 2
        assert all("older than the rules allow" in row.reason for row in rows.values())
        assert len(site.catalog.slides()) == 2


def test_rules_that_were_made_stricter_since_keep_slides(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site, Feed(clock.now()), free_of_approvals():
        slides_in(site, tmp_path / "in", 1)
        made = planned(site, LET_GO, tmp_path / "plan.parquet")
        site.settings.rules.write_text(LET_GO.replace("2020-01-01", "2999-01-01"), "utf-8")
        rows = applied(site, made.path)
        assert states(rows) == ["refused"]
        assert "rules have changed" in next(iter(rows.values())).reason
        assert len(site.catalog.slides()) == 1


def test_a_deletion_killed_in_the_middle_is_told_as_done(tmp_path: Path) -> None:
    class Died(BaseException):
        pass

    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site, Feed(clock.now()), free_of_approvals():
        (slide,) = slides_in(site, tmp_path / "in", 1)
        made = planned(site, LET_GO, tmp_path / "plan.parquet")
        own, site.owner = site.owner, DEAD
        with (
            mock.patch("wsistore.ops.eliminating._finished", side_effect=Died),
            mock.patch("wsistore.ops.applying._Work._give_back"),
            pytest.raises(Died),
        ):
            applied(site, made.path)
        site.owner = own
        assert str(site.catalog.deletion_of(slide)) == "deleting"
        rows = applied(site, made.path)
        assert states(rows) == ["done"]
        assert str(site.catalog.deletion_of(slide)) == "deleted"
        assert [event.kind for event in site.catalog.events(slide)].count("deleted") == 1


# --- processes --------------------------------------------------------------------------------------------------------


def held_apply(folder: Path, plan: Path, hold: Hold) -> subprocess.Popen[str]:
    """Begin to apply a plan in a process that stops where it is told to."""
    arguments = command(folder, "apply", plan, "--jobs", 1, "--json")
    arguments[2] = hold.code + arguments[2]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_in_mid_apply_it_goes_on(tmp_path: Path) -> None:
    """The real thing: a process of its own, kill -9, and the same command again."""
    folder = new_site(tmp_path / "site")
    with ops.open_site(folder) as site:
        slides = slides_in(site, tmp_path / "in", 6)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
    hold = Hold(tmp_path / "hold", "end_row", 3)
    process = held_apply(folder, made.path, hold)
    wait_until(lambda: hold.mark.exists() or process.poll() is not None, 240)
    process.kill()
    out, err = process.communicate()
    lines = out.splitlines()
    assert len(lines) == 2, err
    before = {json.loads(line)["slide"] for line in lines}
    done = cli(folder, "apply", made.path, "--jobs", 1, "--json")
    assert done.code == 0, done.out + done.err
    rows = {line["slide"]: line["state"] for line in done.lines if line.get("slide")}
    assert before.isdisjoint(rows)
    with ops.open_site(folder) as site:
        assert [places(site, slide) for slide in slides] == [{"warm": "committed"}] * 6
        assert site.catalog.count_rows(made.digest) == {RowState.DONE: 6}
        for slide in slides:
            assert [event.kind for event in site.catalog.events(slide)].count("copied") == 1
        assert site.catalog.check_chains() == []
    assert cli(folder, "apply", made.path).code == ConflictError.exit_code


@pytest.mark.slow
def test_sigterm_stops_it_after_what_is_under_way(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    with ops.open_site(folder) as site:
        slides_in(site, tmp_path / "in", 9)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
    hold = Hold(tmp_path / "hold", "end_row", 2)
    process = held_apply(folder, made.path, hold)
    wait_until(lambda: hold.mark.exists() or process.poll() is not None, 240)
    process.send_signal(signal.SIGTERM)
    hold.mark.unlink(missing_ok=True)
    out, err = process.communicate(timeout=240)
    summary = json.loads(out.splitlines()[-1])
    assert (process.returncode, summary["kind"], summary["stopped"]) == (130, "summary", "It was stopped."), err
    assert summary["left"] > 0
    assert summary["failed"] == 0
    again = cli(folder, "apply", made.path, "--jobs", 1, "--json")
    assert again.code == 0
    assert again.lines[-1]["done"] == summary["left"]


def test_on_the_command_line(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    with ops.open_site(folder) as site:
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        ops.hold(site, [slides[0]], "a court asked")
    dry = cli(folder, "apply", made.path, "--dry-run", "--json")
    assert [line["state"] for line in dry.lines[:-1]].count("planned") == 1
    done = cli(folder, "apply", made.path, "--jobs", 1)
    assert done.code == 5
    assert "1 done, 1 refused" in done.out
    assert "on hold" in done.err
    status = cli(folder, "apply", made.path, "--status")
    assert status.out == cli(folder, "receipt", made.digest[:8]).out
    assert "1 done, 1 refused" in status.out
    target = tmp_path / "receipt.json"
    assert cli(folder, "receipt", made.path, "-o", target).code == 0
    assert json.loads(target.read_text())["document"]["totals"]["refused"] == 1
    assert cli(folder, "receipt", "0" * 40, "--json").error["kind"] == "plan-missing"
    assert cli(folder, "receipt", made.path, "--certificates", tmp_path / "certificates").code == 0


def test_a_plan_without_a_row_is_no_plan_of_the_slide(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slides_in(site, tmp_path / "in", 1)
        made = planned(site, TO_WARM, tmp_path / "plan.parquet")
        checker = Checker(site, read_plan(made.path), frozenset())
        with pytest.raises(InputError):
            checker.planned("nothing")


# --- death at every call ----------------------------------------------------------------------------------------------

APPLYING_STEPS = (*ELIMINATION_STEPS, "begin_applying", "take_rows", "end_row", "finish_plan")


@pytest.mark.slow
def test_process_dies_at_calls_of_a_plan(tmp_path: Path) -> None:
    """A slide is copied and then dropped, another one is deleted; every eleventh call of it all is the last."""
    clock = ManualClock()
    rules = TO_WARM + (
        "retention:\n  - {name: old, where: \"name = 'slide-2.tiff'\", keep_until: \"DATE '2020-01-01'\"}\n"
    )
    deaths = 0
    with tiered_site(tmp_path / "site", clock=clock) as site, Feed(clock.now()), free_of_approvals():
        for nth in range(1, 2000, 11):
            kept, gone = slides_in(site, tmp_path / "in", 2)
            made = planned(site, rules, tmp_path / f"plan-{nth}.parquet")
            with mock.patch("tests.move_kit.STEPS", APPLYING_STEPS):
                fate = dies(site, lambda plan=made.path: applied(site, plan), nth, after=False)  # type: ignore[misc]
            deaths += fate.is_dead
            if site.catalog.plan(made.digest).state != PlanState.APPLIED:
                again = applied(site, made.path)
                assert set(states(again)) <= {"done"}, (fate.calls[-1], again)
            assert places(site, kept) == {"warm": "committed"}
            assert restored(site, kept) == files_of(tmp_path / "in" / "slide-1.tiff")
            assert str(site.catalog.deletion_of(gone)) == "deleted"
            assert left_of(site, gone) == []
            assert [event.kind for event in site.catalog.events(kept)].count("copied") == 1
            assert [event.kind for event in site.catalog.events(gone)].count("deleted") == 1
            assert site.catalog.count_rows(made.digest) == {RowState.DONE: 2}
            eliminated(site, kept)
            clock.jump(clock.now() + timedelta(minutes=1))
            if not fate.is_dead:
                break
        else:
            pytest.fail("it never came to an end")
    assert deaths > 5


# --- who allowed it ---------------------------------------------------------------------------------------------------


def approved_by_two(plan: str, *kept: str) -> Approved:
    """Return that two people approved a plan, and that the archives keep some of its slides."""
    at = "2030-01-01T00:00:00.000000Z"
    people = [("one", "approver"), ("two", "dim-physician")]
    return Approved(
        plan=plan,
        at=at,
        policy="Two people.",
        approvals=tuple(
            Given(person=who, name=f"person-{who}", role=role, scope=ApprovalScope.ALL, at=at, by="key")
            for who, role in people
        ),
        visas=(
            GivenVisa(
                role="departmental-archives",
                reference="AD/1",
                date="2030-01-01",
                scope=VisaScope.ALL,
                kept=kept,
                recorded_by="one",
                at=at,
            ),
        ),
        left_out=frozenset(kept),
        refused=(),
    )


def test_what_the_archives_keep_is_left_out_and_who_allowed_the_rest_is_kept(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site, Feed(clock.now()):
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, LET_GO, tmp_path / "plan.parquet")
        found = approved_by_two(made.digest, slides[0])
        with mock.patch("wsistore.ops.applying_consent.check_approved", return_value=found):
            rows = applied(site, made.path)
        assert (str(rows[slides[0]].state), rows[slides[0]].reason) == ("refused", "A visa keeps it.")
        assert str(rows[slides[1]].state) == "done"
        ((_, certificate),) = certificates(site, made.digest)
        authority = certificate["document"]["authority"]
        assert [one["role"] for one in authority["approvals"]] == ["approver", "dim-physician"]
        assert authority["visas"][0]["reference"] == "AD/1"
        assert authority["policy"] == "Two people."
        assert [row.slide for row in site.catalog.slides()] == [slides[0]]


def test_approved_by_people_with_keys_of_their_own_and_by_visas(tmp_path: Path) -> None:
    crew = people(tmp_path / "site")
    site, at = crew.site, crew.clock.now()
    with site, Feed(at):
        slides = slides_in(site, tmp_path / "in", 2)
        made = planned(site, LET_GO, tmp_path / "plan.parquet")
        plan = read_plan(made.path)
        approve(site, plan, "approver", crew.keys["first"])
        assert refused(site, made.path) == Kind.NOT_APPROVED
        approve(site, plan, "dim-physician", crew.keys["dim"])
        for role in site.settings.approvals.visas:
            kept = [slides[0]] if role == "departmental-archives" else []
            add_visa(site, plan, role, f"{role}/1", f"{at:%Y-%m-%d}", crew.keys["clerk"], kept=kept)
        rows = applied(site, made.path)
        assert (str(rows[slides[0]].state), rows[slides[0]].reason) == ("refused", "A visa keeps it.")
        assert str(rows[slides[1]].state) == "done"
        ((_, certificate),) = certificates(site, made.digest)
        assert check_certificate(site, certificate)
        assert len(certificate["document"]["authority"]["approvals"]) == 2
        assert len(certificate["document"]["authority"]["visas"]) == 3
        assert len(receipt(site, made.digest)["document"]["approvals"]) == 2


def test_what_people_say_while_it_is_applied_holds_from_the_next_row_on(tmp_path: Path) -> None:
    crew = people(tmp_path / "site")
    site, day = crew.site, f"{crew.clock.now():%Y-%m-%d}"
    with site, Feed(crew.clock.now()), mock.patch("wsistore.ops.applying.BATCH", 1):
        slides_in(site, tmp_path / "in", 4)
        made = planned(site, LET_GO, tmp_path / "plan.parquet")
        plan = read_plan(made.path)
        approve(site, plan, "approver", crew.keys["first"])
        approve(site, plan, "dim-physician", crew.keys["dim"])
        for role in site.settings.approvals.visas:
            add_visa(site, plan, role, f"{role}/1", day, crew.keys["clerk"])

        run = applying(site, made.path)
        gone = next(run)
        wanted, *others = [step.slide for step in site.catalog.plan_rows(made.digest, RowState.WAITING)]
        add_visa(site, plan, "departmental-archives", "AD/2", day, crew.keys["clerk"], kept=[wanted])
        kept = next(run)
        revoke_approver(site, "first", crew.keys["admin"], "has left")
        left = list(run)

        assert (str(gone.state), str(kept.state), kept.reason) == ("done", "refused", "A visa keeps it.")
        assert (kept.slide, left, run.left) == (wanted, [], 2)
        assert "lacks" in run.stopped
        assert run.failure is not None
        assert run.failure.kind == Kind.NOT_APPROVED
        assert sorted(row.slide for row in site.catalog.slides()) == sorted([wanted, *others])
        approve(site, plan, "approver", crew.keys["second"])
        assert states(applied(site, made.path)) == ["done"] * 2
        assert [row.slide for row in site.catalog.slides()] == [wanted]


def test_a_plan_parts_slides_from_their_patients(tmp_path: Path) -> None:
    folder = encrypting(tmp_path / "site", ("hot", "warm", "cold"))
    rules = LET_GO.replace(
        "limits:", "  - {name: kept, keep_until: never-ends, at_legal_end: detach-identity}\nlimits:"
    )
    table = tmp_path / "slides.csv"
    table.write_text("file,case_id,patient_id,stain\na.tiff,CASE-1,PATIENT-0001,HE\n")
    clock = ManualClock(datetime.now(UTC))
    with ops.open_site(folder, clock=clock) as site, Feed(clock.now()), free_of_approvals():
        path = tiny_tiff(tmp_path / "in" / "a.tiff")
        (result,) = ops.ingest(site, [path], metadata=read_metadata(table), jobs=1)
        slide = str(result.slide)
        made = planned(site, rules, tmp_path / "plan.parquet")
        assert read_plan(made.path).row(slide) is not None
        rows = applied(site, made.path)
        assert (rows[slide].action, str(rows[slide].state)) == ("detach-identity", "done"), rows[slide].reason
        assert dict(site.catalog.slide(slide).metadata) == {"stain": "HE"}
        assert site.catalog.events(slide)[-2].detail["authority"]["plan"] == made.digest
        clock.jump(clock.now() + timedelta(minutes=1))
        assert applied(site, planned(site, rules, tmp_path / "again.parquet").path) == {}
