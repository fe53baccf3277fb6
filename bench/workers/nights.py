"""The same plan of many moves, applied by a flow of Prefect's, and by calling the operations."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.support.serving import Answer, serve, timed
from wsistore import ops
from wsistore.ops import plans_due
from wsistore.testing.tiffs import write_generic_tiff
from wsistore_flows.lifecycle import lifecycle

_SIDE, _TILE = 512, 256
_RULES = """
version: 1
placement:
  - {name: archive, tier: warm, encode: keep}
limits: {move_at_most: 100 %}
"""


def prepare(folder: str, slides: int) -> Answer:
    """Make a site whose slides are all to go to another tier, on the same disk."""
    place, random = Path(folder), np.random.default_rng(1)
    ops.init_site(place)
    (place / "rules.yaml").write_text(_RULES, "utf-8")
    paths = [place.parent / "in" / f"{number:05}.tiff" for number in range(slides)]
    paths[0].parent.mkdir()
    for path in paths:
        rough = random.integers(0, 255, (_SIDE // 16, _SIDE // 16, 3), np.uint8)
        picture = np.ascontiguousarray(np.kron(rough, np.ones((16, 16, 1), np.uint8)))
        write_generic_tiff(path, [picture], tile=(_TILE, _TILE))
    with ops.open_site(place) as site:
        failed = [result.error for result in ops.ingest(site, paths) if result.error]
        size = sum(copy.bytes_stored for row in site.catalog.slides() for copy in site.catalog.copies(str(row.slide)))
    shutil.rmtree(paths[0].parent)
    return {"bytes": size, "failed": len(failed)}


def direct(folder: str) -> Answer:
    """Plan and apply by calling the operations."""
    return _measured(folder, lambda: _apply(Path(folder)))


def flow(folder: str) -> Answer:
    """Plan and apply by the flow."""
    return _measured(folder, lambda: lifecycle(folder, return_state=True))


def _apply(place: Path) -> None:
    with ops.open_site(place) as site:
        due = plans_due.make_due_plan(site)
        for _ in ops.apply_plan(site, due.path):
            pass


def _measured(folder: str, work: Callable[[], object]) -> Answer:
    begun = time.process_time()
    seconds = timed(work)
    cpu = time.process_time() - begun
    with ops.open_site(Path(folder), read_only=True) as site:
        rows = [site.catalog.copies(str(row.slide)) for row in site.catalog.slides()]
        moved = sum([copy.tier for copy in copies] == ["warm"] for copies in rows)
    return {"seconds": seconds, "cpu": cpu, "moved": moved}


if __name__ == "__main__":
    serve({"prepare": prepare, "direct": direct, "flow": flow})
