"""Exports and restores that were killed, and exports of damaged companions: what is left, and what comes next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.site_kit import ingest, listing, new_site, picture, tiny_svs
from wsistore import ops
from wsistore.errors import ConflictError, IntegrityError
from wsistore.model import Mode
from wsistore.testing.tiffs import write_flat_tiff

KILL = """
import os, pathlib, sys
from wsistore import ops
folder, slide, target, what, nth = sys.argv[1:]
calls = []
def die(original):
    def act(*arguments):
        calls.append(arguments)
        if len(calls) == int(nth):
            os.kill(os.getpid(), 9)
        return original(*arguments)
    return act
pathlib.Path.rename = die(pathlib.Path.rename)
pathlib.Path.hardlink_to = die(pathlib.Path.hardlink_to)
with ops.open_site(pathlib.Path(folder)) as site:
    if what == "restore":
        ops.restore(site, slide, pathlib.Path(target).parent)
    else:
        ops.export(site, slide, pathlib.Path(target), with_private=True)
"""


def killed(site: ops.Site, slide: str, target: Path, what: str, nth: int) -> None:
    """Let a process of its own die before it gives something its final name for the `nth` time."""
    arguments = [sys.executable, "-c", KILL, str(site.folder), slide, str(target), what, str(nth)]
    assert subprocess.run(arguments, check=False).returncode == -9


@pytest.mark.parametrize(("what", "nth"), [("restore", 1), ("export", 1), ("export", 2)])
def test_a_killed_one_is_cleaned_up_after_and_may_be_repeated(tmp_path: Path, what: str, nth: int) -> None:
    out = tmp_path / "out"
    target = out / "x.ome.zarr"
    with ops.open_site(new_site(tmp_path / "site")) as site:
        (result,) = ingest(site, tiny_svs(tmp_path / "a.svs"))
        slide = str(result.slide)
        killed(site, slide, target, what, nth)
        assert len(list(out.glob(".wsistore-*.part"))) == 1
        strange = out / ".wsistore-0123456789.part"
        strange.touch()
        ops.export(site, slide, target, with_private=True)
        ops.restore(site, slide, out)
        assert sorted(path.name for path in out.iterdir()) == [strange.name, "a.svs", "x.ome.zarr", "x.private"]


def test_what_a_live_process_writes_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[Path] = []
    with ops.open_site(new_site(tmp_path / "site")) as site:
        (result,) = ingest(site, tiny_svs(tmp_path / "a.svs"))

        def export_too(_: int) -> None:
            if not seen:
                seen.extend(out.iterdir())
                ops.export(site, str(result.slide), out / "y.ome.zarr")

        ops.export(site, str(result.slide), out / "x.ome.zarr", progress=export_too)
        assert len(seen) == 1
        assert listing(out / "x.ome.zarr").keys()
        assert sorted(path.name for path in out.iterdir()) == ["x.ome.zarr", "y.ome.zarr"]


def test_somebody_elses_private_folder_stays_and_is_in_the_way(tmp_path: Path) -> None:
    private = tmp_path / "out" / "x.private"
    private.mkdir(parents=True)
    (private / "metadata.json").write_text("{}")
    with ops.open_site(new_site(tmp_path / "site")) as site:
        (result,) = ingest(site, tiny_svs(tmp_path / "a.svs"))
        with pytest.raises(ConflictError, match=r"x\.private"):
            ops.export(site, str(result.slide), tmp_path / "out" / "x.ome.zarr", with_private=True)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.private"]
        assert (private / "metadata.json").read_text() == "{}"


def test_pixels_of_a_damaged_whole_slide_are_not_handed_on(tmp_path: Path) -> None:
    tiff = write_flat_tiff(tmp_path / "a.tiff", np.ascontiguousarray(picture(96, 128, 1)), codec="none")
    with ops.open_site(new_site(tmp_path / "site")) as site:
        (result,) = ingest(site, tiff)
        assert result.mode is Mode.WHOLE
        (kept,) = (site.folder / "tiers" / "hot" / "private").rglob("source/0")
        data = bytearray(kept.read_bytes())
        data[len(data) // 2] ^= 1
        kept.write_bytes(data)
        with pytest.raises(IntegrityError, match="source/0"):
            ops.export(site, str(result.slide), tmp_path / "x.ome.zarr", codec=ops.ExportCodec.ZSTD)
        assert not (tmp_path / "x.ome.zarr").exists()
