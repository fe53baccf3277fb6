"""Many slides at once: a folder is worked through, what fails is named, and running again finishes the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from threading import Event

from wsistore.errors import ConflictError, WsistoreError
from wsistore.execute import Executor
from wsistore.model import Preset
from wsistore.ops.attempts import recover
from wsistore.ops.drop_rules import too_few_copies
from wsistore.ops.ingesting import Progress, ingest_one
from wsistore.ops.metadata import Metadata
from wsistore.ops.preset_tiers import encoded
from wsistore.ops.results import HOPELESS, Failure, IngestResult, IngestStatus, VerifyResult
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.verifying import verify
from wsistore.slides.registry import find_slides

_log = logging.getLogger(__name__)


def ingest(
    site: Site,
    paths: Sequence[Path],
    *,
    tier: str | None = None,
    recursive: bool = False,
    jobs: int | None = None,
    metadata: Metadata | None = None,
    executor: Executor | None = None,
    found: Callable[[int], None] = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Iterator[IngestResult]:
    """Take in all slides at and under `paths`, several at a time.

    They come in as the scanner wrote them; in a tier of another preset each is then encoded anew, in place.

    Parameters
    ----------
    site
        An open site.
    paths
        Vendor's files, folders of them, folders of DICOM instances.
    tier
        Name of the tier that they go to; by default the site's first.
    recursive
        Look into subfolders too.
    jobs
        How many at a time; by default as the settings say.
    metadata
        What the site says of the slides.
    executor
        Encodes where the tier has another preset; by default Dask, started when it is first needed.
    found
        Gets the number of slides found, once, before the first is taken in.
    progress
        See `wsistore.ops.ingesting.Progress`; called from several threads.

    Yields
    ------
    IngestResult
        One per slide, as they end. A slide that fails is a result, not an exception; where the tier or the site itself
        fails, the slides that were not begun are reported as failed with that reason.

    Raises
    ------
    SiteError
        If there is no such tier, or the site cannot be written.
    StorageError
        If the tier is not there.
    InputError
        If a row of `metadata` speaks of more than one of the slides.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    chosen = tier or site.settings.tiers[0].name
    site.tier(chosen)
    recover(site)
    sources = list(_sources(paths, recursive))
    if metadata is not None:
        metadata.check([source for source in sources if isinstance(source, Path)])
    results = _run(site, sources, chosen, jobs or site.jobs, metadata, found, progress)
    if site.tier_settings(chosen).preset is Preset.KEEP:
        return results
    return encoded(site, results, chosen, jobs, executor)


def _sources(paths: Iterable[Path], recursive: bool) -> Iterator[Path | IngestResult]:
    """Yield what is to be taken in; for a path where nothing can be looked for, the failure."""
    for path in paths:
        try:
            yield from find_slides(path, recursive=recursive)
        except WsistoreError as error:
            yield _failed(path, error)


def _run(
    site: Site,
    sources: Sequence[Path | IngestResult],
    tier: str,
    jobs: int,
    metadata: Metadata | None,
    found: Callable[[int], None],
    progress: Progress,
) -> Iterator[IngestResult]:
    found(len(sources))
    waiting: list[Path] = []
    for source in sources:
        if isinstance(source, IngestResult):
            yield source
        else:
            waiting.append(source)
    waiting.reverse()
    hopeless: Failure | None = None
    running: set[Future[IngestResult]] = set()
    stopped = Event()

    def tell(phase: str, done: int, size: int, name: str) -> None:
        if stopped.is_set():
            msg = f"The ingest of {name} was interrupted."
            raise ConflictError(msg, remedy="Run the same command again.")
        progress(phase, done, size, name)

    with ThreadPoolExecutor(jobs, "wsistore-ingest") as pool:
        try:
            while waiting or running:
                while waiting and hopeless is None and len(running) < jobs:
                    running.add(pool.submit(_one, site, waiting.pop(), tier, metadata, tell))
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for task in done:
                    result = task.result()
                    if result.error is not None and result.error.kind in HOPELESS:
                        hopeless = result.error
                    yield result
        finally:
            stopped.set()  # an interruption, or nobody takes the results: what is under way ends and cleans up
    for path in reversed(waiting):
        yield IngestResult(slide=None, source=str(path), status=IngestStatus.FAILED, error=hopeless, tier=tier)


def _one(site: Site, path: Path, tier: str, metadata: Metadata | None, progress: Progress) -> IngestResult:
    started = site.clock.monotonic_seconds()
    try:
        said: Mapping[str, str] = metadata.of(path) if metadata is not None else {}
        return _with_shortage(site, ingest_one(site, path, tier=tier, metadata=said, progress=progress))
    except WsistoreError as error:
        return _failed(path, error, tier, site.clock.monotonic_seconds() - started)
    except Exception as error:  # one slide's surprise must not keep the others out
        _log.exception("%s failed in a way that wsistore does not know", path)
        unknown = WsistoreError(f"{path}: {error!r}.", remedy="Please report this with the log.")
        return _failed(path, unknown, tier, site.clock.monotonic_seconds() - started)


def _with_shortage(site: Site, result: IngestResult) -> IngestResult:
    """Say where a slide should have more copies than it has."""
    short = too_few_copies(site, result.slide) if result.slide is not None else ""
    return replace(result, warnings=(*result.warnings, short)) if short else result


def _failed(path: Path, error: WsistoreError, tier: str | None = None, seconds: float = 0.0) -> IngestResult:
    return IngestResult(
        slide=None,
        source=str(path),
        status=IngestStatus.FAILED,
        error=Failure.of(error),
        seconds=seconds,
        tier=tier,
    )


def verify_many(
    site: Site,
    slides: Sequence[str] | None = None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[VerifyResult]:
    """Verify `slides`, or all of the site's, after finishing what a crash left behind.

    Raises
    ------
    MissingError
        If one of `slides` is not there.

    """
    if not site.catalog.read_only:
        recover(site)
    keys = [row.slide for row in site.catalog.slides()] if slides is None else slides
    return verify(site, keys, progress=progress)
