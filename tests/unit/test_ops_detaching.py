"""Slides parted from their patients: nothing says any more whose they are, and their pixels stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from tests.elimination_kit import AUTHORITY, kinds
from tests.keys_kit import bytes_of, encrypting
from tests.site_kit import PATIENT, files_of, restored, tiny_svs
from wsistore import ops
from wsistore.catalog import Catalog
from wsistore.errors import ConflictError, Kind, StorageError
from wsistore.ops.detaching import detach
from wsistore.ops.metadata import read_metadata
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.tiers.keyring import TierKeys

WHY = {"rule": "slides-of-interest", "keep_until": "2020-01-01"}


@contextmanager
def one_slide(tmp_path: Path, *tiers: str) -> Iterator[tuple[ops.Site, str, Path]]:
    """Open a site whose tiers `tiers` encrypt companions, with one slide of a case in hot and warm."""
    folder = encrypting(tmp_path / "site", tiers)
    path = tiny_svs(tmp_path / "in" / "a.svs")
    table = tmp_path / "slides.csv"
    table.write_text(f"file,case_id,patient_id,stain,block\na.svs,CASE-1,{PATIENT},HE,B-1\n")
    with ops.open_site(folder) as site:
        (result,) = ops.ingest(site, [path], metadata=read_metadata(table), jobs=1)
        slide = str(result.slide)
        (done,) = ops.copy(site, [slide], "warm", jobs=1)
        assert done.error is None, done.error
        yield site, slide, path


def test_nothing_says_any_more_whose_it_is(tmp_path: Path) -> None:
    with one_slide(tmp_path, "hot", "warm") as (site, slide, _):
        before = site.catalog.source(slide)
        done = detach(site, slide, WHY, AUTHORITY)
        assert done.destroyed == 2
        row = site.catalog.slide(slide)
        assert (row.name, dict(row.metadata)) == (slide, {"stain": "HE"})
        now = site.catalog.source(slide)
        assert (now.fingerprint, now.size_bytes, now.path) == (before.fingerprint, before.size_bytes, "")
        (state,) = [state for state, _ in site.catalog.all_states()]
        for word in (PATIENT, "CASE-1", "a.svs", "B-1"):
            assert word not in json.dumps(state)
        assert kinds(site, slide)[-2:] == ["identity-detaching", "identity-detached"]
        assert site.catalog.events(slide)[-2].detail["authority"]["plan"] == AUTHORITY.plan
        assert site.catalog.check_chains() == []
        with ops.open_slide(slide, site=site) as opened:
            assert opened.read_region(0, 0, 0, 64, 64).shape == (64, 64, 3)
        with pytest.raises(StorageError, match="destroyed"):
            ops.restore(site, slide, tmp_path / "out")
        for tier in ("hot", "warm"):
            assert not any(PATIENT.encode() in data for data in bytes_of(site.folder, tier, "private").values())


def test_refused_where_a_companion_is_not_encrypted(tmp_path: Path) -> None:
    with one_slide(tmp_path, "warm") as (site, slide, path):
        with pytest.raises(ConflictError, match="tier hot is not encrypted") as caught:
            detach(site, slide, WHY, AUTHORITY)
        assert caught.value.kind == Kind.KEY_MISSING
        assert restored(site, slide) == files_of(path)
        assert site.catalog.slide(slide).metadata["patient_id"] == PATIENT
        assert "identity-detaching" not in kinds(site, slide)


def test_held_slides_keep_their_patient(tmp_path: Path) -> None:
    with one_slide(tmp_path, "hot", "warm") as (site, slide, path):
        ops.hold(site, [slide], "a court asked")
        with pytest.raises(ConflictError) as caught:
            detach(site, slide, WHY, AUTHORITY)
        assert caught.value.kind == Kind.HELD
        assert restored(site, slide) == files_of(path)


@pytest.mark.parametrize("step", ["destroy", "event", "forget"])
def test_what_was_interrupted_goes_on(tmp_path: Path, step: str) -> None:
    class Died(BaseException):
        pass

    places = {
        "forget": mock.patch("wsistore.ops.detaching.finish_detaching", side_effect=Died),
        "destroy": mock.patch.object(TierKeys, "destroy", side_effect=Died),
        "event": mock.patch.object(Catalog, "append_event", side_effect=Died),
    }
    with one_slide(tmp_path, "hot", "warm") as (site, slide, _):
        with places[step], pytest.raises(Died):
            detach(site, slide, WHY, AUTHORITY)
        assert site.catalog.detachments() == [slide]
        assert ops.recover(site).failed == 0
        assert site.catalog.detachments() == []
        assert kinds(site, slide).count("identity-detached") == 1
        with pytest.raises(StorageError, match="destroyed"):
            ops.restore(site, slide, tmp_path / "out")


def test_a_tier_that_is_away_is_waited_for(tmp_path: Path) -> None:
    with one_slide(tmp_path, "hot", "warm") as (site, slide, _):
        warm = site.tier("warm")
        with mock.patch("wsistore.ops.detaching.finish_detaching"):
            detach(site, slide, WHY, AUTHORITY)
        away = StorageError("the medium is out", kind=Kind.TIER_MISSING)
        site._tiers["warm"] = FaultStorage(warm, [Rule(FailBefore(away), times=10**9)])
        assert ops.recover(site).failed == 1
        assert site.catalog.detachments() == [slide]
        site._tiers["warm"] = warm
        assert ops.recover(site).failed == 0
        assert site.catalog.detachments() == []


def test_taken_in_anew_it_is_not_given_back(tmp_path: Path) -> None:
    """The content is still kept: whoever brings the file again, with its patient, is told so, and no more."""
    with one_slide(tmp_path, "hot", "warm") as (site, slide, path):
        detach(site, slide, WHY, AUTHORITY)
        (again,) = ops.ingest(site, [path], metadata=read_metadata(tmp_path / "slides.csv"), jobs=1)
        assert (str(again.slide), str(again.status)) == (slide, "exists")
        assert dict(site.catalog.slide(slide).metadata) == {"stain": "HE"}
