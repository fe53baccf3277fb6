"""Moves in the catalogue: fences, drops and what they rest on, holds."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests import catalog_kit as kit
from wsistore.catalog import Attempt, AttemptKind, AttemptState, Catalog, CopyRow, DropRule, NotProven
from wsistore.catalog.drops import Lack
from wsistore.clock import iso
from wsistore.errors import ConflictError, Kind
from wsistore.events import EventKind, NewEvent
from wsistore.testing.clock import ManualClock

COPIED = NewEvent(EventKind.COPIED, "operator", {})
RULE = DropRule(required=1, fresh_from="", fresh_until="9")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(kit.new_url(tmp_path), clock=ManualClock(kit.NOW)) as opened:
        yield opened


def begin(catalog: Catalog, source: str, tier: str, *drop: str) -> tuple[Attempt, bool]:
    job = {"source": source, "preset": "keep", **({"drop": list(drop)} if drop else {})}
    return catalog.begin_reencode("slide1", tier, kit.OWNER, kit.LEASE, job, AttemptKind.MOVE)


def claim(catalog: Catalog, attempt: Attempt, n: int = 1) -> None:
    catalog.claim_reencode(
        attempt.attempt,
        fence=attempt.fence,
        fingerprint=kit.fingerprint_of("slide1"),
        version=1,
        copy=replace(kit.copy_of("slide1", n), tier=attempt.tier),
        figures={},
    )


def copy(catalog: Catalog, source: str, tier: str, *drop: str, rule: DropRule = RULE, n: int = 1) -> str:
    attempt, _ = begin(catalog, source, tier, *drop)
    claim(catalog, attempt, n)
    catalog.commit_reencode(attempt.attempt, COPIED, fence=attempt.fence, rule=replace(rule, via=attempt.attempt))
    return attempt.attempt


def states(catalog: Catalog) -> dict[str, str]:
    return {one.attempt: str(one.state) for one in catalog.copies("slide1", with_past=True)}


def seen(catalog: Catalog, attempt: str) -> CopyRow:
    found = catalog.copy_of_attempt(attempt)
    assert found is not None
    return found


# --- fences -----------------------------------------------------------------------------------------------------------


def test_every_step_of_who_was_taken_over_is_refused(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    first, _ = begin(catalog, old, "warm")
    catalog.release(first.attempt, fence=first.fence)
    second, taken_over = begin(catalog, old, "warm")
    assert (taken_over, second.attempt) == (True, first.attempt)
    assert second.fence > first.fence
    late = (
        lambda: catalog.extend_lease(first.attempt, kit.LEASE, fence=first.fence),
        lambda: catalog.mark_written(first.attempt, fence=first.fence),
        lambda: claim(catalog, first),
        lambda: catalog.commit_reencode(first.attempt, COPIED, fence=first.fence, rule=RULE),
        lambda: catalog.close_attempt(first.attempt, fence=first.fence),
        lambda: catalog.abandon(first.attempt, "mine", seen=first),
    )
    for step in late:
        with pytest.raises(ConflictError) as caught:
            step()
        assert caught.value.kind is Kind.BUSY
    catalog.release(first.attempt, fence=first.fence)  # nothing happens
    assert catalog.attempt(second.attempt) == second
    catalog.mark_written(second.attempt, fence=second.fence)
    assert catalog.attempt(second.attempt).state is AttemptState.WRITTEN
    claim(catalog, second)
    for step in late[3:]:
        with pytest.raises(ConflictError):
            step()
    catalog.commit_reencode(second.attempt, COPIED, fence=second.fence, rule=RULE)
    assert states(catalog) == {old: "committed", second.attempt: "committed"}


def test_fences_grow_whatever_becomes_of_the_attempts(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    last = 0
    for _ in range(4):
        attempt, _ = begin(catalog, old, "warm")
        assert attempt.fence > last
        last = attempt.fence
        catalog.abandon(attempt.attempt, "no")
        catalog.forget_attempt(attempt.attempt)
        with pytest.raises(ConflictError, match="ended or taken over"):
            catalog.extend_lease(attempt.attempt, kit.LEASE, fence=attempt.fence)


def test_what_is_dropped_afterwards_may_change_when_it_is_continued(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    first, _ = begin(catalog, old, "warm")
    catalog.release(first.attempt, fence=first.fence)
    second, taken_over = begin(catalog, old, "warm", old)
    assert taken_over
    assert second.job["drop"] == [old]


# --- moves ------------------------------------------------------------------------------------------------------------


def test_the_commit_of_a_move_begins_the_drop_with_a_proof(catalog: Catalog) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    new = copy(catalog, old, "warm", old)
    assert states(catalog) == {new: "committed", old: "dropping"}
    assert catalog.attempt(new).state is AttemptState.COMMITTED
    told = catalog.events("slide1")
    assert [event.kind for event in told] == ["ingested", "copied", "dropping"]
    (cited,) = told[-1].detail["proof"]["copies"]
    assert cited["attempt"] == new


@pytest.mark.parametrize("why", ["required", "stale", "held"])
def test_what_must_stay_leaves_the_move_open(catalog: Catalog, why: str) -> None:
    old = kit.ingest(catalog, "slide1").attempt
    rule = RULE
    if why == "required":
        rule = replace(RULE, required=2)
    elif why == "stale":
        rule = replace(RULE, via_from="9")
    else:
        assert catalog.hold("slide1", "court case", "operator")
    new = copy(catalog, old, "warm", old, rule=rule)
    assert states(catalog) == {old: "committed", new: "committed"}
    open_one = catalog.attempt(new)
    assert open_one.state is AttemptState.DROPPING
    assert [one.attempt for one in catalog.open_attempts()] == [new]
    assert [one.attempt for one in catalog.to_drop(open_one)] == [old]
    with pytest.raises(ConflictError):
        begin(catalog, old, "cold")
    catalog.close_attempt(new, fence=open_one.fence, reason="it stays")
    catalog.close_attempt(new, fence=open_one.fence, reason="again")
    assert catalog.attempt(new).error == "it stays"
    assert catalog.open_attempts() == []


# --- proofs -----------------------------------------------------------------------------------------------------------


def test_copies_of_a_drop_are_pinned_and_what_drops_counts_for_nothing(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    warm, cold = copy(catalog, hot, "warm"), copy(catalog, hot, "cold")
    proof = catalog.start_drop(seen(catalog, hot), RULE, "me")
    (cited,) = proof.attempts
    (other,) = {warm, cold} - {cited}
    with pytest.raises(NotProven) as caught:
        catalog.start_drop(seen(catalog, cited), RULE, "me")
    assert caught.value.lack is Lack.PINNED
    catalog.start_drop(seen(catalog, other), RULE, "me")  # rests on the same
    with pytest.raises(NotProven) as caught:
        catalog.start_drop(seen(catalog, cited), RULE, "me")
    for one in (hot, other):
        catalog.finish_drop(one, COPIED)
    with pytest.raises(NotProven) as caught:
        catalog.start_drop(seen(catalog, cited), RULE, "me")
    assert caught.value.lack is Lack.FEW
    assert states(catalog)[cited] == "committed"


def test_a_copy_that_is_being_dropped_is_no_reason_to_drop_another(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    warm = copy(catalog, hot, "warm")
    catalog.start_drop(seen(catalog, hot), RULE, "me")
    with pytest.raises(NotProven):
        catalog.start_drop(seen(catalog, warm), RULE, "me")
    assert states(catalog) == {hot: "dropping", warm: "committed"}


def test_a_temporary_copy_replaces_no_copy_of_its_tier_that_stays(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    lasting = copy(catalog, hot, "warm")
    job = {"source": hot, "preset": "fold", "expires_at": "2027-01-01T00:00:00.000000Z"}
    attempt, _ = catalog.begin_reencode("slide1", "warm", kit.OWNER, kit.LEASE, job, AttemptKind.MOVE)
    claim(catalog, attempt, 2)
    catalog.commit_reencode(attempt.attempt, COPIED, fence=attempt.fence, rule=replace(RULE, via=attempt.attempt))
    assert states(catalog) == dict.fromkeys((hot, lasting, attempt.attempt), "committed")
    with pytest.raises(NotProven, match="1 other tiers, and 2 are needed"):
        catalog.start_drop(seen(catalog, lasting), replace(RULE, required=2), "operator")


def test_required_copies_are_counted_by_tier(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    copy(catalog, hot, "warm")
    two = replace(RULE, required=2)
    with pytest.raises(NotProven, match="1 other tiers, and 2 are needed") as caught:
        catalog.start_drop(seen(catalog, hot), two, "me")
    assert (caught.value.kind, caught.value.exit_code) == (Kind.LAST_COPY, 5)
    copy(catalog, hot, "cold")
    assert len(catalog.start_drop(seen(catalog, hot), two, "me").copies) == 2


def test_evidence_must_be_fresh_and_not_of_the_future(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    warm = copy(catalog, hot, "warm")
    catalog.record_verification(warm, kit.NOW, kit.INGESTED)
    before, after = iso(kit.NOW - timedelta(seconds=1)), iso(kit.NOW + timedelta(seconds=1))
    for rule in (
        replace(RULE, fresh_from=after),
        replace(RULE, fresh_until=before),
        replace(RULE, via=warm, via_from=after),
    ):
        with pytest.raises(NotProven) as caught:
            catalog.start_drop(seen(catalog, hot), rule, "me")
        assert (caught.value.lack, caught.value.stale) == (Lack.STALE, (warm,))
    catalog.start_drop(seen(catalog, hot), replace(RULE, fresh_from=before, fresh_until=after), "me")


def test_what_changed_since_it_was_seen_is_not_dropped(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    copy(catalog, hot, "warm")
    row = seen(catalog, hot)
    catalog.record_failure(hot, COPIED)
    with pytest.raises(ConflictError, match="is suspect now"):
        catalog.start_drop(row, RULE, "me")
    catalog.start_drop(seen(catalog, hot), RULE, "me")  # a suspect copy may go


def test_what_is_lacking_survives_pickling(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    with pytest.raises(NotProven) as caught:
        catalog.start_drop(seen(catalog, hot), RULE, "me")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.lack, again.kind, str(again)) == (caught.value.lack, caught.value.kind, str(caught.value))


# --- holds ------------------------------------------------------------------------------------------------------------


def test_holds_differ_by_their_reason_and_are_told_of(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    copy(catalog, hot, "warm")
    assert catalog.hold("slide1", "b", "one")
    assert catalog.hold("slide1", "a", "two")
    assert not catalog.hold("slide1", "a", "three")
    assert {hold.reason: hold.actor for hold in catalog.holds("slide1")} == {"a": "two", "b": "one"}
    with pytest.raises(NotProven, match="on hold") as caught:
        catalog.start_drop(seen(catalog, hot), RULE, "me")
    assert (caught.value.lack, caught.value.kind) == (Lack.HELD, Kind.HELD)
    assert [hold.reason for hold in catalog.release_holds("slide1", "a", "me")] == ["a"]
    with pytest.raises(NotProven):
        catalog.start_drop(seen(catalog, hot), RULE, "me")
    assert [hold.reason for hold in catalog.release_holds("slide1", None, "me")] == ["b"]
    assert catalog.release_holds("slide1", None, "me") == []
    catalog.start_drop(seen(catalog, hot), RULE, "me")
    kinds = [event.kind for event in catalog.events("slide1")]
    assert kinds == ["ingested", "copied", "held", "held", "released", "released", "dropping"]
    assert catalog.check_chains() == []


def test_a_revived_copy_of_an_old_version_stays_an_old_one(catalog: Catalog) -> None:
    hot = kit.ingest(catalog, "slide1").attempt
    warm = copy(catalog, hot, "warm")
    catalog.start_drop(seen(catalog, hot), RULE, "me")
    kit.ingest(catalog, "slide1", "new content", n=2)
    assert states(catalog)[warm] == "superseded"
    proof = catalog.prove_drop(hot, RULE)  # it rests on what was superseded with it
    assert proof is not None
    assert proof.attempts == [warm]
    catalog.revive(hot)
    assert states(catalog)[hot] == "superseded"
