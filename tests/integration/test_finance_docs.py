"""docs/finance.md: its questions have the same answer in DuckDB and in a spreadsheet program; its settings are read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import duckdb
import openpyxl
import pytest

from tests.browser_kit import recalculated
from tests.pages_kit import Hospital, written
from wsistore import ops
from wsistore.ops.pages_of_month import report_pages
from wsistore.reports.savings import read_zarr_ratio

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "finance.md").read_text("utf-8")
QUESTIONS = TEXT.partition("## Three questions")[2]


def blocks(language: str) -> list[str]:
    return [block.strip() for block in re.findall(rf"```{language}\n(.*?)```", QUESTIONS, re.DOTALL)]


def test_three_questions_in_duckdb_and_in_a_spreadsheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, out = written(tmp_path, Hospital(departments=("UF2100", "UF2101", None), months=3))
    with ops.open_site(site) as opened:
        made = report_pages(opened, "2026-10", out, language="en")
    monkeypatch.chdir(out)
    answers = [float(duckdb.execute(query).fetchall()[0][0]) for query in blocks("sql")]
    formulas = blocks("text")
    assert (len(answers), len(formulas)) == (3, 3)
    book = openpyxl.load_workbook(made.xlsx)
    sheet = book.create_sheet("Mine")
    for place, formula in enumerate(formulas, 1):
        sheet.cell(place, 1, formula)
    asked = tmp_path / "asked.xlsx"
    book.save(asked)
    again = openpyxl.load_workbook(recalculated(asked, tmp_path / "again"), data_only=True)["Mine"]
    found = [again.cell(place, 1).value for place in (1, 2, 3)]
    assert found == pytest.approx(answers, rel=1e-9)
    assert all(answer > 1 for answer in answers)


def test_the_example_of_settings_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "reports.toml").write_text(text, "utf-8")
    assert read_zarr_ratio(tmp_path).high == tomllib.loads(text)["savings"]["zarr_per_vendor_byte"]["high"]
