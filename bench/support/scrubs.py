"""How fast a scrub reads, beside reading the same bytes uncached and hashing them: for bench.move, or by itself.

`python -m bench.support.scrubs` prints the figure as its last line, one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from bench.support.disk import drop_from_cache, files_of
from bench.support.places import workspace
from bench.support.slides import jpeg_slide
from bench.support.timing import Contender, Timings, interleave
from wsistore import ops
from wsistore.model import Preset
from wsistore.testing.big import write_big_svs

FLOOR = 0.8
"""Of the speed of reading and hashing."""
OURS, PLAIN = "scrub", "read_and_hash"
_BLOCK_BYTES = 4 << 20
_SLIDES = 4
_SLIDE_BYTES = 50_000_000
"""Of the first; each of the others has so many more than the one before, for the same slide is not taken twice."""


def measure_scrub(
    folder: Path, rounds: int, *, preset: Preset = Preset.KEEP, tell: Callable[[str], object] = lambda _: None
) -> tuple[Timings, int]:
    """Scrub a tier of a few slides, in turn with reading all of its files.

    Parameters
    ----------
    folder
        On the disk that is measured; the site is made in it.
    rounds
        How often.
    preset
        How the slides are encoded.
    tell
        Gets a sentence now and then.

    Returns
    -------
    timings
        Of `OURS` and `PLAIN`.
    bytes_read
        By each, in each round.

    """
    folder.mkdir(parents=True, exist_ok=True)
    ops.init_site(folder / "site")
    template, _ = jpeg_slide(folder)
    with ops.open_site(folder / "site") as site:
        for number in range(_SLIDES):
            tell(f"ingesting slide {number + 1} of {_SLIDES}")
            size = _SLIDE_BYTES * (number + 1)
            path = write_big_svs(folder / f"{number}.svs", template=template, at_least_bytes=size)
            for done in ops.ingest(site, [path]):
                if done.error is not None:
                    raise OSError(done.error.message)
            path.unlink()
        if preset is not Preset.KEEP:
            slides = [row.slide for row in site.catalog.slides()]
            tell(f"encoding as {preset}")
            for made in ops.reencode(site, slides, preset):
                if made.error is not None:
                    raise OSError(made.error.message)
        tier = folder / "site" / "tiers" / "hot"
        contenders = [Contender(OURS, lambda _: _scrubbed(site)), Contender(PLAIN, lambda _: _read(tier))]
        timings = interleave(contenders, rounds, before=lambda: drop_from_cache(tier), tell=tell)
    return timings, sum(file.stat().st_size for file in files_of(tier))


def _scrubbed(site: ops.Site) -> float:
    started = time.perf_counter()
    for result in ops.scrub(site, ["hot"], everything=True):
        if isinstance(result, ops.ScrubRow) and result.status != "good":
            raise OSError(result.reason)
    return time.perf_counter() - started


def _read(tier: Path) -> float:
    started, block = time.perf_counter(), memoryview(bytearray(_BLOCK_BYTES))
    for file in files_of(tier):
        digest = hashlib.sha256()
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(block):
                digest.update(block[:count])
        digest.hexdigest()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    with workspace("scrub") as folder:
        timings, size = measure_scrub(folder, 5, tell=print)
    figures = {"scrub_vs_read_and_hash": round(timings.ratio(OURS, PLAIN) or 0.0, 3)}
    seconds = {key: round(timings.median(key), 3) for key in (OURS, PLAIN)}
    print(json.dumps({"figures": figures, "floor": FLOOR, "seconds": seconds, "bytes": size}))


if __name__ == "__main__":
    main()
