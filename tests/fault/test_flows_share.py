"""A scanner's share is unplugged while its slides are taken in, stays away for a run, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows_kit import Hold, assert_rests, hospital, keys_of, pieces_of_tissue
from tests.prefect_kit import Server, shell

pytestmark = pytest.mark.slow

INGEST = "wsistore_flows.ingest.ingest"


def test_a_share_is_unplugged_and_comes_back(prefect_server: Server, tmp_path: Path) -> None:
    share, away = tmp_path / "share", tmp_path / "away"
    settings = f'[intake.scanner-1]\npath = "{share}"\nsettle_seconds = 0\nmarker = "slides-here.txt"\n'
    site = hospital(tmp_path / "site", settings)
    paths = pieces_of_tissue(share, 6)
    (share / "slides-here.txt").touch()
    hold = Hold(tmp_path / "hold", "commit", 2)
    call = (INGEST, {"site": str(site), "jobs": 1})
    with shell(tmp_path / "shell", prefect_server) as run:
        process = run.flows(call, call, call, before=hold.code)
        hold.reached_by(process)
        share.rename(away)
        share.mkdir()  # where it was mounted
        hold.let_go()
        looked, cut, none = process.wait()
        taken = keys_of(site)
        assert len(taken) == 2, "the one that was taken, and the one that was read already"

        share.rmdir()
        away.rename(share)
        back, again = run.flows(call, (INGEST, {"site": str(site), "retry": True})).wait()
    assert looked["type"] == cut["type"] == "COMPLETED", cut
    assert none["type"] == "FAILED", none
    assert "scanner-1" in none["message"]
    assert back["type"] == again["type"] == "COMPLETED", (back, again)
    assert taken.items() <= keys_of(site).items(), "what was taken in before stays as it was"
    slides = {slide: share / name for slide, name in keys_of(site).items()}
    assert sorted(slides.values()) == sorted(paths)
    assert_rests(site, slides, "hot", {"ingested": 1})
    for line in (looked, cut, none, back, again):
        shown = prefect_server.run(line["run"])
        assert (shown["state_name"], shown["state"]["message"] or "") == (line["name"], line["message"])
        logs = " ".join(prefect_server.logs(line["run"]))
        assert not any(path.name in logs + line["message"] for path in paths), "names of files may tell of patients"
