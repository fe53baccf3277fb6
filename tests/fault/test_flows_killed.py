"""Nights cut short by `kill -9`, of the flow or of a Dask worker: the next run finishes, and nothing is done twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.execute_kit import cluster
from tests.flows_kit import TO_WARM, Hold, assert_rests, hospital, in_flight, pieces_of_tissue, rows_by_state, taken_in
from tests.prefect_kit import Server, shell, until

pytestmark = pytest.mark.slow

LIFECYCLE = "wsistore_flows.lifecycle.lifecycle"


def test_a_flow_that_is_killed_in_mid_apply_is_gone_on_with(prefect_server: Server, tmp_path: Path) -> None:
    site = hospital(tmp_path / "site", rules=TO_WARM % "keep")
    slides = taken_in(site, pieces_of_tissue(tmp_path / "in", 8))
    with shell(tmp_path / "shell", prefect_server) as run:
        # before a copy counts, then when the old one is deleted and the catalogue does not know yet
        for method, nth in (("commit_reencode", 2), ("finish_drop", 3)):
            hold = Hold(tmp_path / method, method, nth)
            process = run.flows((LIFECYCLE, {"site": str(site)}), before=hold.code)
            hold.reached_by(process)
            process.kill()
            done = rows_by_state(site)["done"]
            assert done < len(slides)
            copying, dropping = in_flight(site)
            assert dropping if method == "finish_drop" else copying
        last = run.run("lifecycle", site=str(site))
    assert (last["type"], last["name"]) == ("COMPLETED", "Completed")
    assert f"{len(slides) - done} of {len(slides) - done} slides done" in last["message"]
    assert_rests(site, slides, "warm")
    shown = prefect_server.run(last["run"])
    assert (shown["state_name"], shown["state"]["message"]) == ("Completed", last["message"])
    assert any(artifact["key"].startswith("site-lifecycle") for artifact in prefect_server.artifacts(last["run"]))


def test_a_dask_worker_that_is_killed_costs_its_shards_only(prefect_server: Server, tmp_path: Path) -> None:
    with cluster(tmp_path / "dask", workers=1) as dask, shell(tmp_path / "shell", prefect_server) as run:
        settings = f'[flows]\nscheduler = "{dask.address}"\n'
        site = hospital(tmp_path / "site", settings, TO_WARM % "fold")
        slides = taken_in(site, pieces_of_tissue(tmp_path / "in", 5))
        victim = dask.add_worker()
        process = run.flows((LIFECYCLE, {"site": str(site)}))
        until(lambda: rows_by_state(site)["done"], process.err, alive=lambda: process.popen.poll() is None)
        os.kill(victim.pid, signal.SIGKILL)
        (ended,) = process.wait()
        if ended["name"] == "GoesOn":
            ended = run.run("lifecycle", site=str(site))
    assert (ended["type"], ended["name"]) == ("COMPLETED", "Completed"), ended
    assert_rests(site, slides, "warm")
    assert prefect_server.run(ended["run"])["state_type"] == "COMPLETED"
