"""A site whose slides lie packed in a bucket, as many as wanted; its catalogue is lost and made anew from the bucket.

One slide is really taken in, packed and moved. The others are clones of it: their own commits and objects in the
bucket, their own rows and chains of events in the catalogue, which tells the bucket's ledger of them as it does of all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.support.serving import Answer, serve, timed
from wsistore.catalog import TierRecord
from wsistore.catalog.identities import CLEAR
from wsistore.catalog.rebuilt import Rebuilt, create
from wsistore.catalog.sqlite import database_path
from wsistore.catalog.states import State
from wsistore.events import Event, EventKind, NewEvent, next_event
from wsistore.execute import SerialExecutor
from wsistore.model import FileRecord, ObjectRecord, Preset, fingerprint, random_key
from wsistore.ops import Rebuilding, Site, add_tier, ingest, init_site, move, open_site, rebuild_catalog
from wsistore.ops.ledgers import tell
from wsistore.storage.base import Storage
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import tissue
from wsistore.tiers import commits

COLD = "far"
_SIDE = 300
"""Pixels of a small slide."""
_WRITERS = 16


def prepare(folder: str, slides: int, bucket: str, endpoint: str, region: str) -> Answer:
    """Make the site, and fill the bucket; the ledger knows all slides."""
    place = Path(folder)
    init_site(place)
    address = {"url": f"s3://{bucket}/tier", "endpoint": endpoint, "region": region, "allow_http": True}
    add_tier(place, COLD, address | {"preset": "pack"})
    source = place / "first.svs"
    write_svs(source, pyramid(tissue(_SIDE, _SIDE, seed=1), 4, 1), tile=256)
    with open_site(place) as site:
        slide = str(next(iter(ingest(site, [source]))).slide)
        (moved,) = move(site, [slide], COLD, preset=Preset.PACK, executor=SerialExecutor())
        if moved.error is not None:
            raise RuntimeError(moved.error.message)
        clones = list(_clones(site, slide, slides - 1))
        first = next(state for state, _ in site.catalog.all_states()), site.catalog.events(slide)
        tiers = site.catalog.tiers()
    _write_catalog(place, [Rebuilt(state=first[0], events=first[1]), *clones], tiers)
    with open_site(place) as site:
        told = tell(site, COLD, with_head=True)
    return {"slides": slides, "segments": told.segments}


def rebuild(folder: str) -> Answer:
    """Lose the catalogue, and make it anew from the bucket alone."""
    place = Path(folder)
    with open_site(place) as site:
        file = database_path(site.settings.catalog_url)
        before = {row.slide for row in site.catalog.slides()}
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    done: list[Rebuilding] = []
    begun = time.process_time()
    seconds = timed(lambda: done.append(rebuild_catalog(place, [COLD])))
    cpu = time.process_time() - begun
    with open_site(place, read_only=True) as site:
        after = {row.slide for row in site.catalog.slides()}
        whole = not site.catalog.check_chains()
    found = done[0]
    good = after == before and whole and found.copies == len(before) and not found.problems and not found.suspect
    return {"seconds": seconds, "cpu": cpu, "slides": found.slides, "events": found.events, "good": good}


def _clones(site: Site, slide: str, count: int) -> Iterator[Rebuilt]:
    """Put clones of a slide's packed copy into the bucket; yield what the catalogue is to say of them."""
    storage = site.tier(COLD)
    commit = commits.read(storage, next(commits.find(storage, slide)))
    contents = {record.key: storage.get(record.key) for record in commit.objects}
    state = next(state for state, _ in site.catalog.all_states())
    with ThreadPoolExecutor(_WRITERS) as pool:
        yield from pool.map(lambda number: _clone(storage, commit, contents, state, number), range(count))


def _clone(storage: Storage, commit: commits.Commit, contents: dict[str, bytes], state: State, number: int) -> Rebuilt:
    slide, attempt = random_key(), random_key()
    mine = replace(commit, slide=slide, attempt=attempt, objects=())
    objects = []
    for record in commit.objects:
        prefix = next(one for one in (commit.place.store, commit.place.private) if record.key.startswith(one))
        own = mine.place.store if prefix == commit.place.store else mine.place.private
        key = own + record.key.removeprefix(prefix)
        storage.put(key, contents[record.key])
        objects.append(ObjectRecord(key, record.size_bytes, record.sha256))
    file = replace(_file(state), sha256=f"{number:064x}")
    mine = replace(mine, objects=tuple(objects), fingerprint=fingerprint([file]))
    commits.write(storage, mine)
    return Rebuilt(state=_state(state, mine, number), events=[_event(slide)])


def _file(state: State) -> FileRecord:
    return FileRecord(**state["sources"][0]["files"][0])


def _state(state: State, commit: commits.Commit, number: int) -> State:
    """Return the state of a clone: as that of the first slide, with its own keys."""
    own: dict[str, Any] = json.loads(json.dumps(state))
    first = random_key()
    name = {"slide": commit.slide, "name": f"{number:08}.svs"}
    own["slide"] |= name
    own["sources"] = [
        own["sources"][0]
        | {"slide": commit.slide, "fingerprint": commit.fingerprint, "attempt": first}
        | {"files": [own["sources"][0]["files"][0] | {"sha256": f"{number:064x}"}]}
    ]
    copy = next(one for one in own["copies"] if one["tier"] == COLD)
    body = commits.encode(commit).decode()
    own["copies"] = [copy | {"attempt": commit.attempt, "commit_key": commit.key, "commit_body": body}]
    return own


def _event(slide: str) -> Event:
    return next_event(None, slide, NewEvent(EventKind.INGESTED, "bench", {}), datetime(2026, 1, 1, tzinfo=UTC))


def _write_catalog(place: Path, rebuilt: list[Rebuilt], tiers: list[TierRecord]) -> None:
    with open_site(place) as site:
        url = site.settings.catalog_url
    create(url, rebuilt, tiers, {}, first_change=1000, make_way=Path.unlink, keys={}, identities=CLEAR)


if __name__ == "__main__":
    serve({"prepare": prepare, "rebuild": rebuild})
