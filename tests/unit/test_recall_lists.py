"""Pasted lists: what people copy out of spreadsheets and mails; moments and spans of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsistore.errors import InputError
from wsistore.ops.recall_lists import decode, lines_of, parse
from wsistore.ops.recall_times import local, moment_of, span_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def cells(text: str) -> list[tuple[str, ...]]:
    return [line.cells for line in parse(text)]


@pytest.mark.parametrize(
    "text",
    [
        "IPP\tCASE\nP1\tC1\nP2\tC2",
        "IPP;CASE\r\nP1;C1\r\n\r\nP2;C2\r\n",
        "\ufeffIPP,CASE\nP1,C1\n   \n;;\nP2,C2\n",
        '"IPP";"CASE"\n"P1";"C1"\n"P2";"C2"',
        " IPP | CASE \n P1 | C1 \n\u00a0P2\u00a0|\u200bC2",
    ],
)
def test_columns(text: str) -> None:
    assert cells(text)[0] == ("IPP", "CASE")
    assert [row for row in cells(text) if row[0].startswith("P")] == [("P1", "C1"), ("P2", "C2")]
    assert parse(text)[0].is_header
    assert not parse(text)[1].is_header


def test_one_column_without_a_delimiter_keeps_spaces() -> None:
    assert cells("H 2026 17\n\nslide 4.svs\n") == [("H 2026 17",), ("slide 4.svs",)]


def test_a_repeated_line_is_one_and_counted() -> None:
    first, second = parse("C1\nC2\nC1\n C1 \n")
    assert (first.cells, first.number, first.times) == (("C1",), 1, 3)
    assert (second.number, second.times) == (2, 1)


def test_quotes_hold_a_delimiter_and_an_open_one_swallows_no_other_line() -> None:
    assert cells('"Doe; X";C1\n"open;C2\nP3;C3') == [("Doe; X", "C1"), ("open;C2",), ("P3", "C3")]


def test_words_of_a_command_line_are_taken_whole() -> None:
    assert [line.cells for line in lines_of(["a;b", "c,d", "a;b", " "])] == [("a;b",), ("c,d",)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str) -> None:
    assert decode("numéro;C1".encode(encoding)) == "numéro;C1"


@pytest.mark.parametrize("data", [b"PK\x03\x04rest", b"\xd0\xcf\x11\xe0rest", b"x" * (4 * 1024 * 1024 + 1)])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        decode(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_bytes_there_are_they_become_lines(data: bytes) -> None:
    try:
        found = parse(decode(data))
    except InputError:
        return
    assert all(line.cells and all(line.cells) and line.times >= 1 for line in found)
    assert len({line.cells for line in found}) == len(found)


def test_moments() -> None:
    assert moment_of("2026-03-02T08:00+01:00", NOW) == datetime(2026, 3, 2, 7, tzinfo=UTC)
    assert moment_of("2026-03-02T08:00Z", NOW) == datetime(2026, 3, 2, 8, tzinfo=UTC)
    at = moment_of("08:00", NOW)
    assert NOW < at <= NOW + timedelta(hours=25)
    assert at.astimezone().strftime("%H:%M") == "08:00"
    assert local(at, at) == "08:00"
    assert len(local(at + timedelta(days=3), at)) == len("2026-03-02 08:00")


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2026-02-30 08:00", "2026-02-28T08:00Z", "9999-99-99"])
def test_no_moment_to_come(text: str) -> None:
    with pytest.raises(InputError):
        moment_of(text, NOW)


def test_spans() -> None:
    assert [span_of(text) for text in ("12h", "14d", "2w")] == [timedelta(hours=12), timedelta(14), timedelta(14)]
    for text in ("", "0d", "14", "d", "-1d", "99999w"):
        with pytest.raises(InputError):
            span_of(text)
