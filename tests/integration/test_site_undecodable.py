"""A sound slide whose pixels nothing here decodes is kept all the same, and comes back byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsistore import ops
from wsistore.errors import UnsupportedError
from wsistore.model import Mode
from wsistore.testing.dicom import write_series
from wsistore.testing.tissue import tissue


def test_rle_series_is_kept_whole_and_restored(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", [tissue(300, 400, seed=1)], codec="rle", tile=(128, 128))
    ops.init_site(tmp_path / "site")
    with ops.open_site(tmp_path / "site") as site:
        (result,) = ops.ingest(site, [tmp_path / "series"])
        assert result.error is None
        assert result.mode is Mode.WHOLE
        assert any("RLE" in text for text in result.warnings)
        done = ops.restore(site, result.slide or "", tmp_path / "back")
        assert sorted(Path(name).name for name in done.files) == sorted(path.name for path in files)
        for path in files:
            assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
        with pytest.raises(UnsupportedError, match="RLE"):
            ops.open_slide(result.slide or "", site=site)
