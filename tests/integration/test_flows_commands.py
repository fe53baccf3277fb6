"""The service and the commands about it, as an administrator uses them: start, look, run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prefect_kit import Process, Shell, free_port, shell, until
from tests.site_kit import new_site

pytestmark = pytest.mark.slow

NAMES = ["ingest", "recall", "expire", "lifecycle", "lifecycle-apply", "re-encode", "scrub", "catalog-backup", "report"]
PAUSED = ["ingest", "recall", "lifecycle-apply"]
NEVER = "0 0 29 2 *"
"""No night begins by itself while the test runs."""
SETTINGS = """
[flows]
time_zone = "Europe/Paris"
""" + "".join(f"[flows.{name}]\n{'paused = true' if name in PAUSED else f'cron = {NEVER!r}'}\n" for name in NAMES)


def test_an_administrator_starts_the_service_looks_and_runs(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    with (site / "wsistore.toml").open("a") as file:
        file.write(SETTINGS)
    with shell(tmp_path / "shell") as run:
        serve(run, site)
        rows = said(run, site, "ls")
        assert [row["flow"] for row in rows] == NAMES
        assert {row["time_zone"] for row in rows} == {"Europe/Paris"}
        assert [row["flow"] for row in rows if row["paused"]] == PAUSED

        # by hand, to its end
        (done,) = said(run, site, "run", "catalog-backup", "--param", "keep=2", "--wait")
        assert (done["flow"], done["state"], done["ended_well"]) == ("catalog-backup", "Completed", True)
        assert len(list((site / "backups").iterdir())) == 1
        assert [one["id"] for one in said(run, site, "history")] == [done["id"]]
        assert said(run, site, "history", "scrub") == []


def serve(run: Shell, site: Path) -> Process:
    service = run.command(site, "flows", "serve", "--json", "--port", free_port())
    until(lambda: service.lines, service.err, alive=lambda: service.popen.poll() is None)
    return service


def said(run: Shell, site: Path, *arguments: str) -> list[dict[str, object]]:
    process = run.command(site, "flows", *arguments, "--json")
    lines = process.wait()
    assert process.popen.returncode == 0, process.said
    return lines
