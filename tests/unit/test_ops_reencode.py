"""`reencode` and what is around it: what changes and what does not, what is reported, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr
from sqlalchemy import event

from tests.site_kit import (
    assert_sound,
    cli,
    files_of,
    ingest,
    memory_site,
    new_site,
    reencoded,
    restored,
    state_of,
    store_hashes,
    stored_keys,
    tiny_series,
    tiny_svs,
    tiny_tiff,
)
from wsistore import ops
from wsistore.compress.presets import ENCODINGS, MOST_FOLD_HEIGHT
from wsistore.errors import InputError, MissingError, SiteError, StorageError
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.ops.jobs import Job
from wsistore.ops.reencode_attempt import run_attempt
from wsistore.ops.sources import RescanError
from wsistore.tiers import commits


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def here() -> Iterator[None]:
    """Run what would run on Dask in this process."""
    with (
        mock.patch("wsistore.ops.reencoding.open_executor", return_value=SerialExecutor()),
        mock.patch("wsistore.ops.preset_tiers.open_executor", return_value=SerialExecutor()),
    ):
        yield


def image(group: zarr.Group, level: int) -> np.ndarray:
    """Return a level's pixels, (c, y, x)."""
    array = group[f"{level}/image"]
    assert isinstance(array, zarr.Array)
    return np.ascontiguousarray(array[:])


def pixels(site: ops.Site, slide: str) -> dict[str, bytes]:
    """Return the pixels of every level."""
    with ops.open_slide(slide, site=site) as opened:
        return {str(level): image(opened.group, level).tobytes() for level in range(len(opened.levels))}


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny_tiff, tiny_svs, tiny_series])
def test_hot_fold_pack_and_back(site: ops.Site, tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "in" / "a.svs")
    slide = str(ingest(site, path)[0].slide)
    first, seen = store_hashes(site, slide), pixels(site, slide)
    for preset in (Preset.FOLD, Preset.PACK, Preset.FOLD, Preset.KEEP, Preset.PACK, Preset.KEEP):
        result = reencoded(site, slide, preset)
        assert (result.status, result.preset) == ("reencoded", preset)
        (copy,) = site.catalog.copies(slide)
        assert (result.bytes_after, result.fallbacks) == (copy.bytes_stored, copy.fallbacks)
        assert restored(site, slide) == files_of(path)
        assert pixels(site, slide) == seen
        assert next(ops.verify(site, [slide])).ok
        assert_sound(site)
    assert store_hashes(site, slide) == first
    count = len(stored_keys(site.tier("hot")))
    reencoded(site, slide, Preset.PACK)
    assert len(stored_keys(site.tier("hot"))) == 4 < count  # marker, commit, two archives


def test_the_event_and_the_history_tell_it(site: ops.Site, tmp_path: Path) -> None:
    slide = str(ingest(site, tiny_series(tmp_path / "in"))[0].slide)
    result = reencoded(site, slide, Preset.FOLD, fold_height=2)
    (told,) = [found for found in site.catalog.events(slide) if found.kind == "reencoded"]
    wanted = {
        "preset_before": "keep",
        "preset": "fold",
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "shards": 3,
        "workers": 1,
        "version": 1,
        "encoding": {"fold_height": 2, "candidate": "auto", "packed": False},
    }
    assert wanted.items() <= dict(told.detail).items()
    assert told.detail["cpu_seconds"] > 0
    assert site.catalog.check_chains() == []
    shown = ops.show(site, slide)["copies"][0]
    assert (shown["fold_height"], shown["bytes_source"]) == (2, ops.show(site, slide)["bytes_source"])
    (copy,) = site.catalog.copies(slide)
    assert commits.decode(copy.commit_body.encode(), where=copy.commit_key).number == 2


def test_what_is_so_already_is_left(site: ops.Site, tmp_path: Path) -> None:
    slide = str(ingest(site, tiny_tiff(tmp_path / "a.tiff"))[0].slide)
    for preset, options in ((Preset.KEEP, {}), (Preset.FOLD, {}), (Preset.FOLD, {"fold_height": 2})):
        reencoded(site, slide, preset, **options)
        before = stored_keys(site.tier("hot"))
        again = reencoded(site, slide, preset, **options)
        assert again.status == "unchanged"
        assert "already" in again.reason
        assert again.bytes_after == again.bytes_before
        assert stored_keys(site.tier("hot")) == before


def test_several_slides_and_one_that_fails(site: ops.Site, tmp_path: Path) -> None:
    paths = [tiny_tiff(tmp_path / f"{seed}.tiff", seed=seed) for seed in (1, 2, 3)]
    slides = [str(result.slide) for result in ingest(site, *paths)]
    (copy,) = site.catalog.copies(slides[1])
    site.tier("hot").delete(f"private/{slides[1]}/{copy.attempt}/skeleton.zst")
    results = list(ops.reencode(site, [*slides, slides[0]], Preset.FOLD, executor=SerialExecutor()))
    assert [str(result.status) for result in results] == ["reencoded", "failed", "reencoded"]
    assert results[1].error is not None
    assert results[1].error.exit_code == 7
    assert [copy.state for copy in site.catalog.copies(slides[1])] == ["suspect"]


def test_a_tier_that_is_gone_stops_the_rest(site: ops.Site, tmp_path: Path) -> None:
    slides = [str(ingest(site, tiny_tiff(tmp_path / f"{n}.tiff", seed=n))[0].slide) for n in (1, 2)]
    executor = SerialExecutor()
    generator = ops.reencode(site, slides, Preset.FOLD, executor=executor)
    site.tier("hot").delete("wsistore-tier.json")
    results = list(generator)
    assert {result.error.kind for result in results if result.error} == {"tier-missing"}
    assert len(results) == 2


# --- which copy -------------------------------------------------------------------------------------------------------


def second_copy(site: ops.Site, slide: str, tier: str) -> None:
    """Put a copy of a slide into another tier."""
    (copy,) = site.catalog.copies(slide)
    run_attempt(site, Job(slide, tier, ENCODINGS[Preset.FOLD], copy, copy, 0.0), SerialExecutor(), ops.Watcher())


def test_a_damaged_copy_is_made_anew_from_another_tier(tmp_path: Path) -> None:
    new_site(tmp_path / "site")
    path = tiny_series(tmp_path / "in")
    with ops.open_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        second_copy(site, slide, "warm")
        assert [copy.tier for copy in site.catalog.copies(slide)] == ["hot", "warm"]
        assert next(ops.list_slides(site))["tiers"] == ["hot", "warm"]
        with pytest.raises(MissingError, match="several tiers"):
            ops.reencode_one(site, slide, ENCODINGS[Preset.PACK], executor=SerialExecutor())
        old = next(copy for copy in site.catalog.copies(slide) if copy.tier == "hot")
        key = f"store/{slide}/{old.attempt}/0/image/c/0/0/0"
        good = site.tier("hot").get(key)
        site.tier("hot").put(key, good[:500] + bytes([good[500] ^ 0xFF]) + good[501:])
        result = reencoded(site, slide, Preset.PACK, tier="hot")
        assert (result.tier, result.status, result.preset) == ("hot", "reencoded", Preset.PACK)
        states = {(copy.tier, str(copy.preset), str(copy.state)) for copy in site.catalog.copies(slide)}
        assert states == {("hot", "pack", "committed"), ("warm", "fold", "committed")}
        for tier in ("hot", "warm"):
            kinds = [key.split("/", 1)[0] for key in stored_keys(site.tier(tier))]
            assert kinds.count("commits") == 1
        assert {verdict.ok for verdict in ops.verify(site, [slide])} == {True}
        assert restored(site, slide) == files_of(path)


def test_what_cannot_be_is_refused_and_nothing_changed(site: ops.Site, tmp_path: Path) -> None:
    slide = str(ingest(site, tiny_tiff(tmp_path / "a.tiff"))[0].slide)
    before = stored_keys(site.tier("hot")), site.catalog.events()
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (SiteError, {"preset": Preset.FOLD, "tier": "ho"}),
        (InputError, {"preset": Preset.KEEP, "fold_height": 4}),
        (InputError, {"preset": Preset.FOLD, "fold_height": 0}),
        (InputError, {"preset": Preset.FOLD, "fold_height": MOST_FOLD_HEIGHT + 1}),
    ]
    for error, options in refused:
        with pytest.raises(error):
            list(ops.reencode(site, [slide], options.pop("preset"), executor=SerialExecutor(), **options))
    with pytest.raises(MissingError):
        list(ops.reencode(site, [slide, "nobody"], Preset.FOLD, executor=SerialExecutor()))
    assert (stored_keys(site.tier("hot")), site.catalog.events()) == before


# --- tiers with a preset of their own ---------------------------------------------------------------------------------


def preset_site(folder: Path, preset: str) -> Path:
    """Make a site whose first tier has a preset."""
    new_site(folder)
    path = folder / "wsistore.toml"
    text = path.read_text()
    path.write_text(text.replace('preset = "keep"', f'preset = "{preset}"', 1))
    return folder


@pytest.mark.usefixtures("here")
def test_a_tier_that_folds_folds_what_comes_in(tmp_path: Path) -> None:
    folder = preset_site(tmp_path / "site", "fold")
    paths = [tiny_series(tmp_path / "in" / "a"), tiny_tiff(tmp_path / "in" / "b.tiff")]
    lines = cli(folder, "ingest", *paths, "--json").lines
    assert {(line["status"], line["preset"]) for line in lines} == {("ingested", "fold")}
    again = cli(folder, "ingest", *paths, "--json")
    assert {(line["status"], line["preset"]) for line in again.lines} == {("exists", "fold")}
    assert again.code == 0
    with ops.open_site(folder) as site:
        assert_sound(site)
        for line in lines:
            (copy,) = site.catalog.copies(line["slide"])
            assert copy.bytes_stored == line["bytes_stored"]


@pytest.mark.usefixtures("here")
def test_a_fold_that_fails_is_said_and_done_the_next_time(tmp_path: Path) -> None:
    folder = preset_site(tmp_path / "site", "pack")
    path = tiny_series(tmp_path / "in")
    with mock.patch("wsistore.ops.reencode_attempt.run_task", side_effect=StorageError("gone")):
        (line,) = cli(folder, "ingest", path, "--json").lines
    assert (line["status"], line["error"]["kind"], line["preset"]) == ("failed", "storage-failed", "keep")
    (line,) = cli(folder, "ingest", path, "--json").lines
    assert (line["status"], line["preset"]) == ("exists", "pack")
    with ops.open_site(folder) as site:
        assert_sound(site)
        assert restored(site, line["slide"]) == files_of(path)


def test_a_preset_that_does_not_exist_is_said(tmp_path: Path) -> None:
    folder = preset_site(tmp_path / "site", "fodl")
    done = cli(folder, "ls", "--json")
    assert done.code == 8
    assert "did you mean 'fold'?" in done.error["message"]
    good = new_site(tmp_path / "other")
    cli(good, "ingest", tiny_tiff(tmp_path / "a.tiff"))
    before = state_of(good)
    done = cli(good, "reencode", "a.tiff", "--preset", "pak")
    assert done.code == 2
    assert "did you mean 'pack'?" in " ".join(done.err.split())
    assert cli(good, "reencode", "a.tiff").code == 2
    assert cli(good, "reencode", "b.tiff", "--preset", "fold", "--json").error["kind"] == "slide-missing"
    assert state_of(good) == before


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_command(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    cli(folder, "ingest", tiny_series(tmp_path / "in" / "a"), tiny_tiff(tmp_path / "in" / "b.tiff"))
    done = cli(folder, "reencode", "a", "b.tiff", "--preset", "fold", "--json")
    assert (done.code, done.err) == (0, "")
    first, second = done.lines
    assert first["ratio"] == round(first["bytes_after"] / first["bytes_before"], 4) < 1
    assert (first["shards"], second["shards"], first["error"]) == (3, 1, None)
    assert first["memory_bound_bytes"] > 0
    assert first["peak_worker_bytes"] > 0
    assert set(second["fallbacks"]) == {"not-smaller"}
    people = cli(folder, "reencode", "a", "b.tiff", "--preset", "pack")
    assert people.code == 0
    assert "each worker needs at most" in people.err
    assert "not-smaller" in people.err
    assert "reencoded" in people.out
    assert "unchanged" in cli(folder, "reencode", "a", "--preset", "pack").out
    shown = cli(folder, "show", "b.tiff")
    assert "pack" in shown.out
    assert "not-smaller" in shown.err
    assert json.loads(cli(folder, "events", "a", "--json").out.splitlines()[-1])["kind"] == "dropped"


# --- beside it --------------------------------------------------------------------------------------------------------


def test_ls_asks_the_catalogue_the_same_however_many_slides_there_are(site: ops.Site, tmp_path: Path) -> None:
    counts = []
    for seed in (1, 2, 3):
        ingest(site, tiny_tiff(tmp_path / f"{seed}.tiff", seed=seed))
        statements: list[str] = []
        engine = site.catalog._database._engine
        listener = lambda *args, seen=statements: seen.append(args[2])  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        assert len(list(ops.list_slides(site))) == seed
        event.remove(engine, "before_cursor_execute", listener)
        counts.append(len(statements))
    assert len(set(counts)) == 1


def test_a_site_of_the_first_release_is_read_and_goes_on(site: ops.Site, tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    slide = str(ingest(site, path)[0].slide)
    (copy,) = site.catalog.copies(slide)
    document = json.loads(copy.commit_body)
    del document["version"]  # its commits had none
    body = json.dumps(document, separators=(",", ":"))
    site.tier("hot").put(copy.commit_key, body.encode())
    with site.catalog._database.write() as connection:
        connection.exec_driver_sql("UPDATE copies SET commit_body = ?", (body,))
    assert next(ops.verify(site, [slide])).ok
    reencoded(site, slide, Preset.FOLD)
    assert restored(site, slide) == files_of(path)
    assert_sound(site)


@dataclass
class Meanwhile:
    """Takes something in, in another process, while the first one verifies."""

    site: ops.Site
    path: Path
    results: list[ops.IngestResult]

    def __call__(self, phase: str, *_: object) -> None:
        if phase == "verify" and not self.results:
            self.results += ingest(self.site, self.path)


def test_two_that_take_in_a_series_at_once_make_one_slide(tmp_path: Path) -> None:
    whole = tiny_series(tmp_path / "whole")
    part = tiny_series(tmp_path / "part")
    max(part.iterdir()).unlink()
    for number, (mine, theirs) in enumerate(((whole, part), (part, whole))):
        with memory_site(tmp_path / f"site{number}") as site, ops.open_site(tmp_path / f"site{number}") as other:
            others: list[ops.IngestResult] = []

            meanwhile = Meanwhile(other, theirs, others)
            results = [*ops.ingest(site, [mine], jobs=1, progress=meanwhile), *others]
            assert len(site.catalog.slides()) == 1
            assert len(others) == 1
            if mine == whole:
                assert [str(result.status) for result in results] == ["ingested", "ingested"]
                assert results[0].supersedes == 1
                assert len(site.catalog.source(str(results[0].slide)).files) == 3
            else:
                assert results[0].error is not None
                assert results[0].error.kind == "source-incomplete"
            assert_sound(site)


def test_a_tile_that_surprises_twice_is_the_sources_fault(site: ops.Site, tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "a.tiff")

    def surprise(*_: Any) -> None:
        raise RescanError(f"{path}: the tile in row 0, column 0 of level 0")

    with mock.patch("wsistore.ops.ingesting.checker_of", return_value=surprise):
        (result,) = ops.ingest(site, [path], jobs=1)
    assert result.error is not None
    assert (result.error.kind, result.error.exit_code) == ("source-broken", 3)
    assert "row 0, column 0" in result.error.message
    assert site.catalog.open_attempts() == []


@pytest.mark.parametrize("preset", [Preset.FOLD, Preset.PACK])
def test_a_folded_slide_is_handed_on_as_plain_jpegs(site: ops.Site, tmp_path: Path, preset: Preset) -> None:
    slide = str(ingest(site, tiny_series(tmp_path / "in"))[0].slide)
    ops.export(site, slide, tmp_path / "keep.ome.zarr", codec=ops.ExportCodec.JPEG)
    reencoded(site, slide, preset)
    for target in ("plain.ome.zarr", "plain.ozx"):
        ops.export(site, slide, tmp_path / target, codec=ops.ExportCodec.JPEG)
    before = zarr.open_group(tmp_path / "keep.ome.zarr", mode="r")
    after = zarr.open_group(tmp_path / "plain.ome.zarr", mode="r")
    for level in range(3):
        mine, was = after[f"{level}/image"], before[f"{level}/image"]
        assert isinstance(mine, zarr.Array)
        assert isinstance(was, zarr.Array)
        assert mine.chunks == was.chunks
        assert "wsistore" not in str(mine.metadata.to_dict())
        assert np.array_equal(image(after, level), image(before, level))
    with ops.open_slide(tmp_path / "plain.ozx") as opened:
        assert np.array_equal(image(opened.group, 0), image(before, 0))
    ops.export(site, slide, tmp_path / "stored.ozx")
    with ops.open_slide(tmp_path / "stored.ozx") as opened:
        assert np.array_equal(image(opened.group, 0), image(before, 0))
