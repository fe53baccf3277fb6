"""Every flow on real slides, with workers of a Dask cluster: from the scanner's share to the archive, and back."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.catalog_kit import sql
from tests.execute_kit import cluster
from tests.flows_kit import hospital
from tests.move_kit import TIERS, places
from tests.prefect_kit import Json, Server, Shell, shell, until
from tests.site_kit import committed_keys, files_of, restored, stored_keys
from wsistore import ops

PATIENCE = "from wsistore.execute import dask_existing; dask_existing.CONNECT_SECONDS = 120.0"
"""Of processes with the scheduler, which may answer late on a busy machine."""
SECONDS = 700
"""Seconds that some flows, one after the other, may take."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * SECONDS)]

RULES = """
version: 1
placement:
  - {name: archive, where: format = 'dicom', tier: cold, encode: pack}
  - {name: recent, tier: warm, encode: keep}
limits: {move_at_most: 100 %, delete_at_most: 100 %}
"""
SETTINGS = """
[tiers.cold.archive]
class = "GLACIER"
simulated_speed = 1000000
restore_days = 3650

[intake.scanner-1]
path = "{share}"
settle_seconds = 0
release = "delete"
release_after_hours = 0
release_copies = 1

[flows]
scheduler = "{scheduler}"
"""
SLIDES = (
    "aperio/CMU-1-Small-Region.svs",
    "hamamatsu/test3-DAPI-2.ndpi",
    "tiff/CMU-1-webp.tiff",
    "tiff/wsic-bfconvert-XYC-JPEG.ome.tiff",
    "dicom/CMU-1-Small-Region",
)
ARCHIVED = "CMU-1-Small-Region"
BROKEN = "broken/unopenable.tiff"


def test_every_flow_on_real_slides(prefect_server: Server, real_slides: Path, tmp_path: Path) -> None:
    share = tmp_path / "share"
    files = {Path(name).name: files_of(real_slides / name) for name in SLIDES}
    for name in (*SLIDES, BROKEN):
        _put(real_slides / name, share)
    with cluster(tmp_path / "dask", workers=2) as dask, shell(tmp_path / "shell", prefect_server) as run:
        site = hospital(tmp_path / "site", SETTINGS.format(share=share, scheduler=dask.address), RULES, warm="fold")
        (site / "board.txt").write_text(ARCHIVED)
        wanted = {"wanted": "board.txt", "keep": "1h"}
        taken = _flows(run, site, "ingest.ingest", "ingest.ingest", "ingest.ingest")
        _assert_ended(taken)
        _assert_taken(site, share, files)
        night = _flows(
            run, site, "lifecycle.lifecycle", "reencode.reencode", ("recall.recall", wanted), "recall.recall"
        )
        _assert_ended(night)
        _assert_placed(site, files, recalled=True)
        _let_recalls_end(site)
        more = {"month": f"{_this_month(site)}", "close": False}
        names = ("expire.expire", ("scrub.scrub", {"everything": True}), ("report.report", more), "backup.backup")
        morning = _flows(run, site, *names)
    _assert_ended(morning)
    _assert_placed(site, files, recalled=False)
    _assert_kept(site)
    _assert_shown(prefect_server, [*taken, *night, *morning], files)


def _flows(run: Shell, site: Path, *calls: str | tuple[str, Json]) -> list[Json]:
    pairs = [(call, {}) if isinstance(call, str) else call for call in calls]
    process = run.flows(
        *((f"wsistore_flows.{name}", {"site": str(site), **more}) for name, more in pairs), before=PATIENCE
    )
    lines = process.wait(SECONDS)
    assert len(lines) == len(calls), process.said
    return lines


def _assert_ended(lines: list[Json]) -> None:
    assert [line["type"] for line in lines] == ["COMPLETED"] * len(lines), lines


def _put(slide: Path, share: Path) -> None:
    """Copy a slide to where a scanner writes: it may be deleted there."""
    share.mkdir(exist_ok=True)
    if slide.is_dir():
        shutil.copytree(slide, share / slide.name, copy_function=shutil.copyfile)
        (share / slide.name).chmod(0o755)
    else:
        shutil.copyfile(slide, share / slide.name)


def _assert_taken(site: Path, share: Path, files: dict[str, dict[str, bytes]]) -> None:
    """All slides are in the site, whole, once; their originals are gone; what is broken stays, and is accounted for."""
    with ops.open_site(site) as opened:
        found = {row.name: str(row.slide) for row in opened.catalog.slides()}
        assert set(found) == set(files)
        for name, slide in found.items():
            assert restored(opened, slide) == files[name]
            kinds = Counter(str(event.kind) for event in opened.catalog.events(slide))
            assert (kinds["ingested"], kinds["original-released"]) == (1, 1), kinds
        rows = {row.path: str(row.status) for row in ops.intake_state(opened)}
    assert [path.name for path in share.rglob("*") if path.is_file()] == [Path(BROKEN).name]
    assert rows[Path(BROKEN).name] == "refused"


def _assert_placed(site: Path, files: dict[str, dict[str, bytes]], *, recalled: bool) -> None:
    """The catalogue, the chains of events and the bytes say that each slide lies where the rules want it."""
    with ops.open_site(site) as opened:
        for row in opened.catalog.slides():
            slide, is_archived = str(row.slide), row.name == ARCHIVED
            there = {"cold", "hot"} if is_archived and recalled else {"cold"} if is_archived else {"warm"}
            assert places(opened, slide) == dict.fromkeys(there, "committed")
            presets = {copy.tier: str(copy.preset) for copy in opened.catalog.copies(slide)}
            assert presets.get("warm", "fold") == "fold", "encoded as its tier wants it"
            if not is_archived or recalled:
                assert restored(opened, slide) == files[row.name]
        assert opened.catalog.open_attempts() == []
        assert opened.catalog.open_drops() == []
        assert opened.catalog.check_chains() == []
        for name in TIERS:
            assert stored_keys(opened.tier(name)) == committed_keys(opened, name), f"left over in {name}"


def _let_recalls_end(site: Path) -> None:
    """As if the time were over for which what was recalled is to stay."""
    with ops.open_site(site) as opened:
        url = opened.settings.catalog_url
    assert sql(url, "select count(*) from copies where expires_at is not null") == [(1,)]
    sql(url, "update copies set expires_at = '2026-01-01T00:00:00.000000Z' where expires_at is not null")


def _this_month(site: Path) -> str:
    with ops.open_site(site) as opened:
        return f"{opened.clock.now():%Y-%m}"


def _assert_kept(site: Path) -> None:
    """There is a backup of the catalogue, and a report with the bytes of all tiers."""
    (backup,) = (site / "backups").rglob("catalog-*.db")
    assert backup.stat().st_size > 0
    tables = [pq.read_table(path) for path in (site / "reports").rglob("*.parquet")]
    names = {
        name for table in tables if "x_BytesStored" in table.column_names for name in table["ResourceName"].to_pylist()
    }
    assert set(TIERS) <= names


def _assert_shown(server: Server, ended: list[Json], files: dict[str, dict[str, bytes]]) -> None:
    """Prefect shows of each run how it ended, its tasks and logs; and of no slide the name of its file."""
    for line in ended:
        shown = server.run(line["run"])
        assert (shown["state_name"], shown["state"]["message"] or "") == (line["name"], line["message"])
        _assert_tasks(server, line)
        artifacts = server.artifacts(line["run"])
        if line["name"] != "NothingToDo":
            assert artifacts, line
        told = " ".join([str(shown), *server.logs(line["run"]), *map(str, artifacts)])
        assert not [name for name in files if name in told], "names of files may tell of patients"


def _assert_tasks(server: Server, line: Json) -> None:
    """What takes time is a task, and shown as completed: soon, for Prefect learns of task runs from events."""
    has_tasks = line["name"] != "NothingToDo" and line["flow"] != "ingest"

    def completed() -> bool:
        tasks = server.task_runs(line["run"])
        return len(tasks) >= has_tasks and all(task["state_type"] == "COMPLETED" for task in tasks)

    until(completed)
