"""The chain of events: its bytes, its order, and what is said of a broken one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from wsistore.errors import WsistoreError
from wsistore.events import GENESIS, Event, EventKind, NewEvent, check_chain, next_event

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def chain(length: int, slide: str = "slide1") -> list[Event]:
    events: list[Event] = []
    for number in range(length):
        new = NewEvent(EventKind.VERIFIED, "operator", {"round": number})
        events.append(next_event(events[-1] if events else None, slide, new, AT + timedelta(days=number)))
    return events


def test_hash_is_over_the_documented_bytes() -> None:
    detail = {"b": [1, 2.5, None, True], "a": 'é"\\\n\x01/', "ñ": {}}
    event = next_event(None, "k1", NewEvent(EventKind.INGESTED, "Anaïs", detail), AT)
    said = (
        '{"actor":"Anaïs","at":"2026-01-31T12:00:00.000000Z",'
        '"detail":{"a":"é\\"\\\\\\n\\u0001/","b":[1,2.5,null,true],"ñ":{}},'
        '"kind":"ingested","number":1,"previous":"' + "0" * 64 + '","slide":"k1"}'
    )
    assert event.hash == hashlib.sha256(said.encode("utf-8")).hexdigest()


def test_first_event_starts_from_zeros_and_each_next_continues() -> None:
    first, second, third = chain(3)
    assert first.previous == GENESIS == "0" * 64
    assert [event.number for event in (first, second, third)] == [1, 2, 3]
    assert second.previous == first.hash
    assert third.previous == second.hash
    assert check_chain([first, second, third]) == []


def test_time_is_kept_in_utc() -> None:
    moment = datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    assert next_event(None, "k", NewEvent(EventKind.VERIFIED, "a", {}), moment).at == "2026-01-31T12:00:00.000000Z"


def test_no_chain_has_no_problem() -> None:
    assert check_chain([]) == []


def test_event_cannot_follow_one_of_another_slide() -> None:
    with pytest.raises(WsistoreError, match="slide2 cannot follow one of slide slide1"):
        next_event(chain(1)[0], "slide2", NewEvent(EventKind.VERIFIED, "a", {}), AT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", AT, {1: 2}, {"deep": [set()]}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(WsistoreError, match="no JSON value"):
        next_event(None, "k", NewEvent(EventKind.VERIFIED, "a", {"value": value}), AT)


def test_undecodable_file_names_become_escapes() -> None:
    event = next_event(None, "k", NewEvent(EventKind.INGESTED, "us\udcffer", {"n\udc80": "\udcfe.svs"}), AT)
    assert event.actor == "us\\udcffer"
    assert event.detail == {"n\\udc80": "\\udcfe.svs"}
    assert check_chain([event]) == []


def test_altered_event_is_named() -> None:
    events = chain(3)
    events[1] = replace(events[1], actor="somebody else")
    (problem,) = check_chain(events)
    assert "event 2" in problem
    assert "altered" in problem


def test_event_made_anew_does_not_fit_what_follows() -> None:
    events = chain(3)
    events[1] = next_event(events[0], "slide1", NewEvent(EventKind.VERIFIED, "somebody else", {}), AT)
    (problem,) = check_chain(events)
    assert "event 3" in problem
    assert "does not continue event 2 as it is now" in problem


@pytest.mark.parametrize(("left_out", "said"), [((1,), "event 2 is missing"), ((1, 2), "events 2 to 3 are missing")])
def test_gap_is_named(left_out: tuple[int, ...], said: str) -> None:
    events = [event for place, event in enumerate(chain(4)) if place not in left_out]
    assert any("gap" in problem and said in problem for problem in check_chain(events))


def test_missing_beginning_is_a_gap() -> None:
    assert any("event 1 is missing" in problem for problem in check_chain(chain(2)[1:]))


def test_order_is_checked() -> None:
    first, second, third = chain(3)
    assert any("out of order" in problem for problem in check_chain([first, third, second]))
    assert any("out of order" in problem for problem in check_chain([first, second, second, third]))


def test_event_of_another_slide_is_named() -> None:
    ours, theirs = chain(2), chain(2, "slide2")
    assert any("belongs to another slide (slide2)" in problem for problem in check_chain([ours[0], theirs[1]]))


def test_kinds_are_never_renamed() -> None:
    known = "ingested verified verification-failed restored exported superseded attempt-abandoned metadata-changed"
    assert {str(kind) for kind in EventKind} >= set(known.split())
