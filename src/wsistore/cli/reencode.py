"""The command that encodes copies anew: reencode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wsistore import ops
from wsistore.cli.context import JsonOption, exit_code, opened, reported
from wsistore.cli.output import print_json, print_table, tell, warn
from wsistore.cli.progress import Bar
from wsistore.model import Preset
from wsistore.ops.watching import Planned, Watcher
from wsistore.settings.values import did_you_mean
from wsistore.units import format_bytes

if TYPE_CHECKING:
    from wsistore.ops import ReencodeResult


class _Shown(Watcher):
    """Shows a run to people on stderr."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._name, self._source_bytes = "", 0
        self._read = self._written = 0
        self._verifying = False

    def waiting(self, what: str) -> None:
        tell(what)

    def planned(self, plan: Planned) -> None:
        shards = f"{plan.shards} shard{'' if plan.shards == 1 else 's'}" if plan.shards else "its files"
        size, bound = plan.bytes_stored or plan.bytes_source, plan.memory_bound_bytes
        tell(
            f"{plan.name}: {shards} in {plan.tier} to {plan.preset}, {format_bytes(size)}, on {plan.where}; "
            f"each worker needs at most {format_bytes(bound)} of memory."
        )
        self._name, self._source_bytes = plan.name, plan.bytes_source
        self._read = self._written = 0
        self._verifying = False
        self._bar.begin(f"encode {plan.name}", plan.bytes_stored)

    def encoded(self, bytes_read: int, bytes_written: int) -> None:
        self._read += bytes_read
        self._written += bytes_written
        self._bar.move(bytes_read)
        if self._read:
            self._bar.note(f"ratio {self._written / self._read:.3f}")

    def verified(self, bytes_rebuilt: int) -> None:
        if not self._verifying:
            self._verifying = True
            self._bar.begin(f"verify {self._name}", self._source_bytes)
        self._bar.move(bytes_rebuilt)


def preset_of(text: str) -> Preset:
    """Return the preset of a name; what typer says of a wrong one."""
    names = [str(preset) for preset in Preset]
    if text not in names:
        msg = f"there is no preset {text!r}{did_you_mean(text, names)}; presets are {', '.join(names)}."
        raise typer.BadParameter(msg)
    return Preset(text)


def reencode(
    context: typer.Context,
    slides: Annotated[list[str], typer.Argument(metavar="SLIDE...", help="Keys, their beginnings, names.")],
    preset: Annotated[
        Preset,
        typer.Option(
            parser=preset_of,
            metavar="keep|fold|pack",
            help="keep: as the scanner wrote it; fold: smaller, quick to read; pack: smallest, in two files.",
        ),
    ],
    tier: Annotated[str | None, typer.Option(help="Which tier's copy; needed only where there are several.")] = None,
    fold_height: Annotated[
        int | None, typer.Option(min=1, help="Tiles per chunk; by default as tuned, or as the preset says.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler; by default workers are started here.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Workers to start; by default one per processor.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write copies anew in another encoding, without loss: proven bit for bit before the old copy is removed.

    Run again after an interruption it goes on where it was. Slides that fail are named, stay as they were, and do not
    keep the others out.

    \b
      wsistore reencode 4szq --preset fold
      wsistore reencode 4szq CMU-1-Small-Region.svs --preset pack --tier cold
      wsistore reencode 4szq --preset fold --scheduler tcp://10.0.0.5:8786
    """  # noqa: D301
    rows: list[ReencodeResult] = []
    with reported(as_json=as_json):
        with opened(context, writing=True) as site, Bar("reencode", shown=not as_json) as bar:
            results = ops.reencode(
                site,
                slides,
                preset,
                fold_height=fold_height,
                tier=tier,
                scheduler=scheduler,
                jobs=jobs,
                watcher=Watcher() if as_json else _Shown(bar),
            )
            for result in results:
                rows.append(result)
                if as_json:
                    print_json(result.to_json())
        if not as_json:
            _print_reencoded(rows)
        raise typer.Exit(exit_code({row.error.exit_code for row in rows if row.error is not None}))


def _print_reencoded(rows: list[ReencodeResult]) -> None:
    good = [row for row in rows if row.error is None]
    if good:
        columns = ("slide", "tier", "status", "before", "after", "was", "is", "ratio", "CPU s", "seconds", "MB/s")
        print_table(columns, (_cells(row) for row in good), right=columns[5:])
    for row in good:
        if row.reason:
            tell(f"{row.slide}: {row.reason}")
        for reason, count in sorted(row.fallbacks.items()):
            warn(f"{row.slide}: {count} tiles are not encoded as the preset wants, but exactly: {reason}")
    failed = [row for row in rows if row.error is not None]
    for row in failed:
        warn(f"{row.slide} failed ({row.error.kind if row.error else ''}): {row.error.message if row.error else ''}")
    if failed:
        warn(f"{len(failed)} of {len(rows)} slides failed; their copies are as they were.")


def _cells(row: ReencodeResult) -> tuple[str, ...]:
    speed = (row.bytes_before or 0) / row.seconds / 1e6 if row.seconds and str(row.status) == "reencoded" else 0.0
    return (
        row.slide,
        row.tier or "",
        str(row.status),
        str(row.preset_before),
        str(row.preset),
        format_bytes(row.bytes_before or 0),
        format_bytes(row.bytes_after or 0),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        f"{row.cpu_seconds:.1f}",
        f"{row.seconds:.1f}",
        f"{speed:.1f}" if speed else "",
    )
