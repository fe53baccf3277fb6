"""A TIFF that was cut within a label or macro is refused, however good its levels are."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tifffile import TiffFile, TiffWriter

from tests import tiffs
from tests.unit.test_slides_ndpi import slide as write_ndpi
from wsistore.errors import BrokenError, Kind
from wsistore.model import Mode
from wsistore.slides.registry import open_source
from wsistore.testing import mutate
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue

PICTURE = tiffs.tissue(40, 90, seed=3)


def svs(path: Path) -> Path:
    return write_svs(path, pyramid(tissue(300, 400, seed=1), 2, 2), tile=240, macro=PICTURE)


def generic(path: Path) -> Path:
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(128, 128), tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(PICTURE, photometric="rgb", metadata=None, description="label", subfiletype=1)
    return path


def planes(path: Path) -> Path:
    """Kept whole: its pages are several slides."""
    with TiffWriter(path) as writer:
        for seed in range(2):
            writer.write(tiffs.tissue(128, 128, seed=seed), tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(PICTURE, photometric="rgb", metadata=None, description="label", subfiletype=1)
    return path


def strips(path: Path) -> Path:
    """Kept whole: not tiled."""
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(128, 128), photometric="rgb", metadata=None, rowsperstrip=16)
        writer.write(PICTURE, photometric="rgb", metadata=None)
    return path


def below(path: Path) -> Path:
    """The last data are of a picture below the second page."""
    with TiffWriter(path) as writer:
        writer.write(tiffs.tissue(128, 128), tile=(64, 64), photometric="rgb", metadata=None)
        writer.write(PICTURE, photometric="rgb", metadata=None, description="label", subfiletype=1, subifds=1)
        writer.write(np.ascontiguousarray(PICTURE[::2, ::2]), photometric="rgb", metadata=None, subfiletype=1)
    return path


def ome(path: Path) -> Path:
    with TiffWriter(path, ome=True) as writer:
        writer.write(tiffs.tissue(128, 128), tile=(64, 64), photometric="rgb", metadata={"axes": "YXS"})
        writer.write(PICTURE, photometric="rgb", metadata={"axes": "YXS", "Name": "label"})
    return path


def ndpi(path: Path) -> Path:
    return write_ndpi(path, subsampling=0)


WRITERS: dict[str, tuple[Callable[[Path], Path], Mode]] = {
    "a.svs": (svs, Mode.TILES),
    "generic.tif": (generic, Mode.TILES),
    "planes.tif": (planes, Mode.WHOLE),
    "strips.tif": (strips, Mode.WHOLE),
    "below.tif": (below, Mode.TILES),
    "a.ome.tif": (ome, Mode.TILES),
    "a.ndpi": (ndpi, Mode.TILES),
}


def last_data(path: Path) -> int:
    """Return where the data of the last picture end, after looking that no level's lie behind them."""
    with TiffFile(path) as tiff:
        pages = [page for one in tiff.pages for page in (one, *(one.pages or ()))]
        ends = [max(o + n for o, n in zip(p.dataoffsets, p.databytecounts, strict=True)) for p in pages]
    assert ends[-1] == max(ends)
    return ends[-1]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("missing", [1, 40])
def test_a_file_cut_within_its_last_picture(tmp_path: Path, name: str, missing: int) -> None:
    write, mode = WRITERS[name]
    good = write(tmp_path / name)
    assert open_source(good).mode is mode
    (tmp_path / "cut").mkdir()
    bad = mutate.truncated(good, tmp_path / "cut" / name, last_data(good) - missing)
    with pytest.raises(BrokenError, match="ends too early") as caught:
        open_source(bad)
    assert caught.value.kind is Kind.SOURCE_TRUNCATED
    assert str(bad) in caught.value.message


def test_an_ndpi_macro_that_reaches_beyond_the_file(tmp_path: Path) -> None:
    """An NDPI ends with a directory, so that a mere cut takes more than a picture."""
    path = ndpi(tmp_path / "a.ndpi")
    end = last_data(path)
    with TiffFile(path) as tiff:
        length = tiff.pages[-1].databytecounts[0]
    data = path.read_bytes()
    entry = struct.pack("<HHII", 279, 4, 1, length)
    assert data.count(entry) == 1
    longer = length + len(data) - end + 1
    path.write_bytes(data.replace(entry, struct.pack("<HHII", 279, 4, 1, longer)))
    with pytest.raises(BrokenError, match="page 2 ends at byte") as caught:
        open_source(path)
    assert caught.value.kind is Kind.SOURCE_TRUNCATED
