"""Commands that bring copies from tier to tier and let them go: copy, move, drop, recover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, exit_code, opened, reported
from wsistore.cli.output import print_json, print_table, say, tell, warn
from wsistore.cli.progress import Bar
from wsistore.cli.reencode import preset_of
from wsistore.errors import StorageError
from wsistore.model import Preset
from wsistore.ops.watching import Planned, Watcher
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import MoveResult, Site

SlidesArgument = Annotated[list[str], typer.Argument(metavar="SLIDE...", help="Keys, their beginnings, names.")]
ToOption = Annotated[str, typer.Option("--to", metavar="TIER", help="The tier that they go to.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
PresetOption = Annotated[
    Preset | None,
    typer.Option(
        parser=preset_of, metavar="keep|fold|pack", help="How the new copy is encoded; by default as its tier says."
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Dask scheduler, for slides encoded on the way; by default one here."),
]
JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Slides at a time, and workers to start; by default one per processor.")
]


class _Shown(Watcher):
    """Shows moves to people on stderr; several slides share one bar."""

    def __init__(self, bar: Bar, verb: str) -> None:
        self._bar, self._verb = bar, verb
        self._lock = Lock()

    def waiting(self, what: str) -> None:
        tell(what)

    def planned(self, plan: Planned) -> None:
        with self._lock:
            self._bar.expect(size_bytes=plan.bytes_stored + plan.bytes_source)
        if plan.workers:
            bound = format_bytes(plan.memory_bound_bytes)
            tell(f"{plan.name} is encoded to {plan.preset} on {plan.where}; each worker needs at most {bound}.")

    def encoded(self, bytes_read: int, bytes_written: int) -> None:
        self._bar.move(bytes_read)

    def verified(self, bytes_rebuilt: int) -> None:
        self._bar.move(bytes_rebuilt)


def copy(
    context: typer.Context,
    slides: SlidesArgument,
    to: ToOption,
    preset: PresetOption = None,
    dry_run: DryRunOption = False,
    scheduler: SchedulerOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring copies of slides to another tier, read back and proven; those that are there stay.

    A tier that has a good copy already is reported as 'exists'. Running the same command again finishes what was
    interrupted.

    \b
      wsistore copy 4szq --to cold
      wsistore copy 4szq CMU-1-Small-Region.svs --to warm --preset fold
    """  # noqa: D301

    def run(site: Site, watcher: Watcher) -> Iterator[MoveResult]:
        return ops.copy(
            site, slides, to, preset=preset, dry_run=dry_run, scheduler=scheduler, jobs=jobs, watcher=watcher
        )

    _moving(context, "copy", run, as_json=as_json)


def move(
    context: typer.Context,
    slides: SlidesArgument,
    to: ToOption,
    source: Annotated[
        str | None, typer.Option("--from", metavar="TIER", help="The tier to leave; needed where there are several.")
    ] = None,
    keep_source: Annotated[bool, typer.Option("--keep-source", help="Drop nothing, as 'copy'.")] = False,
    preset: PresetOption = None,
    dry_run: DryRunOption = False,
    scheduler: SchedulerOption = None,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring slides to another tier: write, read back, prove, commit; only then drop the copy that they came from.

    Whatever fails or is killed on the way, the slide is there: run the same command again, or 'wsistore recover'.

    \b
      wsistore move 4szq --to warm
      wsistore move 4szq --from hot --to cold --preset pack
      wsistore move 4szq --to cold --dry-run
    """  # noqa: D301

    def run(site: Site, watcher: Watcher) -> Iterator[MoveResult]:
        return ops.move(
            site,
            slides,
            to,
            source=source,
            keep_source=keep_source,
            preset=preset,
            dry_run=dry_run,
            scheduler=scheduler,
            jobs=jobs,
            watcher=watcher,
        )

    _moving(context, "move", run, as_json=as_json)


def drop(
    context: typer.Context,
    slides: SlidesArgument,
    source: Annotated[str, typer.Option("--from", metavar="TIER", help="The tier whose copies go.")],
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop the copies of slides in a tier, if good copies in other tiers prove that they may go.

    \b
      wsistore drop 4szq --from hot
    """  # noqa: D301
    _moving(context, "drop", lambda site, _: ops.drop(site, slides, source, dry_run=dry_run), as_json=as_json)


def recover(context: typer.Context, as_json: JsonOption = False) -> None:
    """Finish or undo what was interrupted, and remove from all tiers what nobody knows.

    All but the second is done at the start of every command that writes, too.

    \b
      wsistore recover
    """  # noqa: D301
    with reported(as_json=as_json):
        with opened(context, writing=True) as site:
            done = ops.recover_all(site)
        if as_json:
            print_json(
                {
                    "finished": done.finished,
                    "removed": done.removed,
                    "waiting": done.waiting,
                    "orphans": done.orphans,
                    "failed": done.failed,
                }
            )
        else:
            say(
                f"{done.finished} finished, {done.removed} undone, {done.waiting} waiting for the command that goes on "
                f"with them; {done.orphans} forgotten objects removed."
            )
            if done.failed:
                warn(f"{done.failed} could not be dealt with now: 'wsistore --verbose recover' says why.")
        raise typer.Exit(StorageError.exit_code if done.failed else 0)


def _moving(
    context: typer.Context, verb: str, run: Callable[[Site, Watcher], Iterator[MoveResult]], *, as_json: bool
) -> None:
    """Run a command over slides and print what became of each."""
    rows: list[MoveResult] = []
    with reported(as_json=as_json):
        with opened(context, writing=True) as site, Bar(verb, shown=not as_json) as bar:
            for result in run(site, Watcher() if as_json else _Shown(bar, verb)):
                rows.append(result)
                if as_json:
                    print_json(result.to_json())
        if not as_json:
            _print(rows)
        raise typer.Exit(exit_code({row.error.exit_code for row in rows if row.error is not None}))


def _print(rows: list[MoveResult]) -> None:
    good = [row for row in rows if row.error is None]
    if good:
        columns = ("slide", "status", "from", "to", "dropped", "preset", "was", "is", "seconds", "MB/s")
        print_table(columns, (_cells(row) for row in good), right=columns[6:])
    for row in good:
        if row.reason:
            tell(f"{row.slide}: {row.reason}")
        for end in row.early:
            warn(f"{row.slide}: {end}")
        for reason, count in sorted(row.fallbacks.items()):
            if row.shards:
                warn(f"{row.slide}: {count} tiles are not encoded as the preset wants, but exactly: {reason}")
    for text in dict.fromkeys(text for row in good for text in row.warnings):
        warn(text)  # of the tier: once for all slides
    failed = [row for row in rows if row.error is not None]
    for row in failed:
        warn(f"{row.slide} failed ({row.error.kind if row.error else ''}): {row.error.message if row.error else ''}")
    if failed:
        warn(f"{len(failed)} of {len(rows)} slides failed; nothing of them was lost.")


def _cells(row: MoveResult) -> tuple[str, ...]:
    is_done = row.status in {"moved", "copied"}
    speed = (row.bytes_before or 0) / row.seconds / 1e6 if row.seconds and is_done else 0.0
    return (
        row.slide,
        str(row.status),
        row.source or "",
        row.tier or "",
        ", ".join(row.dropped),
        str(row.preset or row.preset_before or ""),
        "" if row.bytes_before is None else format_bytes(row.bytes_before),
        "" if row.bytes_stored is None else format_bytes(row.bytes_stored),
        f"{row.seconds:.1f}",
        f"{speed:.1f}" if speed else "",
    )
