from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.clock import Clock, SystemClock, iso


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


def test_now_is_the_machines_time_and_knows_that_it_is_utc(clock: Clock) -> None:
    before = time.time()
    moment = clock.now()
    after = time.time()

    assert moment.tzinfo is UTC
    assert before - 0.001 <= moment.timestamp() <= after + 0.001


def test_the_monotonic_clock_goes_forward_by_what_is_slept(clock: Clock) -> None:
    start = clock.monotonic_seconds()
    clock.sleep(0.02)

    assert 0.02 <= clock.monotonic_seconds() - start < 300


def test_iso_is_utc_with_microseconds_and_z() -> None:
    paris = timezone(timedelta(hours=2))

    assert iso(datetime(2025, 7, 1, 1, 30, tzinfo=paris)) == "2025-06-30T23:30:00.000000Z"
    assert iso(datetime(2025, 7, 1, 1, 30, 0, 7, tzinfo=UTC)) == "2025-07-01T01:30:00.000007Z"


_MOMENTS = st.datetimes(
    # A day from the ends of the calendar, so that every offset still falls into it.
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - Hypothesis wants naive bounds and adds the time zone
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001 - as above
    timezones=st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@given(_MOMENTS)
def test_iso_loses_nothing(moment: datetime) -> None:
    assert datetime.fromisoformat(iso(moment)) == moment


@given(_MOMENTS, _MOMENTS)
def test_iso_sorts_as_time_does(one: datetime, other: datetime) -> None:
    assert (iso(one) < iso(other)) == (one < other)
