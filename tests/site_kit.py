"""What tests of the operations and the command line share: sites, tiny slides, and what must hold of a site."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.catalog_kit import new_url as new_catalog
from wsistore import ops
from wsistore import settings as site_settings
from wsistore.cli.main import app
from wsistore.clock import Clock
from wsistore.compress.keys import COMMITS, PRIVATE, STORE
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.storage.base import MARKER_KEY, Storage
from wsistore.storage.open import create_tier, open_storage
from wsistore.testing.dicom import write_series
from wsistore.testing.tiffs import write_generic_tiff, write_svs
from wsistore.tiers import commits
from wsistore.tiers.ledger import LEDGER

Json = dict[str, Any]

PATIENT = "PATIENT-0001"
_NOBODY = 65534


# --- sites ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Json]:
        """What it printed with ``--json``: nothing but one object per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Json:
        """The one error that it printed with ``--json``."""
        (line,) = self.lines
        error: Json = line["error"]
        return error


def cli(folder: Path | None, *arguments: object) -> Ran:
    """Run a command in this process."""
    chosen = [] if folder is None else ["-C", str(folder)]
    result = CliRunner().invoke(app, [*chosen, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    return Ran(result.exit_code, result.stdout, result.stderr)


def command(folder: Path | None, *arguments: object) -> list[str]:
    """Return the command line of a process of its own, which flushes as little as the tests do: see `conftest.py`."""
    chosen = [] if folder is None else ["-C", str(folder)]
    script = "import os; os.fsync = os.fstat; from wsistore.cli.main import main; main()"
    return [sys.executable, "-c", script, *chosen, *map(str, arguments)]


def run(folder: Path | None, *arguments: object, **options: Any) -> Ran:
    """Run a command as a process of its own."""
    done = subprocess.run(command(folder, *arguments), capture_output=True, text=True, timeout=240, **options)
    return Ran(done.returncode, done.stdout, done.stderr)


def new_site(folder: Path) -> Path:
    """Make a site on disk and return its folder."""
    ops.init_site(folder)
    return folder


def memory_site(folder: Path, *, clock: Clock | None = None) -> ops.Site:
    """Make and open a site whose one tier lies in memory: nothing is flushed to a disk but the catalogue."""
    made = site_settings.write_new(folder, tiers={"hot": f"memory://{folder}"})
    create_tier(open_storage(made.tiers[0].url), made.tiers[0].id, "hot")
    new_catalog(folder)
    return ops.open_site(folder, clock=clock)


def listing(*folders: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folders`, and of every empty folder that it is one.

    The catalogue counts by its content: its log and the file's own header change by being opened.
    """
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.name.startswith("catalog.db") or path.name == ".wsistore-tmp":
                continue
            if path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif path.is_dir() and not any(path.iterdir()):
                found[str(path)] = "empty folder"
    return found


def catalog_dump(folder: Path) -> Json:
    """Return everything that the catalogue of a site says."""
    with ops.open_site(folder, read_only=True) as site:
        return {
            "slides": [ops.show(site, row.slide) for row in site.catalog.slides()],
            "attempts": [str(attempt) for attempt in site.catalog.open_attempts()],
            "events": [str(event) for event in site.catalog.events()],
        }


def state_of(folder: Path) -> Json:
    """Return everything that a refused command must not change: catalogue, tiers, settings."""
    return {"files": listing(folder), **catalog_dump(folder)}


def committed_keys(site: ops.Site, tier: str = "hot") -> set[str]:
    """Return the keys that belong to committed copies in a tier, by the commits on the tier themselves."""
    storage = site.tier(tier)
    keys = {MARKER_KEY}
    for key in commits.find(storage):
        keys |= {key, *(record.key for record in commits.read(storage, key).objects)}
    return keys


def stored_keys(storage: Storage) -> set[str]:
    """Return the keys of all objects but those of the tier's ledger."""
    return {info.key for info in storage.list() if not info.key.startswith(f"{LEDGER}/")}


def assert_sound(site: ops.Site, tier: str = "hot", *, unfinished_files: bool = False) -> None:
    """Check what must hold of a site at rest: nothing half done, nothing left over, catalogue and tier agree.

    With `unfinished_files` the hidden folder of a tier may hold files that never became objects.
    """
    storage = site.tier(tier)
    assert site.catalog.open_attempts() == []
    assert site.catalog.check_chains() == []
    assert stored_keys(storage) == committed_keys(site, tier)
    known = {copy.commit_key for row in site.catalog.slides() for copy in site.catalog.copies(row.slide)}
    assert known == set(commits.find(storage))
    for row in site.catalog.slides():
        assert site.catalog.events(row.slide)[0].kind == "ingested"
    if storage.properties.local_files:
        left = site.folder / "tiers" / tier / ".wsistore-tmp"
        assert unfinished_files or not left.exists() or list(left.iterdir()) == []
        top = {path.name for path in (site.folder / "tiers" / tier).iterdir()}
        assert top <= {MARKER_KEY, ".wsistore-tmp", STORE, PRIVATE, COMMITS, LEDGER}


def assert_all_restore(site: ops.Site, sources: Mapping[str, Mapping[str, bytes]]) -> None:
    """Check that the slides that are shown are those of `sources` (by name), and come back byte for byte."""
    rows = site.catalog.slides()
    assert sorted(row.name for row in rows) == sorted(sources)
    for row in rows:
        assert restored(site, row.slide) == sources[row.name]


def restored(site: ops.Site, slide: str) -> dict[str, bytes]:
    """Return the files of a slide."""
    with tempfile.TemporaryDirectory() as folder:
        ops.restore(site, slide, Path(folder))
        return files_of(Path(folder))


def files_of(path: Path) -> dict[str, bytes]:
    """Return a slide's files by name: of a folder all of them, of a file itself."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


@contextmanager
def as_nobody(*own: Path) -> Iterator[None]:
    """Be a user who may nothing but what everybody may, and who owns `own`; the administrator's rights know no modes.

    Skips the test where that cannot be. What is imported first in the block may not be found.
    """
    if os.geteuid() != 0:
        pytest.skip("only the administrator can become another user")
    for one in own:
        for path in (one, *one.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
    groups = os.getgroups()
    with _let_through(own):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, 0)
        os.setresuid(_NOBODY, _NOBODY, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)


@contextmanager
def _let_through(own: Iterable[Path]) -> Iterator[None]:
    """Let everybody pass the folders above `own`: pytest's are for their owner only, and for all workers of a run."""
    shared = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(shared, fcntl.LOCK_EX)  # one after the other: who ends first would close them under the other
        closed = [(path, path.stat().st_mode) for one in own for path in one.parents if not path.stat().st_mode & 0o001]
        for path, mode in closed:
            path.chmod(mode | 0o011)
        try:
            yield
        finally:
            for path, mode in closed:
                path.chmod(mode)
    finally:
        os.close(shared)


# --- tiny slides ------------------------------------------------------------------------------------------------------


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return an RGB picture, (y, x, 3), that differs by seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 250, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return np.ascontiguousarray(np.kron(small, np.ones((16, 16, 1), np.uint8))[:height, :width])


@functools.cache
def _tiff_bytes(seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slide.tiff")
        write_generic_tiff(path, [picture(96, 128, seed)], tile=(64, 64))
        return path.read_bytes()


def tiny_tiff(path: Path, seed: int = 1) -> Path:
    """Write a slide of six tiles in one level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_tiff_bytes(seed))
    return path


@functools.cache
def _svs_bytes(seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slide.svs")
        levels = [picture(320, 400, seed), picture(80, 100, seed)]
        label, macro = picture(64, 64, seed + 1), picture(64, 128, seed + 2)
        names = {"User": PATIENT, "Title": PATIENT}
        write_svs(path, levels, tile=64, label=label, macro=macro, properties=names)
        return path.read_bytes()


def tiny_svs(path: Path, seed: int = 1) -> Path:
    """Write a slide of two levels with label, macro and an identity in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_svs_bytes(seed))
    return path


def tiny_series(folder: Path, seed: int = 1, levels: int = 3) -> Path:
    """Write a DICOM series of one instance per level."""
    first = picture(256, 320, seed)
    pyramid = [np.ascontiguousarray(first[:: 2**n, :: 2**n]) for n in range(levels)]
    write_series(folder, pyramid, tile=(64, 64), seed=seed, patient={"PatientName": PATIENT, "PatientID": PATIENT})
    return folder


def ingest(site: ops.Site, *paths: Path, **options: Any) -> list[ops.IngestResult]:
    """Take slides in; none may fail."""
    results = list(ops.ingest(site, paths, jobs=options.pop("jobs", 1), **options))
    assert [result.error for result in results if result.error] == []
    return results


def reencode(site: ops.Site, slide: str, preset: Preset, **options: Any) -> ops.ReencodeResult:
    """Encode a slide's copy anew, in this process."""
    executor = options.pop("executor", None) or SerialExecutor()
    (result,) = ops.reencode(site, [slide], preset, executor=executor, **options)
    return result


def reencoded(site: ops.Site, slide: str, preset: Preset, **options: Any) -> ops.ReencodeResult:
    """Encode a slide's copy anew, in this process; it may not fail."""
    result = reencode(site, slide, preset, **options)
    assert result.error is None, result.error
    return result


def store_hashes(site: ops.Site, slide: str, tier: str = "hot") -> dict[str, str]:
    """Return the SHA-256 of every object of the one copy's store, by its name within the store."""
    (copy,) = [copy for copy in site.catalog.copies(slide) if copy.tier == tier]
    commit = commits.decode(copy.commit_body.encode(), where=copy.commit_key)
    prefix = commit.place.store
    return {r.key.removeprefix(prefix): r.sha256 for r in commit.objects if r.key.startswith(prefix)}


def statuses(lines: Iterable[Json]) -> list[str]:
    """Return the statuses of the lines that ``ingest --json`` printed, sorted."""
    return sorted(line["status"] for line in lines)


def texts(values: Sequence[object]) -> list[str]:
    """Return `values` as texts."""
    return [str(value) for value in values]
