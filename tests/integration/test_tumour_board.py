"""docs/tumour-board.md, followed to the letter on a rehearsed archive."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.site_kit import Ran, cli, tiny_svs
from wsistore import ops
from wsistore import settings as site_settings
from wsistore.catalog import create
from wsistore.execute import SerialExecutor
from wsistore.storage.open import create_tier, open_storage

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tumour-board.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
(LIST,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
(LIMIT,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
ARCHIVE = """
[tiers.cold.archive]
class = "GLACIER"
simulated_speed = 36000
"""
CASES = {"CASE-0001": "PATIENT-0001", "CASE-0002": "PATIENT-0002", "CASE-0003": "PATIENT-0003"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a site whose slides of three cases lie in an archive, one case's in a tier that is read at once."""
    folder = tmp_path / "site"
    tiers = {"hot": (tmp_path / "hot").as_uri(), "cold": (tmp_path / "cold").as_uri()}
    site_settings.write_new(folder, tiers=tiers)
    path = folder / "wsistore.toml"
    before, table, after = path.read_text().partition("[tiers.cold]\n")
    path.write_text(before + table + 'prices = "aws-s3-glacier"\n' + after + ARCHIVE + LIMIT)
    made = site_settings.load(folder)
    for tier in made.tiers:
        (tmp_path / tier.name).mkdir()
        create_tier(open_storage(tier.url, tier.storage_options), tier.id, tier.name)
    create(made.catalog_url)
    with ops.open_site(folder) as site:
        for number, (case, patient) in enumerate(CASES.items(), 1):
            (result,) = ops.ingest(site, [tiny_svs(tmp_path / f"slide-{number}.svs", number)])
            assert result.slide is not None
            site.catalog.put_metadata({result.slide: {"case_id": case, "patient_id": patient}})
            if case != "CASE-0003":
                (moved,) = ops.move(site, [result.slide], "cold", executor=SerialExecutor())
                assert moved.error is None
    return folder


def states(done: Ran) -> dict[str, str]:
    return {case["case"]: case["state"] for line in done.lines for case in line["cases"]}


def test_the_page(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.csv").write_text(LIST)
    planned, begun, status, ended = (shlex.split(line)[1:] for line in COMMANDS)

    done = cli(site, *planned)
    assert done.code == 4, "one line means nothing"
    assert "EUR" in done.err
    assert "1 can be read at once" in done.err
    assert "CASE-9999" in done.out
    assert "not found" in done.out

    done = cli(site, *begun, "--json")
    expected = {"CASE-0001": "on its way", "CASE-0002": "on its way", "CASE-0003": "ready", "CASE-9999": "not found"}
    assert states(done) == expected
    assert states(cli(site, *begun, "--json")) in (expected, expected | {"CASE-0001": "ready", "CASE-0002": "ready"})

    done = cli(site, "recall", "--wait", "--json")
    assert states(done) == {**dict.fromkeys(CASES, "ready"), "CASE-9999": "not found"}
    assert set(re.findall(r"^\| `([a-z ]+)", TEXT, re.MULTILINE)) >= set(states(done).values())
    shown = cli(site, *status)
    assert "ready" in shown.out
    assert "CASE-0002" in shown.out
    assert "No temporary copy" in cli(site, *ended).out
    with ops.open_site(site) as opened:
        kept = {
            str(copy.expires_at)[:10] for row in opened.catalog.slides() for copy in opened.catalog.copies(row.slide)
        }
    assert kept == {"None", "2031-05-22"}


def test_the_limit_of_the_page(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.csv").write_text(LIST)
    begun = shlex.split(COMMANDS[1])[1:]
    done = cli(site, *begun, "--max-cost", "0", "--json")
    assert done.code == 9
    assert done.lines[0]["needs_confirmation"] is True
    assert states(done)["CASE-0001"] == "needs confirmation of cost"
    assert cli(site, "recall", "--status").out.strip() == "Nothing is recalled."
    done = cli(site, *begun, "--max-cost", "0", "--yes")
    assert "on its way" in done.out


WRONG: tuple[tuple[list[str], int], ...] = (
    (["--list", "nowhere.csv"], 3),
    (["C1", "--by", "yesterday"], 3),
    (["C1", "--for", "ever"], 3),
    (["C1", "--tier", "nowhere"], 8),
    (["C1", "--tier", "cold"], 3),
    ([], 3),
    (["--status", "nothing"], 4),
    (["CASE-9999"], 4),
)


def test_wrong_calls_end_with_a_reason(site: Path) -> None:
    for arguments, code in WRONG:
        assert cli(site, "recall", *arguments).code == code, arguments
