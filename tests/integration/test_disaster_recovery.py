"""docs/disaster-recovery.md: its commands, in its order, on a site that loses what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.site_kit import Ran, cli, files_of, new_site, tiny_svs, tiny_tiff

PAGE = (Path(__file__).parents[2] / "docs" / "disaster-recovery.md").read_text(encoding="utf-8")
BACKUP = re.compile(r"backups/catalog-\d{8}T\d{12,}Z\.db")


def commands(title: str) -> list[list[str]]:
    """Return the commands in the blocks of a section."""
    section = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"no section {title!r}"
    blocks = re.findall(r"^```\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("wsistore ")]


def good(done: Ran) -> Ran:
    assert done.code == 0, done
    return done


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a site with two slides, one of them in two tiers, and one hold."""
    folder = new_site(tmp_path / "site")
    table = tmp_path / "slides.csv"
    table.write_text("file,case_id,patient_id\na.svs,CASE-1,PATIENT-0001\n")
    slides = [tiny_svs(tmp_path / "in" / "a.svs"), tiny_tiff(tmp_path / "in" / "b.tiff")]
    good(cli(folder, "ingest", *slides, "--metadata", table))
    good(cli(folder, "copy", "a.svs", "--to", "warm"))
    good(cli(folder, "hold", "add", "b.tiff", "--reason", "a court asked"))
    return folder


def lose(folder: Path) -> None:
    for path in folder.glob("catalog.db*"):
        path.unlink()


def told(folder: Path) -> tuple[object, ...]:
    """Return what matters of what the site says of its slides."""
    shown = [cli(folder, "show", name, "--json").lines[0] for name in ("a.svs", "b.tiff")]
    return tuple((one["slide"], one["metadata"], one["copies"], one["holds"]) for one in shown)


def restored(folder: Path, name: str, to: Path) -> dict[str, bytes]:
    good(cli(folder, "restore", name, "--to", to))
    return files_of(to / name)


def test_the_catalogue_is_gone(site: Path, tmp_path: Path) -> None:
    before = told(site)
    lose(site)
    assert cli(site, "ls").code == 8
    for command in commands("The catalogue is gone"):
        done = good(cli(site, *command))
    assert "yes" in done.out
    assert told(site) == before
    for name in ("a.svs", "b.tiff"):
        assert restored(site, name, tmp_path / "out" / name) == files_of(tmp_path / "in" / name)


def test_the_catalogue_is_an_old_one(site: Path) -> None:
    made = cli(site, "catalog", "backup", "--json").lines[0]
    good(cli(site, "move", "a.svs", "--to", "cold", "--from", "hot"))
    good(cli(site, "hold", "release", "b.tiff"))
    before = told(site)
    lose(site)
    (site / "catalog.db").write_bytes(Path(made["path"]).read_bytes())
    assert told(site) != before
    assert cli(site, "catalog", "check").code == 7
    (command,) = commands("The catalogue is an old one")
    done = good(cli(site, *(made["path"] if BACKUP.fullmatch(part) else part for part in command)))
    assert "The catalogue that was there is" in done.out
    assert told(site) == before
    good(cli(site, "catalog", "backup"))
    good(cli(site, "catalog", "check"))
