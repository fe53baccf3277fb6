"""The tuner on real slides: its estimates against the copies that re-encoding really makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site_kit import ingest, new_site
from wsistore import ops
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.units import MIB


def compared(folder: Path, slide: Path, sample_bytes: int, fold_height: int) -> tuple[ops.Tuned, float, float]:
    """Return what the tuner says, its estimate for a fold height, and the bytes of the copy that was made."""
    with ops.open_site(new_site(folder)) as site:
        ingest(site, slide)
        options = ops.TuneOptions(tier="hot", sample_bytes=sample_bytes)
        tuned = ops.tune(site, [slide], options)
        (estimate,) = [row for row in tuned.rows if row.candidate.name == f"fold {fold_height}"]
        (done,) = ops.reencode(site, [slide.name], Preset.FOLD, fold_height=fold_height, executor=SerialExecutor())
        assert done.error is None
        return tuned, estimate.measurement.bytes_stored, site.catalog.copies(done.slide)[-1].bytes_stored


def test_a_part_of_a_small_slide_tells_its_size(real_slides: Path, tmp_path: Path) -> None:
    slide = real_slides / "aperio" / "CMU-1-Small-Region.svs"

    tuned, estimate, made = compared(tmp_path / "site", slide, 300_000, 8)

    assert tuned.slides[0].sample_bytes < 1_200_000
    assert estimate == pytest.approx(made, rel=0.03)
    names = [row.candidate.name for row in tuned.rows]
    assert names == ["keep", "fold 1", "fold 4", "fold 8", "fold 16"]  # it is 13 tiles high
    sizes = [row.measurement.bytes_stored for row in tuned.rows]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_a_tenth_of_a_slide_tells_its_size(real_slides: Path, tmp_path: Path) -> None:
    slide = real_slides / "aperio" / "hpylori-IHC.svs"

    tuned, estimate, made = compared(tmp_path / "site", slide, 4 * MIB, 16)

    assert tuned.slides[0].sample_bytes < 5 * MIB
    assert estimate == pytest.approx(made, rel=0.02)


def test_strips_between_restart_markers_are_tuned_too(real_slides: Path, tmp_path: Path) -> None:
    slide = real_slides / "hamamatsu" / "test3-DAPI-2.ndpi"

    tuned, estimate, made = compared(tmp_path / "site", slide, MIB, 16)

    assert tuned.profile.codec == "jpeg-strips"
    assert tuned.profile.scanner == "hamamatsu-c9600-12"
    assert estimate == pytest.approx(made, rel=0.03)
