"""Copies in several encodings in the catalogue: begun, continued, claimed, put in another's place, dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command

from tests import catalog_kit as kit
from wsistore.catalog import (
    AlreadyClaimed,
    Attempt,
    AttemptKind,
    AttemptState,
    Catalog,
    DropRule,
    SeriesClaimed,
    migrate,
)
from wsistore.catalog.engine import Database
from wsistore.catalog.revisions import alembic_config
from wsistore.catalog.sqlite import open_engine
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind, MissingError
from wsistore.events import EventKind, NewEvent
from wsistore.model import CopyState, Evidence, Preset
from wsistore.testing.clock import ManualClock

REENCODED = NewEvent(EventKind.REENCODED, "operator", {"tier": "hot"})
DROPPED = NewEvent(EventKind.DROPPED, "operator", {})
RULE = DropRule(required=1, fresh_from="", fresh_until="9")
FAILED = NewEvent(EventKind.VERIFICATION_FAILED, "operator", {})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return kit.new_url(tmp_path)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with Catalog.open(url, clock=ManualClock(kit.NOW)) as opened:
        yield opened


def begin(catalog: Catalog, source: str, owner: str = kit.OWNER, **job: Any) -> tuple[Attempt, bool]:
    return catalog.begin_reencode("slide1", "hot", owner, kit.LEASE, {"source": source, "preset": "fold", **job})


def claim(catalog: Catalog, attempt: Attempt, n: int = 2, content: str = "slide1", version: int = 1) -> None:
    catalog.claim_reencode(
        attempt.attempt,
        fence=attempt.fence,
        fingerprint=kit.fingerprint_of(content),
        version=version,
        copy=replace(kit.copy_of("slide1", n), preset=Preset.FOLD, encoding={"fold_height": 8}),
        figures={"cpu_seconds": 1.5},
    )


def commit(catalog: Catalog, attempt: Attempt) -> None:
    catalog.commit_reencode(attempt.attempt, REENCODED, fence=attempt.fence, rule=RULE)


def reencode(catalog: Catalog, source: str, n: int = 2) -> Attempt:
    attempt, _ = begin(catalog, source)
    claim(catalog, attempt, n)
    commit(catalog, attempt)
    return attempt


# --- the usual way ----------------------------------------------------------------------------------------------------


def test_a_copy_takes_the_place_of_another_in_one_step(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    attempt, taken_over = begin(catalog, old)
    assert not taken_over
    assert (attempt.kind, attempt.job) == (AttemptKind.REENCODE, {"source": old, "preset": "fold"})
    claim(catalog, attempt)
    claim(catalog, attempt)  # a repetition
    assert [copy.attempt for copy in catalog.copies("slide1")] == [old]
    assert catalog.attempt(attempt.attempt).job["figures"] == {"cpu_seconds": 1.5}
    (mine,) = [catalog.copy_of_attempt(attempt.attempt)]
    assert mine is not None
    assert [copy.attempt for copy in catalog.replaced_by(mine)] == [old]
    commit(catalog, attempt)
    commit(catalog, attempt)
    (copy,) = catalog.copies("slide1")
    assert (copy.attempt, copy.n, copy.version, copy.preset) == (attempt.attempt, 2, 1, Preset.FOLD)
    assert copy.encoding == {"fold_height": 8}
    assert [copy.attempt for copy in catalog.open_drops()] == [old]
    proof = catalog.prove_drop(old, RULE)
    assert proof is not None
    assert proof.attempts == [attempt.attempt]
    catalog.finish_drop(old, DROPPED)
    catalog.finish_drop(old, DROPPED)
    assert catalog.open_drops() == []
    assert catalog.prove_drop(old, RULE) is None
    past = catalog.copies("slide1", with_past=True)
    assert {copy.attempt: copy.state for copy in past} == {attempt.attempt: "committed", old: "dropped"}
    assert [event.kind for event in catalog.events("slide1")] == ["ingested", "reencoded", "dropped"]
    assert catalog.check_chains() == []
    assert catalog.current_copies() == {"slide1": [copy]}


def test_nothing_is_dropped_without_proof(catalog: Catalog, url: str) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    new = reencode(catalog, old).attempt
    catalog.record_failure(new, FAILED)
    with pytest.raises(ConflictError, match="must stay"):
        catalog.prove_drop(old, RULE)
    catalog.revive(old)
    catalog.revive(new)  # nothing is being dropped: nothing is revived
    assert {copy.attempt: copy.state for copy in catalog.copies("slide1")} == {old: "suspect", new: "suspect"}
    catalog.record_verification(new, kit.NOW, kit.INGESTED)
    kit.sql(url, "UPDATE copies SET state = 'dropping' WHERE attempt = ?", old)
    kit.sql(url, "UPDATE copies SET tier = 'warm' WHERE attempt = ?", new)
    assert catalog.prove_drop(old, RULE) is not None  # one elsewhere is as good
    with pytest.raises(ConflictError):
        catalog.prove_drop(old, replace(RULE, required=2))
    kit.sql(url, "UPDATE copies SET tier = 'hot', state = 'dropping' WHERE attempt = ?", new)
    for attempt in (old, new):  # two that are being dropped are no proof for each other
        with pytest.raises(ConflictError):
            catalog.prove_drop(attempt, RULE)
    with pytest.raises(MissingError):
        catalog.prove_drop("nobody", RULE)
    known = [str(evidence) for evidence in Evidence]
    assert known == ["read-back", "attested-before-freeze"], "another one must not count for a drop unseen"


def test_numbers_go_on_whatever_was_dropped(catalog: Catalog) -> None:
    source = kit.ingest(catalog, "slide1").attempt
    for n in (2, 3):
        assert catalog.last_number("slide1", "hot") == n - 1
        new = reencode(catalog, source, n).attempt
        catalog.finish_drop(source, DROPPED)
        source = new
    attempt, _ = begin(catalog, source)
    for taken in (1, 2, 3):
        with pytest.raises(ConflictError, match="is taken") as caught:
            claim(catalog, attempt, taken)
        assert caught.value.kind is Kind.BUSY
    assert catalog.last_number("slide1", "warm") == 0
    claim(catalog, attempt, 4)


# --- conditions of a claim --------------------------------------------------------------------------------------------


def test_a_claim_needs_the_copy_that_was_read(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    for source in ("nobody", kit.ingest(catalog, "slide2").attempt):
        attempt, _ = begin(catalog, source)
        with pytest.raises(ConflictError, match="was replaced"):
            claim(catalog, attempt)
        catalog.abandon(attempt.attempt, "no")
    attempt, _ = begin(catalog, old)
    for wrong in ({"content": "other"}, {"version": 2}):
        with pytest.raises(ConflictError):
            claim(catalog, attempt, **wrong)
    new_version = kit.begin(catalog, "slide1")
    kit.claim(catalog, new_version, "more", n=2)
    with pytest.raises(AlreadyClaimed):
        claim(catalog, attempt, 3)
    catalog.commit(new_version.attempt, kit.INGESTED)
    with pytest.raises(ConflictError, match="was replaced"):
        claim(catalog, attempt, 3)
    assert catalog.copies("slide1")[0].version == 2


def test_a_suspect_source_does_not_spoil_what_was_proven_by_itself(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    attempt, _ = begin(catalog, old)
    catalog.record_failure(old, FAILED)
    claim(catalog, attempt)
    commit(catalog, attempt)
    assert [copy.state for copy in catalog.copies("slide1")] == [CopyState.COMMITTED]


def test_a_version_cannot_come_while_a_copy_is_committed(catalog: Catalog) -> None:
    attempt, _ = begin(catalog, kit.ingest(catalog, "slide1").attempt)
    claim(catalog, attempt)
    other = kit.begin(catalog, "slide1")
    with pytest.raises(AlreadyClaimed) as caught:
        kit.claim(catalog, other, "more", n=3)
    assert caught.value.attempt == attempt.attempt
    commit(catalog, attempt)
    source = kit.source_of("more", 2)
    catalog.claim(
        other.attempt,
        fingerprint=kit.fingerprint_of("more"),
        slide=kit.slide_of("slide1"),
        source=source,
        copy=kit.copy_of("slide1", 3),
        supersedes=1,
    )
    catalog.commit(other.attempt, kit.INGESTED)
    states = {copy.version: copy.state for copy in catalog.copies("slide1")}
    assert states == {2: "committed", 1: "superseded"}
    assert len(catalog.open_drops()) == 1, "what was being dropped is so still"


def test_an_abandoned_claim_leaves_nothing(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    attempt, _ = begin(catalog, old)
    claim(catalog, attempt)
    catalog.abandon(attempt.attempt, "another commit stands in its place")
    assert catalog.copies("slide1", with_past=True) == catalog.copies("slide1")
    with pytest.raises(ConflictError):
        commit(catalog, attempt)
    catalog.adopt_reencode(
        catalog.attempt(attempt.attempt),
        fingerprint=kit.fingerprint_of("slide1"),
        version=1,
        copy=kit.copy_of("slide1", 5),
        event=REENCODED,
        rule=RULE,
    )
    assert [copy.n for copy in catalog.copies("slide1")] == [5]
    assert catalog.attempt(attempt.attempt).state is AttemptState.COMMITTED


# --- continuing -------------------------------------------------------------------------------------------------------


def test_only_the_same_is_continued_and_only_of_the_dead(url: str) -> None:
    clock = ManualClock(kit.NOW)
    with Catalog.open(url, clock=clock) as catalog:
        old = kit.ingest(catalog, "slide1").attempt
        first, _ = begin(catalog, old, fold_height=8)
        with pytest.raises(ConflictError, match="Another process re-encodes") as caught:
            begin(catalog, old, "other/1:b:2:2", fold_height=8)
        assert caught.value.kind is Kind.BUSY
        catalog.mark_verified(first.attempt, "f" * 64)
        clock.jump(kit.LEASE + timedelta(seconds=1))
        with pytest.raises(ConflictError, match="was not finished"):
            begin(catalog, old, "other/1:b:2:2", fold_height=16)
        with pytest.raises(ConflictError, match="was not finished"):
            catalog.begin_reencode("slide1", "warm", kit.OWNER, kit.LEASE, dict(first.job))
        until = clock.now() + timedelta(hours=1)
        with pytest.raises(ConflictError, match="was not finished"):  # its owner may only sleep
            catalog.begin_reencode("slide1", "hot", "other/1:b:2:2", until, dict(first.job))
        catalog.release(first.attempt, fence=first.fence)
        again, taken_over = catalog.begin_reencode("slide1", "hot", "other/1:b:2:2", until, dict(first.job))
        assert taken_over
        assert (again.attempt, again.owner, again.state) == (first.attempt, "other/1:b:2:2", AttemptState.WRITING)
        assert again.lease_until == iso(until)
        assert again.fence > first.fence
        with pytest.raises(ConflictError):  # its first owner was only slow, and is told so
            catalog.abandon(first.attempt, "mine", seen=first)
        claim(catalog, again)
        clock.jump(until + timedelta(seconds=1))
        with pytest.raises(ConflictError, match="was not finished"):  # all but done: a recovery finishes it
            catalog.begin_reencode("slide1", "hot", kit.OWNER, until, dict(first.job))


def test_released_is_dead_at_once(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    first, _ = begin(catalog, old)
    catalog.release(first.attempt, fence=first.fence)
    assert catalog.attempt(first.attempt).lease_until == iso(kit.NOW)
    again, taken_over = begin(catalog, old)
    assert taken_over
    assert again.attempt == first.attempt


# --- series -----------------------------------------------------------------------------------------------------------


def test_a_series_is_one_slide_however_many_take_it_in_at_once(catalog: Catalog) -> None:
    few, all_of_it = kit.begin(catalog, "slide1"), kit.begin(catalog, "slide2")
    kit.claim(catalog, few, "x", series="1.2.3")
    more = replace(kit.source_of("x"), files=(*kit.source_of("x").files, *kit.source_of("y").files))
    for step in (lambda: None, lambda: catalog.commit(few.attempt, kit.INGESTED)):
        step()
        with pytest.raises(SeriesClaimed) as caught:
            catalog.claim(
                all_of_it.attempt,
                fingerprint="f" * 64,
                slide=kit.slide_of("slide2", series="1.2.3"),
                source=more,
                copy=kit.copy_of("slide2"),
                supersedes=None,
            )
        assert (caught.value.slide, caught.value.attempt) == ("slide1", few.attempt)
    kit.claim(catalog, all_of_it, "z", series="1.2.3")  # nothing in common: another slide


# --- migration --------------------------------------------------------------------------------------------------------


def first_schema(path: Path) -> str:
    """Make a catalogue of the first revision with one slide in it, as the first release left it."""
    url = f"sqlite:///{path}/old.db"
    database = Database(
        open_engine(kit.file_of(url), read_only=False, busy_timeout_seconds=5, create=True), "", read_only=False
    )
    with database.write() as connection:
        command.upgrade(alembic_config(connection), "0001")
    database.close()
    new = kit.new_url(path)
    with Catalog.open(new, clock=ManualClock(kit.NOW)) as catalog:
        kit.ingest(catalog, "slide1")
        kit.begin(catalog, "slide2")
    for table in ("slides", "sources", "copies", "attempts", "events"):
        columns = [name for _, name, *_ in kit.sql(url, f"PRAGMA table_info({table})")]
        for row in kit.sql(new, f"SELECT {', '.join(columns)} FROM {table}"):
            kit.sql(url, f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", *row)
    return url


def test_a_catalogue_of_the_first_revision_is_brought_up_to_date(tmp_path: Path) -> None:
    url = first_schema(tmp_path)
    migrate(url)
    migrate(url)
    fresh = kit.new_url(tmp_path)
    query = "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name"
    assert kit.sql(url, query) == kit.sql(fresh, query)
    with Catalog.open(url, clock=ManualClock(kit.NOW)) as catalog:
        (copy,) = catalog.copies("slide1")
        assert (copy.n, copy.version, copy.encoding) == (1, 1, {})
        (attempt,) = catalog.open_attempts()
        assert (attempt.kind, attempt.job) == (AttemptKind.INGEST, {})
        assert catalog.check_chains() == []
        reencode(catalog, copy.attempt)
        assert [copy.n for copy in catalog.copies("slide1")] == [2]


def test_sources_are_found_by_size_through_an_index(catalog: Catalog, url: str) -> None:
    kit.ingest(catalog, "slide1")
    query = "EXPLAIN QUERY PLAN SELECT slide FROM sources WHERE bytes = 1 AND state = 'current' LIMIT 1"
    assert "ix_sources_bytes" in str(kit.sql(url, query))
    size = catalog.source("slide1").size_bytes
    assert catalog.has_source_of_size(size)
    assert not catalog.has_source_of_size(size + 1)
