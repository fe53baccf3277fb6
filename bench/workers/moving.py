"""Ours, for moves: the same operations as the command line's, between a folder and an S3 service."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.support.disk import drop_from_cache
from bench.support.serving import Answer, peak_memory_bytes, serve, timed
from wsistore.catalog.records import CopyRow
from wsistore.compress.archive import open_stored
from wsistore.compress.copying import copy_stored
from wsistore.compress.keys import Place
from wsistore.compress.verify import verify_copy
from wsistore.model import random_key
from wsistore.ops import MoveResult, Site, add_tier, drop, ingest_one, init_site, move, open_site, restore
from wsistore.ops.stored import commit_of, current_copies, place_of

FAR = "far"
"""The tier that is a bucket."""

_sites: dict[str, Site] = {}


def prepare(folder: str, source: str, bucket: str, endpoint: str, region: str) -> Answer:
    """Make a site with a tier in `bucket`, and take `source` into its tier ``hot``."""
    place = Path(folder)
    init_site(place)
    values = {"url": f"s3://{bucket}/tier", "endpoint": endpoint, "region": region, "allow_http": True}
    add_tier(place, FAR, values)
    site = _sites[folder] = open_site(place)
    result = ingest_one(site, Path(source), tier="hot")
    return {"slide": result.slide, "mode": str(result.mode)}


def link_objects(folder: str, slide: str, to: str) -> Answer:
    """Give the objects of a slide's copy in ``hot`` second names under `to`; for programs that take whole folders."""
    objects = commit_of(_copy_in(folder, slide, "hot")).objects
    for record in objects:
        target = Path(to) / record.key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(Path(folder) / "tiers" / "hot" / record.key)
    return {"objects": len(objects), "bytes": sum(record.size_bytes for record in objects)}


def move_there(folder: str, slide: str, keep_source: bool) -> Answer:
    """Move a slide's copy from ``hot`` to the bucket, as ``wsistore move`` does."""
    results: list[MoveResult] = []
    answer = _timed(lambda: results.extend(move(_sites[folder], [slide], FAR, keep_source=keep_source)))
    if results[0].error is not None:
        raise RuntimeError(results[0].error.message)
    return answer | {"status": str(results[0].status)}


def move_back(folder: str, slide: str) -> Answer:
    """Bring the copy back to ``hot``, so that it can be moved once more; not timed."""
    site = _sites[folder]
    tiers = {copy.tier for copy in current_copies(site, slide)}
    results = list(drop(site, [slide], FAR) if "hot" in tiers else move(site, [slide], "hot"))
    if results[0].error is not None:
        raise RuntimeError(results[0].error.message)
    return {}


def upload(folder: str, slide: str) -> Answer:
    """Do the part of a move that writes: objects read, compared with their records, sent; nothing is read back."""
    site, copy = _sites[folder], _copy_in(folder, slide, "hot")
    source, target = site.tier("hot"), site.tier(FAR)
    place = Place(slide, random_key())
    objects = commit_of(copy).objects
    answer = _timed(lambda: copy_stored(open_stored(source, place_of(copy)), objects, target, place, resumed=False))
    for prefix in (place.store, place.private):
        for info in list(target.list(prefix)):
            target.delete(info.key)
    return answer


def read_back(folder: str, slide: str) -> Answer:
    """Do the part of a move that reads the new copy back."""
    site, copy = _sites[folder], _copy_in(folder, slide, FAR)
    files = site.catalog.source(slide, copy.version).files
    return _timed(lambda: verify_copy(site.tier(FAR), place_of(copy), commit_of(copy).objects, files))


def give_back(folder: str, slide: str, to: str) -> Answer:
    """Restore the vendor's file of a slide whose only copy is in the bucket."""
    site = _sites[folder]
    if {copy.tier for copy in current_copies(site, slide)} != {FAR}:
        msg = "the slide has a copy elsewhere: that would be read"
        raise RuntimeError(msg)
    shutil.rmtree(to, ignore_errors=True)
    return _timed(lambda: restore(site, slide, Path(to)))


def uncache(folder: str) -> Answer:
    """Take what lies in a folder out of the page cache."""
    drop_from_cache(Path(folder))
    return {}


def peak() -> Answer:
    """Tell the peak of this process's resident memory."""
    return {"bytes": peak_memory_bytes()}


def _copy_in(folder: str, slide: str, tier: str) -> CopyRow:
    return next(copy for copy in current_copies(_sites[folder], slide) if copy.tier == tier)


def _timed(act: Callable[[], Any]) -> Answer:
    before = time.process_time()
    seconds = timed(act)
    return {"seconds": seconds, "cpu": time.process_time() - before}


if __name__ == "__main__":
    serve(
        {
            "prepare": prepare,
            "link_objects": link_objects,
            "move_there": move_there,
            "move_back": move_back,
            "upload": upload,
            "read_back": read_back,
            "restore": give_back,
            "uncache": uncache,
            "peak": peak,
        }
    )
