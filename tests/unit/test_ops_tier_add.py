"""Adding a tier: settings and marker, both or neither; listing what tiers hold, cost and may take."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.site_kit import Json, cli, tiny_svs
from wsistore import ops
from wsistore.errors import ConflictError, Kind, SiteError, StorageError, WsistoreError
from wsistore.ops import tier_adding
from wsistore.ops.tier_opening import check_key_file, open_tier
from wsistore.settings import load
from wsistore.storage.limit import LimitStorage
from wsistore.storage.local import LocalStorage
from wsistore.storage.open import create_tier, read_marker
from wsistore.storage.retry import RetryStorage
from wsistore.testing.clock import ManualClock

NOTE = "\n# Ours: ask the storage team before changing anything below.\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    ops.init_site(tmp_path / "site")
    settings = tmp_path / "site/wsistore.toml"
    settings.write_text(settings.read_text("utf-8") + NOTE, "utf-8")
    return tmp_path / "site"


def text(site: Path) -> str:
    return (site / "wsistore.toml").read_text("utf-8")


def test_tier_is_added_and_can_be_used(site: Path, tmp_path: Path) -> None:
    before = text(site)
    values = {"url": str(tmp_path / "nas/slides"), "capacity": "40 TB", "preset": "fold"}
    added = ops.add_tier(site, "nas", values)
    assert text(site) == f"{before}\n{added.lines}"
    tier = load(site).tier("nas")
    assert added.tier == tier
    assert read_marker(LocalStorage(tmp_path / "nas/slides")).tier_id == tier.id
    with ops.open_site(site) as opened:
        opened.tier("nas").put("a", b"x")
    assert len(tier.id) == 20
    assert tomllib.loads(added.lines)["tiers"]["nas"] == {"id": tier.id, **values}


def test_dry_run_writes_nothing_and_says_the_same(site: Path, tmp_path: Path) -> None:
    before = text(site)
    added = ops.add_tier(site, "nas", {"url": str(tmp_path / "nas")}, dry_run=True)
    assert added.changed
    assert "[tiers.nas]" in added.lines
    assert text(site) == before
    assert not (tmp_path / "nas").exists()


def test_place_of_another_tier_is_refused(site: Path, tmp_path: Path) -> None:
    ops.init_site(tmp_path / "other")
    before = text(site)
    for dry_run in (True, False):
        with pytest.raises(ConflictError, match=r"is the tier 'cold' .* already") as caught:
            ops.add_tier(site, "nas", {"url": str(tmp_path / "other/tiers/cold")}, dry_run=dry_run)
        assert caught.value.kind is Kind.TARGET_EXISTS
    assert text(site) == before


@pytest.mark.parametrize("url", ["tiers", "tiers/hot/inner", "."])
def test_place_inside_or_around_a_tier_is_refused(site: Path, url: str) -> None:
    before = text(site)
    with pytest.raises(ConflictError, match="one inside the other"):
        ops.add_tier(site, "nas", {"url": url})
    assert text(site) == before


def test_neighbours_with_a_common_beginning_are_apart(site: Path) -> None:
    assert ops.add_tier(site, "hot2", {"url": "tiers/hot2"}).changed


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("hot", {"url": "elsewhere"}, "there is a tier 'hot' already"),
        ("Nas", {"url": "x"}, "expected a tier's name"),
        ("nas", {"url": "x", "capacity": "lots"}, r"tiers\.nas\.capacity"),
        ("nas", {"url": "x", "prices": "free"}, "no prices called 'free'"),
        ("nas", {"url": "x", "energy": "frnace"}, r"energy profile called 'frnace' \(did you mean 'france'"),
        ("nas", {"url": "x", "energy": "own.toml"}, r"own\.toml: cannot be read.*key 'energy'"),
        ("nas", {"url": "x", "endpoint": "https://s3"}, "for tiers whose url is s3://"),
        ("nas", {"url": "gopher://x"}, "gopher"),
        ("nas", {"url": "s3://bucket/x", "key_file": "keys"}, r"keys, the key_file .*cannot be read"),
    ],
)
def test_what_is_wrong_changes_nothing(site: Path, name: str, values: dict[str, Any], said: str) -> None:
    before = text(site)
    with pytest.raises(WsistoreError, match=said):
        ops.add_tier(site, name, values)
    assert text(site) == before
    assert not (site / "x").exists()


def test_settings_go_back_if_the_marker_cannot_be_written(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = text(site)

    def fail(*_: object) -> None:
        raise StorageError("no")

    monkeypatch.setattr(tier_adding, "create_tier", fail)
    with pytest.raises(StorageError, match="no"):
        ops.add_tier(site, "nas", {"url": "nas"})
    assert text(site) == before


def test_what_was_interrupted_is_finished_by_running_it_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tier_adding, "create_tier", die)
        with pytest.raises(Killed):
            ops.add_tier(site, "nas", {"url": "nas"})
    tier = load(site).tier("nas")
    between = text(site)
    assert ops.add_tier(site, "nas", {"url": "nas"}).changed
    assert text(site) == between
    assert read_marker(LocalStorage(site / "nas")).tier_id == tier.id
    assert not ops.add_tier(site, "nas", {"url": "nas"}).changed
    with pytest.raises(SiteError, match="there is a tier 'nas' already"):
        ops.add_tier(site, "nas", {"url": "nas", "location": "FR"})


def test_finishing_refuses_what_became_another_tier(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ops.add_tier(site, "nas", {"url": "nas"})
    (site / "nas/wsistore-tier.json").unlink()
    create_tier(LocalStorage(site / "nas"), "fedcba9876543210", "theirs")
    with pytest.raises(ConflictError, match="is the tier 'theirs'"):
        ops.add_tier(site, "nas", {"url": "nas"})


# --- opening ----------------------------------------------------------------------------------------------------------


def test_bandwidth_is_limited_where_it_is_told(site: Path) -> None:
    ops.add_tier(site, "nas", {"url": "nas", "bandwidth_up": "1 kB/s"})
    clock = ManualClock()
    settings = load(site)
    limited = open_tier(settings.tier("nas"), retries=1, clock=clock)
    limited.put("a", bytes(3000))
    assert clock.monotonic_seconds() == pytest.approx(3)
    assert isinstance(limited, RetryStorage)
    assert isinstance(limited.inner, LimitStorage)
    unlimited = open_tier(settings.tier("hot"), retries=1, clock=clock)
    assert isinstance(unlimited, RetryStorage)
    assert isinstance(unlimited.inner, LocalStorage)


def test_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("[default]\n")
    for mode in (0o640, 0o604, 0o660, 0o610):
        file.chmod(mode)
        with pytest.raises(SiteError, match=f"may be read by others .mode {mode:04o}.*chmod 600 {file}"):
            check_key_file(file, "far")
    for mode in (0o600, 0o400):
        file.chmod(mode)
        check_key_file(file, "far")
    with pytest.raises(SiteError, match="may be read by others"):
        check_key_file(tmp_path, "far")


# --- listing ----------------------------------------------------------------------------------------------------------


def listed(site: Path) -> dict[str, Json]:
    with ops.open_site(site, clock=ManualClock(datetime(2026, 6, 1, tzinfo=UTC))) as opened:
        return {row["tier"]: row for row in ops.list_tiers(opened)}


def test_listing_says_what_tiers_hold_cost_and_may_take(site: Path, tmp_path: Path) -> None:
    values = {
        "url": "nas",
        "capacity": "100 kB",
        "location": "FR",
        "prices": "scaleway-glacier",
        "required_copies": 2,
        "minimum_storage_days": 7,
        "hds_certificate": {"number": "HDS-1", "valid_until": "2999-05-31"},
    }
    ops.add_tier(site, "nas", values)
    assert cli(site, "ingest", tiny_svs(tmp_path / "a.svs"), "--tier", "nas").code == 0
    settings = site / "wsistore.toml"
    settings.write_text(settings.read_text().replace("100 kB", "1 kB").replace("2999-05-31", "2026-05-31"))
    rows = listed(site)
    assert list(rows) == ["hot", "warm", "cold", "nas"]
    nas, hot = rows["nas"], rows["hot"]
    assert (nas["copies"], nas["location"], nas["prices"], nas["eur_per_tb_month"]) == (
        1,
        "FR",
        "scaleway-glacier",
        2.54,
    )
    assert nas["bytes_stored"] == cli(site, "show", "a.svs", "--json").lines[0]["bytes_stored"]
    assert nas["fill"] == nas["bytes_stored"] / 1000
    assert nas["above_watermark"]
    assert (nas["certificate_state"], nas["required_copies"], nas["minimum_storage_days"]) == ("expired", 2, 7.0)
    assert "HDS-1" in nas["why_closed"]
    assert (hot["copies"], hot["bytes_stored"], hot["fill"], hot["why_closed"]) == (0, 0, None, None)
    assert rows["cold"]["minimum_storage_days"] == 180
    shown = cli(site, "tier", "ls")
    assert "nas is" in shown.err
    assert "above its high watermark of 85%" in shown.err


def test_command_adds_as_the_file_says(site: Path, tmp_path: Path) -> None:
    options = (
        "--preset", "pack", "--prices", "hospital-disk", "--required-copies", "2", "--minimum-storage-days", "3",
        "--capacity", "40 TB", "--high-watermark", "90 %", "--low-watermark", "80 %", "--location", "FR",
        "--hds-number", "HDS-1", "--hds-valid-until", "2030-01-01", "--bandwidth-up", "200 MB/s",
        "--bandwidth-down", "1 Gbit/s", "--energy", "france",
    )  # fmt: skip
    done = cli(site, "tier", "add", "nas", tmp_path / "nas", *options, "--dry-run", "--json")
    assert done.code == 0, done.out
    assert done.lines[0]["dry_run"] is True
    done = cli(site, "tier", "add", "nas", tmp_path / "nas", *options)
    assert done.code == 0
    assert "wsistore tier check nas" in done.out
    table = tomllib.loads(text(site))["tiers"]["nas"]
    assert table.pop("id")
    assert table == {
        "url": str(tmp_path / "nas"),
        "preset": "pack",
        "prices": "hospital-disk",
        "energy": "france",
        "required_copies": 2,
        "minimum_storage_days": 3,
        "capacity": "40 TB",
        "high_watermark": "90 %",
        "low_watermark": "80 %",
        "location": "FR",
        "bandwidth_up": "200 MB/s",
        "bandwidth_down": "1 Gbit/s",
        "hds_certificate": {"number": "HDS-1", "valid_until": "2030-01-01"},
    }
    assert "nothing is to be done" in cli(site, "tier", "add", "nas", tmp_path / "nas", *options).out


def test_every_key_of_a_tier_has_an_option(site: Path) -> None:
    options = (
        "--endpoint", "https://s3.example.org", "--region", "r", "--profile", "p", "--key-file", "k", "--virtual-style",
        "--allow-http", "--ca-bundle", "c", "--storage-class", "COLD", "--encryption", "aws:kms", "--kms-key", "n",
        "--lock-mode", "compliance", "--lock-days", "9",
    )  # fmt: skip
    (site / "k").write_text("[p]\naws_access_key_id = A\naws_secret_access_key = B\n")
    # It is the key file's mode that is refused, after all of the settings were understood.
    (site / "k").chmod(0o644)
    done = cli(site, "tier", "add", "far", "s3://bucket/x", *options, "--json")
    assert done.code == 8
    assert "mode 0644" in done.error["message"]
