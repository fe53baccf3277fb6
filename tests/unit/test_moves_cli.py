"""The commands copy, move, drop, recover, and hold add, release and ls: what they print, and how they end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.site_kit import cli, files_of, new_site, restored, run, tiny_svs, tiny_tiff
from tests.unit.test_cli_docs import first_column, section
from wsistore import ops


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return new_site(tmp_path / "site")


@pytest.fixture
def slide(site: Path, tmp_path: Path) -> str:
    done = cli(site, "ingest", tiny_svs(tmp_path / "in" / "a.svs"), "--json")
    assert done.code == 0
    return str(done.lines[0]["slide"])


def tiers_of(site: Path, slide: str) -> dict[str, str]:
    with ops.open_site(site, read_only=True) as opened:
        return {copy.tier: str(copy.preset) for copy in opened.catalog.copies(slide)}


def test_the_whole_way_and_back(site: Path, slide: str, tmp_path: Path) -> None:
    asked = cli(site, "move", slide, "--to", "warm", "--dry-run", "--json").lines[0]
    assert (asked["status"], asked["from"], asked["tier"], asked["dropped"]) == ("planned", "hot", "warm", ["hot"])
    assert tiers_of(site, slide) == {"hot": "keep"}
    done = cli(site, "move", "a.svs", "--to", "warm", "--json").lines[0]
    assert set(done) == set(first_column(section("move").partition("Prints one object")[2]))
    assert (done["status"], done["from"], done["tier"], done["dropped"]) == ("moved", "hot", "warm", ["hot"])
    assert tiers_of(site, slide) == {"warm": "keep"}
    again = cli(site, "move", slide, "--to", "warm", "--json").lines[0]
    assert (again["status"], again["dropped"]) == ("exists", [])
    assert cli(site, "copy", slide, "--to", "cold", "--json").lines[0]["status"] == "copied"
    assert cli(site, "drop", slide, "--from", "warm", "--dry-run", "--json").lines[0]["status"] == "planned"
    dropped = cli(site, "drop", slide, "--from", "warm", "--json").lines[0]
    assert (dropped["status"], dropped["dropped"]) == ("dropped", ["warm"])
    assert cli(site, "drop", slide, "--from", "warm", "--json").lines[0]["status"] == "unchanged"
    last = cli(site, "drop", slide, "--from", "cold", "--json")
    assert (last.code, last.lines[0]["error"]["kind"]) == (5, "last-copy")
    assert cli(site, "drop", slide, "--from", "cold", "--dry-run", "--json").lines[0]["error"]["kind"] == "last-copy"
    shown = cli(site, "move", slide, "--to", "hot")
    assert shown.code == 0
    assert re.search(r"moved +cold +hot +cold +keep", shown.out)
    with ops.open_site(site) as opened:
        assert restored(opened, slide) == files_of(tmp_path / "in" / "a.svs")
        assert opened.catalog.check_chains() == []


def test_the_tier_to_leave_must_be_clear(site: Path, slide: str) -> None:
    assert cli(site, "copy", slide, "--to", "warm").code == 0
    done = cli(site, "move", slide, "--to", "cold", "--json")
    assert (done.code, done.lines[0]["error"]["kind"]) == (4, "slide-ambiguous")
    assert cli(site, "move", slide, "--to", "cold", "--from", "hot", "--json").lines[0]["dropped"] == ["hot"]
    assert tiers_of(site, slide) == {"cold": "keep", "warm": "keep"}
    assert cli(site, "move", slide, "--to", "cold", "--from", "cold").code == 3
    assert cli(site, "move", slide, "--to", "nowhere").code == 8
    assert cli(site, "move", "nobody", "--to", "warm").code == 4


def test_holds(site: Path, slide: str) -> None:
    placed = cli(site, "hold", "add", slide, "--reason", "court  case", "--json")
    (line,) = placed.lines
    assert (line["slide"], line["reason"], set(line)) == (
        slide,
        "court case",
        {"slide", "reason", "actor", "placed_at"},
    )
    assert cli(site, "hold", "add", slide, "--reason", "  ").code == 3
    assert "on hold since" in cli(site, "hold", "add", slide, "--reason", "court case").out
    refused = cli(site, "move", slide, "--to", "warm", "--json")
    assert (refused.code, refused.lines[0]["error"]["kind"]) == (5, "held")
    assert cli(site, "move", slide, "--to", "warm", "--keep-source", "--json").lines[0]["status"] == "copied"
    assert cli(site, "hold", "ls", "--json").lines == [line]
    assert cli(site, "hold", "ls", slide, "--json").lines == [line]
    assert "court case" in cli(site, "hold", "ls").out
    assert cli(site, "hold", "ls", "nobody").code == 4
    assert cli(site, "hold", "release", slide, "--reason", "another").out == "Nothing was on hold.\n"
    assert cli(site, "hold", "release", slide, "--json").lines == [line]
    assert cli(site, "hold", "ls").out == "Nothing is on hold.\n"
    assert cli(site, "hold", "ls", "--json").lines == []
    assert cli(site, "move", slide, "--to", "warm", "--json").lines[0]["status"] == "moved"


def test_recover(site: Path, slide: str) -> None:
    done = cli(site, "recover", "--json")
    assert done.lines == [{"finished": 0, "removed": 0, "waiting": 0, "orphans": 0, "failed": 0}]
    text = section("recover").partition("Prints one object")[2]
    assert list(done.lines[0]) == re.findall(r"`(\w+)`", text)
    (site / "tiers" / "cold").rename(site / "away")
    gone = cli(site, "recover")
    assert gone.code == 6
    assert "could not be dealt with now" in gone.err


def test_many_slides_side_by_side(site: Path, tmp_path: Path) -> None:
    paths = [tiny_tiff(tmp_path / "many" / f"{seed}.tiff", seed=seed) for seed in range(5)]
    taken = {line["source"]: line["slide"] for line in cli(site, "ingest", *paths, "--json").lines}
    slides = [taken[str(path)] for path in paths]
    done = cli(site, "move", *slides, "--to", "cold", "--jobs", "3", "--json")
    assert done.code == 0
    assert {line["slide"] for line in done.lines} == set(slides)
    assert {line["status"] for line in done.lines} == {"moved"}
    with ops.open_site(site) as opened:
        for slide, path in zip(slides, paths, strict=True):
            assert restored(opened, slide) == files_of(path)
        assert list(opened.tier("hot").list("store/")) == []


def test_encoded_on_the_way_by_workers_of_their_own(site: Path, slide: str, tmp_path: Path) -> None:
    done = run(site, "move", slide, "--to", "cold", "--preset", "pack", "--jobs", "1", "--json")
    assert done.code == 0, done.err
    (line,) = done.lines
    assert (line["status"], line["preset"], line["objects"]) == ("moved", "pack", 3)
    assert line["shards"] > 0
    with ops.open_site(site) as opened:
        assert restored(opened, slide) == files_of(tmp_path / "in" / "a.svs")
