"""The service of the nights: runs that meet, runs that are killed, nights that are missed; and no network.

It is what an administrator starts: `wsistore flows serve`, with nothing in the environment that makes Prefect quiet.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.execute_kit import alive, children
from tests.flows_kit import TO_WARM, Hold, assert_rests, hospital, pieces_of_tissue, rows_by_state, taken_in
from tests.prefect_kit import Api, Process, Shell, free_port, shell, until

pytestmark = pytest.mark.slow

NEVER = "0 0 29 2 *"
OTHERS = ("ingest", "recall", "expire", "lifecycle-apply", "re-encode", "scrub", "report")
SETTINGS = f"""
[flows.lifecycle]
cron = "{NEVER}"
[flows.catalog-backup]
cron = "%s"
""" + "".join(f"[flows.{name}]\npaused = true\n" for name in OTHERS)
NIGHTS = 4


def test_runs_meet_and_are_killed_and_nights_are_missed(tmp_path: Path) -> None:
    far = datetime.now(UTC) + timedelta(hours=12)  # no night comes by itself while the test runs
    site = hospital(tmp_path / "site", SETTINGS % f"{far:%M %H} * * *", TO_WARM % "keep")
    slides = taken_in(site, pieces_of_tissue(tmp_path / "in", 6))
    hold = Hold(tmp_path / "hold", "finish_drop", 3)
    first = tmp_path / "first.py"
    first.write_text(hold.code)
    with shell(tmp_path / "shell") as run:
        run.environment["TEST_FIRST"] = str(first)
        service, prefect = _serve(run, site)
        lifecycle = prefect.ask("GET", "deployments/name/lifecycle/site")["id"]
        killed = prefect.ask("POST", f"deployments/{lifecycle}/create_flow_run", {})["id"]
        hold.reached_by(service)
        first.unlink()

        # a schedule fires while it works
        times = f"deployments/{lifecycle}/schedules"
        (often,) = prefect.ask("POST", times, [{"active": True, "schedule": {"interval": 2}}])
        met = until(lambda: [one for one in prefect.runs_of(lifecycle) if _gave_way(one)], service.err)
        prefect.ask("DELETE", f"{times}/{often['id']}")
        _end_waiting(prefect, lifecycle, service)
        assert rows_by_state(site)["done"] < len(slides), "nobody but the one that works has done a row"
        assert prefect.run(killed)["state_type"] == "RUNNING"
        assert met[0]["state"]["message"]

        # it is killed: Prefect shows that, and the next run goes on
        done = rows_by_state(site)["done"]
        os.kill(_process_of(service, killed), signal.SIGKILL)
        until(lambda: prefect.run(killed)["state_type"] == "CRASHED", service.err)
        again = prefect.ask("POST", f"deployments/{lifecycle}/create_flow_run", {})["id"]
        shown = until(lambda: _final(prefect.run(again)), service.err)
        assert (shown["type"], shown["name"]) == ("COMPLETED", "Completed"), shown
        assert f"{len(slides) - done} of {len(slides) - done} slides done" in shown["message"]
        assert_rests(site, slides, "warm")

        # power fails, and comes back after some nights
        backup = prefect.ask("GET", "deployments/name/catalog-backup/site")["id"]
        until(lambda: len(prefect.runs_of(backup)) >= NIGHTS - 1, service.err)
        for pid in {*children(service.popen.pid), service.popen.pid}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        service.popen.wait()
        _days_pass(site, backup, NIGHTS)
        service, prefect = _serve(run, site)
        until(lambda: list((site / "backups").glob("catalog-*.db")), service.err)
        missed = _due(site, backup)
        ended = until(lambda: _all_ended(prefect, list(missed)), service.err)
        assert Counter(one["name"] for one in ended) == {"Completed": 1, "Skipped": len(missed) - 1}, ended
        assert all(one["message"] for one in ended)
        assert len(list((site / "backups").glob("catalog-*.db"))) == 1, "a missed night is caught up once"

        service.popen.send_signal(signal.SIGTERM)
        assert service.popen.wait(240) == 0, service.said
        # also that of which the process was just leaving, whatever Prefect's runner says of it
        assert Counter(_due(site, backup).values()) == {"Completed": 1, "Skipped": len(missed) - 1}
        until(lambda: not any(alive(pid) and b"prefect" in _told(pid, "cmdline") for pid in children()))
    assert_rests(site, slides, "warm")


def _serve(run: Shell, site: Path) -> tuple[Process, Api]:
    """Start the service; return it, and its Prefect server."""
    service = run.command(site, "flows", "serve", "--port", free_port(), "--json")
    until(lambda: service.lines, service.err, alive=lambda: service.popen.poll() is None)
    return service, Api(service.lines[0]["api"])


def _told(pid: int, what: str) -> bytes:
    """Return the command line of a process, or its environment."""
    with suppress(OSError):  # it has just ended
        return Path(f"/proc/{pid}/{what}").read_bytes()
    return b""


def _gave_way(run: dict) -> bool:
    """A run by its schedule that did nothing, for another one was at work."""
    return run["auto_scheduled"] and (run["state_type"] == "CANCELLED" or run["state_name"] == "Skipped")


def _final(run: dict) -> dict | None:
    return run["state"] if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


def _all_ended(prefect: Api, runs: list[str]) -> list[dict] | None:
    states = [_final(prefect.run(run)) for run in runs]
    return [state for state in states if state] if all(states) else None


def _end_waiting(prefect: Api, deployment: str, service: Process) -> None:
    """Wait until the runs of the schedule that was taken away are over.

    Prefect's scheduler may have thought of some before, and only then write them down: it is looked twice.
    """

    def none_comes() -> bool:
        if _take_away(prefect, deployment):
            return False
        time.sleep(6)
        return not _take_away(prefect, deployment)

    until(none_comes, service.err)


def _take_away(prefect: Api, deployment: str) -> list[dict]:
    """Delete the runs by a schedule that have not begun; return what was not over until now."""
    found = [one for one in prefect.runs_of(deployment) if one["auto_scheduled"] and not _final(one)]
    for one in found:
        if one["state_type"] == "SCHEDULED":
            with suppress(HTTPError):  # it is gone already
                prefect.ask("DELETE", f"flow_runs/{one['id']}")
    return found


def _process_of(service: Process, run: str) -> int:
    """Return the process that does a flow run, and not one that only started it."""
    wanted = f"PREFECT__FLOW_RUN_ID={run}".encode()
    found = [pid for pid in children(service.popen.pid) if wanted in _told(pid, "environ").split(b"\0")]
    (one,) = [pid for pid in found if not children(pid) & set(found)]
    return one


def _days_pass(site: Path, deployment: str, days: int) -> None:
    """Let the server's scheduled runs of a deployment have been due some days earlier, as if it were days later now."""
    moved = "strftime('%Y-%m-%d %H:%M:%f000', {}, ?)"
    with _database(site) as connection:
        # A run that nobody has marked as late yet begins no sooner than its state says.
        connection.execute(
            "update flow_run_state set state_details = json_set(state_details, '$.scheduled_time', "
            "strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(state_details, '$.scheduled_time'), ?)) "
            "where id in (select state_id from flow_run where deployment_id = ? and state_type = 'SCHEDULED')",
            (f"-{days} days", deployment),
        )
        connection.execute(
            f"update flow_run set expected_start_time = {moved.format('expected_start_time')}, "
            f"next_scheduled_start_time = {moved.format('next_scheduled_start_time')} "
            "where deployment_id = ? and state_type = 'SCHEDULED'",
            (f"-{days} days", f"-{days} days", deployment),
        )


def _due(site: Path, deployment: str) -> dict[str, str]:
    """Return the runs that were due until now, with the names of their states."""
    with _database(site) as connection:
        rows = connection.execute(
            "select id, state_name from flow_run where deployment_id = ? and auto_scheduled "
            "and julianday(expected_start_time) < julianday('now')",
            (deployment,),
        )
        return {str(run): str(state) for run, state in rows}


@contextmanager
def _database(site: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(site / "prefect" / "prefect.db", timeout=60)) as connection, connection:
        yield connection
