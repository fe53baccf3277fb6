from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore import units


def test_lengths_agree_with_one_another() -> None:
    assert pytest.approx(2.54 * units.UM_PER_CM) == units.UM_PER_INCH
    assert pytest.approx(10 * units.UM_PER_MM) == units.UM_PER_CM
    assert pytest.approx(1_000_000) == units.UM_PER_MM / units.UM_PER_NM
    assert units.MIB == 1_048_576


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1023, "1.0 kB"),
        (35_500_000, "35.5 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_600_000_000, "1.6 GB"),
        (264e12, "264.0 TB"),
        (5e15, "5000.0 TB"),
        (-2_000, "-2.0 kB"),
    ],
)
def test_bytes_are_written_as_storage_is_sold(size_bytes: float, text: str) -> None:
    assert units.format_bytes(size_bytes) == text


@given(st.integers(0, 10**18))
def test_a_formatted_size_is_near_the_true_one(size_bytes: int) -> None:
    match = re.fullmatch(r"(\d+(?:\.\d)?) (B|kB|MB|GB|TB)", units.format_bytes(size_bytes))

    assert match
    scale = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(match[2])
    assert float(match[1]) * scale == pytest.approx(size_bytes, abs=0.051 * scale)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("40 TB", 40 * 10**12),
        ("1.5GB", 1_500_000_000),
        ("64 MiB", 64 * units.MIB),
        ("64mib", 64 * units.MIB),
        ("1 KiB", 1024),
        ("2 kB", 2000),
        ("1 PB", 10**15),
        ("1 EiB", 2**60),
        ("8 bit", 1),
        ("1.1 TB", 1_100_000_000_000),
        (" 7 bytes ", 7),
        ("3G", 3_000_000_000),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert units.parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "rate"),
    [("200 MB/s", 200_000_000), ("1 Gbit/s", 125_000_000), ("10MiB/s", 10 * units.MIB), ("100 Mbit/s", 12_500_000)],
)
def test_rates_are_read_as_people_write_them(text: str, rate: int) -> None:
    assert units.parse_bytes(text, per_second=True) == rate


@pytest.mark.parametrize(
    "text",
    ["", "TB", "-1 TB", "1,5 TB", "1 XB", "1 iB", "1e3", "nan", "1 TB/s", "1 TB TB", "٣ TB", "9000000 EB"],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        units.parse_bytes(text)


@pytest.mark.parametrize("text", ["200 MB", "200", "fast", "1 MB/h", "100 Mbps"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        units.parse_bytes(text, per_second=True)


@given(st.integers(0, 2**63 - 1))
def test_every_whole_number_of_bytes_is_read_exactly(size_bytes: int) -> None:
    assert units.parse_bytes(str(size_bytes)) == units.parse_bytes(f"{size_bytes} B") == size_bytes


def test_percentages() -> None:
    assert [units.parse_percent(text) for text in ("85 %", "0%", "100 %", "70.5%")] == [0.85, 0, 1, 0.705]
    for text in ("85", "101 %", "-1 %", "%", "0.85", "1e1 %"):
        with pytest.raises(ValueError, match="percentage"):
            units.parse_percent(text)
