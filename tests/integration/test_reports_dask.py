"""A month's report made on Dask is the same bytes as one that is made here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from distributed import LocalCluster

from tests.site_kit import cli, tiny_svs
from wsistore import ops
from wsistore.ops import report_parts
from wsistore.ops.reporting import report
from wsistore.testing.clock import ManualClock


def test_a_report_on_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(datetime(2026, 9, 1, tzinfo=UTC))
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site", clock=clock) as site:
        list(ops.ingest(site, [tiny_svs(tmp_path / f"{n}.svs", seed=n) for n in range(3)]))
        clock.sleep(40 * 86_400)
        here = report(site, "2026-09", tmp_path / "here")
        monkeypatch.setattr(report_parts, "SLIDES_OF_PART", 1)
        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit="2GB") as cluster:
            address = cluster.scheduler_address
            there = report(site, "2026-09", tmp_path / "there", scheduler=address)
            command = ["report", "--month", "2026-09", "-o", tmp_path / "typed", "--no-pages", "--scheduler", address]
            typed = cli(tmp_path / "site", *command, "--json")
    assert there.files == here.files
    assert there.total == here.total
    assert typed.code == 0, typed.err
    assert json.loads(typed.out)["files"] == here.to_json()["files"]
