"""Slides over three tiers and back: a refused drop, a killed move, and at the end the same files and stores."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.table import Table

from demo.presets import came_back, store_hash
from demo.server import Bucket
from wsistore import ops
from wsistore.clock import SystemClock
from wsistore.execute import Executor
from wsistore.model import Mode
from wsistore.ops import IngestResult, MoveResult, Site
from wsistore.units import format_bytes

_MOST_SLIDES = 2
_MOST_BYTES = 20_000_000
"""Larger slides would take longer than a demonstration should."""
_BUCKET = "s3"


@dataclass(slots=True)
class Tour:
    """What was done, and whether all was well."""

    steps: list[tuple[str, ...]] = field(default_factory=list)
    """Rows of the table."""
    problems: list[str] = field(default_factory=list)
    slides: int = 0
    tiers: tuple[str, ...] = ()
    refused: bool = False
    recovered: bool = False

    @property
    def good(self) -> bool:
        """Whether every slide came back as it was, the drop was refused, and the killed move was finished."""
        return bool(self.slides) and self.refused and self.recovered and not self.problems


def choose(results: Sequence[IngestResult]) -> list[str]:
    """Return the slides to move: the smallest that have tiles, each of another format if there are such."""
    fit = [r for r in results if r.mode is Mode.TILES and (r.bytes_source or 0) <= _MOST_BYTES]
    ranked = sorted(fit, key=lambda r: r.bytes_source or 0)
    # Tiny ones show nothing, where there are others.
    large = [r for r in ranked if (r.bytes_source or 0) >= 1_000_000] or ranked
    first = {Path(r.source).suffix: r for r in reversed(large)}
    chosen = [*sorted(first.values(), key=lambda r: r.bytes_source or 0), *large]
    return list(dict.fromkeys(r.slide for r in chosen if r.slide is not None))[:_MOST_SLIDES]


def tour(folder: Path, slides: Sequence[str], bucket: Bucket | None, executor: Executor, back: Path) -> Tour:
    """Move slides from tier to tier until they are where they were.

    Parameters
    ----------
    folder
        A site whose tiers are hot, warm (folded) and cold (packed).
    slides
        Keys of slides that lie in hot.
    bucket
        Where there is an S3 server: its bucket takes the place of warm.
    executor
        Encodes.
    back
        A new folder for restored files.

    """
    middle = "warm" if bucket is None else _BUCKET
    if bucket is not None:
        ops.add_tier(folder, _BUCKET, {**bucket.values, "preset": "fold"})
    done = Tour(slides=len(slides), tiers=("hot", middle, "cold"))
    with ops.open_site(folder, actor="demo") as site:
        before = {slide: store_hash(site, slide, "hot") for slide in slides}
        for slide in slides:
            _note(site, done, slide, "hot", "ingested")
        for tier in (middle, "cold"):
            _move(site, done, slides, tier, executor)
        _refused_drop(site, done, slides[0])
        _killed_move(site, done, slides[0], "hot")
        if len(slides) > 1:
            _move(site, done, slides[1:], "hot", executor)
        for slide in slides:
            name = site.catalog.slide(slide).name
            if store_hash(site, slide, "hot") != before[slide]:
                done.problems.append(f"{name}: the store is not what it was")
            if not came_back(site, slide, back / slide):
                done.problems.append(f"{name}: the file is not what it was")
    return done


def _move(site: Site, done: Tour, slides: Sequence[str], tier: str, executor: Executor) -> None:
    for result in ops.move(site, slides, tier, executor=executor):
        if result.error is not None or result.status != "moved":
            done.problems.append(_why(result))
        else:
            _note(site, done, result.slide, tier, f"{result.source} → {tier}", result.seconds)


def _refused_drop(site: Site, done: Tour, slide: str) -> None:
    (result,) = ops.drop(site, [slide], "cold")
    done.refused = result.error is not None and result.error.kind == "last-copy"
    said = "[yellow]refused: last copy[/]" if done.refused else f"[red]{_why(result)}[/]"
    done.steps.append((_name(site, slide), "drop from cold", "", "", said, f"{result.seconds:.1f} s"))


def _killed_move(site: Site, done: Tour, slide: str, tier: str) -> None:
    clock = SystemClock()
    started = clock.monotonic_seconds()
    command = [sys.executable, "-m", "demo.dying", str(site.folder), slide, tier]
    died = subprocess.run(command, check=False, capture_output=True, text=True).returncode == -signal.SIGKILL
    seconds = clock.monotonic_seconds() - started
    said = "[yellow]killed on purpose[/]" if died else "[red]was to be killed[/]"
    done.steps.append((_name(site, slide), f"cold → {tier}", "", "", said, f"{seconds:.1f} s"))
    started = clock.monotonic_seconds()
    found = ops.recover_all(site)
    tiers = [copy.tier for copy in site.catalog.copies(slide) if copy.state == "committed"]
    done.recovered = died and found.finished == 1 and found.failed == 0 and tiers == [tier]
    _note(site, done, slide, tier, "recover", clock.monotonic_seconds() - started)


def _note(site: Site, done: Tour, slide: str, tier: str, what: str, seconds: float | None = None) -> None:
    copy = next((copy for copy in site.catalog.copies(slide) if copy.tier == tier), None)
    if copy is None:
        done.problems.append(f"{_name(site, slide)}: has no copy in {tier}")
        return
    evidence = f"[green]{str(copy.evidence).replace('-', ' ')} {copy.verified_at[11:19]}[/]"
    took = "" if seconds is None else f"{seconds:.1f} s"
    row = (_name(site, slide), what, str(copy.preset), format_bytes(copy.bytes_stored), evidence, took)
    done.steps.append(row)


def _name(site: Site, slide: str) -> str:
    return site.catalog.slide(slide).name


def _why(result: MoveResult) -> str:
    return result.error.message if result.error is not None else f"{result.name or result.slide}: {result.status}"


def table(done: Tour, *, is_narrow: bool) -> Table:
    """Return what was done as a table, slide by slide in the order in which it happened."""
    title = f"Over three tiers and back: {' → '.join((*done.tiers, done.tiers[0]))}"
    shown = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    shown.collapse_padding, shown.pad_edge = True, False
    shown.add_column("slide", no_wrap=True, max_width=16 if is_narrow else 24)
    shown.add_column("step", no_wrap=True)
    shown.add_column("preset", no_wrap=True)
    shown.add_column("stored", justify="right", no_wrap=True)
    shown.add_column("evidence", no_wrap=True)
    shown.add_column("took", justify="right", no_wrap=True)
    names = list(dict.fromkeys(step[0] for step in done.steps))
    for name in names:
        rows = [step for step in done.steps if step[0] == name]
        for number, row in enumerate(rows):
            shown.add_row(*(row if number == 0 else ("", *row[1:])), end_section=number == len(rows) - 1)
    return shown


def sentences(done: Tour) -> Iterator[str]:
    """Yield what the tour showed, or what went wrong."""
    if done.good:
        count = f"{done.slides} slide{'s' * (done.slides != 1)}"
        yield f"{count} went over three tiers and back: the same files and the same stores, every hash as at first."
        yield "The last copy was not dropped, and the move that was killed was finished by recover."
        return
    yield from (f"[red]{problem}[/]" for problem in dict.fromkeys(done.problems))
    if not done.refused:
        yield "[red]The last copy was not kept.[/]"
    if not done.recovered:
        yield "[red]The killed move was not finished.[/]"
