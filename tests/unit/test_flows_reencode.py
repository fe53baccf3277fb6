"""The flow that encodes copies anew, without Prefect: batches of slides, shards on workers, called twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.flows_kit import hospital, pieces_of_tissue, taken_in
from tests.site_kit import assert_sound, files_of, restored
from wsistore import ops
from wsistore.errors import Kind, TransientError, WsistoreError
from wsistore.execute import Executor, SerialExecutor
from wsistore.model import Preset
from wsistore.ops.reencode_due import reencode_due
from wsistore.ops.results import Failure, ReencodeResult, ReencodeStatus
from wsistore.testing.clock import ManualClock
from wsistore_flows import reencode as module
from wsistore_flows import running
from wsistore_flows.artifacts import Shown
from wsistore_flows.notes import last_run
from wsistore_flows.reencode import reencode

TRANSIENT, LOST, UNREACHABLE = map(str, (Kind.STORAGE_TRANSIENT, Kind.WORKERS_LOST, Kind.CLUSTER_UNREACHABLE))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let shards be encoded in this process; return a list that grows with every executor that is opened."""
    opened: list[int] = []

    def late(*_: Any) -> Executor:
        opened.append(1)
        return SerialExecutor()

    monkeypatch.setattr(running, "late_executor", late)
    return opened


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return hospital(tmp_path / "site")


def presets(site: Path, tier: str = "hot") -> list[str]:
    with ops.open_site(site) as opened:
        rows = opened.catalog.slides()
        return [str(copy.preset) for row in rows for copy in opened.catalog.copies(row.slide) if copy.tier == tier]


def assert_all_there(site: Path, slides: dict[str, Path]) -> None:
    with ops.open_site(site) as opened:
        assert_sound(opened)
        assert {slide: restored(opened, slide) for slide in slides} == {
            slide: files_of(path) for slide, path in slides.items()
        }


@pytest.mark.usefixtures("here")
def test_copies_become_what_their_tier_wants_and_stay_so(site: Path, tmp_path: Path) -> None:
    slides = taken_in(site, pieces_of_tissue(tmp_path / "made", 3))
    assert reencode.fn(site=str(site)).name == "NothingToDo"
    settings = (site / "wsistore.toml").read_text()
    (site / "wsistore.toml").write_text(settings.replace('preset = "keep"', 'preset = "fold"', 1))

    state = reencode.fn(site=str(site))

    assert state.name == "Completed"
    assert str(state.message).startswith("3 of 3 copies are encoded anew: ")
    assert presets(site) == ["fold"] * 3
    assert_all_there(site, slides)
    assert reencode.fn(site=str(site)).name == "NothingToDo"


@pytest.mark.usefixtures("here")
def test_a_run_that_prefect_repeats_does_nothing_twice(site: Path, tmp_path: Path) -> None:
    slides = taken_in(site, pieces_of_tissue(tmp_path / "made", 2))
    with ops.open_site(site) as opened:
        due = list(reencode_due(opened, preset=Preset.FOLD))
    for _ in range(2):  # the second time with what the first one chose
        tally = module._Tally()
        with ops.open_site(site) as opened:
            module._work(_run(opened), "again", due, tally)
        assert not tally.failed

    assert dict(tally.count) == {"unchanged": 2}
    with ops.open_site(site) as opened:
        kinds = [str(event.kind) for event in opened.catalog.events()]
    assert kinds.count("reencoded") == 2
    assert_all_there(site, slides)


def _run(site: ops.Site) -> running.Run:
    return running.Run("re-encode", site, Shown("site", "re-encode"), site.clock.now())


@pytest.mark.usefixtures("here")
def test_holds_temporary_copies_and_conditions_are_respected(site: Path, tmp_path: Path) -> None:
    slides = list(taken_in(site, pieces_of_tissue(tmp_path / "made", 3)))
    with ops.open_site(site) as opened:
        ops.hold(opened, slides[:1], "litigation")

    state = reencode.fn(site=str(site), tiers=["hot"], preset=Preset.FOLD, where="name != 'slide-2.tiff'")

    assert str(state.message).startswith("1 of 1 copies")
    assert presets(site) == ["keep", "keep", "fold"]


@pytest.mark.usefixtures("here")
def test_limits_leave_the_rest_to_the_next_run(site: Path, tmp_path: Path) -> None:
    taken_in(site, pieces_of_tissue(tmp_path / "made", 4))
    first = reencode.fn(site=str(site), tiers=["hot"], preset=Preset.FOLD, slides=1)
    assert str(first.message).startswith("1 of 1 copies")

    state = reencode.fn(site=str(site), tiers=["hot"], preset=Preset.FOLD, batch=1, hours=1e-9)

    assert state.name == "GoesOn"
    assert "2 are left for the next run" in str(state.message)
    last = last_run(site, "re-encode")
    assert last is not None
    assert (last.facts["encoded"], last.facts["left"]) == (1, 2)


@pytest.mark.usefixtures("here")
def test_the_window_of_the_rules_is_kept(
    site: Path, tmp_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_in(site, pieces_of_tissue(tmp_path / "made", 3, side=64))
    (site / "rules.yaml").write_text(
        'version: 1\nplacement:\n  - {name: all, tier: hot}\nlimits: {window: "20:00-06:00"}\n', "utf-8"
    )
    real = ops.open_site
    monkeypatch.setattr(ops, "open_site", lambda folder: real(folder, clock=manual_clock))

    def run(hour: int, **more: Any) -> Any:
        now = manual_clock.now()
        manual_clock.advance((hour * 3600 - now.hour * 3600 - now.minute * 60 - now.second) % 86_400)
        return reencode.fn(site=str(site), tiers=["hot"], preset=Preset.FOLD, batch=1, **more)

    waiting = run(12)
    assert waiting.name == "WaitingForWindow"
    assert "3 copies are to be encoded anew" in waiting.message
    assert run(12, anytime=True, slides=1).name == "Completed"

    encode = ops.reencode

    def slow(*arguments: Any, **options: Any) -> Any:
        yield from encode(*arguments, **options)
        manual_clock.advance(4 * 3600)

    monkeypatch.setattr(ops, "reencode", slow)
    state = run(5)  # the window closes at six
    assert state.name == "GoesOn"
    assert "1 are left" in state.message


# --- what fails -------------------------------------------------------------------------------------------------------


class Ops:
    """Stands in for `ops.reencode`: slides whose turn has come fail as often as they are told to."""

    def __init__(self, plan: dict[int, list[str]]) -> None:
        self.plan, self.calls, self.order = plan, [], {}  # type: ignore[var-annotated]

    def reencode(self, _site: Any, slides: Sequence[str], preset: Preset, **_: Any) -> Iterator[ReencodeResult]:
        self.calls.append(list(slides))
        for slide in slides:
            number = self.order.setdefault(slide, len(self.order))
            kinds = self.plan.get(number, [])
            kind = kinds.pop(0) if kinds else ""
            done = ReencodeResult(slide=slide, status=ReencodeStatus.REENCODED, bytes_before=10, bytes_after=7)
            error = Failure(kind, f"{kind} of {number}.", 6) if kind else None
            yield replace(done, status=ReencodeStatus.FAILED, error=error) if error else done


@pytest.fixture
def trying(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let steps be tried again as Prefect does; return the names of the tries."""
    tries: list[str] = []

    def step(_: Any, name: str, work: Callable[[], Any], *, again: bool = True, **__: Any) -> Any:
        for left in (2, 1, 0):
            tries.append(name)
            try:
                return work()
            except WsistoreError as error:
                if not left or not again or not isinstance(error, TransientError):
                    raise
        return None

    monkeypatch.setattr(running.Run, "step", step)
    return tries


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, plan: dict[int, list[str]]) -> Iterator[Ops]:
    fake = Ops(plan)
    with monkeypatch.context() as patch:
        patch.setattr(ops, "reencode", fake.reencode)
        yield fake


def outcome(site: Path, monkeypatch: pytest.MonkeyPatch, plan: dict[int, list[str]], **more: Any) -> tuple[Any, Ops]:
    with failing(monkeypatch, plan) as fake:
        return reencode.fn(site=str(site), tiers=["hot"], preset=Preset.FOLD, **more), fake


@pytest.fixture
def four(site: Path, tmp_path: Path) -> Path:
    taken_in(site, pieces_of_tissue(tmp_path / "made", 4, side=64))
    return site


@pytest.mark.usefixtures("trying")
def test_what_passes_by_itself_is_tried_again_with_new_workers(
    four: Path, here: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, fake = outcome(four, monkeypatch, {1: [TRANSIENT, UNREACHABLE]})

    assert state.name == "Completed"
    assert [len(call) for call in fake.calls] == [4, 1, 1]  # those that went well are not asked for again
    assert len(here) == 3


@pytest.mark.usefixtures("trying", "here")
def test_a_cluster_that_is_gone_is_not_asked_slide_by_slide(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, fake = outcome(four, monkeypatch, {1: [UNREACHABLE] * 9}, batch=2)

    assert [len(call) for call in fake.calls] == [2, 1, 1]  # nor is the second batch begun
    assert state.type.value == "FAILED"
    assert "2 are left for the next run" in str(state.message)


@pytest.mark.usefixtures("here")
def test_a_slide_that_ends_its_workers_keeps_no_other_out(
    four: Path, trying: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, fake = outcome(four, monkeypatch, {0: [LOST] * 9}, batch=2)

    assert state.type.value == "FAILED"
    assert str(state.message).startswith("3 of 4 copies are encoded anew")
    assert len(fake.order) == 4
    assert trying == ["slides 1-2 of 4, hot"] * 3 + ["slides 3-4 of 4, hot"]


@pytest.mark.usefixtures("trying", "here")
def test_damage_is_told_and_not_tried_again_tonight(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, fake = outcome(four, monkeypatch, {2: [str(Kind.CORRUPT)] * 9})

    assert [len(call) for call in fake.calls] == [4]
    assert "corrupt of 2." in str(state.message)
    assert state.type.value == "FAILED"


@pytest.mark.usefixtures("trying", "here")
def test_a_full_tier_ends_the_run(four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, fake = outcome(four, monkeypatch, {0: [str(Kind.STORAGE_FULL)] * 9}, batch=1)

    assert len(fake.calls) == 1
