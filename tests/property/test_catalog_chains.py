"""Any tampering with the inside of a chain of events is found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from wsistore.events import Event, EventKind, NewEvent, canonical_json, check_chain, event_hash, next_event

texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
details = st.dictionaries(texts, values, max_size=3)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
news = st.builds(NewEvent, st.sampled_from(EventKind), texts, details)


@st.composite
def chains(draw: st.DrawFn, least: int = 1) -> list[Event]:
    events: list[Event] = []
    for new in draw(st.lists(news, min_size=least, max_size=5)):
        events.append(next_event(events[-1] if events else None, "slide", new, draw(moments)))
    return events


digests = st.text("0123456789abcdef", min_size=64, max_size=64)
alterations: dict[str, st.SearchStrategy[Any]] = {
    "slide": texts,
    "number": st.integers(-1, 10),
    "at": texts,
    "kind": texts,
    "actor": texts | st.just("\udcff"),
    "detail": details,
    "previous": digests,
    "hash": digests,
}


@given(chains())
def test_untouched_chain_is_whole(events: list[Event]) -> None:
    assert check_chain(events) == []


@given(chains(), st.data())
def test_any_altered_field_of_any_event_is_found(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    field = data.draw(st.sampled_from(sorted(alterations)))
    value: Any = data.draw(alterations[field])
    before = getattr(events[place], field)
    # By their JSON, where 1, 1.0 and true are three things, as they are to whoever reads the event.
    assume(repr(value) != repr(before))
    if field == "detail":
        assume(canonical_json(value) != canonical_json(before))
    events[place] = replace(events[place], **{field: value})
    assert check_chain(events)


@given(chains(least=2), st.data())
def test_an_event_altered_with_its_own_hash_is_found_by_the_next(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 2))
    altered = replace(events[place], actor=data.draw(texts.filter(lambda text: text != events[place].actor)))
    events[place] = replace(altered, hash=event_hash(altered))
    assert check_chain(events)


@given(chains(least=2), st.data())
def test_removed_doubled_and_exchanged_events_are_found(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 2))
    doubled = [*events[: place + 1], *events[place:]]
    exchanged = [*events[:place], events[place + 1], events[place], *events[place + 2 :]]
    assert check_chain(events[:place] + events[place + 1 :])
    assert check_chain(doubled)
    assert check_chain(exchanged)
