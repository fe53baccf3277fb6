"""Tiers whose copies are not kept as the scanner wrote them: what was taken in is encoded anew, in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from wsistore.execute import Executor, open_executor
from wsistore.ops.reencoding import reencode_slide
from wsistore.ops.results import IngestResult, IngestStatus
from wsistore.ops.site import Site
from wsistore.ops.watching import Watcher


def encoded(
    site: Site, results: Iterator[IngestResult], tier: str, jobs: int | None, given: Executor | None = None
) -> Iterator[IngestResult]:
    """Yield `results` when their copies are in the preset of their tier.

    A slide that was there already is encoded anew too, if that was interrupted. One that cannot be encoded is reported
    as failed with the reason; it is kept as the scanner wrote it, and running again tries again.

    Parameters
    ----------
    site
        An open site.
    results
        Of an ingest into `tier`.
    tier
        Name of a tier whose preset is not `keep`.
    jobs
        Workers; by default one per core.
    given
        Encodes, instead of workers that are started here.

    """
    executor = given
    # Closed first: whoever takes no more results ends the ingests that are under way.
    with closing(results):  # type: ignore[type-var]
        try:
            for result in results:
                if result.slide is None or result.tier != tier:
                    yield result
                    continue
                if executor is None:
                    executor = open_executor(workers=jobs, clock=site.clock)
                yield _encoded(site, result, result.slide, tier, executor)
        finally:
            if executor is not None and given is None:
                executor.close()


def _encoded(site: Site, result: IngestResult, slide: str, tier: str, executor: Executor) -> IngestResult:
    preset = site.tier_settings(tier).preset
    done = reencode_slide(site, slide, preset, tier=tier, executor=executor, watcher=Watcher())
    seconds = result.seconds + done.seconds
    if done.error is not None:
        return replace(result, status=IngestStatus.FAILED, error=done.error, seconds=seconds)
    copy = next(copy for copy in site.catalog.copies(slide) if copy.tier == tier)
    return replace(
        result,
        bytes_stored=copy.bytes_stored,
        objects=copy.objects,
        preset=copy.preset,
        verified_at=copy.verified_at,
        seconds=seconds,
    )
