"""Prefect's server goes away during a night, then its database does: the night goes on, and Prefect shows its end."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.flows_kit import TO_WARM, Hold, assert_rests, hospital, pieces_of_tissue, rows_by_state, taken_in
from tests.prefect_kit import Server, shell, until

pytestmark = pytest.mark.slow

SLIDES = 6
AWAY_SECONDS = 15
"""As good as a minute: long enough for requests to fail, and short enough for them to be tried again."""


def test_server_and_database_go_away_during_nights(lone_postgresql_server: Server, tmp_path: Path) -> None:
    server = lone_postgresql_server
    sites = [hospital(tmp_path / name, rules=TO_WARM % "keep") for name in ("first", "second")]
    slides = [taken_in(site, pieces_of_tissue(site / "in", SLIDES)) for site in sites]
    holds = [Hold(tmp_path / "server", "commit_reencode", 2), Hold(tmp_path / "database", "finish_drop", SLIDES + 2)]
    with shell(tmp_path / "shell", server) as run:
        process = run.flows(
            *(("wsistore_flows.lifecycle.lifecycle", {"site": str(site)}) for site in sites),
            before="".join(hold.code for hold in holds),
        )

        holds[0].reached_by(process)
        server.stop(signal.SIGKILL)
        holds[0].let_go()
        until(lambda: rows_by_state(sites[0])["done"] == SLIDES, process.err)  # whatever becomes of Prefect
        server.start()

        holds[1].reached_by(process)
        server.stop_database()
        holds[1].let_go()
        until(lambda: rows_by_state(sites[1])["done"] == SLIDES, process.err)
        time.sleep(AWAY_SECONDS)
        server.start_database()

        ended = process.wait()
    assert [line["name"] for line in ended] == ["Completed", "Completed"], process.said
    for site, own, line in zip(sites, slides, ended, strict=True):
        assert_rests(site, own, "warm")
        shown = until(partial(_ended, server, line["run"]))
        assert (shown["name"], shown["message"]) == ("Completed", line["message"])


def _ended(server: Server, run: str) -> dict[str, str] | None:
    shown = server.run(run)["state"]
    return shown if shown["type"] not in {"RUNNING", "PENDING", "SCHEDULED"} else None
