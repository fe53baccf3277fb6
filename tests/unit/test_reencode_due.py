"""Which copies are left to be encoded anew: those that their tiers want otherwise, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.archive_kit import archive_site
from tests.intake_kit import made_vsi
from tests.move_kit import in_process, moved, tiered_site
from tests.site_kit import ingest, tiny_tiff
from wsistore import ops
from wsistore.catalog import other_presets
from wsistore.errors import InputError, SiteError
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.ops.reencode_due import reencode_due
from wsistore.testing.clock import ManualClock


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with tiered_site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def slides(site: ops.Site, tmp_path: Path) -> list[str]:
    paths = [tiny_tiff(tmp_path / f"{seed}.tiff", seed) for seed in range(5)]
    return sorted(str(done.slide) for done in ingest(site, *paths))


def want(site: ops.Site, tier: str, **changes: object) -> None:
    """Change what the settings say of a tier."""
    tiers = tuple(replace(one, **changes) if one.name == tier else one for one in site.settings.tiers)  # type: ignore[arg-type]
    site.settings = replace(site.settings, tiers=tiers)


def due(site: ops.Site, *tiers: str, **options: object) -> list[str]:
    return [one.slide for one in reencode_due(site, tiers, **options)]  # type: ignore[arg-type]


def test_all_is_well_until_the_settings_change(
    site: ops.Site, slides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert due(site) == []
    want(site, "hot", preset=Preset.FOLD)
    for page in (1, 2, 5, 1000):
        monkeypatch.setattr(other_presets, "_PAGE", page)
        assert due(site) == slides
    assert due(site, "warm") == []
    (first, *_) = reencode_due(site)
    assert (first.tier, first.preset) == ("hot", Preset.FOLD)
    assert first.bytes_stored == site.catalog.copies(first.slide)[0].bytes_stored
    with in_process():
        list(ops.reencode(site, slides[:2], Preset.FOLD, tier="hot", executor=SerialExecutor()))
    assert due(site) == slides[2:]


def test_a_preset_that_is_asked_for_goes_before_the_settings(site: ops.Site, slides: list[str]) -> None:
    assert due(site, preset=Preset.KEEP) == []
    assert due(site, preset=Preset.PACK) == slides


def test_holds_conditions_and_slides_kept_whole(site: ops.Site, slides: list[str], tmp_path: Path) -> None:
    made_vsi(tmp_path / "olympus")
    (whole,) = ingest(site, tmp_path / "olympus" / "a.vsi")
    ops.hold(site, slides[:1], "litigation")

    assert due(site, preset=Preset.FOLD) == slides[1:]
    assert due(site, preset=Preset.FOLD, whole=True) == sorted([*slides[1:], str(whole.slide)])
    assert len(due(site, preset=Preset.FOLD, where=f"slide = '{slides[3]}'")) == 1
    with pytest.raises(InputError):
        due(site, where="1 +")


def test_temporary_copies_stay_as_they_came(site: ops.Site, slides: list[str]) -> None:
    until = site.clock.now() + timedelta(days=1)
    list(ops.copy(site, slides[:1], "warm", executor=SerialExecutor()))
    assert due(site, "warm", preset=Preset.PACK) == slides[:1]
    list(ops.move(site, slides[1:2], "warm", keep_source=True, until=until, executor=SerialExecutor()))
    assert due(site, "warm", preset=Preset.PACK) == slides[:1]


def test_archives_and_closed_tiers_are_left_alone(tmp_path: Path, manual_clock: ManualClock) -> None:
    with archive_site(tmp_path / "site", manual_clock) as site:
        (done,) = ingest(site, tiny_tiff(tmp_path / "1.tiff", 1))
        assert due(site, preset=Preset.FOLD) == [done.slide]
        want(site, "hot", closed="It moves out.")
        assert due(site, preset=Preset.FOLD) == []
        want(site, "hot", closed="")
        moved(site, str(done.slide), "cold")
        assert due(site, preset=Preset.FOLD) == []
        with pytest.raises(SiteError):
            due(site, "tepid")
