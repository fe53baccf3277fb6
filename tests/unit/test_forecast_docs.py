"""docs/forecast.md: its scenario is read, its examples come out as it says, its columns are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.forecast_kit import central, ran, scenario, stages, tier
from tests.report_kit import exactly
from wsistore.errors import InputError
from wsistore.reports.forecast.reading import _TOP, read_scenario
from wsistore.reports.forecast.running import cumulative
from wsistore.reports.forecast.shipped import shipped_scenarios
from wsistore.reports.forecast.tables import COLUMNS
from wsistore.reports.usage import What

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "forecast.md").read_text("utf-8")


def example(about: str) -> str:
    found = [text for text in re.findall(r"^Example: (.*?)\n\n", TEXT, re.MULTILINE | re.DOTALL) if about in text]
    assert len(found) == 1, about
    return " ".join(found[0].split())


def test_the_example_is_a_scenario(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    path = tmp_path / "ours.yaml"
    path.write_text(text, "utf-8")
    found = read_scenario(path)
    assert found.slides.per_year.central == 100_000
    assert [one.name for one in found.paths] == ["teaching", "all"]
    assert central(ran(found, 3).slides_new) == pytest.approx([30_000, 70_000, 100_000])
    path.write_text(
        text.replace("tier: warm, preset: fold}\n  - {after: 2", "tier: wram, preset: fold}\n  - {after: 2")
    )
    with pytest.raises(InputError) as caught:
        read_scenario(path)
    assert f"error: {caught.value.message.replace(f'{tmp_path}/', '')}" in TEXT


def test_every_key_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*? \|", TEXT, re.MULTILINE))))
    assert set(_TOP) - {"version"} <= told
    assert {name for name in shipped_scenarios() if f"| `{name}` |" in TEXT} == set(shipped_scenarios())


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns_are_told_one_by_one(name: str) -> None:
    match = re.search(rf"^### {name}\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match
    lines = [line.strip("|").split("|") for line in match[1].splitlines() if line[:3] == "| `"]
    rows = [tuple(cell.strip() for cell in line) for line in lines]
    assert rows == [
        (f"`{one.name}`", str(one.type), "yes" if one.nullable else "no", one.meaning) for one in COLUMNS[name]
    ]


def test_the_examples_a_controller_can_check() -> None:
    eur = ran(scenario()).total.eur
    text = example("7200 slide-months")
    assert all(f"{amount:.2f} EUR" in text for amount in (*central(eur), central(cumulative(eur))[-1]))
    cold = tier("cold", prices={"storage_per_tb_month": exactly(2.0)})
    moved = ran(scenario(tier(), cold, stages=stages((0, "hot", "keep"), (12, "cold", "half")))).parts
    text = example("half of the bytes")
    assert all(f"{central(moved[name, What.STORAGE].eur)[1]:.2f} EUR" in text for name in ("hot", "cold"))
