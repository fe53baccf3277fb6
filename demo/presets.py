"""One slide through all presets and back: what each takes, and that neither store, pixels nor file lose a bit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from wsistore import ops
from wsistore.execute import Executor
from wsistore.model import Mode, Preset
from wsistore.ops import IngestResult, ReencodeResult, Site
from wsistore.tiers import commits
from wsistore.units import format_bytes

_MOST_BYTES = 4_000_000
"""A larger slide would take longer than a demonstration should."""
_WAY = (Preset.FOLD, Preset.PACK, Preset.KEEP)


@dataclass(frozen=True, slots=True)
class Step:
    """A slide in one preset."""

    preset: Preset
    bytes_stored: int
    objects: int
    store: str
    """Hash of all hashes of the store's objects."""
    pixels: str
    """Hash of all pixels of a level."""
    restored: bool
    """Whether the vendor's files came back byte for byte."""
    seconds: float


def choose(results: Sequence[IngestResult]) -> IngestResult | None:
    """Return the largest of the slides that have tiles and are not too large, else the smallest; None without any."""
    tiled = sorted((r for r in results if r.mode is Mode.TILES), key=lambda result: result.bytes_source or 0)
    fit = [r for r in tiled if (r.bytes_source or 0) <= _MOST_BYTES]
    return fit[-1] if fit else next(iter(tiled), None)


def show_presets(site: Site, slide: str, folder: Path, executor: Executor) -> tuple[Table, bool]:
    """Take a slide through the presets.

    Parameters
    ----------
    site, slide
        An open site, and the key of a slide that has one copy.
    folder
        A new folder for restored files.
    executor
        Encodes.

    Returns
    -------
    Table
        Sizes and hashes of each step.
    bool
        Whether all is as it should be: pixels and files always the same, the store at the end as at the beginning.

    """
    steps = [_step(site, slide, folder / "0", 0.0)]
    errors = []
    for number, preset in enumerate(_WAY, 1):
        for result in ops.reencode(site, [slide], preset, executor=executor):
            errors += _errors(result)
            steps.append(_step(site, slide, folder / str(number), result.seconds))
    good = (
        not errors
        and all(step.restored for step in steps)
        and len({step.pixels for step in steps}) == 1
        and steps[0].store == steps[-1].store
        and [step.preset for step in steps[1:]] == list(_WAY)
    )
    return _table(site.catalog.slide(slide).name, site.catalog.slide(slide).bytes_source, steps, errors), good


def _errors(result: ReencodeResult) -> list[str]:
    return [] if result.error is None else [result.error.message]


def _step(site: Site, slide: str, folder: Path, seconds: float) -> Step:
    copy = site.catalog.copies(slide)[0]
    return Step(
        preset=copy.preset,
        bytes_stored=copy.bytes_stored,
        objects=copy.objects,
        store=store_hash(site, slide, copy.tier),
        pixels=_pixels(site, slide),
        restored=came_back(site, slide, folder),
        seconds=seconds,
    )


def store_hash(site: Site, slide: str, tier: str) -> str:
    """Return the hash of all hashes of the objects of the store of a slide's copy; nothing if there is no copy."""
    copy = next((copy for copy in site.catalog.copies(slide) if copy.tier == tier), None)
    if copy is None:
        return ""
    commit = commits.decode(copy.commit_body.encode(), where=copy.commit_key)
    prefix = commit.place.store
    lines = sorted(f"{r.key.removeprefix(prefix)} {r.sha256}" for r in commit.objects if r.key.startswith(prefix))
    return _sha256("\n".join(lines).encode())


def came_back(site: Site, slide: str, folder: Path) -> bool:
    """Restore a slide into a new folder; say whether its files are what they were when it was ingested."""
    files = {file.name: file.sha256 for file in site.catalog.source(slide).files}
    ops.restore(site, slide, folder)
    return files == {str(p.relative_to(folder)): _sha256(p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def _pixels(site: Site, slide: str) -> str:
    """Return the hash of the pixels of the largest level that fits into memory easily."""
    with ops.open_slide(slide, site=site) as opened:
        tree = opened.to_datatree(chunks=None)
        for level in sorted(tree.children, key=int):
            image = tree[level]["image"]
            if image.size <= 3 * 8192 * 8192 or level == str(len(tree.children) - 1):
                return _sha256(np.ascontiguousarray(image.values).tobytes())
    return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _table(name: str, size: int, steps: Sequence[Step], errors: Sequence[str]) -> Table:
    title = f"{name}: from one preset to the next, and back"
    caption = f"[red]{'; '.join(errors)}[/]" if errors else None
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, caption=caption)
    table.collapse_padding, table.pad_edge = True, False
    table.add_column("preset", no_wrap=True)
    for column in ("stored", "ratio", "objects", "took"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("store", "pixels", "vendor's file"):
        table.add_column(column, no_wrap=True)
    for number, step in enumerate(steps):
        table.add_row(
            str(step.preset),
            format_bytes(step.bytes_stored),
            f"{step.bytes_stored / max(1, size):.3f}",
            str(step.objects),
            f"{step.seconds:.1f} s" if number else "",
            f"{step.store[:8]}…",
            f"{step.pixels[:8]}…",
            "[green]identical[/]" if step.restored else "[red]DIFFERS[/]",
        )
    return table
