"""A site under ingests, crashes, failures, damage and recoveries, against a model: what is shown comes back."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.site_faults import crashing, died, dying, faulty, mended, shared_tiers
from tests.site_kit import (
    assert_sound,
    committed_keys,
    files_of,
    memory_site,
    reencode,
    restored,
    stored_keys,
    tiny_series,
    tiny_tiff,
)
from wsistore import ops
from wsistore.errors import IntegrityError, StorageError, TransientError, WsistoreError
from wsistore.model import Preset
from wsistore.ops.attempts import LEASE, RESUMABLE
from wsistore.storage.fault import FailAfter, FailBefore, Rule
from wsistore.testing.clock import ManualClock

SEEDS = st.integers(0, 3)
CALLS = st.integers(1, 45)
PRESETS = st.sampled_from(Preset)
ANY = st.integers(0, 10**6)
"""Taken modulo what there is: keys are random, and so are the sizes of what holds them."""


class SiteMachine(RuleBasedStateMachine):
    """The model knows which contents were reported as kept; a crash leaves open whether one more is."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.site = memory_site(self.folder / "site", clock=self.clock)
        self.shared = ExitStack()
        self.shared.enter_context(shared_tiers())
        self.kept: set[str] = set()
        self.open: set[str] = set()
        self.damage: dict[str, bytes] = {}

    def source(self, seed: int) -> Path:
        return tiny_tiff(self.folder / f"{seed}.tiff", seed=seed)

    def series(self, instances: int) -> Path:
        whole = self.folder / "whole"
        if not whole.exists():
            tiny_series(whole)
        folder = self.folder / "series"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in sorted(whole.iterdir())[:instances]:
            shutil.copyfile(path, folder / path.name)
        return folder

    def take_in(self, path: Path) -> ops.IngestResult:
        (result,) = ops.ingest(self.site, [path], jobs=1)
        return result

    def any_slide(self, number: int) -> str:
        rows = self.site.catalog.slides()
        return rows[number % len(rows)].slide

    # --- what happens

    @rule(seed=SEEDS)
    def ingest(self, seed: int) -> None:
        path = self.source(seed)
        result = self.take_in(path)
        assert result.error is None
        expected = {"exists"} if path.name in self.kept else {"ingested"}
        if path.name in self.open:
            expected = {"exists", "ingested"}
        assert result.status in expected
        self.kept.add(path.name)
        self.settle()

    @rule(seed=SEEDS, name=st.sampled_from(["other.tiff", "x.svs"]))
    def ingest_under_another_name(self, seed: int, name: str) -> None:
        known = self.source(seed).name
        if known not in self.kept:
            return
        result = self.take_in(tiny_tiff(self.folder / "elsewhere" / name, seed=seed))
        assert result.status == "exists"
        assert self.site.catalog.slide(str(result.slide)).name == known
        self.settle()

    @rule(instances=st.integers(1, 3))
    def ingest_series(self, instances: int) -> None:
        before = self.current_series()
        result = self.take_in(self.series(instances))
        if before is None or instances > before:
            assert result.status == "ingested"
            self.kept.add("series")
        else:
            assert result.status == ("exists" if instances == before else "failed")
            assert self.current_series() == before
        self.settle()

    def current_series(self) -> int | None:
        for row in self.site.catalog.slides():
            if row.name == "series":
                return len(self.site.catalog.source(row.slide).files)
        return None

    @rule(seed=SEEDS, nth=CALLS, after=st.booleans())
    def process_dies(self, seed: int, nth: int, *, after: bool) -> None:
        path = self.source(seed)
        dying(self.site, nth, after=after)
        if crashing(self.site, path):
            if path.name not in self.kept:
                self.open.add(path.name)
        else:
            self.kept.add(path.name)

    @rule(seed=SEEDS, nth=CALLS, times=st.sampled_from([1, 2, 1000]), after=st.booleans())
    def tier_fails(self, seed: int, nth: int, times: int, *, after: bool) -> None:
        path = self.source(seed)
        error = StorageError("fails")
        faulty(self.site, Rule(FailAfter(error) if after else FailBefore(error), nth=nth, times=times))
        try:
            result = self.take_in(path)
        except WsistoreError:
            result = None
        mended(self.site)
        if result is not None and result.error is None:
            self.kept.add(path.name)
        elif path.name not in self.kept:
            self.open.add(path.name)

    @precondition(lambda self: self.kept)
    @rule(slide=ANY, preset=PRESETS, height=st.sampled_from([None, 2]))
    def reencode(self, slide: int, preset: Preset, height: int | None) -> None:
        key = self.any_slide(slide)
        result = reencode(self.site, key, preset, fold_height=height if preset is Preset.FOLD else None)
        if any(copy.state == "suspect" for copy in self.site.catalog.copies(key)):
            return
        assert result.error is None
        assert result.preset is preset
        self.settle()

    @precondition(lambda self: self.kept)
    @rule(slide=ANY, preset=PRESETS, nth=st.integers(1, 110), after=st.booleans())
    def process_dies_reencoding(self, slide: int, preset: Preset, nth: int, *, after: bool) -> None:
        key = self.any_slide(slide)
        dying(self.site, nth, after=after)
        died(self.site, lambda: reencode(self.site, key, preset))

    @precondition(lambda self: self.kept)
    @rule(slide=ANY, preset=PRESETS, nth=st.integers(1, 110), times=st.sampled_from([1, 1000]))
    def tier_fails_reencoding(self, slide: int, preset: Preset, nth: int, times: int) -> None:
        key = self.any_slide(slide)
        faulty(self.site, Rule(FailBefore(TransientError("fails")), nth=nth, times=times))
        with suppress(WsistoreError):
            reencode(self.site, key, preset)
        mended(self.site)

    @rule()
    def recover(self) -> None:
        assert ops.recover(self.site).failed == 0
        assert ops.recover(self.site) == ops.Recovered(0, 0, 0)
        self.settle()

    def settle(self) -> None:
        """Recovered, nothing is open any more but what may be continued: what is shown is what was kept."""
        self.clock.advance((RESUMABLE + LEASE).total_seconds() + 1)
        ops.recover(self.site)
        shown = {row.name for row in self.site.catalog.slides()}
        assert self.kept <= shown <= self.kept | self.open
        self.kept, self.open = shown, set()
        assert_sound(self.site)

    @precondition(lambda self: self.kept)
    @rule(slide=ANY, victim=ANY, at=ANY)
    def damaged_copy_is_noticed(self, slide: int, victim: int, at: int) -> None:
        rows = self.site.catalog.slides()
        row = rows[slide % len(rows)]
        (copy, *_) = self.site.catalog.copies(row.slide)
        storage = self.site.tier("hot")
        keys = sorted(key for key in stored_keys(storage) if f"/{copy.attempt}/" in key)
        key = keys[victim % len(keys)]
        good = storage.get(key)
        at %= len(good)
        storage.put(key, good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        (verdict,) = ops.verify(self.site, [row.slide])
        assert not verdict.ok
        assert verdict.error is not None
        assert verdict.error.exit_code == 7
        with suppress(IntegrityError):
            assert restored(self.site, row.slide) == self.files(row.name)
        storage.put(key, good)
        (verdict,) = ops.verify(self.site, [row.slide])
        assert verdict.ok

    # --- what always holds

    def files(self, name: str) -> dict[str, bytes]:
        if name != "series":
            return files_of(self.folder / name)
        count = self.current_series()
        assert count is not None
        return files_of(self.series(count))

    @invariant()
    def what_is_shown_comes_back(self) -> None:
        if not hasattr(self, "site"):
            return
        storage = self.site.tier("hot")
        assert committed_keys(self.site) <= stored_keys(storage)  # nothing that is committed is ever lost
        for row in self.site.catalog.slides():
            states = [str(copy.state) for copy in self.site.catalog.copies(row.slide)]
            assert states.count("committed") == 1
        shown = self.site.catalog.slides()
        assert len({row.name for row in shown}) == len(shown)
        for row in shown:
            assert restored(self.site, row.slide) == self.files(row.name)

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.recover()
            self.shared.close()
            self.site.close()
            shutil.rmtree(self.folder)


TestSite = SiteMachine.TestCase
# An ingest takes a tenth of a second, and each step restores every slide.
TestSite.settings = settings(max_examples=6, stateful_step_count=12)
