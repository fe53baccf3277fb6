"""Runs without a server: one of a kind at a time, caught up and not doubled, errors as states, logs without names."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.site_kit import memory_site
from wsistore import errors, ops
from wsistore.errors import Kind, SiteError, TransientError, UnsupportedError, WsistoreError
from wsistore.ops.process_lock import process_lock
from wsistore.ops.results import Failure
from wsistore_flows import running
from wsistore_flows.backup import backup
from wsistore_flows.expire import expire
from wsistore_flows.notes import last_run, lock_path
from wsistore_flows.run_logs import public
from wsistore_flows.running import Run, State, done, night
from wsistore_flows.states import FAILURES, ended, passes_by_itself, skipped, told

SECRET = "PATIENT-0001"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    memory_site(tmp_path / "site").close()
    return tmp_path / "site"


def fine(run: Run) -> State:
    run.facts["slides"] = 3
    return done("All is well.")


def ran(site: Path, work: object = fine, name: str = "scrub") -> tuple[str, str, str]:
    """Return type, name and message of the state that a run ends in."""
    state = night(name, str(site), work, patience_seconds=0.0)  # type: ignore[arg-type]
    return state.type.value, str(state.name), str(state.message)


# --- one at a time, and what is noted ---------------------------------------------------------------------------------


def test_a_run_that_did_its_work_is_noted_in_the_site(site: Path) -> None:
    assert ran(site) == ("COMPLETED", "Completed", "All is well.")

    noted = last_run(site, "scrub")
    assert noted is not None
    assert (noted.state, noted.message, noted.facts) == ("Completed", "All is well.", {"slides": 3})
    assert noted.began <= noted.ended
    assert last_run(site, "recall") is None


def test_a_run_that_finds_another_at_work_says_so_and_does_nothing(site: Path) -> None:
    ran(site)
    before = last_run(site, "scrub")
    with process_lock(lock_path(site, "scrub")) as is_held:
        assert is_held
        kind, name, message = ran(site)
        assert ran(site, name="recall")[1] == "Completed", "flows of other kinds do not wait for it"

    assert (kind, name) == ("COMPLETED", "Skipped")
    assert "Another run of scrub is at work" in message
    assert last_run(site, "scrub") == before
    assert ran(site)[1] == "Completed", "the lock is free again"


def test_a_run_that_skips_its_work_by_itself_catches_nothing_up(site: Path) -> None:
    assert ran(site, lambda _run: skipped("The share is away."))[1] == "Skipped"
    assert last_run(site, "scrub") is None


def test_a_run_waits_a_moment_for_the_other_to_end(site: Path) -> None:
    ran(site)
    lock = process_lock(lock_path(site, "scrub"))
    lock.__enter__()

    class Ends:
        """A clock by which the other run ends while one waits."""

        def now(self) -> datetime:
            return datetime.now(tz=UTC)

        def monotonic_seconds(self) -> float:
            return 0.0

        def sleep(self, seconds: float) -> None:
            lock.__exit__(None, None, None)

    with ops.open_site(site) as opened, running._alone(opened, "scrub", 20.0, Ends()) as is_alone:
        assert is_alone


def test_late_runs_after_an_outage_are_caught_up_by_the_first(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(tz=UTC)
    due = [now - timedelta(days=3), now - timedelta(days=2), now - timedelta(days=1), now + timedelta(days=1)]
    count = []

    def work(_run: Run) -> State:
        count.append(1)
        return done("Done.")

    names = []
    for moment in due:
        monkeypatch.setattr(running, "_expected", lambda moment=moment: moment)
        names.append(ran(site, work)[1])
    assert names == ["Completed", "Skipped", "Skipped", "Completed"]
    monkeypatch.setattr(running, "_expected", lambda: None)
    assert ran(site, work)[1] == "Completed", "what somebody starts is never caught up"
    assert len(count) == 3


def test_a_failed_run_catches_nothing_up(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_run: Run) -> State:
        raise TransientError("The tier is away.")

    monkeypatch.setattr(running, "_expected", lambda: datetime.now(tz=UTC) - timedelta(days=1))
    assert ran(site, fails)[1] == "TierFailed"
    assert ran(site)[1] == "Completed"


@pytest.mark.parametrize("text", ["", "[]", '{"began": 5}', '{"began": "2026-01-01", "ended": "2026-01-01"}'])
def test_a_note_that_cannot_be_read_is_none(site: Path, text: str) -> None:
    ran(site)
    (site / "flows" / "scrub.json").write_text(text)

    assert last_run(site, "scrub") is None


# --- errors as states -------------------------------------------------------------------------------------------------


def classes(root: type[WsistoreError] = WsistoreError) -> set[type[WsistoreError]]:
    return {root}.union(*(classes(one) for one in root.__subclasses__()))


TREE = sorted((one for one in classes() if one.__module__ == errors.__name__), key=lambda one: one.__name__)


@pytest.mark.parametrize("error", TREE, ids=lambda one: one.__name__)
def test_every_error_becomes_a_failed_state_with_exit_code_and_remedy(site: Path, error: type[WsistoreError]) -> None:
    def fails(_run: Run) -> State:
        raise error("It is broken.", kind=Kind.BUSY, remedy="Mend it.")

    kind, name, message = ran(site, fails)

    assert kind == "FAILED"
    assert name == FAILURES.get(error.exit_code, "Fault")
    assert message == f"It is broken. Mend it. (exit code {error.exit_code}, busy)"


def test_a_site_that_is_not_there_is_a_failed_state(tmp_path: Path) -> None:
    kind, name, message = ran(tmp_path / "nowhere")

    assert (kind, name) == ("FAILED", "SiteNotInOrder")
    assert "is no site" in message


def test_what_wsistore_does_not_know_is_a_fault_that_tells_no_names(site: Path) -> None:
    def fails(_run: Run) -> State:
        raise ZeroDivisionError(f"/scans/{SECRET}.svs")

    kind, name, message = ran(site, fails)

    assert (kind, name) == ("FAILED", "Fault")
    assert "ZeroDivisionError" in message
    assert SECRET not in message


def test_the_end_of_a_runs_time_is_prefects_to_name(site: Path) -> None:
    def fails(_run: Run) -> State:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        night("scrub", str(site), fails)


@pytest.mark.parametrize("kind", [Kind.SOURCE_BROKEN, Kind.NOT_A_SLIDE, Kind.SLIDE_AMBIGUOUS, Kind.HELD, Kind.INTERNAL])
def test_messages_that_may_name_a_patient_are_told_by_their_kind(kind: Kind) -> None:
    text = told(WsistoreError(f"/scans/{SECRET}.svs is broken.", kind=kind, remedy=f"Look at {SECRET}."))

    assert SECRET not in text
    assert text


def test_what_passes_by_itself_is_tried_again_and_nothing_else() -> None:
    assert passes_by_itself(TransientError("away"))
    assert passes_by_itself(errors.WorkersError("died"))
    assert passes_by_itself(SiteError("locked", kind=Kind.CATALOG_FAILED))
    assert not passes_by_itself(errors.WorkersError("too small", kind=Kind.WORKERS_MEMORY))
    assert not passes_by_itself(SiteError("wrong"))
    assert not passes_by_itself(errors.FullError("full"))
    assert not passes_by_itself(ValueError("x"))


def test_the_end_of_many_slides_is_the_worst_that_happened() -> None:
    tier, held = Failure("storage-failed", "The tier is ill.", 6), Failure("held", "Why: …", 5)
    slide = Failure("corrupt", "It rotted.", 7)

    assert [ended("3 done").name, ended("3 done", refused=1).name] == ["Completed", "DoneWithRefusals"]
    assert ended("3 done", [held]).name == "DoneWithRefusals"
    both = ended("3 done", [held, tier, tier])
    assert (both.name, both.message) == ("TierFailed", "3 done. The tier is ill. (exit code 6, storage-failed)")
    several = ended("3 done", [tier, slide])
    assert several.name == "SlidesFailed"
    assert "2 failures" in str(several.message)
    assert "(exit code 9)" in str(several.message)


# --- parts of a run ---------------------------------------------------------------------------------------------------


def test_batches_come_in_order_and_miss_nothing(site: Path) -> None:
    got: list[list[int]] = []

    def work(run: Run) -> State:
        got.extend(run.batches("slides", range(7), list, size=3))
        assert list(run.batches("slides", [], list)) == []
        assert run.step("one", lambda: 5) == 5
        return done("Done.")

    assert ran(site, work)[1] == "Completed"
    assert got == [[0, 1, 2], [3, 4, 5], [6]]


def test_workers_are_not_started_where_nothing_needs_them(site: Path) -> None:
    def work(run: Run) -> State:
        with run.executor():
            pass
        return done("Done.")

    loaded = "distributed" in sys.modules
    assert ran(site, work)[1] == "Completed"
    assert ("distributed" in sys.modules) == loaded


# --- the log ----------------------------------------------------------------------------------------------------------


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    trace = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("wsistore.x", logging.INFO, __file__, 1, message, arguments, trace)


def test_a_log_line_without_names_is_shown_whole() -> None:
    line = record("slide %s: %d shards, %s", "0rn7tt4c1a549xsdepv9", 3, TransientError("the tier is away"))

    assert public(line) == ("slide 0rn7tt4c1a549xsdepv9: 3 shards, the tier is away", True)


@pytest.mark.parametrize(
    "argument",
    [
        Path(f"/scans/{SECRET}.svs"),
        f"/scans/{SECRET}.svs",
        UnsupportedError(f"/scans/{SECRET}.svs is no slide"),
        OSError(2, "No such file", f"/scans/{SECRET}.svs"),
    ],
)
def test_files_and_what_is_wrong_with_them_are_not_shown_in_runs(argument: object) -> None:
    text, is_whole = public(record("%s was looked at", argument))

    assert SECRET not in text
    assert text.endswith("was looked at")
    assert not is_whole


def test_a_traceback_is_shown_without_what_was_raised() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        text, is_whole = public(record("unexpected", error=error))

    assert "test_flows_running" in text
    assert "ValueError" in text
    assert not is_whole
    assert SECRET not in text.replace("raise ValueError(SECRET)", "")


# --- thin flows -------------------------------------------------------------------------------------------------------


def test_a_backup_says_what_was_copied(site: Path) -> None:
    state = backup.fn(str(site), keep=1)
    again = backup.fn(str(site), keep=1)

    assert (state.name, again.name) == ("Completed", "Completed")
    (file,) = (site / "backups").iterdir()
    assert file.name in str(again.message)
    noted = last_run(site, "catalog-backup")
    assert noted is not None
    assert noted.facts["removed"] == 1


def test_without_temporary_copies_there_is_nothing_to_expire(site: Path) -> None:
    assert expire.fn(str(site)).name == "NothingToDo"
