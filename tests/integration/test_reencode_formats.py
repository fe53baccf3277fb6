"""Every kind of slide through all presets and back: the store has the objects that it had, and the files come back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.site_kit import assert_sound, files_of, ingest, memory_site, reencoded, restored, store_hashes
from wsistore import ops
from wsistore.model import Mode, Preset
from wsistore.testing.synthetic import synthetic_set

_LARGE_BYTES = 8_000_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with memory_site(tmp_path / "site") as made:
        yield made


def through_all_presets(site: ops.Site, path: Path) -> list[ops.ReencodeResult]:
    """Take a slide in, and through all presets and back."""
    (taken,) = ingest(site, path)
    slide, first = str(taken.slide), store_hashes(site, str(taken.slide))
    source: Mapping[str, bytes] = files_of(path)
    results = []
    for preset in (Preset.FOLD, Preset.PACK, Preset.KEEP):
        results.append(reencoded(site, slide, preset))
        if taken.mode is Mode.TILES:
            assert results[-1].status == "reencoded"
            assert site.catalog.copies(slide)[0].preset is preset
        assert len(site.catalog.copies(slide)) == 1
        back = restored(site, slide)
        assert sorted(back.values()) == sorted(source[name] for name in source if source[name] in back.values())
        assert len(back) == len(site.catalog.source(slide).files)
    assert store_hashes(site, slide) == first
    assert_sound(site)
    return results


@pytest.mark.slow
def test_made_up_slides_of_all_formats(site: ops.Site, tmp_path: Path) -> None:
    paths = synthetic_set(tmp_path / "in", seed=11)
    assert len(paths) >= 5
    for path in paths:
        results = through_all_presets(site, path)
        assert {str(result.status) for result in results} <= {"reencoded", "unchanged"}


@pytest.mark.slow
def test_real_slides(site: ops.Site, real_slides: Path) -> None:
    candidates = [path for path in sorted((real_slides / "aperio").iterdir()) if path.suffix == ".svs"]
    candidates += sorted(path for folder in ("tiff", "hamamatsu") for path in (real_slides / folder).iterdir())
    candidates += [real_slides / "dicom" / name for name in ("CMU-1-Small-Region", "camelyon-j2k")]
    small = [path for path in candidates if sum(len(data) for data in files_of(path).values()) <= _LARGE_BYTES]
    assert small
    for path in small:
        fold, pack, _ = through_all_presets(site, path)
        if path.name == "CMU-1-Small-Region.svs":
            assert fold.bytes_before is not None
            assert (fold.bytes_after or 0) < 0.8 * fold.bytes_before
            assert (pack.bytes_after or 0) < 0.8 * fold.bytes_before
