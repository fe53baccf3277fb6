"""A site of three tiers under ingests, copies, moves, drops, holds, re-encodings, deaths, faults and damage.

The model is plain: for each slide the tiers that have a copy, what holds it, and which copies were damaged behind
wsistore's back (never the last sound one). What must hold after every step: every slide comes back byte for byte from
some copy that proves good, and the catalogue claims no copy that is not there.

::

    python -m tests.stateful.moves --steps 20000
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.move_kit import TIERS, bare, dies, in_process, mended, tiered_site
from tests.site_kit import committed_keys, files_of, ingest, tiny_tiff
from wsistore import ops
from wsistore.catalog.records import CopyRow
from wsistore.compress.verify import verify_copy
from wsistore.errors import IntegrityError, Kind, StorageError, TransientError, WsistoreError
from wsistore.execute import SerialExecutor
from wsistore.model import CopyState, Preset
from wsistore.ops.attempts import LEASE, RESUMABLE
from wsistore.ops.orphans import GRACE, recover_all
from wsistore.ops.stored import commit_of, place_of
from wsistore.settings import EvidenceAges
from wsistore.storage.erasing import lying as lying_at
from wsistore.storage.fault import FailAfter, FailBefore, FaultStorage, Rule
from wsistore.testing.clock import ManualClock

Bounds = dict[str, tuple[set[str], set[str]]]
"""By slide: the tiers that may have a copy, and those that must."""

COUNTS: Counter[str] = Counter()
"""What was done by all machines of this process."""

ANY = st.integers(0, 10**6)
EVIDENCE_AGE = EvidenceAges().begin
TIER = st.sampled_from(TIERS)
PRESET = st.sampled_from([None, None, *Preset])
CALL = st.integers(1, 90)
FAULTS: dict[str, FailBefore | FailAfter] = {
    "refused": FailBefore(StorageError("refused")),
    "reply lost": FailAfter(TransientError("lost")),
    "denied": FailBefore(StorageError("denied", kind=Kind.STORAGE_DENIED)),
}


@dataclass
class Known:
    """What the model knows of a slide."""

    files: dict[str, bytes]
    tiers: set[str]
    held: bool = False
    damaged: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Attempt of a copy: the object that was changed, and what it was."""


class MovesMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize(versions=st.booleans())
    def start(self, *, versions: bool) -> None:
        self.stack = ExitStack()
        self.stack.enter_context(in_process())
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.site = tiered_site(self.folder / "site", clock=self.clock, versions=versions)
        self.slides: dict[str, Known] = {}
        for seed in (0, 1):
            self.take_in(seed)
        COUNTS["machines"] += 1

    # --- acts, and what they may do

    def pick(self, number: int) -> str:
        return list(self.slides)[number % len(self.slides)]

    def act(self, kind: str, slide: str, to: str, other: str, preset: Preset | None) -> Callable[[], ops.MoveResult]:
        executor = SerialExecutor()
        acts: dict[str, Callable[[], ops.MoveResult]] = {
            "copy": lambda: next(ops.copy(self.site, [slide], to, preset=preset, executor=executor)),
            "move": lambda: next(ops.move(self.site, [slide], to, source=other, preset=preset, executor=executor)),
            "drop": lambda: next(ops.drop(self.site, [slide], to)),
        }
        return acts[kind]

    def copies(self, slide: str) -> list[CopyRow]:
        return self.site.catalog.copies(slide)

    def pending(self, slide: str) -> tuple[set[str], set[str]]:
        """Return the tiers that a recovery may bring a copy to, and those whose copies it may drop."""
        come: set[str] = set()
        go: set[str] = set()
        tiers = {copy.attempt: copy.tier for copy in self.site.catalog.copies(slide, with_past=True)}
        for attempt in self.site.catalog.open_attempts():
            if attempt.slide == slide:
                come.add(attempt.tier)
                go |= {tiers[one] for one in attempt.job.get("drop", ()) if one in tiers}
        # A drop that is taken back leaves a suspect copy.
        come |= {copy.tier for copy in self.site.catalog.open_drops(slide)}
        return come, go

    def reconcile(self, slide: str, allowed: set[str], required: set[str]) -> None:
        """Take over what became of a slide, if it is one of the things that may have."""
        now = {copy.tier for copy in self.copies(slide)}
        assert required <= now <= allowed, (required, now, allowed)
        self.slides[slide].tiers = now
        there = {copy.attempt for copy in self.site.catalog.copies(slide, with_past=True) if copy.state != "dropped"}
        known = self.slides[slide]
        known.damaged = {attempt: was for attempt, was in known.damaged.items() if attempt in there}

    def bounds(self, slide: str, kind: str, to: str, other: str) -> tuple[set[str], set[str]]:
        """Return the tiers that may have a copy after an act that failed half-way, and those that must.

        To be asked before: every act begins with a recovery of what was left.
        """
        tiers = self.slides[slide].tiers
        come, go = self.pending(slide)
        if kind in {"copy", "move"}:
            come = come | {to}
        if kind in {"move", "drop"}:
            go = go | {other if kind == "move" else to}
        return tiers | come, tiers - go

    @precondition(lambda self: len(self.slides) < 3 or any(known.damaged for known in self.slides.values()))
    @rule(seed=st.integers(0, 2))
    def ingest(self, seed: int) -> None:
        self.take_in(seed)

    def take_in(self, seed: int) -> None:
        path = tiny_tiff(self.folder / f"{seed}.tiff", seed=seed)
        bounds = self.all_bounds()
        (result,) = ingest(self.site, path)
        slide = str(result.slide)
        COUNTS["ingest"] += 1
        if slide not in self.slides:
            self.slides[slide] = Known(files_of(path), {"hot"})
        elif result.status == "ingested":  # no copy was good as far as is known: a new version
            bounds[slide] = {"hot"} | bounds[slide][0], {"hot"}
        self.reconcile_all(bounds)

    @precondition(lambda self: self.slides)
    @rule(number=ANY, kind=st.sampled_from(["copy", "move", "move", "drop"]), to=TIER, other=TIER, preset=PRESET)
    def do(self, number: int, kind: str, to: str, other: str, preset: Preset | None) -> None:
        slide = self.pick(number)
        known = self.slides[slide]
        if kind == "move" and to == other:
            return
        COUNTS[kind] += 1
        bounds = self.all_bounds(slide, kind, to, other)
        is_clear = not known.damaged and self.pending(slide) == (set(), set())
        is_clear = is_clear and all(copy.state == "committed" for copy in self.copies(slide))
        result = self.act(kind, slide, to, other, preset)()
        if is_clear:
            self.expected(kind, known, result, to, other)
        self.reconcile_all(bounds)

    def expected(self, kind: str, known: Known, result: ops.MoveResult, to: str, other: str) -> None:
        """Check what an undisturbed act on sound copies reports, and do it to the model."""
        error = None if result.error is None else result.error.kind
        leaving = {"copy": set(), "move": known.tiers & {other}, "drop": known.tiers & {to}}[kind]
        if known.held and leaving:
            assert error == "held"
            return
        if kind == "drop":
            if not leaving:
                assert result.status == "unchanged"
            elif known.tiers == {to}:
                assert error == "last-copy"
            else:
                assert result.status == "dropped", result
            return
        if known.held and error == "held":
            return  # another encoding would have replaced the copy
        assert error is None, result.error
        assert result.status in ({"moved", "dropping"} if leaving else {"copied", "exists"})
        now = {copy.tier for copy in self.copies(result.slide)}
        assert now == (known.tiers - leaving) | {to}

    @precondition(lambda self: self.slides)
    @rule(number=ANY, tier=TIER, preset=st.sampled_from(Preset))
    def reencode(self, number: int, tier: str, preset: Preset) -> None:
        slide = self.pick(number)
        known = self.slides[slide]
        COUNTS["reencode"] += 1
        bounds = self.all_bounds(slide, "reencode", tier, tier)
        (result,) = ops.reencode(self.site, [slide], preset, tier=tier, executor=SerialExecutor())
        if not known.damaged and tier in known.tiers and not known.held:
            suspect = any(copy.state == "suspect" for copy in self.copies(slide))
            assert suspect or result.error is None, result.error
        self.reconcile_all(bounds)

    @precondition(lambda self: self.slides)
    @rule(
        number=ANY,
        kind=st.sampled_from(["copy", "move", "drop", "reencode"]),
        to=TIER,
        other=TIER,
        preset=PRESET,
        nth=CALL,
        after=st.booleans(),
    )
    def process_dies(
        self, number: int, kind: str, to: str, other: str, preset: Preset | None, nth: int, *, after: bool
    ) -> None:
        slide = self.pick(number)
        if kind == "move" and to == other:
            return
        act: Callable[[], object]
        if kind == "reencode":
            executor = SerialExecutor()
            act = lambda: list(  # noqa: E731
                ops.reencode(self.site, [slide], preset or Preset.FOLD, tier=to, executor=executor)
            )
        else:
            act = self.act(kind, slide, to, other, preset)
        bounds = self.all_bounds(slide, kind, to, other)
        fate = dies(self.site, act, nth, after=after)
        COUNTS["deaths" if fate.is_dead else f"{kind} (no death)"] += 1
        self.reconcile_all(bounds)

    def is_open(self) -> bool:
        return bool(self.site.catalog.open_attempts() or self.site.catalog.open_drops())

    @precondition(lambda self: self.is_open())
    @rule(nth=st.integers(1, 60), after=st.booleans())
    def recovery_dies(self, nth: int, *, after: bool) -> None:
        bounds = self.all_bounds()
        fate = dies(self.site, lambda: ops.recover(self.site), nth, after=after)
        COUNTS["deaths"] += fate.is_dead
        self.reconcile_all(bounds)

    def all_bounds(self, acted: str = "", kind: str = "", to: str = "", other: str = "") -> Bounds:
        """Return the bounds of all slides for an act on one of them."""
        return {slide: self.bounds(slide, kind if slide == acted else "", to, other) for slide in self.slides}

    def reconcile_all(self, bounds: Bounds) -> None:
        """Take over what became of all slides."""
        for slide, (allowed, required) in bounds.items():
            self.reconcile(slide, allowed, required)

    @precondition(lambda self: self.slides)
    @rule(
        number=ANY,
        kind=st.sampled_from(["copy", "move", "drop"]),
        to=TIER,
        other=TIER,
        preset=PRESET,
        victim=TIER,
        fault=st.sampled_from(sorted(FAULTS)),
        nth=CALL,
        times=st.sampled_from([1, 2, 1000]),
    )
    def tier_fails(
        self,
        number: int,
        kind: str,
        to: str,
        other: str,
        preset: Preset | None,
        victim: str,
        fault: str,
        nth: int,
        times: int,
    ) -> None:
        slide = self.pick(number)
        if kind == "move" and to == other:
            return
        COUNTS["faults"] += 1
        COUNTS[f"faults: {fault}"] += 1
        bounds = self.all_bounds(slide, kind, to, other)
        self.site._tiers[victim] = FaultStorage(bare(self.site, victim), [Rule(FAULTS[fault], nth=nth, times=times)])
        try:
            self.act(kind, slide, to, other, preset)()
        except WsistoreError:
            pass
        finally:
            mended(self.site)
        self.reconcile_all(bounds)

    @precondition(lambda self: self.slides)
    @rule(number=ANY)
    def hold_or_release(self, number: int) -> None:
        slide = self.pick(number)
        known = self.slides[slide]
        COUNTS["holds"] += 1
        if known.held:
            assert len(ops.release(self.site, [slide])) == 1
        else:
            ops.hold(self.site, [slide], "a reason")
        known.held = not known.held

    @precondition(lambda self: self.slides)
    @rule(number=ANY, which=ANY, victim=ANY, at=ANY)
    def damage(self, number: int, which: int, victim: int, at: int) -> None:
        """Change a byte of one copy, while another is sound, and longer ago than evidence is believed."""
        slide = self.pick(number)
        known = self.slides[slide]
        sound = [copy for copy in self.copies(slide) if self.is_good(copy)]
        if len(sound) < 2 or len({copy.tier for copy in sound}) < 2 or self.site.catalog.open_drops(slide):
            return
        copy = sound[which % len(sound)]
        storage = bare(self.site, copy.tier)
        records = commit_of(copy).objects
        key = records[victim % len(records)].key
        good = storage.get(key)
        at %= len(good)
        storage.put(key, good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        known.damaged[copy.attempt] = (key, good)
        self.clock.advance(EVIDENCE_AGE.total_seconds() + 600)
        COUNTS["damage"] += 1

    @precondition(lambda self: any(known.damaged for known in self.slides.values()))
    @rule()
    def mend(self) -> None:
        """Put back what was damaged, as from a backup."""
        for slide, known in self.slides.items():
            by_attempt = {copy.attempt: copy for copy in self.site.catalog.copies(slide)}
            for attempt, (key, good) in known.damaged.items():
                if attempt in by_attempt:
                    bare(self.site, by_attempt[attempt].tier).put(key, good)
            known.damaged = {}
            list(ops.verify(self.site, [slide]))

    @precondition(lambda self: any(known.damaged for known in self.slides.values()))
    @rule(number=ANY)
    def verify(self, number: int) -> None:
        slide = self.pick(number)
        COUNTS["verify"] += 1
        for result in ops.verify(self.site, [slide]):
            (attempts,) = [{copy.attempt for copy in self.copies(slide) if copy.tier == result.tier}]
            assert result.ok or attempts & set(self.slides[slide].damaged) or self.is_torn(slide, result.tier)

    def is_torn(self, slide: str, tier: str) -> bool:
        """Say whether a copy's drop was taken back after parts of it were gone: it is suspect, and known to be."""
        return any(copy.state == "suspect" and copy.tier == tier for copy in self.copies(slide))

    @rule(seconds=st.sampled_from([60.0, LEASE.total_seconds() + 1, EVIDENCE_AGE.total_seconds() + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(days=st.sampled_from([-400, -1, 1, 400]))
    def clock_jumps(self, days: int) -> None:
        if days < 0 and any(known.damaged for known in self.slides.values()):
            return  # evidence would seem younger than the damage
        self.clock.jump(self.clock.now() + timedelta(days=days))

    @precondition(lambda self: self.is_open())
    @rule()
    def recover(self) -> None:
        COUNTS["recover"] += 1
        bounds = self.all_bounds()
        done = ops.recover(self.site)
        held = any(known.held for known in self.slides.values())
        stale = any(known.damaged for known in self.slides.values())
        assert done.failed == 0 or held or stale
        self.reconcile_all(bounds)

    @precondition(lambda self: self.is_open())
    @rule()
    def settle(self) -> None:
        """Everything waited for: then nothing is open any more, and nothing lies about that belongs to no copy."""
        COUNTS["settle"] += 1
        bounds = self.all_bounds()
        self.clock.advance((RESUMABLE + LEASE + GRACE).total_seconds() + 1)
        recover_all(self.site)
        self.clock.advance((RESUMABLE + LEASE + GRACE).total_seconds() + 1)
        recover_all(self.site)
        self.reconcile_all(bounds)
        if any(known.held or known.damaged for known in self.slides.values()):
            return
        assert self.site.catalog.open_attempts() == []
        assert self.site.catalog.open_drops() == []
        for tier in TIERS:
            torn = {copy.attempt for slide in self.slides for copy in self.copies(slide) if copy.state == "suspect"}
            storage = bare(self.site, tier)
            kept = {info.key for info in lying_at(storage, "")}  # hidden versions as well
            lying = {key for key in kept if not any(one in key for one in torn)}
            assert lying - committed_keys(self.site, tier) == set()

    # --- what always holds

    def is_good(self, copy: CopyRow) -> bool:
        """Say whether a copy gives its source back, as it lies now."""
        storage = bare(self.site, copy.tier)
        try:
            if storage.get(copy.commit_key) != copy.commit_body.encode():
                return False
            files = self.site.catalog.source(copy.slide, copy.version).files
            verify_copy(storage, place_of(copy), commit_of(copy).objects, files)
        except (IntegrityError, StorageError):
            return False
        return True

    @invariant()
    def every_slide_comes_back(self) -> None:
        if not hasattr(self, "site"):
            return
        COUNTS["steps"] += 1
        assert self.site.catalog.check_chains() == []
        assert {row.slide for row in self.site.catalog.slides()} == set(self.slides)
        for slide, known in self.slides.items():
            rows = self.copies(slide)
            good = [copy for copy in rows if self.is_good(copy)]
            assert good, f"slide {slide} is lost"
            COUNTS["proofs"] += len(good)
            for copy in rows:
                claimed = copy.state is CopyState.COMMITTED and copy.attempt not in known.damaged
                assert copy in good or not claimed, f"copy {copy.attempt} is claimed and not there"
            assert any(copy.state in (CopyState.COMMITTED, CopyState.SUSPECT) for copy in good)
            source = self.site.catalog.source(slide)
            assert {file.name: file.size_bytes for file in source.files} == {
                name: len(data) for name, data in known.files.items()
            }

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.site.close()
            self.stack.close()
            shutil.rmtree(self.folder)


def main() -> None:
    """Run many steps and say how many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tell", action="store_true", help="print every step")
    arguments = parser.parse_args()
    steps, per_machine = arguments.steps, 40
    while COUNTS["steps"] < steps:
        chosen = settings(
            max_examples=30,
            stateful_step_count=per_machine,
            deadline=None,
            verbosity=Verbosity.verbose if arguments.tell else Verbosity.normal,
            database=None,
            phases=(Phase.generate,),  # what fails is told at once; the test beside this one makes it small
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(MovesMachine, settings=chosen)
        sys.stdout.write(f"{dict(sorted(COUNTS.items()))}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{COUNTS['steps']} steps, {COUNTS['deaths']} deaths, losses 0\n")


if __name__ == "__main__":
    main()
