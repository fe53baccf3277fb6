"""What tests of the catalogue share: fresh catalogues, made-up slides, the whole way of an ingest."""

from __future__ import annotations

import functools
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from wsistore.catalog import Attempt, Catalog, CopyRecord, SlideRecord, SourceRecord, create
from wsistore.clock import iso
from wsistore.events import EventKind, NewEvent
from wsistore.model import Evidence, FileRecord, Mode, Preset, fingerprint
from wsistore.testing.clock import ManualClock

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE = NOW + timedelta(hours=1)
OWNER = "elsewhere/1:00000000-0000-0000-0000-000000000000:1:1"
INGESTED = NewEvent(EventKind.INGESTED, "operator", {"tier": "hot"})


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        create(f"sqlite:///{folder}/catalog.db")
        return Path(folder, "catalog.db").read_bytes()


def new_url(folder: Path) -> str:
    """Return the URL of a new, empty catalogue in `folder`."""
    path = folder / "catalog.db"
    path.write_bytes(_template())
    return f"sqlite:///{path}"


def file_of(url: str) -> Path:
    """Return the file of a catalogue."""
    return Path(url.removeprefix("sqlite:///"))


@contextmanager
def new_catalog() -> Iterator[Catalog]:
    """Give an open, empty catalogue in a folder of its own: for tests that need one per example."""
    folder = Path(tempfile.mkdtemp())
    try:
        with Catalog.open(new_url(folder), clock=ManualClock(NOW)) as catalog:
            yield catalog
    finally:
        shutil.rmtree(folder)


def sql(url: str, statement: str, *values: object) -> list[tuple]:
    """Run a statement past the code under test."""
    connection = sqlite3.connect(file_of(url))
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def fingerprint_of(content: str) -> str:
    """Return the fingerprint of made-up content."""
    return fingerprint(source_of(content).files)


def source_of(content: str, n: int = 1, name: str = "") -> SourceRecord:
    """Return version `n` of a source with made-up content."""
    name = name or f"{content}.svs"
    digest = hashlib.sha256(content.encode()).hexdigest()
    return SourceRecord(n=n, files=(FileRecord(name, 1000 + len(content), digest),), path=f"in/{name}")


def slide_of(slide: str, name: str = "slide.svs", **changes: Any) -> SlideRecord:
    """Return a made-up slide."""
    values: dict[str, Any] = {
        "format": "aperio-svs",
        "mode": Mode.TILES,
        "width": 2000,
        "height": 1000,
        "bytes_source": 1234,
    }
    return SlideRecord(slide=slide, name=name, **(values | changes))


def copy_of(slide: str, n: int = 1, tier: str = "hot") -> CopyRecord:
    """Return a made-up copy."""
    return CopyRecord(
        tier=tier,
        n=n,
        preset=Preset.KEEP,
        bytes_stored=1300,
        objects=4,
        evidence=Evidence.READ_BACK,
        verified_at=iso(NOW),
        commit_key=f"commits/{slide}/{n}.json",
        commit_body=f'{{"slide":"{slide}","n":{n}}}',
        fallbacks={"other-tables": 2},
    )


def begin(catalog: Catalog, slide: str, tier: str = "hot", owner: str = OWNER) -> Attempt:
    """Begin an attempt."""
    return catalog.begin_attempt(slide, tier, owner, LEASE)


def claim(
    catalog: Catalog,
    attempt: Attempt,
    content: str,
    *,
    n: int = 1,
    name: str = "slide.svs",
    metadata: Mapping[str, str] | None = None,
    **changes: Any,
) -> None:
    """Claim made-up content as version `n`, which supersedes the one before."""
    source = source_of(content, n)
    catalog.claim(
        attempt.attempt,
        fingerprint=fingerprint(source.files),
        slide=slide_of(attempt.slide, name, metadata=metadata or {}, **changes),
        source=source,
        copy=copy_of(attempt.slide, n, attempt.tier),
        supersedes=n - 1 or None,
    )


def ingest(catalog: Catalog, slide: str, content: str = "", **changes: Any) -> Attempt:
    """Go the whole way."""
    attempt = begin(catalog, slide)
    claim(catalog, attempt, content or slide, **changes)
    catalog.commit(attempt.attempt, INGESTED)
    return attempt
