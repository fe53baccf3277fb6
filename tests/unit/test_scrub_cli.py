"""The command scrub: what it prints, how it ends, and that its page says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.site_kit import cli, listing, new_site, run, tiny_svs, tiny_tiff
from tests.unit.test_cli_docs import first_column, section
from wsistore import ops
from wsistore.ops.scrub_lock import ScrubLock
from wsistore.ops.scrub_results import ScrubStatus, What


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a slide in hot and warm, and one in hot."""
    folder = new_site(tmp_path / "site")
    slides = (tiny_svs(tmp_path / "in" / "a.svs"), tiny_tiff(tmp_path / "in" / "b.tiff"))
    assert cli(folder, "ingest", *slides).code == 0
    assert cli(folder, "copy", "a.svs", "--to", "warm").code == 0
    return folder


def shard(site: Path, tier: str, name: str) -> Path:
    slide = next(line["slide"] for line in cli(site, "ls", "--json").lines if line["name"] == name)
    return min((site / "tiers" / tier / "store" / slide).rglob("0/image/c/*/*/*"))


@pytest.fixture
def damaged(site: Path) -> Path:
    """A site whose slide a.svs has rotted in hot."""
    path = shard(site, "hot", "a.svs")
    data = path.read_bytes()
    path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    return site


def test_all_well(site: Path) -> None:
    assert cli(site, "scrub").out.startswith("0 copies, 0 B read")  # all were read when they were written
    done = cli(site, "scrub", "--all", "--deep")
    assert done.code == 0
    assert done.err == ""
    assert len(re.findall(r" good ", done.out)) == 3
    sentence = done.out.splitlines()[-1]
    assert re.fullmatch(
        r"3 copies, \d+\.\d kB read, 0 damaged, 0 repaired, next full round done by 20\d\d-\d\d-\d\d\.", sentence
    )


def test_repaired_is_a_warning_and_no_failure(damaged: Path) -> None:
    done = cli(damaged, "scrub", "--all")
    assert done.code == 0
    assert re.search(r"warning: \w+ in hot is repaired\. store/", done.err)
    assert "1 damaged, 1 repaired" in done.out
    assert cli(damaged, "scrub", "--all").err == ""
    assert all(line["ok"] for line in cli(damaged, "verify", "--all", "--json").lines)


def test_lost_is_loud(site: Path) -> None:
    shard(site, "hot", "b.tiff").write_bytes(b"rot")
    before = {path: digest for path, digest in listing(site / "tiers").items() if "/ledger/" not in path}
    done = cli(site, "scrub")
    assert done.code == 7
    assert "is LOST" in done.err
    assert "1 LOST" in done.out
    assert "1 truncated" in done.out
    assert {path: digest for path, digest in listing(site / "tiers").items() if "/ledger/" not in path} == before
    assert cli(site, "scrub").code == 7  # until it is dealt with


def test_json_is_as_documented(damaged: Path) -> None:
    (damaged / "tiers/hot/store/left.txt").write_text("foreign")
    done = run(damaged, "scrub", "--all", "--json")
    assert (done.code, done.err) == (0, "")
    text = section("scrub")
    by_kind = {kind: [line for line in done.lines if line["kind"] == kind] for kind in ("copy", "finding", "tier")}
    assert set(by_kind["copy"][0]) == set(first_column(text.partition("Prints one object")[2]))
    assert {row["status"] for row in by_kind["copy"]} == {"good", "repaired"}
    for kind, beginning in (("finding", "For what a tier lacks"), ("tier", "For each tier")):
        told = text.partition(beginning)[2].partition("\n\n")[0]
        names = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", told.partition(":")[2])))
        assert set(by_kind[kind][0]) - {"kind"} == names, kind
    summary = done.lines[-1]
    assert set(summary) - {"kind"} == set(re.findall(r"`(\w+)`", text.partition("At last the `summary`:")[2]))
    assert (summary["copies"], summary["repaired"], summary["findings"]) == (3, 1, {"foreign": 1})
    for value in (*ScrubStatus, *What):
        assert f"`{value}`" in text, value


def test_dry_run_and_budget(site: Path) -> None:
    assert cli(site, "scrub", "--all", "--dry-run").out.splitlines()[-1].startswith("3 copies, ")
    done = cli(site, "scrub", "--all", "--budget", "1 B", "--tier", "hot", "--json")
    assert [line["status"] for line in done.lines if line["kind"] == "copy"] == ["good"]
    assert {line["tier"] for line in done.lines if line["kind"] == "tier"} == {"hot"}


@pytest.mark.parametrize("arguments", [["--budget", "much"], ["--budget", "-1"], ["hot"]])
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    assert cli(new_site(tmp_path / "site"), "scrub", *arguments).code == 2


def test_codes_of_what_could_not_be_read(site: Path) -> None:
    assert cli(site, "scrub", "--tier", "nowhere", "--json").error["kind"] == "tier-unknown"
    (site / "tiers" / "warm").rename(site / "away")
    done = cli(site, "scrub", "--all", "--json")
    assert done.code == 6
    assert [line["error"]["kind"] for line in done.lines if line["kind"] == "tier" and line["error"]] == [
        "tier-missing"
    ]
    with ops.open_site(site) as opened, ScrubLock(opened, "hot").held() as mine:
        assert mine
        assert cli(site, "scrub", "--tier", "hot").code == 5
        assert cli(site, "scrub").code == 9
    (site / "away").rename(site / "tiers" / "warm")
    assert cli(site, "scrub", "--all").code == 0
