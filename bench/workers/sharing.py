"""A site with one slide, in a research project that one token gives access to."""

from __future__ import annotations

from dataclasses import astuple
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.support.serving import Answer, serve
from bench.support.shards import tiles_of
from wsistore.ops import add_tier, ingest_one, init_site, move, open_site
from wsistore.ops.projects import create_project, grant_project, set_cohort
from wsistore.ops.research_access import Access
from wsistore.ops.stored import open_copy
from wsistore.ops.tokens import create_token

PROJECT, USER = "bench", "researcher-1"
_TIER = "far"
_SETTINGS = """
[serve]
access_log = "access.log"
requests_per_second = 1000000
concurrent = 10000
"""
"""Limits that are looked at for each request, and never reached."""


def share(folder: str, source: str, tier: dict[str, Any] | None) -> Answer:
    """Take `source` into a new site, and into `tier` if one is given; make a project, a grant and a token."""
    place = Path(folder)
    init_site(place)
    with (place / "wsistore.toml").open("a", encoding="utf-8") as file:
        file.write(_SETTINGS)
    if tier:
        add_tier(place, _TIER, tier)
    with open_site(place) as site:
        key = ingest_one(site, Path(source), tier="hot").slide
        assert key is not None
        _, storage, stored = open_copy(site, key)
        store = storage.local_path(stored.place.store + "zarr.json").parent  # type: ignore[attr-defined]
        tiles, edge = tiles_of(store, "0/image")
        height, width = stored.companion.levels[0][:2]
        if tier:
            (moved,) = move(site, [key], _TIER)
            if moved.error is not None:
                raise RuntimeError(moved.error.message)
        create_project(site, PROJECT, purpose="measuring")
        set_cohort(site, PROJECT, slides=[key])
        grant_project(site, PROJECT, USER)
        token = create_token(site, USER, expires_at=site.clock.now() + timedelta(days=1)).text
        access = Access(site)
        (row,) = access.project(access.caller(f"Bearer {token}"), PROJECT).table().to_pylist()
        access.close()
    return {
        "slide": key, "store": str(store), "project": PROJECT, "pseudonym": row["slide"], "token": token,
        "height": height, "width": width, "tiles": [astuple(tile) for tile in tiles], "edge": edge,
    }  # fmt: skip


if __name__ == "__main__":
    serve({"share": share})
