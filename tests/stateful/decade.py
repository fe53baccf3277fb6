"""Ten years of a site, by a manual clock: slides come in, grow cold, rot, are wanted back; a tier and the catalogue go.

What must hold at the end of every quarter: the catalogue claims no copy that is not there; scrubs told of all damage
that was done, and of none that was not; ledgers and catalogue tell the same. What is sampled in every quarter, and all
slides in the end, come back byte for byte: from tiers that are read at once, or recalled from two rehearsed archives by
a time and at a price that were told before. What was recalled goes again when its time is over, and not before.

Copies rot far more often than disks do: Bairavasundaram and others (FAST 2008, "An Analysis of Data Corruption in the
Storage Stack") found checksum mismatches on 0.66 % of 1.53 million nearline disks in 17 months; here it is the share
`ROT` of all copies each year.

::

    python -m tests.stateful.decade --slides 2000 --years 10
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.move_kit import in_process
from tests.site_kit import committed_keys, files_of, restored, stored_keys, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog.records import CopyRow
from wsistore.catalog.sqlite import database_path
from wsistore.clock import iso
from wsistore.errors import ObjectArchivedError
from wsistore.execute import SerialExecutor
from wsistore.model import CopyState, Preset
from wsistore.ops.ledgers import tell
from wsistore.ops.orphans import recover_all
from wsistore.ops.recall_lists import lines_of
from wsistore.ops.recalling import KEEP
from wsistore.ops.stored import commit_of
from wsistore.settings import Settings, load
from wsistore.testing.clock import ManualClock

ROT = 0.05
"""Share of all copies that rot in a year."""
QUARTER = timedelta(days=91)
READABLE, ARCHIVES = ("hot", "warm", "cold"), ("vault", "deep")
TIERS = (*READABLE, *ARCHIVES)
_WARM, _COLD, _OLD = 2, 6, 10
"""Age in quarters at which a slide leaves for the next tier; the last is for the archives, with both copies."""
_LOSSES = 0.4, 0.6
"""Parts of the years after which a tier and the catalogue are lost."""
_YEARLY = 4
"""Quarters between two looks at everything: ledgers and chains are read from their beginning then."""
_PRICES = {"vault": 'prices = "aws-s3-glacier"\n', "deep": 'prices = "aws-s3-deep-archive"\n'}
_HELD = 0.02
"""Share of slides that somebody places a hold on, each quarter."""


@dataclass(slots=True)
class Decade:
    """One site and its years.

    Parameters
    ----------
    folder
        Empty.
    slides, years
        How many slides come in, evenly over the first eight tenths of the time.
    seed
        Of all that is drawn.
    tell
        Hears of each year.

    """

    folder: Path
    slides: int
    years: int
    seed: int = 1
    tell: Callable[[str], object] = lambda _: None
    counts: Counter[str] = field(default_factory=Counter)
    born: dict[str, int] = field(default_factory=dict)
    """Quarter of each slide's ingest."""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    fetched: dict[str, str] = field(default_factory=dict)
    """Slides with a temporary copy, and until when it stays."""
    damaged: set[str] = field(default_factory=set)
    """Attempts that scrubs have told of: each stays while its slide is held, and is told of again."""
    rng: random.Random = field(init=False)
    clock: ManualClock = field(default_factory=ManualClock)

    def run(self) -> Counter[str]:
        """Live through all quarters; return what happened how often."""
        with in_process():  # workers would have a clock of their own, by which nothing was ever restored
            return self._run()

    def _run(self) -> Counter[str]:
        self.rng = random.Random(self.seed)
        self._found()
        quarters = 4 * self.years
        arrivals = [round(self.slides * quarter / max(1, int(0.8 * quarters))) for quarter in range(quarters + 1)]
        for quarter in range(quarters):
            if quarter == int(quarters * _LOSSES[0]):
                self._lose_a_tier("warm")
            if quarter == int(quarters * _LOSSES[1]):
                self._lose_the_catalogue()
            with self._site() as site:
                self._quarter(
                    site, quarter, min(arrivals[quarter + 1], self.slides) - min(arrivals[quarter], self.slides)
                )
            if quarter % 4 == 3:
                self.tell(f"year {quarter // 4 + 1}: {dict(sorted(self.counts.items()))}")
        with self._site() as site:
            self._all_come_back(site)
        return self.counts

    def _found(self) -> None:
        settings = ops.init_site(self.folder / "site")
        file = settings.folder / "wsistore.toml"
        text = file.read_text().replace("version = 1\n", "version = 1\nrequired_copies = 2\n", 1)
        text = text.replace("[tiers.cold]\n", "[tiers.cold]\nencrypt_companions = true\n", 1)
        file.write_text(text)
        for tier, name in zip(ARCHIVES, ("GLACIER", "DEEP_ARCHIVE"), strict=True):
            ops.add_tier(settings.folder, tier, {"url": f"tiers/{tier}", "preset": "pack"}, clock=self.clock)
            archive = f'\n[tiers.{tier}.archive]\nclass = "{name}"\nsimulated_speed = 1\n'
            text = file.read_text().replace(f"[tiers.{tier}]\n", f"[tiers.{tier}]\n{_PRICES[tier]}", 1)
            file.write_text(text + archive)
        ops.init_keys(self._settings(), self.clock)
        found = self._settings()
        assert found.required_copies == 2
        assert found.tier("cold").encrypt_companions

    def _settings(self) -> Settings:
        return load(self.folder / "site")

    def _site(self) -> ops.Site:
        return ops.open_site(self.folder / "site", clock=self.clock)

    # --- a quarter

    def _quarter(self, site: ops.Site, quarter: int, arrivals: int) -> None:
        self._ingest(site, quarter, arrivals)
        self._age(site, quarter)
        self._hold(site)
        self._restore(site)
        self._recall(site, self._sample(self._archived(site), 1 + self.slides // 100))
        self.clock.advance(QUARTER.total_seconds())
        self._expire(site)
        rotten = self._rot(site)
        self._scrub(site, rotten)
        if quarter % 12 == 7:
            ops.rotate_keys(site, signing_too=quarter % 24 == 7)
            self.counts["key rotations"] += 1
        assert recover_all(site).failed == 0
        for tier in TIERS:
            tell(site, tier, with_head=True)
        self._what_is_claimed_is_there(site)
        if quarter % _YEARLY == _YEARLY - 1:
            self._all_tell_the_same(site)

    def _ingest(self, site: ops.Site, quarter: int, count: int) -> None:
        paths: list[Path] = []
        for _ in range(count):
            number = len(self.born) + len(paths)
            write = tiny_svs if number % 5 == 0 else tiny_tiff
            path = write(self.folder / "in" / f"{number:05}.{'svs' if number % 5 == 0 else 'tiff'}", seed=1)
            path.write_bytes(path.read_bytes() + f"slide {number:08}".encode())
            paths.append(path)
        new: list[str] = []
        for result in ops.ingest(site, paths, jobs=1):
            assert result.error is None, result.error
            new.append(str(result.slide))
            self.born[new[-1]], self.files[new[-1]] = quarter, files_of(Path(result.source))
        for copied in ops.copy(site, new, "warm", preset=Preset.KEEP, jobs=1, executor=SerialExecutor()):
            assert copied.error is None, copied.error
        for path in paths:
            path.unlink()
        self.counts["slides"] += len(paths)

    def _age(self, site: ops.Site, quarter: int) -> None:
        """Slides leave the hot tier for the cold one, packed; later their other copy is folded; then both are archived.

        What is held stays. Archives are used only after the tier was lost: what was in it comes from the others.
        """
        all_copies, free = self._all_copies(site), sorted(self.born.keys() - self.held)
        there = {slide: {copy.tier: copy for copy in all_copies[slide]} for slide in free}
        age = {slide: quarter - self.born[slide] for slide in free}
        cooling = [slide for slide in free if age[slide] >= _WARM and "hot" in there[slide]]
        self._move(site, cooling, "hot", "cold", Preset.PACK)
        is_safe = quarter > int(4 * self.years * _LOSSES[0])
        rest = [slide for slide in free if "warm" in there[slide] and slide not in cooling]
        old = [slide for slide in rest if is_safe and age[slide] >= _OLD and "cold" in there[slide]]
        folding = [s for s in rest if s not in old and age[s] >= _COLD and there[s]["warm"].preset is Preset.KEEP]
        if folding:
            for folded in ops.reencode(site, folding, Preset.FOLD, tier="warm", jobs=1, executor=SerialExecutor()):
                assert (folded.error, folded.status) == (None, "reencoded"), folded
        self.counts["re-encodings"] += len(folding)
        self._move(site, old, "cold", "vault", Preset.PACK)
        self._move(site, old, "warm", "deep", Preset.PACK)
        self.counts["archived slides"] += len(old)

    def _move(self, site: ops.Site, slides: list[str], source: str, to: str, preset: Preset) -> None:
        if not slides:
            return
        for moved in ops.move(site, slides, to, source=source, preset=preset, jobs=1, executor=SerialExecutor()):
            assert (moved.error, moved.status) == (None, "moved"), moved
        copies = self._all_copies(site)
        assert all(to in {copy.tier for copy in copies[slide]} for slide in slides)
        assert not any(source in {copy.tier for copy in copies[slide]} for slide in slides)
        self.counts["moves"] += len(slides)

    def _hold(self, site: ops.Site) -> None:
        all_copies = self._all_copies(site)
        for slide in sorted(self.born):
            if self.rng.random() < _HELD:
                if slide in self.held:
                    list(ops.release(site, [slide]))
                    self.held.discard(slide)
                else:
                    list(ops.hold(site, [slide], "a court asked"))
                    self.held.add(slide)
                    self._refused(site, slide, all_copies[slide][0].tier)
        for slide in self._sample(set(self.born) - self.held, 1):
            self._refused(site, slide, all_copies[slide][0].tier)

    def _refused(self, site: ops.Site, slide: str, tier: str) -> None:
        (refused,) = ops.drop(site, [slide], tier)
        assert refused.error is not None, "a copy was dropped that is held, or one of two"
        self.counts["refused drops"] += 1

    def _restore(self, site: ops.Site) -> None:
        for slide in self._sample(set(self.born) - self._archived(site), 2):
            assert restored(site, slide) == self.files[slide]
            self.counts["restores"] += 1

    def _sample(self, slides: set[str], count: int) -> list[str]:
        return self.rng.sample(sorted(slides), min(count, len(slides)))

    # --- archives

    def _archived(self, site: ops.Site) -> set[str]:
        """Return the slides that cannot be read at once."""
        found = self._all_copies(site)
        return {s for s in self.born if s not in self.fetched and all(c.tier in ARCHIVES for c in found[s])}

    def _recall(self, site: ops.Site, slides: list[str]) -> None:
        """Bring slides back by a time, as was said before; they stay for a fortnight."""
        if not slides:
            return
        by, lines = self.clock.now() + timedelta(hours=24), lines_of(slides)
        planned = ops.recall(site, lines, by=by, dry_run=True)
        assert planned.expected_at is not None
        assert planned.expected_at <= iso(by)
        assert planned.eur_high > 0
        asked = ops.recall(site, lines, by=by, max_eur=planned.eur_high)
        assert {str(case.state) for case in asked.cases} == {"on its way"}
        for slide in slides:
            with pytest.raises(ObjectArchivedError):
                restored(site, slide)
        self.clock.advance((datetime.fromisoformat(planned.expected_at) - self.clock.now()).total_seconds())
        failed = ops.advance(site, [asked.name], executor=SerialExecutor())
        assert failed == 0, ops.statuses(site, [asked.name])
        (ready,) = ops.statuses(site, [asked.name])
        assert {str(case.state) for case in ready.cases} == {"ready"}
        for slide in slides:
            assert restored(site, slide) == self.files[slide]
            (until,) = {copy.expires_at for copy in site.catalog.copies(slide) if copy.tier == "hot"}
            assert until == iso(by + KEEP)
            self.fetched[slide] = until
        self._expire(site)  # also: none of these goes before its time
        assert self.fetched.keys() >= set(slides)
        self.counts["recalled slides"] += len(slides)

    def _expire(self, site: ops.Site) -> None:
        """What was recalled goes when its time is over, but for what is held."""
        gone = {one.slide for one in ops.expire(site) if one.is_dropped}
        now = iso(self.clock.now())
        assert gone == {slide for slide, until in self.fetched.items() if until <= now and slide not in self.held}
        for slide in gone:
            del self.fetched[slide]
        self.counts["expired copies"] += len(gone)

    # --- damage

    def _rot(self, site: ops.Site) -> set[tuple[str, str]]:
        """Flip a bit in some copies, never in two of one slide; return them as tier and slide."""
        rotten, all_copies = set(), self._all_copies(site)
        for slide in sorted(self.born):
            # What an archive's copy could be repaired from would have to be recalled first.
            readable = [copy for copy in all_copies[slide] if copy.tier in READABLE]
            for copy in readable if len(readable) > 1 else ():
                if self.rng.random() < ROT / 4:
                    self._flip(copy)
                    rotten.add((copy.tier, slide))
                    break
        self.counts["rotten copies"] += len(rotten)
        return rotten

    def _flip(self, copy: CopyRow) -> None:
        record = self.rng.choice([one for one in commit_of(copy).objects if one.size_bytes])
        path = self.folder / "site" / "tiers" / copy.tier / record.key
        data = bytearray(path.read_bytes())
        data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        path.chmod(0o600)
        path.write_bytes(data)

    def _scrub(self, site: ops.Site, rotten: set[tuple[str, str]]) -> None:
        rows = [
            row for row in ops.scrub(site, everything=True, executor=SerialExecutor()) if isinstance(row, ops.ScrubRow)
        ]
        rows = [row for row in rows if row.attempt not in self.damaged]
        self.damaged |= {row.attempt for row in rows if row.status != "good"}
        told = {(row.tier, row.slide) for row in rows if row.status != "good"}
        wrong = [row for row in rows if (row.tier, row.slide) in told ^ rotten]
        assert told == rotten, f"told of {told - rotten} too many, and not of {rotten - told}: {wrong}"
        assert {str(row.status) for row in rows if row.status != "good"} <= {"repaired"}
        self.counts["copies read by scrubs"] += len(rows)
        self.counts["repaired copies"] += len(told)

    def _lose_a_tier(self, tier: str) -> None:
        """All that a tier held is gone; a new, empty medium takes its place and is filled from the others."""
        place = self.folder / "site" / "tiers" / tier
        marker = (place / "wsistore-tier.json").read_bytes()
        shutil.rmtree(place)
        place.mkdir()
        (place / "wsistore-tier.json").write_bytes(marker)
        self.counts["lost tiers"] += 1
        with self._site() as site:
            copies = self._all_copies(site)
            gone = {slide for slide in self.born if any(copy.tier == tier for copy in copies[slide])}
            self.clock.advance(timedelta(days=40).total_seconds())
            rows = [
                row
                for row in ops.scrub(site, everything=True, executor=SerialExecutor())
                if isinstance(row, ops.ScrubRow)
            ]
            assert {row.slide for row in rows if row.tier == tier and row.status == "repaired"} == gone
            assert {str(row.status) for row in rows} <= {"good", "repaired"}
            self.damaged |= {row.attempt for row in rows if row.status != "good"}
            self.counts["copies made again"] += len(gone)

    def _lose_the_catalogue(self) -> None:
        """The catalogue is gone; what it said of copies, holds and events comes back from the tiers."""
        with self._site() as site:
            before = {slide: self._known(site, slide) for slide in self.born}
            file = database_path(site.settings.catalog_url)
        for suffix in ("", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        done = ops.rebuild_catalog(self.folder / "site", clock=self.clock)
        assert (done.slides, done.problems, done.suspect, done.without_copies) == (len(self.born), (), (), ())
        with self._site() as site:
            after = {slide: self._known(site, slide) for slide in self.born}
            assert after == before, [
                (before[slide], after[slide]) for slide in self.born if after[slide] != before[slide]
            ]
        self.counts["lost catalogues"] += 1

    def _known(self, site: ops.Site, slide: str) -> object:
        copies = {
            (copy.tier, copy.attempt, copy.verified_at, copy.evidence, copy.expires_at)
            for copy in site.catalog.copies(slide)
            if copy.state == CopyState.COMMITTED
        }
        events = [event.hash for event in site.catalog.events(slide) if event.kind not in {"rebuilt", "restored"}]
        return site.catalog.slide(slide), copies, site.catalog.holds(slide), len(events)

    # --- what must hold

    def _all_copies(self, site: ops.Site) -> dict[str, list[CopyRow]]:
        """Return the good copies that stay, by slide."""
        found = site.catalog.current_copies()
        good = {slide: [c for c in copies if c.state == CopyState.COMMITTED] for slide, copies in found.items()}
        return {
            slide: sorted(
                (copy for copy in copies if copy.expires_at is None), key=lambda c: (TIERS.index(c.tier), c.n)
            )
            for slide, copies in good.items()
        }

    def _what_is_claimed_is_there(self, site: ops.Site) -> None:
        all_copies = self._all_copies(site)
        for slide in self.born:
            copies = all_copies[slide]
            assert len({copy.tier for copy in copies}) >= 2, f"{slide} has too few copies"
            assert slide in self.held or self.damaged.isdisjoint(copy.attempt for copy in copies), "damage stayed"
        self.counts["quarters"] += 1

    def _all_tell_the_same(self, site: ops.Site) -> None:
        assert site.catalog.check_chains() == []
        for check in ops.check_ledgers(site):
            assert (check.problems, check.waiting, check.error) == ((), 0, None)
        for tier in TIERS:
            keys = {key for key in stored_keys(site.tier(tier)) if not key.startswith("keyring/")}
            assert keys == committed_keys(site, tier)

    def _all_come_back(self, site: ops.Site) -> None:
        self._recall(site, sorted(self._archived(site)))
        for slide, files in self.files.items():
            assert restored(site, slide) == files, slide
        for result in ops.verify(site, list(self.born)):
            assert result.ok or result.slide in self.held, result  # a damaged copy stays while its slide is held
        self.counts["slides that came back"] += len(self.files)


def main() -> int:
    """Run for as long as is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.stateful.decade", description=__doc__)
    parser.add_argument("--slides", type=int, default=2000)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # In memory, where there is a place for it: what is waited for otherwise is the disk.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="wsistore-decade-", dir=memory if memory.is_dir() else None))
    try:
        counts = Decade(folder, options.slides, options.years, options.seed, tell=print).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(f"{options.years} years: {dict(sorted(counts.items()))}; losses: 0\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
