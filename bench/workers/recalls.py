"""A pasted list of a tumour board, planned in a catalogue of many slides: how long until price and time are known."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path

from bench.support.serving import Answer, serve, timed
from wsistore import settings as site_settings
from wsistore.catalog.identities import CLEAR
from wsistore.catalog.rebuilt import Rebuilt, create
from wsistore.clock import SystemClock, iso
from wsistore.events import EventKind, NewEvent, next_event
from wsistore.model import CopyState, Evidence, Mode, Preset, random_key
from wsistore.ops import RecallStatus, open_site, recall
from wsistore.ops.recall_lists import parse
from wsistore.storage.open import create_tier, open_storage

_SLIDES_PER_CASE = 4
_ARCHIVE = """
[tiers.cold.archive]
class = "DEEP_ARCHIVE"
simulated_speed = 1
"""


def prepare(folder: str, slides: int) -> Answer:
    """Make a site whose `slides` slides lie in an archive, as far as its catalogue knows: four of a case."""
    place = Path(folder)
    tiers = {name: (place / name).as_uri() for name in ("hot", "cold")}
    site_settings.write_new(place, tiers=tiers)
    path = place / "wsistore.toml"
    path.write_text(path.read_text() + _ARCHIVE)
    made = site_settings.load(place)
    for tier in made.tiers:
        (place / tier.name).mkdir()
        create_tier(open_storage(tier.url, tier.storage_options), tier.id, tier.name)
    rows = [_slide(number) for number in range(slides)]
    create(made.catalog_url, rows, [], {}, first_change=1, make_way=lambda _: None, keys={}, identities=CLEAR)
    return {"slides": slides}


def plan(folder: str, cases: int) -> Answer:
    """Read a pasted list of `cases` cases and say price and time, as ``wsistore recall --list FILE --dry-run`` does."""
    with open_site(Path(folder)) as site:
        there = max(1, len(site.catalog.slides()) // _SLIDES_PER_CASE)
        rng = random.Random(7)
        chosen = rng.sample(range(there), min(cases, there))
        text = "IPP;Case\n" + "".join(f"{_patient(case)};{_case(case)}\n" for case in chosen)
        results: list[RecallStatus] = []
        by = site.clock.now() + timedelta(days=4)
        before = time.process_time()
        seconds = timed(lambda: results.append(recall(site, parse(text), by=by, dry_run=True)))
        cpu, found = time.process_time() - before, results[0]
    return {
        "seconds": seconds,
        "cpu": cpu,
        "cases": len(found.cases),
        "slides": sum(len(case.slides) for case in found.cases),
        "eur": found.eur,
    }


def _case(number: int) -> str:
    return f"CASE-{number:06}"


def _patient(case: int) -> str:
    return f"PATIENT-{case // 2:06}"


def _slide(number: int) -> Rebuilt:
    slide, attempt, now = random_key(), random_key(), SystemClock().now()
    case = number // _SLIDES_PER_CASE
    size, moment = 1_200_000_000, iso(now)
    shown: dict[str, object] = {
        "name": f"slide-{number:06}.svs",
        "format": "aperio-svs",
        "mode": str(Mode.TILES),
        "series": None,
        "width": 80_000,
        "height": 60_000,
        "um_per_px_y": 0.25,
        "um_per_px_x": 0.25,
        "magnification": 40.0,
    }
    row: dict[str, object] = {
        **shown,
        "slide": slide,
        "case_key": _case(case),
        "bytes_source": size,
        "created_at": moment,
        "metadata": {"case_id": _case(case), "patient_id": _patient(case)},
    }
    source = {
        "slide": slide,
        "n": 1,
        "fingerprint": f"{number:064x}",
        "state": "current",
        "attempt": attempt,
        "files": [{"name": row["name"], "size_bytes": size, "sha256": f"{number:064x}"}],
        "bytes": size,
        "path": "",
        "record": {},
        "created_at": moment,
    }
    copy = {
        "attempt": attempt,
        "version": 1,
        "tier": "cold",
        "n": 1,
        "state": str(CopyState.COMMITTED),
        "preset": str(Preset.PACK),
        "bytes_stored": size,
        "objects": 3,
        "evidence": str(Evidence.ATTESTED),
        "verified_at": moment,
        "commit_key": f"commits/{slide}/00000001.json",
        "commit_body": "{}" + " " * 800,
        "fallbacks": {},
        "encoding": {},
    }
    event = next_event(None, slide, NewEvent(EventKind.INGESTED, "bench", {"tier": "cold"}), now)
    state = {"slide": row, "sources": [source], "copies": [copy], "holds": [], "fence": 0}
    return Rebuilt(state=state, events=[event])


if __name__ == "__main__":
    serve({"prepare": prepare, "plan": plan})
