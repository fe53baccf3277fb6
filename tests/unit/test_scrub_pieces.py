"""Slides of which no copy is whole: mended as long as every object is good in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keys_kit import encrypting
from tests.move_kit import assert_at_rest, bare, in_process, moved, tiered_site
from tests.scrub_kit import copy_in, flip, rot, rotting, scrub
from tests.site_kit import files_of, ingest, restored, stored_keys, tiny_svs
from wsistore import ops
from wsistore.errors import StorageError
from wsistore.model import Preset
from wsistore.ops.piecing import piece_together
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.storage.memory import MemoryStorage
from wsistore.storage.pieced import PiecedStorage
from wsistore.storage.wrapper import Verb


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with tiered_site(tmp_path / "site") as opened:
        yield opened


def twice(site: ops.Site, folder: Path, preset: Preset) -> tuple[str, dict[str, bytes]]:
    """Return a slide with two copies of one encoding, in warm and cold, and its files."""
    path = tiny_svs(folder / "a.svs")
    slide = str(ingest(site, path)[0].slide)
    moved(site, slide, "warm", preset=preset)
    moved(site, slide, "cold", keep_source=True, preset=preset)
    return slide, files_of(path)


def spoil(site: ops.Site, slide: str, tier: str, name: str, at: float = 0.5) -> None:
    rot(site, tier, dict(rotting(copy_in(site, slide, tier)))[name], flip(at))


def classes(preset: Preset) -> list[str]:
    if preset is Preset.PACK:
        return ["commit", "store archive", "private archive"]
    return ["commit", "shard", "zarr.json of the root", "files.json.zst", "skeleton.zst", "layout.parquet", "icc"]


@pytest.mark.parametrize("preset", list(Preset))
def test_copies_that_are_damaged_in_different_objects_make_a_whole_one(
    site: ops.Site, tmp_path: Path, preset: Preset
) -> None:
    """Every class of objects damaged in one copy, and the next class in the other."""
    slide, files = twice(site, tmp_path / "in", preset)
    there = {name for name, _ in rotting(copy_in(site, slide, "warm"))}
    names = [name for name in classes(preset) if name in there]
    assert len(names) >= 3
    for one, other in zip(names, [*names[1:], names[0]], strict=True):
        spoil(site, slide, "warm", one)
        spoil(site, slide, "cold", other)
        done = scrub(site, "warm", "cold")
        assert done.statuses(slide) == {"warm": "repaired", "cold": "repaired"}, (one, other, done.rows)
        assert_at_rest(site, slide, files, "warm", "cold")
        assert {copy_in(site, slide, tier).preset for tier in ("warm", "cold")} == {preset}
    said = [event.detail for event in site.catalog.events(slide) if event.kind == "repaired"]
    assert any("pieces" in detail for detail in said)


def test_it_says_that_no_copy_was_whole(site: ops.Site, tmp_path: Path) -> None:
    slide, _ = twice(site, tmp_path / "in", Preset.KEEP)
    spoil(site, slide, "warm", "shard")
    spoil(site, slide, "cold", "skeleton.zst")
    done = scrub(site, "warm", "cold")
    (row,) = [row for row in done.rows if "pieced together" in row.reason]
    assert "warm" in row.reason
    assert "cold" in row.reason
    detail = next(event.detail for event in site.catalog.events(slide) if "pieces" in event.detail)
    assert list(detail["pieces"].values()) == [1]
    assert {detail["from"], *detail["pieces"]} == {"warm", "cold"}


def test_an_object_that_is_gone_is_taken_from_the_other_copy(site: ops.Site, tmp_path: Path) -> None:
    slide, files = twice(site, tmp_path / "in", Preset.FOLD)
    for key in list(dict(rotting(copy_in(site, slide, "warm"))).values()):
        if key.startswith("store/"):
            bare(site, "warm").delete(key)
    spoil(site, slide, "cold", "layout.parquet")
    assert scrub(site, "warm", "cold").statuses(slide) == {"warm": "repaired", "cold": "repaired"}
    assert restored(site, slide) == files


@pytest.mark.parametrize("preset", list(Preset))
def test_an_object_that_is_damaged_everywhere_is_lost_and_nothing_is_deleted(
    site: ops.Site, tmp_path: Path, preset: Preset
) -> None:
    slide, _ = twice(site, tmp_path / "in", preset)
    for tier, at in (("warm", 0.3), ("cold", 0.6)):
        spoil(site, slide, tier, "store archive" if preset is Preset.PACK else "shard", at)
    before = {tier: stored_keys(bare(site, tier)) for tier in ("warm", "cold")}
    assert scrub(site, "warm", "cold").statuses(slide) == {"warm": "lost", "cold": "lost"}
    assert piece_together(site, slide) is None
    assert {tier: stored_keys(bare(site, tier)) for tier in ("warm", "cold")} == before


def test_copies_of_other_encodings_have_the_skeleton_in_common_and_not_the_shards(
    site: ops.Site, tmp_path: Path
) -> None:
    path = tiny_svs(tmp_path / "in" / "a.svs")
    slide = str(ingest(site, path)[0].slide)
    moved(site, slide, "warm", keep_source=True, preset=Preset.FOLD)
    spoil(site, slide, "hot", "shard")
    spoil(site, slide, "warm", "skeleton.zst")
    assert scrub(site, "hot", "warm").statuses(slide) == {"hot": "repaired", "warm": "repaired"}
    assert_at_rest(site, slide, files_of(path), "hot", "warm")
    spoil(site, slide, "hot", "shard")
    spoil(site, slide, "warm", "shard")
    assert scrub(site, "hot", "warm").statuses(slide) == {"hot": "lost", "warm": "lost"}


def test_encrypted_companions_are_pieced_together_too(tmp_path: Path) -> None:
    with ops.open_site(encrypting(tmp_path / "site", ("hot", "warm", "cold"))) as site:
        slide, files = twice(site, tmp_path / "in", Preset.KEEP)
        spoil(site, slide, "warm", "skeleton.zst")
        spoil(site, slide, "cold", "shard")
        assert scrub(site, "warm", "cold").statuses(slide) == {"warm": "repaired", "cold": "repaired"}
        assert restored(site, slide) == files


def test_a_bad_sector_costs_its_object_only(site: ops.Site, tmp_path: Path) -> None:
    slide, files = twice(site, tmp_path / "in", Preset.KEEP)
    shard = dict(rotting(copy_in(site, slide, "cold")))["shard"]
    broken = FailBefore(StorageError("Input/output error."))
    rules = [Rule(broken, verb=verb, key_contains=shard, times=10**6) for verb in (Verb.STREAM, Verb.GET)]
    site._tiers["cold"] = FaultStorage(bare(site, "cold"), rules)
    spoil(site, slide, "warm", "skeleton.zst")
    # Warm is read before anybody knows of cold's bad sector: its turn comes again.
    assert scrub(site, "warm", "cold").statuses(slide) == {"warm": "damaged", "cold": "repaired"}
    assert scrub(site, "warm", "cold").statuses(slide) == {"warm": "repaired", "cold": "good"}
    assert restored(site, slide) == files


def test_a_tier_that_fails_gives_no_pieces(site: ops.Site, tmp_path: Path) -> None:
    slide, files = twice(site, tmp_path / "in", Preset.KEEP)
    spoil(site, slide, "warm", "shard")
    spoil(site, slide, "cold", "skeleton.zst")
    with pytest.MonkeyPatch.context() as patch:

        def fail(self: ops.Site, name: str) -> object:
            raise StorageError("away", remedy="Wait.")

        scrub(site, "cold", everything=True)  # both are known to be damaged now, one was mended or not
        patch.setattr(type(site), "tier", fail)
        assert piece_together(site, slide) is None
    scrub(site, "warm", "cold")
    assert restored(site, slide) == files


def test_pieced_storage_reads_and_lists_what_is_elsewhere_under_its_own_keys() -> None:
    one, other = MemoryStorage(), MemoryStorage()
    one.put("a/1", b"one")
    one.put("a/3", b"bad")
    other.put("b/2", b"two")
    other.put("b/3", b"three")
    pieced = PiecedStorage(one, {"a/2": (other, "b/2"), "a/3": (other, "b/3")})
    assert [(info.key, info.size_bytes) for info in pieced.list("a/")] == [("a/1", 3), ("a/2", 3), ("a/3", 5)]
    assert [info.key for info in pieced.list("a/", after="a/2")] == ["a/3"]
    assert [pieced.get(f"a/{n}") for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert b"".join(pieced.stream("a/3")) == b"three"
    assert pieced.head("a/2").key == "a/2"
    with pytest.raises(StorageError):
        pieced.put("a/4", b"")
    with pytest.raises(StorageError):
        pieced.delete("a/1")
