"""The commands about plans, on a site with slides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.planning_kit import AT, a_copy, decisions_of, facts_of
from tests.site_kit import Ran, cli, ingest, new_site, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog.durations import copy_durations
from wsistore.cli import plans
from wsistore.cli.context import Options
from wsistore.errors import ConflictError, InputError, Kind, SiteError
from wsistore.ops.planning_terms import LEAST_SECONDS, coefficients, speeds_of, tuned_presets
from wsistore.settings.archive import ArchiveSettings
from wsistore.tiers.plans.coefficients import Coefficients
from wsistore.tiers.plans.rows import PLAN

RULES = """\
version: 1
placement:
  - {name: tiffs, where: "name = 'b.tiff'", tier: hot}
  - {name: archive, tier: cold, encode: pack}
limits: {move_at_most: 100 %, delete_at_most: 0 %}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a site of three slides, one of which was moved, and a plan of it."""
    found = tmp_path_factory.mktemp("plans")
    site = new_site(found / "site")
    (site / "rules.yaml").write_text(RULES, "utf-8")
    with ops.open_site(site) as opened:
        paths = [tiny_svs(found / "a.svs"), tiny_tiff(found / "b.tiff"), tiny_svs(found / "c.svs", seed=3)]
        ingest(opened, *paths)
    assert cli(site, "move", "c.svs", "--to", "warm").code == 0
    assert cli(site, "plan", "-o", found / "plan.parquet").code == 0
    return found


def on(folder: Path, *arguments: object) -> Ran:
    return cli(folder / "site", "plan", *arguments)


def plan_of(folder: Path) -> Path:
    return folder / "plan.parquet"


def test_a_plan_says_what_it_would_do_and_costs(folder: Path, tmp_path: Path) -> None:
    done = on(folder, "-o", tmp_path / "p.parquet")

    assert done.code == 0, done.err
    assert "move" in done.out
    assert "archive" in done.out
    assert "OVER" not in done.err
    assert pq.read_schema(tmp_path / "p.parquet").names == PLAN.names
    plan = ops.read_plan(tmp_path / "p.parquet")
    assert sorted(plan.rows["action"].to_pylist()) == ["move", "move", "none"]
    assert plan.header.rules.text == RULES
    with ops.open_site(folder / "site") as site:
        noted = site.catalog.plan(plan.digest)
        assert noted.author == plan.header.author == site.actor
        assert noted.header["rows"] == 3


def test_the_same_site_at_the_same_time_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    with ops.open_site(folder / "site") as site:
        site.clock = _Stopped(site.clock.now())
        one, other = (ops.make_plan(site, out=tmp_path / name) for name in ("1", "2"))
    assert one.digest == other.digest
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


class _Stopped:
    """A clock that stands still."""

    def __init__(self, at: Any) -> None:
        self._at = at

    def now(self) -> Any:
        return self._at

    def monotonic_seconds(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        """Do nothing."""


def test_json_of_a_plan(folder: Path, tmp_path: Path) -> None:
    (line,) = on(folder, "-o", tmp_path / "p", "--json", "--at", "2030-01-01").lines

    assert line["path"] == str(tmp_path / "p")
    assert line["digest"] == ops.read_plan(tmp_path / "p").digest
    assert line["at"] == "2030-01-01T00:00:00.000000Z"
    assert line["totals"]["by_action"]["move"]["slides"] == 2
    assert line["over_limit"] == []
    assert any("not known until when to keep" in one for one in line["not_done"])


def test_a_file_that_is_there_stays_unless_told(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "p"
    target.write_bytes(b"mine")
    done = on(folder, "-o", target, "--json")
    assert (done.code, done.error["kind"]) == (5, "target-exists")
    assert target.read_bytes() == b"mine"
    assert on(folder, "-o", target, "--replace").code == 0
    assert ops.read_plan(target).header.rows == 3


def test_wrong_rules_make_no_plan(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("version: 1\nplacement: [{name: x, tier: lukewarm}]\n", "utf-8")
    done = on(folder, "--rules", wrong, "-o", tmp_path / "p")
    assert done.code == 3
    assert "lukewarm" in done.err
    assert on(folder, "--rules", tmp_path / "none.yaml", "-o", tmp_path / "p").code in {3, 4}
    assert not (tmp_path / "p").exists()


def test_a_plan_over_its_limits_says_so_loudly(folder: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text(RULES.replace("100 %", "5 %"), "utf-8")
    done = on(folder, "--rules", strict, "-o", tmp_path / "p")
    assert done.code == 0
    assert "OVER ITS LIMIT" in done.err
    assert "move_at_most allows 0" in done.err
    assert "raise move_at_most to 66.7 % there" in done.err
    assert ops.read_plan(tmp_path / "p").header.over_limit


def test_a_site_that_is_open_for_reading_makes_no_plan(folder: Path, tmp_path: Path) -> None:
    with ops.open_site(folder / "site", read_only=True) as site, pytest.raises(SiteError) as caught:
        ops.make_plan(site, out=tmp_path / "p")
    assert caught.value.kind is Kind.SITE_READ_ONLY
    assert not (tmp_path / "p").exists()


def test_a_plan_that_cannot_be_noted_is_not_left_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        msg = "busy"
        raise ConflictError(msg)

    with ops.open_site(folder / "site") as site:
        monkeypatch.setattr(type(site.catalog), "note_plan", fails)
        with pytest.raises(ConflictError):
            ops.make_plan(site, out=tmp_path / "p")
    assert not (tmp_path / "p").exists()


# --- looking at one ---------------------------------------------------------------------------------------------------


def test_show_prints_totals_then_rows_that_do_something(folder: Path) -> None:
    done = on(folder, "show", plan_of(folder))
    assert done.code == 0
    for word in ("action", "tier", "rule", "Not done:", "archive wants it in cold as pack"):
        assert word in done.out
    assert "where it is" not in done.out  # the row by which nothing is done


def test_on_a_narrow_terminal_less_is_shown_instead_of_broken_cells(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = on(folder, "show", plan_of(folder)).out
    monkeypatch.setattr("wsistore.cli.plan_tables.fits", lambda characters: characters <= 100)
    narrow = on(folder, "show", plan_of(folder)).out
    assert max(map(len, narrow.splitlines()[3:])) <= 105 < max(map(len, wide.splitlines()[3:]))
    assert "pays in" in wide
    assert "pays in" not in narrow
    assert "need a terminal of 150 columns" in narrow
    assert "'wsistore plan explain SLIDE' says why" in narrow


def test_show_filters(folder: Path) -> None:
    some = on(folder, "show", plan_of(folder), "--action", "none")
    assert "tiffs wants it in hot" in some.out
    assert "kgCO2e" not in some.out
    where = on(folder, "show", plan_of(folder), "--where", "bytes_moved > 0 and tier = 'cold'", "--json")
    assert [line["kind"] for line in where.lines] == ["plan", "row", "row"]
    assert on(folder, "show", plan_of(folder), "--where", "bytes_now < 0").out == "No row.\n"
    assert "more" in on(folder, "show", plan_of(folder), "--most", "1").out


def test_json_of_show_is_all_rows_as_the_file_has_them(folder: Path) -> None:
    head, *rows = on(folder, "show", plan_of(folder), "--json").lines
    assert head["kind"] == "plan"
    stored = ops.read_plan(plan_of(folder)).rows.to_pylist()
    assert [{k: v for k, v in row.items() if k != "kind"} for row in rows] == json.loads(
        json.dumps(stored, default=str)
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--where", "nothing > 1"],
        ["--where", "bytes_now"],
        ["--where", "read_text('/etc/passwd') = ''"],
        ["--where", "1; drop table rows"],
        ["--where", "action > 1 + reason"],
        ["--action", "burn"],
    ],
    ids=" ".join,
)
def test_show_refuses_wrong_filters(folder: Path, arguments: list[str]) -> None:
    done = on(folder, "show", plan_of(folder), *arguments, "--json")
    assert done.code == 3
    assert done.lines[-1]["error"]["kind"] == "condition-invalid"


@pytest.mark.parametrize("name", ["show", "chart"])
def test_a_damaged_plan_is_not_shown(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "p").write_bytes(plan_of(folder).read_bytes()[:-1])
    done = on(folder, name, tmp_path / "p", "--json")
    assert (done.code, done.error["kind"]) == (3, "plan-invalid")
    assert on(folder, name, tmp_path / "nothing", "--json").error["kind"] == "path-missing"


def test_diff_says_what_another_rule_would_change(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(RULES.replace("name = 'b.tiff'", "name = 'a.svs'"), "utf-8")
    assert on(folder, "--rules", other, "-o", tmp_path / "p").code == 0

    head, *changes = on(folder, "diff", plan_of(folder), tmp_path / "p", "--json").lines

    assert (head["same_rules"], head["same_catalogue"], head["same_coefficients"]) == (False, True, True)
    assert head["grown"]["bytes_now"] == 0
    assert sorted((one["before"]["action"], one["after"]["action"]) for one in changes) == [
        ("move", "none"),
        ("none", "move"),
    ]
    told = on(folder, "diff", plan_of(folder), tmp_path / "p").out
    assert "The rules: others." in told
    assert "place_rule tiffs" in told
    assert "same of every slide" in on(folder, "diff", plan_of(folder), plan_of(folder)).out


def test_explain_tells_plan_cost_and_rules(folder: Path) -> None:
    done = on(folder, "explain", "a.svs", "--plan", plan_of(folder))
    assert done.code == 0, done.err
    assert "move from hot to cold as pack" in done.out
    assert "EUR" in done.out
    assert "Placement rule 'archive'" in done.out
    assert "nothing" in on(folder, "explain", "b.tiff", "--plan", plan_of(folder)).out
    (line,) = on(folder, "explain", "a.svs", "--plan", plan_of(folder), "--json").lines
    assert line["sentences"] == done.out.splitlines()
    assert on(folder, "explain", "nothing", "--plan", plan_of(folder), "--json").error["kind"] == "slide-missing"


def test_explain_says_when_the_slide_has_changed(tmp_path: Path) -> None:
    new_site(tmp_path / "site")
    (tmp_path / "site" / "rules.yaml").write_text(RULES, "utf-8")
    with ops.open_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "b.tiff"))
    assert cli(tmp_path / "site", "plan", "-o", tmp_path / "p").code == 0
    assert cli(tmp_path / "site", "copy", "b.tiff", "--to", "warm").code == 0
    with ops.open_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "c.tiff", seed=2))
    assert "has changed since" in cli(tmp_path / "site", "plan", "explain", "b.tiff", "--plan", tmp_path / "p").out
    later = cli(tmp_path / "site", "plan", "explain", "c.tiff", "--plan", tmp_path / "p", "--json")
    assert later.error["kind"] == "slide-missing"


def test_a_plan_of_another_site_is_none_here(folder: Path, tmp_path: Path) -> None:
    new_site(tmp_path / "elsewhere")
    with ops.open_site(tmp_path / "elsewhere") as site, pytest.raises(InputError, match="plan of the site"):
        ops.plan_of_site(site, plan_of(folder))


def test_charts_are_files_that_need_no_others(folder: Path, tmp_path: Path) -> None:
    for ending, begins in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".html", b"<!doctype html>")):
        one, other = tmp_path / f"1{ending}", tmp_path / f"2{ending}"
        assert on(folder, "chart", plan_of(folder), "-o", one).code == 0
        assert on(folder, "chart", plan_of(folder), "--out", other, "--json").lines[0]["chart"] == str(other)
        assert one.read_bytes().startswith(begins)
        assert one.read_bytes() == other.read_bytes()
    page = (tmp_path / "1.html").read_text("utf-8")
    assert "<svg" in page
    for outside in ("<script", "<link", 'src="http', "@import"):
        assert outside not in page
    refused = on(folder, "chart", plan_of(folder), "-o", tmp_path / "x.gif", "--json")
    assert refused.error["kind"] == "metadata-invalid"


def test_bars_in_the_terminal(folder: Path) -> None:
    done = on(folder, "chart", plan_of(folder))
    assert "░" in done.out
    assert "█" in done.out
    assert "move" in done.out


def test_the_group_works_by_itself(folder: Path) -> None:
    done = CliRunner().invoke(plans.app, ["chart", str(plan_of(folder))], obj=Options(folder / "site"))
    assert done.exit_code == 0
    assert "█" in done.stdout


# --- what it reckons with ---------------------------------------------------------------------------------------------


def test_speeds_are_those_of_the_copies_that_were_made(folder: Path) -> None:
    with ops.open_site(folder / "site") as site:
        (one,) = copy_durations(site.catalog)
        assert (one.tier, one.preset, one.resumed) == ("warm", "keep", False)
        assert one.seconds > 0
        assert one.bytes_stored > 0
    plan = ops.read_plan(plan_of(folder))
    # What took no time worth the name tells nothing.
    assert plan.header.coefficients["speeds"]["samples"] == int(one.seconds >= LEAST_SECONDS)
    one = replace(one, seconds=LEAST_SECONDS)
    assert speeds_of([one, replace(one, seconds=LEAST_SECONDS / 2)], jobs=3).samples == 1
    speeds = speeds_of([one, one], jobs=3)
    assert speeds.copy_rate("warm") == one.bytes_stored / one.seconds
    assert speeds.copy_rate("cold") == 25e6
    assert speeds.jobs == 3


def test_what_the_tuner_kept_is_used_and_damage_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    profile = {
        "slides": [{"bytes_source": 1000}, {"bytes_source": 3000}],
        "presets": {"fold": {"name": "fold 8"}, "pack": {"name": "fold 64"}},
        "candidates": [
            {"candidate": "fold 8", "bytes_stored": 1500, "encode_seconds": 0.002},
            {"candidate": "fold 64", "bytes_stored": 1400, "encode_seconds": 0.001},
        ],
    }
    (tmp_path / "profiles" / "a.json").write_text(json.dumps(profile), "utf-8")
    for name, text in (("b", "{"), ("c", "[]"), ("d", '{"slides": []}')):
        (tmp_path / "profiles" / f"{name}.json").write_text(text, "utf-8")

    found = tuned_presets(tmp_path)

    assert (found["fold"].bytes_per_byte, found["pack"].bytes_per_byte) == (0.75, 0.7)
    assert found["fold"].cpu_seconds_per_byte == pytest.approx(1e-6)
    assert speeds_of([], jobs=1, cpu={"fold": 1e-6}).cpu_per_byte("fold") == 1e-6


def test_tiers_are_taken_as_their_settings_say_and_lost_ones_by_their_names(folder: Path) -> None:
    with ops.open_site(folder / "site") as site:
        tiers = {tier.name: tier for tier in site.settings.tiers}
        tiers["cold"] = replace(
            tiers["cold"],
            archive=ArchiveSettings(retrieval="standard", restore_days=3),
            capacity_bytes=10**9,
            high_watermark=0.5,
        )
        site.settings = replace(site.settings, tiers=tuple(tiers.values()))
        facts = facts_of([{"copies": [a_copy("old-glacier")]}])
        terms = coefficients(site, facts, decisions_of(facts, [{}]), AT)

    cold, hot, lost, warm = terms.tiers
    assert (cold.name, cold.is_archive, cold.retrieval, cold.restore_days) == ("cold", True, "standard", 3.0)
    assert (cold.capacity_bytes, cold.high_watermark, cold.prices.name) == (10**9, 0.5, "ovh-cold-archive")
    assert (hot.is_archive, hot.capacity_bytes, hot.prices.name) == (False, None, "hospital-disk")
    assert hot.used_bytes > 0
    assert (lost.name, lost.is_of_site, lost.prices.name) == ("old-glacier", False, "ovh-cold-archive")
    assert warm.service == hot.service  # both are folders: nothing leaves the service
    assert terms.digest != Coefficients(terms.tiers[1:], terms.sizes, terms.speeds).digest
