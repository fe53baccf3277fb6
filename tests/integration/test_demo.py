"""The demonstration runs, and says so if a slide did not come back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from wsistore.testing.mutate import zero_length
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import pyramid, tissue

ROOT = Path(__file__).parents[2]


def _run(slides: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLIDES": str(slides)}
    return subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_demo_shows_every_slide_come_back(tmp_path: Path) -> None:
    write_svs(tmp_path / "one.svs", pyramid(tissue(600, 800, seed=3), 4, 2))
    done = _run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 slides came back byte for byte" in done.stdout
    assert "The audit trail is whole." in done.stdout
    assert "identical" in done.stdout


def test_demo_names_what_it_could_not_take(tmp_path: Path) -> None:
    zero_length(tmp_path / "empty.svs")
    done = _run(tmp_path)
    assert done.returncode == 1
    assert "empty.svs" in done.stdout
