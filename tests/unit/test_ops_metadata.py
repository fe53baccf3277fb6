"""The table of ``--metadata``: how it is read, what it speaks of, and that it never speaks of another's slide."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site_kit import cli, new_site, tiny_series, tiny_tiff
from wsistore import ops
from wsistore.errors import InputError, Kind, MissingError


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "slides.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_dialects(tmp_path: Path, delimiter: str, newline: str, mark: bytes) -> None:
    rows = [["file", "case_id", "stain"], ["a.svs", "C1", "HE"], ["b c.svs", "", "Ki-67 (été)"]]
    text = newline.join(delimiter.join(row) for row in rows)
    found = ops.read_metadata(table(tmp_path, mark + text.encode()))
    assert found.rows == {"a.svs": {"case_id": "C1", "stain": "HE"}, "b c.svs": {"stain": "Ki-67 (été)"}}


def test_quoted_cells_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    text = 'file;note\n"a;1.svs";"says ""x"", then\nmore; and \u2028 more"\nb.svs;\n'
    found = ops.read_metadata(table(tmp_path, text))
    assert found.rows == {"a;1.svs": {"note": 'says "x", then\nmore; and \u2028 more'}, "b.svs": {}}


def test_what_spreadsheets_leave_behind_is_passed_over(tmp_path: Path) -> None:
    found = ops.read_metadata(table(tmp_path, " file ; case_id ;\n a.svs ; C1 ;\n;;\n\n   ;;\n"))
    assert found.rows == {"a.svs": {"case_id": "C1"}}


def test_one_column_alone(tmp_path: Path) -> None:
    assert ops.read_metadata(table(tmp_path, "file\na.svs\n")).rows == {"a.svs": {}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no column 'file'", "none"]),
        ("name,case_id\na.svs,C1\n", ["no column 'file'", "name, case_id"]),
        ("file,case_id\na.svs,C1\nb.svs,C1,x\n", ["line 3", "3 cells", "2"]),
        ("file,case_id\na.svs\n", ["line 2", "1 cells"]),
        ("file,case_id\na.svs,C1\n\na.svs,C2\n", ["line 4", "a.svs a second time"]),
        ("file,case_id\n./a.svs,C1\na.svs,C2\n", ["line 3", "a.svs a second time"]),
        ("file,case_id\n,C1\n", ["line 2", "no file"]),
        ("file,stain,stain\na.svs,HE,IHC\n", ["several columns 'stain'"]),
        ("file,,stain\na.svs,x,IHC\n", ["line 2", "'x'", "without a name"]),
        ('file,note\na.svs,"x" y\n', ["line 2"]),
        ('file,note\na.svs,"never closed\n', ["damaged"]),
        (b"file,note\na.svs,\xe9t\xe9\n", ["UTF-8"]),
    ],
)
def test_wrong_tables_are_refused_naming_the_line(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        ops.read_metadata(path)
    assert caught.value.kind is Kind.METADATA_INVALID
    assert caught.value.remedy
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_table_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        ops.read_metadata(tmp_path / "missing.csv")
    with pytest.raises(InputError):
        ops.read_metadata(tmp_path)


def test_longest_part_of_a_path_counts(tmp_path: Path) -> None:
    found = ops.read_metadata(
        table(tmp_path, "file,n\na.svs,name\nday1/a.svs,day\n/x/day2/a.svs,whole\nseries/,dicom\n")
    )
    assert found.of(Path("/x/a.svs")) == {"n": "name"}
    assert found.of(Path("/x/day1/a.svs")) == {"n": "day"}
    assert found.of(Path("/x/day2/a.svs")) == {"n": "whole"}
    assert found.of(Path("/x/series")) == {"n": "dicom"}
    assert found.of(Path("/x/series/1.dcm")) == {"n": "dicom"}
    assert found.of(Path("/x/series/a.tiff")) == {}
    assert found.of(Path("/x/ba.svs")) == {}
    assert found.unused == []


def test_row_never_speaks_of_two_slides(tmp_path: Path) -> None:
    found = ops.read_metadata(table(tmp_path, "file,patient_id\na.svs,P1\n"))
    found.check([Path("x/a.svs"), Path("x/a.svs"), Path("x/b.svs")])
    with pytest.raises(InputError) as caught:
        found.check([Path("x/a.svs"), Path("y/a.svs")])
    assert caught.value.kind is Kind.METADATA_INVALID
    assert "x/a.svs" in caught.value.message
    assert "y/a.svs" in caught.value.message


# --- through the command line -----------------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for number in range(4):
        tiny_tiff(tmp_path / "scans" / f"{number}.tiff", seed=number)
    return tmp_path / "scans"


def test_conditions_on_what_the_table_says(tmp_path: Path, scans: Path) -> None:
    site = new_site(tmp_path / "site")
    path = table(
        tmp_path,
        "\ufefffile;case_id;patient_id;block;stain;organ\n"
        "0.tiff;C1;P1;A1;HE;skin\n1.tiff;C1;P1;A2;Ki-67;skin\n2.tiff;C2;P2;A1;HE;\nmissing.tiff;C9;P9;;;\n",
    )
    done = cli(site, "ingest", scans, "--metadata", path, "--json")
    assert done.code == 0
    assert len(done.lines) == 4
    assert "missing.tiff" in done.err
    assert "0.tiff" not in done.err

    def names(where: str) -> list[str]:
        return sorted(line["name"] for line in cli(site, "ls", "--where", where, "--json").lines)

    assert names("case_id = 'C1'") == ["0.tiff", "1.tiff"]
    assert names("stain = 'HE' and patient_id = 'P2'") == ["2.tiff"]
    assert names("metadata['organ'] = 'skin'") == ["0.tiff", "1.tiff"]
    assert names("case_id is null") == ["3.tiff"]
    assert names("block in ('A1')") == ["0.tiff", "2.tiff"]
    shown = cli(site, "show", "0.tiff", "--json").lines[0]["metadata"]
    assert shown == {"case_id": "C1", "patient_id": "P1", "block": "A1", "stain": "HE", "organ": "skin"}
    wrong = cli(site, "ls", "--where", "nonsense = 1", "--json")
    assert (wrong.code, wrong.error["kind"]) == (3, "condition-invalid")


def test_table_brings_known_slides_up_to_date(tmp_path: Path, scans: Path) -> None:
    site = new_site(tmp_path / "site")
    assert cli(site, "ingest", scans).code == 0
    path = table(tmp_path, "file,stain\n0.tiff,HE\n")
    lines = cli(site, "ingest", scans, "--metadata", path, "--json").lines
    assert {line["status"] for line in lines} == {"exists"}
    assert cli(site, "show", "0.tiff", "--json").lines[0]["metadata"] == {"stain": "HE"}
    kinds = [line["kind"] for line in cli(site, "events", "0.tiff", "--json").lines]
    assert kinds == ["ingested", "metadata-changed"]
    # Said again it changes nothing, and the audit trail does not say that it did.
    assert cli(site, "ingest", scans, "--metadata", path).code == 0
    assert len(cli(site, "events", "0.tiff", "--json").lines) == 2
    assert cli(site, "events", "--check").code == 0


def test_two_patients_in_one_case_are_refused(tmp_path: Path, scans: Path) -> None:
    site = new_site(tmp_path / "site")
    path = table(tmp_path, "file,case_id,patient_id\n0.tiff,C1,P1\n1.tiff,C1,P2\n2.tiff,C2,P2\n")
    done = cli(site, "ingest", scans, "--metadata", path, "--jobs", "1", "--json")
    assert done.code == 3
    by_name = {Path(line["source"]).name: line for line in done.lines}
    assert [by_name[f"{n}.tiff"]["status"] for n in range(4)] == ["ingested", "failed", "ingested", "ingested"]
    error = by_name["1.tiff"]["error"]
    assert error["kind"] == "metadata-invalid"
    for word in ("C1", "P1", "P2"):
        assert word in error["message"]
    with ops.open_site(site) as opened:
        assert opened.catalog.open_attempts() == []
        assert len(opened.catalog.slides()) == 3


def test_wrong_table_lets_nothing_in(tmp_path: Path, scans: Path) -> None:
    site = new_site(tmp_path / "site")
    for text, words in (("file,a\n0.tiff\n", "line 2"), ("x\n0.tiff\n", "'file'")):
        done = cli(site, "ingest", scans, "--metadata", table(tmp_path, text), "--json")
        assert (done.code, done.error["kind"]) == (3, "metadata-invalid")
        assert words in done.error["message"]
    done = cli(site, "ingest", scans, "--metadata", tmp_path / "none.csv", "--json")
    assert (done.code, done.error["kind"]) == (4, "path-missing")
    assert cli(site, "ls", "--json").lines == []


def test_ambiguous_row_lets_nothing_in(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    for day in range(2):
        tiny_tiff(tmp_path / "scans" / f"day{day}" / "1.tiff", seed=day)
    path = table(tmp_path, "file,patient_id\n1.tiff,P1\n")
    done = cli(site, "ingest", "-r", tmp_path / "scans", "--metadata", path, "--json")
    assert (done.code, done.error["kind"]) == (3, "metadata-invalid")
    assert cli(site, "ls", "--json").lines == []
    path = table(tmp_path, "file,patient_id\nday0/1.tiff,P1\nday1/1.tiff,P2\n")
    assert cli(site, "ingest", "-r", tmp_path / "scans", "--metadata", path).code == 0
    found = {line["metadata"]["patient_id"] for line in cli(site, "ls", "--json").lines}
    assert found == {"P1", "P2"}


def test_series_by_its_folder(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    tiny_series(tmp_path / "scans" / "series7")
    path = table(tmp_path, "file,stain\nseries7,HE\n")
    assert cli(site, "ingest", "-r", tmp_path / "scans", "--metadata", path).code == 0
    assert cli(site, "ls", "--json").lines[0]["metadata"] == {"stain": "HE"}
