"""`wsistore metadata`, `collection` and `tag`: what they print, how they end, that labels outlive the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site_kit import Ran, cli, new_site, state_of, tiny_svs
from wsistore import ops


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = new_site(tmp_path / "site")
    table = tmp_path / "slides.csv"
    table.write_text("file,case_id\na.svs,CASE-1\nb.svs,CASE-1\n")
    slides = [tiny_svs(tmp_path / "in" / name, seed=n) for n, name in enumerate(("a.svs", "b.svs", "c.svs"))]
    assert cli(folder, "ingest", *slides, "--metadata", table).code == 0
    return folder


def take(site: Path, text: str, name: str = "patients.csv", as_of: str = "2026-01-31T02:00Z") -> Ran:
    path = site.parent / name
    path.write_text(text)
    return cli(site, "metadata", "import", path, "--as-of", as_of, "--json")


def test_import_and_status(site: Path) -> None:
    before = cli(site, "metadata", "status")
    assert "never imported" in before.out
    assert "Nothing can be deleted: patients, encounters, recourses" in before.err
    done = take(site, "patient_id,birth_date,ins_matricule\nPATIENT-0001,1960-05-01,160017512345670\n")
    assert done.code == 0
    assert done.lines == [
        {
            "as_of": "2026-01-31T02:00:00.000000Z",
            "rows": {"patients": 1},
            "changed": {"patients": 1},
            "provisional": 1,
            "unknown": [],
            "slides": 0,
        }
    ]
    assert "1 INS are not qualified" in done.err
    rows = {line["kind"]: line for line in cli(site, "metadata", "status", "--json").lines}
    assert rows["patients"] == {"kind": "patients", "as_of": "2026-01-31T02:00:00.000000Z", "needed": True}
    assert rows["cases"] == {"kind": "cases", "as_of": None, "needed": False}
    again = cli(site, "metadata", "import", site.parent / "patients.csv", "--as-of", "2026-01-31T02:00Z")
    assert again.code == 0
    assert again.out.split()[-8:] == ["1", "0", "Told", "in", "the", "events", "of", "0", "slides."][-8:]


def test_rows_of_slides_that_are_not_there_are_named(site: Path) -> None:
    rows = "".join(f"nothing{n}.svs,HES\n" for n in range(12))
    done = take(site, f"file,stain\na.svs,HES\n{rows}", "slides.csv")
    assert done.code == 0
    assert len(done.lines[0]["unknown"]) == 12
    assert "line 3 speaks of a slide that is not there" in done.err
    assert "2 more rows" in done.err


@pytest.mark.parametrize(
    ("text", "as_of", "code"),
    [
        ("patient_id,birth_date\nP,never\n", "2026-01-31", 3),
        ("patient_id\nP\n", "yesterday", 3),
        ("patient_id\nP\n", "2999-01-01", 3),
    ],
)
def test_refusals_leave_everything_as_it_was(site: Path, text: str, as_of: str, code: int) -> None:
    before = state_of(site)
    done = take(site, text, as_of=as_of)
    assert done.code == code
    assert done.error["kind"] == "metadata-invalid"
    assert state_of(site) == before


def test_missing_table_and_moment(site: Path) -> None:
    assert cli(site, "metadata", "import", "nothing.csv", "--as-of", "2026-01-31", "--json").code == 4
    assert cli(site, "metadata", "import", "nothing.csv").code == 2


@pytest.mark.parametrize("kind", ["collection", "tag"])
def test_labels(site: Path, kind: str) -> None:
    added = cli(site, kind, "add", "of interest", "a.svs", "c.svs", "--json")
    assert [(line[kind], line["status"]) for line in added.lines] == [("of interest", "added")] * 2
    assert cli(site, kind, "add", "of interest", "a.svs", "--json").lines == []
    assert len(cli(site, kind, "add", "of interest", "--case", "CASE-1", "--json").lines) == 1
    (row,) = cli(site, kind, "ls", "--json").lines
    assert (row[kind], row["slides"]) == ("of interest", 3)
    listed = cli(site, kind, "ls", "of interest", "--json").lines
    assert set(listed[0]) == {kind, "slide", "actor", "at"}
    assert "of interest: 1 slides removed" in cli(site, kind, "remove", "of interest", "c.svs").out
    assert len(cli(site, kind, "remove", "of interest", "--all", "--json").lines) == 2
    assert cli(site, kind, "ls", "--json").lines == []
    assert cli(site, kind, "ls", "of interest", "--json").error["kind"] == "path-missing"
    kinds = [line["kind"] for line in cli(site, "events", "c.svs", "--json").lines]
    assert kinds[-2:] == ["labelled", "unlabelled"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "teaching", "nothing.svs"], 4),
        (["add", "teaching", "a.svs", "nothing.svs"], 4),
        (["add", "teaching", "--case", "CASE-9"], 4),
        (["add", "", "a.svs"], 3),
        (["add", "x'; DROP TABLE labels; --", "a.svs"], 3),
        (["add", "a" * 65, "a.svs"], 3),
        (["add", " teaching", "a.svs"], 3),
        (["add", "teaching"], 2),
        (["remove", "teaching"], 2),
        (["remove", "teaching", "a.svs", "--all"], 2),
    ],
)
def test_labels_that_cannot_be_given(site: Path, arguments: list[str], code: int) -> None:
    before = state_of(site)
    assert cli(site, "collection", *arguments).code == code
    assert state_of(site) == before


def test_labels_outlive_a_lost_catalogue(site: Path) -> None:
    assert cli(site, "collection", "add", "teaching", "a.svs", "b.svs").code == 0
    assert cli(site, "tag", "add", "rare", "a.svs").code == 0
    assert cli(site, "collection", "remove", "teaching", "b.svs").code == 0
    before = cli(site, "collection", "ls", "teaching", "--json").lines, cli(site, "tag", "ls", "rare", "--json").lines
    for path in site.glob("catalog.db*"):
        path.unlink()
    assert cli(site, "catalog", "rebuild").code == 0
    after = cli(site, "collection", "ls", "teaching", "--json").lines, cli(site, "tag", "ls", "rare", "--json").lines
    assert after == before
    assert len(after[0]) == 1
    with ops.open_site(site, read_only=True) as opened:
        facts = {row["name"]: row for row in ops.facts_table(opened).to_pylist()}
    assert facts["a.svs"]["collections"] == ["teaching"]
    assert facts["a.svs"]["tags"] == ["rare"]
    assert facts["b.svs"]["collections"] == []
