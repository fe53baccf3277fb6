"""The slides that are measured: a real one where there is one, else made up; and larger ones made of its tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.support.places import real_slide
from wsistore.testing.big import write_big_svs
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue

_SIDE = 4096
"""Pixels of the made-up template."""
_SYNTHETIC_BYTES = 35_000_000
"""As large as the real slide that it stands for."""


def warm_up_slide(folder: Path) -> Path:
    """Write a slide of a few tiles: what a worker runs first, so that nothing is loaded within a measured time."""
    path = folder / "warm-up.svs"
    write_svs(path, pyramid(tissue(900, 1200, seed=1), 4, 3), tile=256)
    return path


def jpeg_slide(folder: Path) -> tuple[Path, str]:
    """Put the H. pylori slide of the real ones, or else a made-up one of its size, into `folder`; tell which."""
    found = real_slide("aperio/hpylori-IHC.svs")
    if found is not None:
        # On the disk that is measured, and never written to where it lies.
        return Path(shutil.copyfile(found, folder / found.name)), found.name
    template = folder / "template.svs"
    write_svs(template, pyramid(tissue(_SIDE, _SIDE, seed=1), 4, 3), tile=256)
    path = write_big_svs(folder / "synthetic.svs", template=template, at_least_bytes=_SYNTHETIC_BYTES)
    template.unlink()
    return path, "a synthetic slide (aperio/hpylori-IHC.svs is not there: name its folder in WSISTORE_TEST_SLIDES)"
