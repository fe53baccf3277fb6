"""docs/tiers.md: its examples are settings that load, its tables name the keys that there are, its policy is JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from wsistore.settings import TierSettings, load
from wsistore.settings.read_tier import _KEYS
from wsistore.storage.s3_options import S3Options
from wsistore.tiers.prices import load_prices

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tiers.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^### (.+?)\n.*?^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))


def tiers_of(example: str, folder: Path) -> tuple[TierSettings, ...]:
    (folder / "wsistore.toml").write_text(EXAMPLES[example], "utf-8")
    return load(folder).tiers


def test_all_services_have_an_example() -> None:
    assert set(EXAMPLES) == {"A NAS over NFS", "Ceph RGW", "MinIO", "OVHcloud", "Scaleway", "AWS, Paris"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_loads_and_its_back_end_takes_it(example: str, tmp_path: Path) -> None:
    for tier in tiers_of(example, tmp_path):
        assert load_prices(tier.prices, tmp_path, energy=tier.energy).name == tier.prices
        if tier.scheme == "s3":
            assert S3Options.of(tier.url, tier.storage_options).bucket
        else:
            assert tier.path is not None


@pytest.mark.parametrize("example", EXAMPLES)
def test_prices_beside_an_example_are_those_of_the_file(example: str, tmp_path: Path) -> None:
    for name, figure in re.findall(r'prices = "([a-z0-9-]+)" +# (?:about )?([\d.]+)', EXAMPLES[example]):
        central = load_prices(name).storage_per_tb_month.central
        told = float(figure)
        assert told == pytest.approx(central, rel=0.1), name


def test_the_tables_name_every_key_and_no_other() -> None:
    section = TEXT.partition("## All keys")[2].partition("## What was tried")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [key for row in rows for key in re.findall(r"`([a-z_]+)`", row)]
    assert sorted(named) == sorted(set(_KEYS) - {"options"})
    assert "[tiers.NAME.options]" in section


def test_defaults_are_as_told() -> None:
    plain = TierSettings(name="x", id="0123456789", url="file:///x")
    assert (plain.high_watermark, plain.low_watermark, plain.required_copies) == (0.85, 0.75, 1)
    assert plain.path_style
    assert not plain.allow_http
    assert replace(plain, name="y").preset == "keep"


def test_policy_is_json_that_never_bypasses_locks() -> None:
    (policy,) = re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    actions = [action for statement in json.loads(policy)["Statement"] for action in statement["Action"]]
    assert len(actions) == len(set(actions))
    assert "s3:BypassGovernanceRetention" not in actions
    assert {"s3:PutObject", "s3:DeleteObjectVersion", "s3:ListBucketVersions"} <= set(actions)
