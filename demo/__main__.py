"""Slides go in, are kept as Zarr, move over tiers, come back byte for byte; rules and a report follow: ``make demo``.

SLIDES=path takes yours. Everything happens in a temporary folder, which is removed at the end unless KEEP=1 is set; the
report stays. One of the tiers is a bucket of a real S3 server where its packages are installed; with S3=0 all are
folders.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from demo import tiers
from demo.night import night
from demo.presets import choose, show_presets
from demo.recall import come_back
from demo.report import month
from demo.server import Server
from wsistore import ops
from wsistore.cli.context import set_up_output
from wsistore.errors import WsistoreError
from wsistore.execute import open_executor
from wsistore.model import Mode
from wsistore.ops import IngestResult, Site
from wsistore.testing.synthetic import synthetic_set
from wsistore.units import format_bytes

_WIDE = 100
"""Columns of a terminal from which on tables have all of theirs."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(slots=True)
class Line:
    """One slide's way through the demonstration."""

    source: Path
    result: IngestResult
    vendor_format: str = ""
    pixels: str = ""
    levels: int = 0
    restored: str = ""

    @property
    def good(self) -> bool:
        """Whether it came back as it was."""
        return self.restored == "identical"


def main() -> int:
    """Run the demonstration; return 0 if every slide came back byte for byte."""
    set_up_output(verbose=False)
    folder = Path(tempfile.mkdtemp(prefix="wsistore-demo-"))
    server = Server(folder / "s3")
    try:
        return _demonstrate(folder, server)
    finally:
        server.stop()
        if os.environ.get("KEEP") == "1":
            console.print(f"\nThe site stays: [bold]wsistore -C {folder / 'site'} ls[/]")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _demonstrate(folder: Path, server: Server) -> int:
    sources = _sources(folder)
    home = folder / "site"
    ops.init_site(home, name="demo")
    _give_presets(home / "wsistore.toml")
    with ops.open_site(home, actor="demo") as site:
        lines, failed = _ingest(site, sources)
        verified = {row.slide: row.ok for row in ops.verify_many(site)}
        for line in track(lines, "open, restore, compare", console=console, transient=True):
            _open_and_restore(site, line, folder / "restored")
    console.print(_table(lines, verified))
    for result in failed:
        console.print(f"[yellow]not taken[/] {result.source}: {result.error.message if result.error else ''}")
    good = sum(line.good and verified.get(line.result.slide or "", False) for line in lines)
    same = not lines or _encode_and_move(folder, server, [line.result for line in lines])
    with ops.open_site(home, actor="demo") as site:
        problems = ops.check_events(site)
    total = sum(line.result.bytes_source or 0 for line in lines)
    stored = sum(line.result.bytes_stored or 0 for line in lines)
    console.print(
        f"[bold]{good} of {len(lines)}[/] slides came back byte for byte. {format_bytes(total)} of vendor files are "
        f"kept as {format_bytes(stored)} of OME-Zarr and companion ({stored / max(1, total):.3f} ×)."
    )
    console.print("The audit trail is whole." if not problems else f"[red]The audit trail: {problems}[/]")
    told, agrees = month(home, Path(tempfile.mkdtemp(prefix="wsistore-demo-report-")))
    for one in told:
        console.print(one)
    return 0 if lines and good == len(lines) and same and not problems and agrees else 1


def _give_presets(settings: Path) -> None:
    """Let copies in warm be folded, and in cold packed."""
    text = settings.read_text(encoding="utf-8")
    for tier, preset in (("warm", "fold"), ("cold", "pack")):
        before, table, after = text.partition(f"[tiers.{tier}]")
        text = before + table + after.replace('preset = "keep"', f'preset = "{preset}"', 1)
    settings.write_text(text, encoding="utf-8")


def _encode_and_move(folder: Path, server: Server, results: list[IngestResult]) -> bool:
    """Show presets and tiers; say whether nothing was lost."""
    chosen, moving = choose(results), tiers.choose(results)
    if chosen is None or chosen.slide is None or not moving:
        return True
    with open_executor() as executor:
        working = console.status("fold, pack, and back: re-encode, read back, compare …")
        with ops.open_site(folder / "site", actor="demo") as site, working:
            shown, same = show_presets(site, chosen.slide, folder / "presets", executor)
        console.print(shown)
        console.print(
            "Every preset gives the same pixels and the same file, and the way back gives the same store.\n"
            if same
            else "[red]A preset did not give back what it got.[/]\n"
        )
        with console.status("starting an S3 server …"):
            bucket = server.bucket()
        console.print(
            f"No S3 server, for {server.why_not}: three folders are the tiers."
            if bucket is None
            else f"The tier s3 is a bucket of a real S3 server (Ceph RGW) at {bucket.values['endpoint']}."
        )
        with console.status("moves: write, read back, compare, commit; only then drop …"):
            done = tiers.tour(folder / "site", moving, bucket, executor, folder / "moved")
        with console.status("into an archive, and back by a time …"):
            told, back = come_back(folder / "site", moving[0], executor, folder / "recalled")
    with console.status("rules, a plan, two signatures, and Prefect, which applies it by night …"):
        planned, applied = night(folder / "hospital")
    console.print(tiers.table(done, is_narrow=console.width < _WIDE))
    for sentence in tiers.sentences(done):
        console.print(sentence)
    for sentence in (*told, *planned):
        console.print(sentence)
    console.print()
    return same and done.good and back and applied


def _sources(folder: Path) -> list[Path]:
    given = os.environ.get("SLIDES")
    if given:
        console.print(f"Slides from {given}")
        return [Path(given)]
    with console.status("making slides that look like stained tissue …"):
        made = synthetic_set(folder / "slides", seed=7, size="demo")
    console.print(f"{len(made)} made-up slides of several vendors' formats (SLIDES=path takes yours)")
    return made


def _ingest(site: Site, sources: list[Path]) -> tuple[list[Line], list[IngestResult]]:
    lines: list[Line] = []
    failed: list[IngestResult] = []
    with console.status("ingest: write, read back, compare …"):
        for result in ops.ingest(site, sources, recursive=True):
            if result.error is not None:
                failed.append(result)
                continue
            row = site.catalog.slide(result.slide or "")
            pixels = f"{row.width} × {row.height}" if row.width else ""
            lines.append(Line(Path(result.source), result, row.format, pixels))
    return sorted(lines, key=lambda line: line.source.name), failed


def _open_and_restore(site: Site, line: Line, folder: Path) -> None:
    key = line.result.slide or ""
    try:
        line.levels = _open_with_xarray(site, key)
        done = ops.restore(site, key, folder / key)
    except WsistoreError as error:
        line.restored = str(error.kind)
        return
    line.restored = "DIFFERS" if any(_different(line.source, done.files)) else "identical"


def _open_with_xarray(site: Site, key: str) -> int:
    """Open the slide as an `xarray.DataTree`, read a piece from its middle; return the number of levels."""
    with ops.open_slide(key, site=site) as slide:
        tree = slide.to_datatree(chunks=None)
        image = tree["0"]["image"]
        y, x = image.sizes["y"] // 2, image.sizes["x"] // 2
        image.isel(y=slice(y, y + 64), x=slice(x, x + 64)).load()
        return len(tree.children)


def _different(source: Path, restored: tuple[str, ...]) -> Iterator[str]:
    """Yield the restored files that are not what the source has."""
    folder = source if source.is_dir() else source.parent
    for name in restored:
        path = Path(name)
        original = next((p for p in (folder / path.name, *folder.rglob(path.name)) if p.is_file()), None)
        if original is None or _sha256(original) != _sha256(path):
            yield name


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _table(lines: list[Line], verified: dict[str, bool]) -> Table:
    title = "Slides in, Zarr inside, the same files out"
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    table.collapse_padding, table.pad_edge = True, False
    is_narrow = console.width < _WIDE
    table.add_column("slide", no_wrap=True, max_width=18 if is_narrow else 24)
    table.add_column("format", no_wrap=True)
    for name in ("vendor's", "stored", "ingest") if is_narrow else ("pixels", "vendor's", "stored", "ingest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("came back", no_wrap=True)
    for line in lines:
        result = line.result
        good = line.good and verified.get(result.slide or "", False)
        levels = f", {line.levels} level{'s' * (line.levels != 1)}" if not is_narrow else ""
        table.add_row(
            line.source.name,
            line.vendor_format + (", whole" if result.mode is Mode.WHOLE else levels),
            *(() if is_narrow else (line.pixels,)),
            format_bytes(result.bytes_source or 0),
            format_bytes(result.bytes_stored or 0),
            f"{result.seconds:.1f} s",
            "[green]identical[/]" if good else f"[red]{line.restored}[/]",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
