"""The flow that reads copies again, without Prefect: rot is found, repaired or told, tier by tier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake_kit import copied
from tests.move_kit import tiered_site
from tests.scrub_kit import copy_in, rot
from tests.site_kit import ingest, restored, tiny_tiff
from wsistore import ops
from wsistore.errors import Kind, StorageError
from wsistore.execute import Executor, SerialExecutor
from wsistore.ops.stored import commit_of
from wsistore.storage.fault import FailBefore, FaultStorage, Rule
from wsistore.storage.wrapper import Verb
from wsistore.testing.clock import ManualClock
from wsistore_flows import running
from wsistore_flows.notes import last_run
from wsistore_flows.scrub import scrub

REAL_OPEN = ops.open_site


def reopened(site: ops.Site) -> ops.Site:
    """Open the same site once more, past what the tests put in the place of opening one; its tiers are the same."""
    other = REAL_OPEN(site.folder, clock=site.clock)
    other._tiers |= site._tiers
    return other


@pytest.fixture
def site(tmp_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[ops.Site]:
    made = tiered_site(tmp_path / "site", clock=manual_clock)

    def late(*_: Any) -> Executor:
        return SerialExecutor()

    monkeypatch.setattr(ops, "open_site", lambda *_: reopened(made))
    monkeypatch.setattr(running, "late_executor", late)
    with made:
        yield made


@pytest.fixture
def slide(site: ops.Site, tmp_path: Path) -> str:
    (done,) = ingest(site, tiny_tiff(tmp_path / "1.tiff", 1))
    assert done.slide is not None
    return done.slide


def run(site: ops.Site, **parameters: Any) -> Any:
    return scrub.fn(site=str(site.folder), **parameters)


def damage(site: ops.Site, slide: str, tier: str) -> None:
    keys = [one.key for one in commit_of(copy_in(site, slide, tier)).objects if one.size_bytes > 100]
    rot(site, tier, keys[0], lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:])


def test_good_copies_are_read_and_counted(site: ops.Site, slide: str, manual_clock: ManualClock) -> None:
    copied(site, slide, "warm")
    manual_clock.advance(1)
    state = run(site, everything=True)

    assert state.name == "Completed"
    assert state.message.startswith("2 copies, ")
    last = last_run(site.folder, "scrub")
    assert last is not None
    assert last.facts["read"] == 2
    assert last.facts["bytes_read"] > 0


def test_rot_is_repaired_from_another_tier(site: ops.Site, slide: str, manual_clock: ManualClock) -> None:
    copied(site, slide, "warm")
    before = restored(site, slide)
    damage(site, slide, "warm")
    manual_clock.advance(1)
    state = run(site, everything=True)

    assert state.name == "Completed"
    assert "1 repaired" in state.message
    assert restored(site, slide) == before
    assert run(site, everything=True).message.count("repaired") == 0


def test_a_slide_that_is_lost_fails_the_run_and_names_no_file(
    site: ops.Site, slide: str, manual_clock: ManualClock
) -> None:
    damage(site, slide, "hot")
    manual_clock.advance(1)
    state = run(site, everything=True)

    assert (state.type.value, state.name) == ("FAILED", "DamageFound")
    assert slide in state.message
    assert "LOST" in state.message
    assert "exit code 7" in state.message
    assert "1.tiff" not in state.message


def test_each_tier_is_a_task_unless_they_share_a_budget(site: ops.Site, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def step(_: Any, name: str, work: Callable[[], Any], **__: Any) -> Any:
        steps.append(name)
        return work()

    monkeypatch.setattr(running.Run, "step", step)
    run(site)
    run(site, tiers=["warm"])
    run(site, budget="1GB")

    assert steps == ["read hot", "read warm", "read cold", "read warm", "read hot, warm, cold"]


def test_a_tier_that_is_gone_keeps_no_other_out(site: ops.Site, slide: str, manual_clock: ManualClock) -> None:
    copied(site, slide, "warm")
    gone = StorageError("Tier hot is gone.", kind=Kind.TIER_MISSING, remedy="Mount it.")
    site._tiers["hot"] = FaultStorage(site._tiers["hot"], [Rule(FailBefore(gone), verb=Verb.LIST, times=99)])
    manual_clock.advance(1)
    state = run(site, everything=True)

    assert (state.type.value, state.name) == ("FAILED", "TierFailed")
    assert "Tier hot is gone. Mount it." in state.message
    assert state.message.startswith("1 copies, ")


def test_wrong_parameters_are_told(site: ops.Site) -> None:
    assert run(site, budget="much").name == "InputNotInOrder"
    assert run(site, tiers=["tepid"]).name == "SiteNotInOrder"
