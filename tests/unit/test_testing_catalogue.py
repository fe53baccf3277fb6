"""Made-up catalogues: of the right form, the same from the same seed, distributed as in a department."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.rules_kit import TIERS
from wsistore.testing.catalogue import Hospital, made_facts
from wsistore.tiers.rules import decide
from wsistore.tiers.rules.facts import SCHEMA
from wsistore.tiers.rules.shipped import shipped


def test_the_table_is_one_of_facts_and_the_same_from_the_same_seed() -> None:
    table = made_facts(3000, seed=3)
    assert table.schema == SCHEMA
    assert table.num_rows == len(set(table["slide"].to_pylist())) == 3000
    assert table == made_facts(3000, seed=3)
    assert table != made_facts(3000, seed=4)
    assert not set(table["case_id"].to_pylist()) & set(made_facts(3000, seed=3, first=3000)["case_id"].to_pylist())


@pytest.mark.parametrize("slides", [0, 1, 2])
def test_small_tables(slides: int) -> None:
    assert made_facts(slides).num_rows == slides


def test_what_is_the_case_s_is_the_same_for_its_slides() -> None:
    rows = made_facts(2000).to_pylist()
    known = {row["case_id"]: row for row in rows}
    for row in rows:
        for name in ("patient", "last_encounter", "birth_date", "signed_out_at", "last_access", "recourse"):
            assert row[name] == known[row["case_id"]][name]


def test_distributions_are_those_of_a_department() -> None:
    table = made_facts(20_000)
    cases = len(set(table["case_id"].to_pylist()))
    assert 4 < table.num_rows / cases < 8
    assert 1.2e9 < pc.mean(table["bytes_source"]).as_py() < 2.0e9
    unknown = table["last_encounter"].null_count / table.num_rows
    assert 0.005 < unknown < 0.05
    at = np.datetime64(Hospital().at.replace(tzinfo=None), "us")
    assert np.asarray(table["ingested_at"]).max() <= at + np.timedelta64(1, "D")


def test_rules_find_something_to_do_in_them() -> None:
    rules = shipped("slides-of-interest").rules().bind(TIERS)
    found = decide(made_facts(20_000), rules, Hospital().at, threads=1)
    actions = set(found["action"].to_pylist())
    assert actions >= {"none", "move", "copy", "drop-copy", "delete"}
    assert {"kept", "ended", "unknown", "never-ends"} <= set(found["retention"].to_pylist())
