"""What tests of flows share: sites on disk whose nights have something to do, and what must be true in the morning."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.move_kit import TIERS, places
from tests.prefect_kit import Process, until
from tests.site_kit import committed_keys, files_of, ingest, new_site, restored, stored_keys
from wsistore import ops
from wsistore.testing.tiffs import write_generic_tiff
from wsistore.testing.tissue import tissue

TO_WARM = """
version: 1
placement:
  - {name: archive, tier: warm, encode: %s}
limits: {move_at_most: 100 %%, delete_at_most: 100 %%}
"""


def hospital(folder: Path, settings: str = "", rules: str = "", *, warm: str = "keep") -> Path:
    """Make a site on disk, with more in its settings, rules, and a preset of the tier ``warm``; return its folder."""
    site = new_site(folder)
    path = site / "wsistore.toml"
    before, table, after = path.read_text("utf-8").partition("[tiers.warm]\n")
    after = after.replace('preset = "keep"', f'preset = "{warm}"', 1)
    path.write_text(f"{before}{table}{after}\n{settings}", "utf-8")
    if rules:
        (site / "rules.yaml").write_text(rules, "utf-8")
    return site


def pieces_of_tissue(folder: Path, count: int, side: int = 256) -> list[Path]:
    """Write made-up slides; the larger, the longer the night is."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"slide-{seed}.tiff" for seed in range(1, count + 1)]
    for seed, path in enumerate(paths, 1):
        write_generic_tiff(path, [tissue(side, side, seed=seed)], tile=(64, 64))
    return paths


def taken_in(site: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Take slides into a site; return their files by their keys."""
    with ops.open_site(site) as opened:
        return {str(done.slide): path for done, path in zip(ingest(opened, *paths), paths, strict=True)}


def rows_by_state(site: Path) -> Counter[str]:
    """Return how many rows of applied plans are in each state, past the code under test; empty before the first."""
    connection = sqlite3.connect(f"file:{site / 'catalog.db'}?mode=ro", uri=True, timeout=30)
    try:
        return Counter(dict(connection.execute("select state, count(*) from plan_rows group by state").fetchall()))
    finally:
        connection.close()


def assert_rests(site: Path, slides: Mapping[str, Path], tier: str, events: Mapping[str, int] | None = None) -> None:
    """Check that each slide lies in one tier, whole, that it came there once, and that nothing else was left behind.

    Looks at the catalogue, its events, and the bytes; not at what flows returned.
    """
    with ops.open_site(site) as opened:
        for name in TIERS:
            assert stored_keys(opened.tier(name)) == committed_keys(opened, name), f"left over in {name}"
        assert opened.catalog.open_attempts() == []
        assert opened.catalog.open_drops() == []
        assert opened.catalog.check_chains() == []
        assert {str(row.slide) for row in opened.catalog.slides()} == set(slides)
        for slide, path in slides.items():
            assert places(opened, slide) == {tier: "committed"}
            kinds = Counter(str(event.kind) for event in opened.catalog.events(slide))
            for kind, count in (events or {"ingested": 1, "copied": 1, "dropped": 1}).items():
                assert kinds[kind] == count, (kind, kinds)
            assert restored(opened, slide) == files_of(path)
        assert all(result.ok for result in ops.verify(opened, list(slides)))


class Hold:
    """Where a flow's process stops until it is let go, or killed: before a call of a method of the catalogue.

    Parameters
    ----------
    mark
        A path that nothing has yet; there is a file once the process stands there, and it goes on when that is removed.
    method
        Of `wsistore.catalog.Catalog`.
    nth
        Which call, from 1, over the whole life of the process.

    """

    def __init__(self, mark: Path, method: str, nth: int) -> None:
        self.mark, self.method, self.nth = mark, method, nth

    @property
    def code(self) -> str:
        """What the process runs first."""
        return f"""
def hold():
    import itertools, pathlib, time
    from wsistore.catalog import Catalog
    real, calls, mark = Catalog.{self.method}, itertools.count(1), pathlib.Path({str(self.mark)!r})
    def held(*args, **options):
        if next(calls) == {self.nth}:
            mark.touch()
            while mark.exists():
                time.sleep(0.05)
        return real(*args, **options)
    Catalog.{self.method} = held
hold()
"""

    def reached_by(self, process: Process) -> None:
        """Wait until a process stands there."""
        until(self.mark.exists, process.err, alive=lambda: process.popen.poll() is None)

    def let_go(self) -> None:
        """Let the process go on."""
        self.mark.unlink()


def keys_of(site: Path) -> dict[str, str]:
    """Return the names of a site's slides by their keys."""
    with ops.open_site(site, read_only=True) as opened:
        return {str(row.slide): str(row.name) for row in opened.catalog.slides()}


def in_flight(site: Path) -> tuple[bool, bool]:
    """Say whether copies are being made, and whether copies are being dropped, by what the catalogue has noted."""
    with ops.open_site(site, read_only=True) as opened:
        return bool(opened.catalog.open_attempts()), bool(opened.catalog.open_drops())
