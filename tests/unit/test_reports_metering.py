"""Usage, metered from events: months worked out by hand, changes of the clock, leap years, lost events."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.report_kit import Event, begun, copies, dropped, lying, metered, slides, told, utc
from wsistore.errors import InputError, SiteError
from wsistore.reports.periods import US_PER_HOUR, Month, micros
from wsistore.reports.usage import Group

TB = 10**12
OCTOBER = Month(2026, 10)
HOT = Group("hot", "keep", None, False)
HOUR, DAY = US_PER_HOUR, 24 * US_PER_HOUR


# --- months -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("month", "zone", "hours"),
    [
        ("2026-10", "UTC", 744),
        ("2026-10", "Europe/Paris", 745),
        ("2026-03", "Europe/Paris", 743),
        ("2026-10", "Indian/Reunion", 744),
        ("2026-02", "Europe/Paris", 672),
        ("2028-02", "Europe/Paris", 696),
        ("2100-02", "UTC", 672),
        ("2026-12", "UTC", 744),
    ],
)
def test_a_month_has_the_hours_that_it_has(month: str, zone: str, hours: int) -> None:
    assert Month.parse(month, zone).length_us == hours * HOUR


def test_a_month_of_paris_begins_in_the_evening_before() -> None:
    month = Month.parse("2026-10", "Europe/Paris")
    assert (month.begins, month.ends) == (utc("2026-09-30T22:00"), utc("2026-10-31T23:00"))
    assert Month.of(utc("2026-09-30T22:30"), "Europe/Paris") == month
    assert str(Month(2026, 12).next) == "2027-01"


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-00", "10-2026", "2026-1", "1989-01", "2026-10 ", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no month"):
        Month.parse(text)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(SiteError, match="Europe/Pariss"):
        Month.parse("2026-10", "Europe/Pariss")


# --- bytes and hours --------------------------------------------------------------------------------------------------


def test_a_copy_that_lay_there_all_the_month() -> None:
    usage = metered([begun("a", 1, "2026-01-05T00:00")], OCTOBER).by_month[OCTOBER][HOT]
    assert usage.byte_us == TB * 31 * DAY
    assert (usage.object_us, usage.copy_us) == (4 * 31 * DAY, 31 * DAY)
    assert usage.puts == usage.bytes_written == 0  # that was in January


def test_a_move_in_the_middle_of_a_day() -> None:
    """Ten days and six hours in hot; from then on in warm, a quarter smaller; both for the hour of the move."""
    events = [
        begun("a", 1, "2026-09-01T00:00"),
        begun("a", 2, "2026-10-11T06:00", "warm", size=3 * TB // 4),
        dropped("a", 3, "2026-10-11T07:00"),
    ]
    meter = metered(events, OCTOBER)
    found = meter.by_month[OCTOBER]
    assert found[HOT].byte_us == TB * (10 * 24 + 7) * HOUR
    warm = found[Group("warm", "keep", None, False)]
    assert warm.byte_us == 3 * TB // 4 * (20 * 24 + 18) * HOUR
    assert (warm.copies_made, warm.puts, warm.bytes_written) == (1, 4, 3 * TB // 4)
    assert meter.slide_us[OCTOBER] == 31 * DAY  # one slide, whatever number of copies


def test_microseconds_count_exactly() -> None:
    events = [begun("a", 1, "2026-10-01T00:00:00.000001"), dropped("a", 2, "2026-10-01T00:00:00.000004")]
    assert metered(events, OCTOBER).by_month[OCTOBER][HOT].byte_us == 3 * TB


def test_what_ends_as_the_month_begins_is_of_the_month_before() -> None:
    events = [begun("a", 1, "2026-09-30T00:00"), dropped("a", 2, "2026-10-01T00:00")]
    meter = metered(events, Month(2026, 9), OCTOBER)
    assert meter.by_month[Month(2026, 9)][HOT].byte_us == TB * DAY
    assert not meter.by_month[OCTOBER]


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 24), ("Europe/Paris", 25)])
def test_the_day_on_which_clocks_go_back(zone: str, hours: int) -> None:
    """25 October 2026 has 25 hours in Paris. The month that holds it is that long, too."""
    month = Month.parse("2026-10", zone)
    usage = metered([begun("a", 1, "2026-01-01T00:00")], month).by_month[month][HOT]
    assert usage.byte_us == TB * (30 * 24 + hours) * HOUR


def test_logical_bytes_are_those_of_the_source() -> None:
    known = slides(a=(4 * TB, "UNIT-01"))
    found = metered([begun("a", 1, "2026-09-01T00:00")], OCTOBER, known=known).by_month[OCTOBER]
    usage = found[Group("hot", "keep", "UNIT-01", False)]
    assert usage.logical_byte_us == 4 * usage.byte_us


def test_what_still_lies_there_counts_until_now() -> None:
    now = utc("2026-10-11T00:00")
    usage = metered([begun("a", 1, "2026-09-01T00:00")], OCTOBER, until_us=micros(now)).by_month[OCTOBER][HOT]
    assert usage.byte_us == TB * 10 * DAY


def test_a_deleted_slide_ends_everywhere() -> None:
    deleted = ("a", 3, utc("2026-10-02T00:00"), "deleted", {"certificate": {"x": 1}})
    events = [begun("a", 1, "2026-09-01T00:00"), begun("a", 2, "2026-09-01T00:00", "cold"), deleted]
    found = metered(events, OCTOBER).by_month[OCTOBER]
    assert {group.tier: usage.byte_us for group, usage in found.items()} == {"hot": TB * DAY, "cold": TB * DAY}


def test_early_ends_count_what_was_left() -> None:
    """180 days are charged at least; this one went after 30: 150 are left, in the month in which it went."""
    events = [begun("a", 1, "2026-09-01T00:00", "cold"), dropped("a", 2, "2026-10-01T00:00", "cold")]
    september = Month(2026, 9)
    meter = metered(events, september, OCTOBER, least_us={"cold": 180 * DAY})
    cold = Group("cold", "keep", None, False)
    assert meter.by_month[OCTOBER][cold].early_byte_us == TB * 150 * DAY
    assert meter.by_month[september][cold].early_byte_us == 0


# --- what was done ----------------------------------------------------------------------------------------------------


def test_requests_reads_recalls_and_encoding() -> None:
    events = [
        begun("a", 1, "2026-10-01T00:00", objects=10),
        ("a", 2, utc("2026-10-02T00:00"), "verified", {"tier": "hot", "bytes_read": 500, "objects": 10}),
        ("a", 3, utc("2026-10-03T00:00"), "restored", {"tier": "hot", "bytes": 9, "bytes_read": 70, "objects": 2}),
        begun("a", 4, "2026-10-04T00:00", "cold", size=60, objects=3, cpu_seconds=1.5, **{"from": "hot"},
              bytes_read=100, objects_read=10),
        ("a", 5, utc("2026-10-05T00:00"), "recall-begun",
         {"tier": "cold", "retrieval": "bulk", "objects": "2", "bytes_asked": 59}),
    ]  # fmt: skip
    found = metered(events, OCTOBER).by_month[OCTOBER]
    made = found[HOT]
    assert (made.puts, made.gets, made.bytes_read) == (10, 10, TB)  # read back before it counted
    read = found[Group("hot", "", None, False)]
    assert (read.gets, read.bytes_read) == (10 + 2 + 10, 500 + 70 + 100)
    cold = found[Group("cold", "keep", None, False)]
    assert (cold.puts, cold.cpu_us, cold.copies_made) == (3, 1_500_000, 1)
    assert found[Group("cold", "", None, False)].restored == {"bulk": (59, 2)}


@pytest.mark.parametrize("detail", ['{"tier":1}', "[]", "{", '{"tier":"hot","bytes_read":"many"}', '{"objects":true}'])
def test_details_of_another_form_are_no_usage(detail: str) -> None:
    strange = ("a", 2, utc("2026-10-02T00:00"), "verified", detail)
    events = [begun("a", 1, "2026-09-01T00:00"), strange]
    found = metered(events, OCTOBER).by_month[OCTOBER]  # type: ignore[arg-type]
    assert sum(usage.byte_us for usage in found.values()) == TB * 31 * DAY
    assert all(usage.bytes_read == 0 for usage in found.values())


def test_a_foreign_detail_spoils_no_other() -> None:
    events = [("a", 1, utc("2026-10-02T00:00"), "verified", "{"), begun("b", 1, "2026-10-02T00:00")]
    table = told(events)  # type: ignore[arg-type]
    assert table["bytes_stored"].to_pylist() == [None, TB]


# --- lost events ------------------------------------------------------------------------------------------------------


def test_copies_without_events_are_estimated() -> None:
    there = copies(
        {"slide": "a", "tier": "hot", "commit": "commits/a/00000001.json", "preset": "keep", "bytes_stored": 7,
         "objects": 2, "since": utc("2026-10-05T00:00")}
    )  # fmt: skip
    rebuilt: Event = ("a", 1, utc("2026-10-20T00:00"), "rebuilt", {})
    table = lying([rebuilt], there=there)
    (row,) = table.to_pylist()
    assert (row["began"], row["ended"], row["estimated"]) == (utc("2026-10-05T00:00"), None, True)


def test_copies_that_a_new_catalogue_did_not_find_end_then() -> None:
    events = [begun("a", 1, "2026-09-01T00:00"), ("a", 2, utc("2026-10-20T00:00"), "rebuilt", {})]
    (row,) = lying(events).to_pylist()
    assert (row["ended"], row["estimated"]) == (utc("2026-10-20T00:00"), True)


def test_a_copy_whose_begin_is_lost_begins_with_its_slide() -> None:
    events = [begun("a", 1, "2026-09-01T00:00"), dropped("a", 2, "2026-09-11T00:00", "warm")]
    warm = next(row for row in lying(events).to_pylist() if row["tier"] == "warm")
    assert (warm["began"], warm["estimated"]) == (utc("2026-09-01T00:00"), True)
    assert warm["ended"] - warm["began"] == timedelta(days=10)


def test_a_clock_that_went_back_gives_no_negative_time() -> None:
    events = [begun("a", 1, "2026-10-05T00:00"), dropped("a", 2, "2026-10-04T00:00")]
    usage = metered(events, OCTOBER).by_month[OCTOBER]
    assert all(one.byte_us >= 0 and one.copy_us >= 0 for one in usage.values())
