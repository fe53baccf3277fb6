"""A folder of many slides with broken ones among them: the others go in, these are named, running again is safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site_kit import assert_all_restore, assert_sound, cli, files_of, new_site, tiny_tiff
from wsistore import ops
from wsistore.testing import mutate

COUNT = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of `COUNT` slides, three of them broken, in two subfolders."""
    made = tmp_path_factory.mktemp("scans")
    for number in range(COUNT - 3):
        tiny_tiff(made / f"day{number % 2}" / f"{number:03}.tiff", seed=1000 + number)
    model = tiny_tiff(made.parent / "model.tiff", seed=5)
    mutate.truncated(model, made / "day0" / "bad-truncated.tiff", 700)
    mutate.zero_length(made / "day0" / "bad-empty.svs")
    mutate.jpeg_renamed(made / "day1" / "bad-jpeg.svs")
    (made / "day1" / "notes.txt").write_text("no slide")
    (made / "day1" / ".hidden.tiff").write_bytes(b"no slide")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 4])
def test_folder_with_three_broken_slides(tmp_path: Path, folder: Path, jobs: int) -> None:
    site = new_site(tmp_path / "site")
    done = cli(site, "ingest", folder, "--recursive", "--jobs", jobs, "--json")
    assert done.code == 3
    lines = done.lines
    assert len(lines) == COUNT
    failed = {Path(line["source"]).name: line["error"]["kind"] for line in lines if line["status"] == "failed"}
    assert set(failed) == {"bad-truncated.tiff", "bad-empty.svs", "bad-jpeg.svs"}
    assert failed["bad-empty.svs"] == "source-empty"
    assert failed["bad-jpeg.svs"] == "not-a-slide"
    assert sum(line["status"] == "ingested" for line in lines) == COUNT - 3

    again = cli(site, "ingest", folder, "--recursive", "--jobs", jobs, "--json")
    assert again.code == 3
    assert sum(line["status"] == "exists" for line in again.lines) == COUNT - 3
    assert sum(line["status"] == "failed" for line in again.lines) == 3
    with ops.open_site(site) as opened:
        assert_sound(opened)
        if jobs == 4:
            good = [path for path in folder.rglob("*.tiff") if path.stem.isdigit()]
            assert_all_restore(opened, {path.name: files_of(path) for path in good})


def test_subfolders_only_when_asked(tmp_path: Path, folder: Path) -> None:
    site = new_site(tmp_path / "site")
    done = cli(site, "ingest", folder, "--json")
    assert done.code == 3
    assert done.error["kind"] == "not-a-slide"


def test_table_for_people_names_what_failed(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    tiny_tiff(tmp_path / "in" / "good.tiff")
    mutate.zero_length(tmp_path / "in" / "bad.svs")
    done = cli(site, "ingest", tmp_path / "in")
    assert done.code == 3
    assert "good.tiff" in done.out
    assert "bad.svs" in done.err
    assert "1 of 2 slides failed" in done.err
