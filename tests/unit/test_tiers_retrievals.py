"""Ways back from an archive: what each costs and takes, and the cheapest in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tuning_kit import FREE, measurement, value
from wsistore.storage.archive import Retrieval
from wsistore.storage.archive_sim import LIKE_S3
from wsistore.storage.s3_providers import PROVIDERS
from wsistore.tiers.expected_cost import RESTORED_DAYS, Access, expected_cost
from wsistore.tiers.prices import Mark, load_prices
from wsistore.tiers.retrievals import RetrievalOption, cheapest_by, retrievals

HOUR = 3600.0
GB = 1_000_000_000
ARCHIVES = {
    name: load_prices(name)
    for name in ("aws-s3-glacier", "aws-s3-deep-archive", "ovh-cold-archive", "scaleway-glacier")
}
TEXT = """
version = 1
[storage_per_tb_month]
central = 1
[standard_per_tb_month]
central = 30
[egress_per_gb]
central = 0.1
[[retrieval]]
name = "expedited"
hours = {central = 0.05, high = 0.1, mark = "seen"}
per_gb = {central = 0.5, mark = "unverified"}
[[retrieval]]
name = "standard"
hours = {central = 4, high = 5, mark = "seen"}
per_gb = {central = 0.2, mark = "seen"}
per_1000 = {central = 1000, mark = "seen"}
[[retrieval]]
name = "bulk"
hours = {central = 8, high = 12, mark = "seen"}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "own.toml"
    file.write_text(TEXT)
    return str(file)


def test_price_is_fee_and_requests_and_copy_and_egress(path: str) -> None:
    days = 365.25 / 12
    by_name = {option.retrieval: option for option in retrievals(load_prices(path), 100 * GB, 4, days=days)}
    copy = 0.1 * 30  # TB, a month
    assert by_name[Retrieval.BULK].restore_eur.central == pytest.approx(copy)
    assert by_name[Retrieval.EXPEDITED].restore_eur.central == pytest.approx(copy + 50)
    assert by_name[Retrieval.STANDARD].restore_eur.central == pytest.approx(copy + 20 + 4)
    assert all(option.egress_eur.central == pytest.approx(10) for option in by_name.values())
    assert by_name[Retrieval.STANDARD].eur.central == pytest.approx(copy + 34)
    assert by_name[Retrieval.STANDARD].typical_seconds == 4 * HOUR
    assert by_name[Retrieval.STANDARD].most_seconds == 5 * HOUR
    assert by_name[Retrieval.EXPEDITED].mark is Mark.UNVERIFIED
    assert by_name[Retrieval.STANDARD].mark is Mark.SEEN
    assert retrievals(load_prices(path), 100 * GB, 4, leaves=False)[0].egress_eur.central == 0


def test_cheapest_first_and_the_cheapest_in_time(path: str) -> None:
    options = retrievals(load_prices(path), 100 * GB, 4)
    assert [option.retrieval for option in options] == ["bulk", "standard", "expedited"]
    wanted = [(100 * HOUR, "bulk"), (12 * HOUR, "bulk"), (12 * HOUR - 1, "standard"), (5 * HOUR, "standard"),
              (5 * HOUR - 1, "expedited"), (0.1 * HOUR, "expedited")]  # fmt: skip
    for seconds, name in wanted:
        found = cheapest_by(options, seconds)
        assert found is not None
        assert found.retrieval == name
    assert cheapest_by(options, 0.1 * HOUR - 1) is None  # typical times promise nothing
    assert cheapest_by((), 1e9) is None


def test_many_small_objects_change_which_is_cheapest(path: str) -> None:
    prices = load_prices(path)
    names = [option.retrieval for option in retrievals(prices, GB, 10)]
    assert names.index(Retrieval.EXPEDITED) < names.index(Retrieval.STANDARD)


@given(
    size=st.integers(0, 10**16),
    objects=st.integers(0, 10**7),
    seconds=st.floats(0, 1e6),
    name=st.sampled_from(sorted(ARCHIVES)),
)
def test_no_way_in_time_is_cheaper(size: int, objects: int, seconds: float, name: str) -> None:
    options = retrievals(ARCHIVES[name], size, objects)
    found = cheapest_by(options, seconds)
    in_time: list[RetrievalOption] = [option for option in options if option.most_seconds <= seconds]
    assert (found is None) == (not in_time)
    if found is not None:
        assert found.most_seconds <= seconds
        assert all(found.eur.central <= option.eur.central for option in in_time)
    assert all(option.eur.low <= option.eur.central <= option.eur.high for option in options)


def test_what_is_read_at_once_has_no_ways_back() -> None:
    assert retrievals(load_prices("aws-s3-ia"), GB, 1) == ()
    with pytest.raises(ValueError, match="-1 bytes"):
        retrievals(load_prices("aws-s3-ia"), -1, 1)


@pytest.mark.parametrize(
    ("name", "provider", "storage_class"),
    [("aws-s3-glacier", "aws", "GLACIER"), ("aws-s3-deep-archive", "aws", "DEEP_ARCHIVE"),
     ("ovh-cold-archive", "ovh", "DEEP_ARCHIVE"), ("scaleway-glacier", "scaleway", "GLACIER")],
)  # fmt: skip
def test_prices_have_the_ways_that_the_service_has(name: str, provider: str, storage_class: str) -> None:
    ways = {way.retrieval: way for way in load_prices(name).retrievals}
    assert set(ways) == set(PROVIDERS[provider].classes[storage_class])
    if provider == "aws":  # and the rehearsal is as slow as the service says that it may be
        for retrieval, way in LIKE_S3[storage_class].items():
            assert way.seconds == pytest.approx(ways[retrieval].hours.high * HOUR, rel=0.01)


def test_the_expected_cost_has_the_cheapest_way_and_its_copy(path: str) -> None:
    prices = load_prices(path)
    slide = measurement(bytes_stored=1e11, objects=4)
    found, without = (
        expected_cost(slide, one, Access(2.0, 0.0), 3.0) for one in (prices, replace(prices, retrievals=()))
    )
    bulk = retrievals(prices, 10**11, 4, days=RESTORED_DAYS)[0]
    assert bulk.retrieval is Retrieval.BULK
    added = found.recalls.eur.central - without.recalls.eur.central
    assert added == pytest.approx(6 * bulk.restore_eur.central)


def test_overheads_at_the_standard_price_and_transitions_are_paid() -> None:
    prices = replace(
        FREE,
        storage_per_tb_month=value(1),
        overhead_bytes_per_object=value(32_768),
        overhead_standard_bytes_per_object=value(8192),
        standard_per_tb_month=value(24),
        put_per_1000=value(5),
        transition_per_1000=value(60),
    )
    found = expected_cost(measurement(bytes_stored=1e9, objects=1000), prices, Access(0, 0), 1.0)
    assert found.storage.eur.central == pytest.approx(12 * (1e9 + 1000 * (32_768 + 24 * 8192)) / 1e12)
    assert found.requests.eur.central == pytest.approx(65)
