"""Ours: ingest and restore, through the same operations as the command line's."""

from __future__ import annotations

from pathlib import Path

from bench.support.serving import Answer, peak_memory_bytes, serve, timed
from wsistore.ops import IngestResult, ingest_one, init_site, open_site, restore


def ingest(source: str, folder: str) -> Answer:
    """Take `source` into a new site in `folder`; making the site is not timed."""
    init_site(Path(folder))
    results: list[IngestResult] = []
    with open_site(Path(folder)) as site:
        seconds = timed(lambda: results.append(ingest_one(site, Path(source), tier="hot")))
    return {"seconds": seconds, **results[0].to_json(), "seconds_told": results[0].seconds}


def give_back(site: str, slide: str, folder: str) -> Answer:
    """Restore `slide` of the site in the folder `site` into `folder`."""
    with open_site(Path(site)) as opened:
        seconds = timed(lambda: restore(opened, slide, Path(folder)))
    return {"seconds": seconds}


def peak() -> Answer:
    """Tell the peak of this process's resident memory."""
    return {"bytes": peak_memory_bytes()}


if __name__ == "__main__":
    serve({"ingest": ingest, "restore": give_back, "peak": peak})
