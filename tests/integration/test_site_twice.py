"""The same source twice is one slide: again, under another name, at the same time, grown, shrunk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.site_kit import (
    assert_sound,
    cli,
    files_of,
    new_site,
    restored,
    state_of,
    statuses,
    stored_keys,
    tiny_series,
    tiny_svs,
    tiny_tiff,
)
from wsistore import ops


def test_again_and_under_another_name(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    slide = tiny_svs(tmp_path / "a.svs")
    (first,) = cli(site, "ingest", slide, "--json").lines
    assert first["status"] == "ingested"
    before = state_of(site)
    other = tmp_path / "elsewhere" / "other name.svs"
    other.parent.mkdir()
    shutil.copyfile(slide, other)
    for source in (slide, other):
        done = cli(site, "ingest", source, "--json")
        assert done.code == 0
        (line,) = done.lines
        same = ("slide", "mode", "bytes_source", "bytes_stored", "objects", "verified_at", "tier")
        assert {key: line[key] for key in same} == {key: first[key] for key in same}
        assert (line["status"], line["source"], line["error"]) == ("exists", str(source), None)
    assert state_of(site) == before


def test_series_under_other_names_of_folder_and_instances(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    series = tiny_series(tmp_path / "series")
    (first,) = cli(site, "ingest", series, "--json").lines
    other = tmp_path / "copy"
    other.mkdir()
    for number, path in enumerate(sorted(series.iterdir(), reverse=True)):
        shutil.copyfile(path, other / f"renamed-{number}")
    (line,) = cli(site, "ingest", other, "--json").lines
    assert (line["status"], line["slide"]) == ("exists", first["slide"])
    with ops.open_site(site) as opened:
        assert restored(opened, first["slide"]) == files_of(series)


def test_named_twice_in_one_command(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    slide = tiny_svs(tmp_path / "a.svs")
    lines = cli(site, "ingest", slide, slide, tmp_path / "." / "a.svs", "--jobs", "4", "--json").lines
    assert statuses(lines) == ["exists", "exists", "ingested"]
    assert len({line["slide"] for line in lines}) == 1
    with ops.open_site(site) as opened:
        assert_sound(opened)


_WORKER = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    from wsistore import ops
    from wsistore.slides import registry  # heavy imports before the start
    from wsistore.ops import ingesting
    import wsistore.ops.many
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    for line in sys.stdin:
        folder, *paths = json.loads(line)
        with ops.open_site(Path(folder)) as site:
            results = list(ops.ingest(site, [Path(p) for p in paths], jobs=1))
        for result in results:  # only now: closing the site writes to the tiers' ledgers
            sys.stdout.write(json.dumps(result.to_json()) + "\\n"); sys.stdout.flush()
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "series"])
def test_at_the_same_time_by_two_processes(tmp_path: Path, kind: str) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for turn in range(6):
            site = new_site(tmp_path / f"site{turn}")
            if kind == "file":
                sources = [tiny_svs(tmp_path / str(turn) / f"{n}.svs", seed=turn) for n in range(2)]
            else:
                sources = [tiny_series(tmp_path / str(turn) / str(n), seed=turn) for n in range(2)]
            for worker, source in zip(workers, sources, strict=True):
                assert worker.stdin is not None
                worker.stdin.write(json.dumps([str(site), str(source)]) + "\n")
                worker.stdin.flush()
            lines = [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout is not None]
            assert statuses(lines) == ["exists", "ingested"], lines
            assert len({line["slide"] for line in lines}) == 1
            with ops.open_site(site) as opened:
                assert len(opened.catalog.slides()) == 1
                assert_sound(opened)  # also: every object belongs to the committed attempt
                assert restored(opened, lines[0]["slide"]) in [files_of(source) for source in sources]
    finally:
        for worker in workers:
            worker.communicate(timeout=240)


def test_series_that_gained_an_instance_supersedes(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    whole = tiny_series(tmp_path / "whole")
    series = tmp_path / "series"
    shutil.copytree(whole, series)
    late = max(series.iterdir())
    late.unlink()
    small = files_of(series)
    (first,) = cli(site, "ingest", series, "--json").lines
    assert first["supersedes"] is None
    shutil.copyfile(whole / late.name, late)
    (second,) = cli(site, "ingest", series, "--json").lines
    assert (second["status"], second["slide"], second["supersedes"]) == ("ingested", first["slide"], 1)
    shown = cli(site, "show", first["slide"], "--json").lines[0]
    assert shown["version"] == 2
    assert [(c["version"], c["state"]) for c in shown["copies"]] == [(2, "committed"), (1, "superseded")]
    assert [file["name"] for file in shown["files"]] == sorted(files_of(whole))
    assert len(cli(site, "ls", "--json").lines) == 1
    with ops.open_site(site) as opened:
        assert_sound(opened)
        assert restored(opened, first["slide"]) == files_of(whole)
    assert (cli(site, "ingest", series, "--json").lines[0]["status"]) == "exists"
    assert [line["ok"] for line in cli(site, "verify", "--all", "--json").lines] == [True]

    # The earlier, smaller folder comes by again: refused, naming what is missing; nothing changes.
    before = state_of(site)
    late.unlink()
    assert files_of(series) == small
    done = cli(site, "ingest", series, "--json")
    assert done.code == 3
    (line,) = done.lines
    assert line["error"]["kind"] == "source-incomplete"
    assert late.name in line["error"]["message"]
    assert state_of(site) == before


def test_series_that_lost_an_instance_is_refused(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    series = tiny_series(tmp_path / "series")
    (first,) = cli(site, "ingest", series, "--json").lines
    lost = max(series.iterdir())
    whole = files_of(series)
    lost.unlink()
    before = state_of(site)
    done = cli(site, "ingest", series, "--json")
    assert done.code == 3
    assert done.lines[0]["error"]["kind"] == "source-incomplete"
    assert lost.name in done.lines[0]["error"]["message"]
    assert state_of(site) == before
    with ops.open_site(site) as opened:
        assert restored(opened, first["slide"]) == whole


def test_two_slides_of_one_name_are_told_apart(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    slides = [tiny_tiff(tmp_path / str(n) / "a.tiff", seed=n) for n in range(2)]
    lines = cli(site, "ingest", *slides, "--json").lines
    assert statuses(lines) == ["ingested", "ingested"]
    done = cli(site, "show", "a.tiff", "--json")
    assert done.code == 4
    assert done.error["kind"] == "slide-ambiguous"
    for line in lines:
        assert line["slide"] in done.error["message"]
        assert cli(site, "show", line["slide"], "--json").lines[0]["path"] == line["source"]


def test_restored_files_are_known(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    for source in (tiny_svs(tmp_path / "a.svs"), tiny_series(tmp_path / "series")):
        (line,) = cli(site, "ingest", source, "--json").lines
        out = tmp_path / "out" / source.name
        assert cli(site, "restore", line["slide"], "--to", out).code == 0
        again = cli(site, "ingest", out, "--json").lines
        assert [one["status"] for one in again] == ["exists"]


def test_other_tier_is_no_second_slide(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    slide = tiny_svs(tmp_path / "a.svs")
    (first,) = cli(site, "ingest", slide, "--tier", "warm", "--json").lines
    assert first["tier"] == "warm"
    (second,) = cli(site, "ingest", slide, "--tier", "hot", "--json").lines
    assert (second["status"], second["slide"], second["tier"]) == ("exists", first["slide"], "warm")
    with ops.open_site(site) as opened:
        assert_sound(opened, "warm")
        assert stored_keys(opened.tier("hot")) == {"wsistore-tier.json"}
