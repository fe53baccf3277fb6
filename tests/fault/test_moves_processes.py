"""Moves by real processes on real disks: workers that are killed while a slide is encoded on its way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fault.test_reencode_processes import dask_workers, notes
from tests.move_kit import assert_at_rest
from tests.site_kit import command, files_of, ingest, new_site
from wsistore import ops
from wsistore.testing.tiffs import write_generic_tiff
from wsistore.testing.tissue import tissue


@pytest.mark.slow
def test_a_dask_worker_is_killed_while_a_slide_moves(tmp_path: Path) -> None:
    path, folder = tmp_path / "tissue.tiff", new_site(tmp_path / "site")
    write_generic_tiff(path, [tissue(1536, 2048, seed=5)], tile=(128, 128))
    with ops.open_site(folder) as site:
        slide = str(ingest(site, path)[0].slide)
    script = "from wsistore.compress import reencoding; reencoding.LEAST_SHARD_BYTES = 20_000; "
    arguments = command(folder, "move", slide, "--to", "warm", "--preset", "fold", "--json", "--jobs", "2")
    arguments[2] = script + arguments[2]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 170
    while not notes(folder, "warm"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    victims = dask_workers(process.pid)
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    out, err = process.communicate(timeout=450)
    (line,) = [json.loads(text) for text in out.splitlines()]
    assert (process.returncode, line["status"], line["dropped"]) == (0, "moved", ["hot"]), (line, err)
    with ops.open_site(folder) as site:
        for tier in ("hot", "warm", "cold"):
            site.tier(tier)
        assert_at_rest(site, slide, files_of(path), "warm")
