"""The flow that encodes copies anew, with a Dask cluster of separate processes that somebody else runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests import execute_kit
from tests.flows_kit import hospital, taken_in
from tests.site_kit import assert_sound, files_of, restored
from wsistore import ops
from wsistore.model import Preset
from wsistore_flows.reencode import reencode


def test_shards_are_tasks_of_its_workers_and_their_logs_reach_the_run(
    tmp_path: Path, real_slides: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = hospital(tmp_path / "site")
    slides = taken_in(
        site, [real_slides / "aperio" / "CMU-1-Small-Region.svs", real_slides / "tiff" / "CMU-1-jpeg420.tiff"]
    )
    with execute_kit.cluster(tmp_path / "dask", 2) as cluster:
        with (site / "wsistore.toml").open("a") as file:
            file.write(f'\n[flows]\nscheduler = "{cluster.address}"\n')
        with caplog.at_level(logging.INFO, "wsistore"), caplog.at_level(logging.INFO, "wsistore_flows"):
            state = reencode.fn(site=str(site), tiers=["hot"], preset=Preset.FOLD)

    assert state.name == "Completed"
    assert str(state.message).startswith("2 of 2 copies are encoded anew")
    with ops.open_site(site) as opened:
        assert_sound(opened)
        for slide, path in slides.items():
            (copy,) = opened.catalog.copies(slide)
            assert copy.preset is Preset.FOLD
            assert restored(opened, slide) == files_of(path)
    told = [record.getMessage() for record in caplog.records]
    assert all(any(slide in line and "[worker " in line for line in told) for slide in slides)
    assert any("the Dask cluster tcp://" in line for line in told)
