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
