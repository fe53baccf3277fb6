"""The demonstration runs, with a real S3 server and without, and says so if a slide did not come back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3_kit import PROGRAMS
from wsistore.testing.mutate import zero_length
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import pyramid, tissue

ROOT = Path(__file__).parents[2]
# It does all that there is, in processes of its own: minutes, and more on a busy machine.
pytestmark = pytest.mark.timeout(1600)


def _run(slides: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (slides.parent / "temporary").mkdir()
    return subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env={**os.environ, "SLIDES": str(slides), "TMPDIR": str(slides.parent / "temporary"), **variables},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    return tmp_path / "slides"


def test_demo_shows_every_slide_come_back(slides: Path) -> None:
    write_svs(slides / "one.svs", pyramid(tissue(600, 800, seed=3), 4, 2))
    done = _run(slides, S3="0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 slides came back byte for byte" in done.stdout
    assert "The audit trail is whole." in done.stdout
    assert "identical" in done.stdout
    assert "Every preset gives the same pixels and the same file, and the way back gives the same store." in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] in (["keep"], ["fold"], ["pack"])]
    assert [row[0] for row in rows] == ["keep", "fold", "pack", "keep"]
    hashes = [[word for word in row if word.endswith("…")] for row in rows]
    assert hashes[0] == hashes[3]
    assert len({store for store, _ in hashes}) == 3
    assert len({pixels for _, pixels in hashes}) == 1
    assert "No S3 server, for S3=0 was asked for: three folders are the tiers." in done.stdout
    _check_tour(done.stdout, "warm")
    _check_left(slides.parent / "temporary", done.stdout)


def _check_left(temporary: Path, out: str) -> None:
    """Check that nothing stays but the report, whose place is told."""
    (report,) = temporary.iterdir()
    assert str(report) in "".join(out.split())
    assert {path.suffix for path in report.rglob("*") if path.is_file()} >= {".html", ".xlsx", ".parquet"}


def _check_tour(out: str, middle: str) -> None:
    """Check the one slide's way: every step in its order, with what proves it."""
    shown = out.partition("Over three tiers and back:")[2].splitlines()[1:]
    lines = [" ".join(line.split()).removeprefix("one.svs ") for line in shown]
    expected = (
        r"ingested keep .* read back",
        rf"hot → {middle} fold .* read back",
        rf"{middle} → cold pack .* read back",
        r"drop from cold refused: last copy",
        r"cold → hot killed on purpose",
        r"recover keep .* read back",
    )
    steps = [line for line in lines if re.match(r"ingested|\w+ → |drop|recover ", line)]
    assert len(steps) == len(expected)
    assert all(re.match(pattern, step) for pattern, step in zip(expected, steps, strict=True)), steps
    assert "1 slide went over three tiers and back: the same files and the same stores" in out
    assert re.search(r"Asked for in 40 hours: standard from deep-archive, at most 0\.\d+ EUR", out)
    assert "6 of 6 rows were done" in out
    assert re.search(r"It was there after \d+ of the archive's hours, byte for byte", out)
    assert "The last copy was not dropped, and the move that was killed was finished by recover." in out


@pytest.mark.skipif(any(shutil.which(name) is None for name in PROGRAMS), reason="no S3 server is installed")
def test_demo_takes_a_real_s3_server_and_stops_it(slides: Path) -> None:
    write_svs(slides / "one.svs", pyramid(tissue(600, 800, seed=3), 4, 2))
    done = _run(slides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The tier s3 is a bucket of a real S3 server (Ceph RGW) at http://127.0.0.1:" in done.stdout
    _check_tour(done.stdout, "s3")
    _check_left(slides.parent / "temporary", done.stdout)
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(slides.parent) in _text(path)]
    assert running == []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has just ended
        return ""


def test_demo_names_what_it_could_not_take(slides: Path) -> None:
    zero_length(slides / "empty.svs")
    done = _run(slides, S3="0")
    assert done.returncode == 1
    assert "empty.svs" in done.stdout
