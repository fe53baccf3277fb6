"""Memory stays bounded: a slide of more than 300 MB is ingested, verified and read back in less than it is large."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsistore.compress.extents import map_source
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.source_file import open_view
from wsistore.compress.writer import write_slide
from wsistore.model import Mode
from wsistore.slides.base import SEGMENT_DTYPE, Codec, Color, Level, Source, TileCoding, source_files
from wsistore.storage.base import ByteRange
from wsistore.storage.memory import MemoryStorage
from wsistore.testing.big import write_big_svs
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue
from wsistore.units import MIB

pytestmark = pytest.mark.slow

SIZE = 320_000_000
LIMIT_BYTES = 300_000_000

START = """
    import sys
    from pathlib import Path
    from wsistore.compress.keys import Place
    from wsistore.storage.local import LocalStorage

    slide, tier = Path(sys.argv[1]), LocalStorage(Path(sys.argv[2]), durable=False)
    place = Place("slide0key", "attempt0key")
"""
WRITE = """
    from wsistore.compress.writer import write_slide
    from wsistore.slides.check import TileChecker
    from wsistore.slides.registry import open_source
    import pickle

    source = pickle.loads(slide.read_bytes()) if slide.suffix == ".pickle" else open_source(slide)
    def check(number):
        checker = TileChecker(source.levels[number])
        def one(tile, data):
            assert checker(data).good
        return one
    draft = write_slide(source, tier, place, history=(), check=check)
    (Path(sys.argv[2]) / "draft.pickle").write_bytes(pickle.dumps(draft))
"""
VERIFY = """
    import pickle
    from wsistore.compress.verify import verify_copy

    draft = pickle.loads((Path(sys.argv[2]) / "draft.pickle").read_bytes())
    verify_copy(tier, place, draft.objects, draft.files)
"""
READ = """
    import hashlib
    from wsistore.compress.extents import map_source
    from wsistore.compress.reader import StoredSlide
    from wsistore.compress.source_file import open_view

    stored = StoredSlide(tier, place)
    with open_view(stored, map_source(stored), 0) as view:
        digest = hashlib.sha256()
        while block := view.read(1 << 20):
            digest.update(block)
    assert digest.hexdigest() == stored.companion.files[0].sha256
"""
END = """
    # Not ru_maxrss: it starts with what the parent process held.
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_bytes(step: str, slide: Path, tier: Path) -> int:
    """Run one step in a process of its own and return the most memory that it held."""
    code = "".join(textwrap.dedent(part) for part in (START, step, END))
    done = subprocess.run(
        [sys.executable, "-c", code, str(slide), str(tier)],
        capture_output=True,
        text=True,
        timeout=450,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    picture = tissue(1024, 1024, seed=41)
    template = write_svs(folder / "template.svs", pyramid(picture, 4, 2), tile=256, quality=90)
    return write_big_svs(folder / "big.svs", template=template, at_least_bytes=SIZE)


def check_peaks(slide: Path, tier: Path) -> None:
    tier.mkdir()
    steps = {"write": WRITE, "verify": VERIFY, "read": READ}
    peaks = {name: peak_bytes(step, slide, tier) for name, step in steps.items()}
    assert max(peaks.values()) < LIMIT_BYTES, {name: f"{value / 1e6:.0f} MB" for name, value in peaks.items()}


def test_a_slide_of_more_than_300_mb_needs_less_memory(big: Path, tmp_path: Path) -> None:
    assert big.stat().st_size >= SIZE
    check_peaks(big, tmp_path / "tier")


# --- many small pieces: the strips of a wide NDPI level ---------------------------------------------------------------

ACROSS, DOWN, WIDTH = 100, 2000, 64


def strip(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """Return the header of a picture's JPEG, and its entropy-coded data."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", subsampling="4:4:4", quality=80)
    data = out.getvalue()
    at = data.index(b"\xff\xda")
    at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:at], data[at:-2]


@pytest.fixture(scope="module")
def strips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a description of a slide whose level 0 has 200 000 strips with a restart marker between each."""
    folder = tmp_path_factory.mktemp("strips")
    header, scan = strip(tissue(8, WIDTH, seed=42))
    small_header, small = strip(tissue(8, 512, seed=42))
    count = ACROSS * DOWN
    path = folder / "strips.raw"
    eight = b"".join(scan + bytes((0xFF, 0xD0 + number)) for number in range(8))
    path.write_bytes(b"HEAD" + eight * (count // 8) + small)
    rows = np.zeros(count, SEGMENT_DTYPE)
    rows["tile"], rows["length"] = np.arange(count), len(scan)
    rows["offset"] = 4 + np.arange(count) * (len(scan) + 2)
    last = np.array([(0, 0, path.stat().st_size - len(small), len(small))], SEGMENT_DTYPE)
    levels = (
        Level(8 * DOWN, WIDTH * ACROSS, 8, WIDTH, TileCoding(Codec.JPEG_STRIPS, Color.YCBCR, header=header), rows),
        Level(8, 512, 8, 512, TileCoding(Codec.JPEG_STRIPS, Color.YCBCR, header=small_header), last),
    )
    source = Source("strips", Mode.TILES, "", source_files(folder, [path]), levels, None, None)
    (folder / "source.pickle").write_bytes(pickle.dumps(source))
    return folder / "source.pickle"


def test_a_slide_of_200_000_strips_needs_less_memory_too(strips: Path, tmp_path: Path) -> None:
    check_peaks(strips, tmp_path / "tier")


class Counting(MemoryStorage):
    """Counts how many bytes are asked for."""

    bytes_read = 0

    def get(self, key: str, byte_range: ByteRange | None = None, *, version: str | None = None) -> bytes:
        data = super().get(key, byte_range, version=version)
        self.bytes_read += len(data)
        return data


def test_reading_a_wide_slide_from_start_to_end_reads_each_fold_once(strips: Path) -> None:
    """A row of strips goes through a hundred folds, and so does the next: all of them are kept."""
    source: Source = pickle.loads(strips.read_bytes())
    storage, place = Counting(), Place("slide0key", "attempt0key")
    draft = write_slide(source, storage, place, history=())
    storage.bytes_read = 0
    slide = StoredSlide(storage, place)
    with open_view(slide, map_source(slide), 0) as view:
        while view.read(MIB):
            pass
    assert storage.bytes_read < 1.5 * sum(record.size_bytes for record in draft.objects)
