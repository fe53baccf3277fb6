"""A copy written anew in another encoding, in the same tier: proven, committed, and only then the old one removed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from wsistore.catalog.records import CopyRow
from wsistore.compress.presets import Encoding
from wsistore.errors import Kind, MissingError, WsistoreError
from wsistore.execute import Executor, open_executor
from wsistore.model import CopyState, Preset
from wsistore.ops.attempts import recover
from wsistore.ops.dropping import begin_drop, drop_replaced
from wsistore.ops.encodings import fold_height_of, preset_encoding
from wsistore.ops.holding import check_holds
from wsistore.ops.jobs import Job, Made, is_encoded
from wsistore.ops.reencode_attempt import run_attempt
from wsistore.ops.results import HOPELESS, Failure, ReencodeResult, ReencodeStatus
from wsistore.ops.room import check_open
from wsistore.ops.site import Site, read_only_error
from wsistore.ops.sound import check_current, from_sound_copy
from wsistore.ops.stored import current_copies
from wsistore.ops.tuning import encoding_for
from wsistore.ops.watching import Watcher

_log = logging.getLogger(__name__)


def reencode(
    site: Site,
    slides: Sequence[str],
    preset: Preset,
    *,
    fold_height: int | None = None,
    tier: str | None = None,
    scheduler: str | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
    rules: Mapping[str, str] | None = None,
    watcher: Watcher | None = None,
) -> Iterator[ReencodeResult]:
    """Write copies of slides anew in another encoding, one after the other, each by all workers.

    Parameters
    ----------
    site
        An open site.
    slides
        Keys, unique beginnings or names; all of them are resolved before the first is begun.
    preset
        What the copies are to be: as the tuner chose for slides like them, if it was asked.
    fold_height
        Tiles per chunk, instead.
    tier
        Name of the tier; may be left out for slides that have copies in one tier only.
    scheduler
        Address of a Dask scheduler; by default a cluster of this machine is started.
    jobs
        Workers of that cluster; by default one per core.
    executor
        Runs the work, instead of Dask.
    rules
        By slide, the placement rule that wants it: events keep it, reports tell it.
    watcher
        Is told how it goes; what it raises ends the run.

    Yields
    ------
    ReencodeResult
        One per slide. A slide that fails is a result, not an exception, and stays as it was; where a tier or the site
        itself fails, the slides that were not begun are reported as failed with that reason.

    Raises
    ------
    MissingError
        If one of `slides` is not there.
    InputError
        If preset and fold height do not go together.
    SiteError
        If there is no such tier, or the site cannot be written.
    WorkersError
        If the scheduler cannot be reached.

    """
    if site.catalog.read_only:
        raise read_only_error(site)
    if tier is not None:
        site.tier_settings(tier)
    given = preset_encoding(preset, fold_height)
    keys = list(dict.fromkeys(site.catalog.resolve(slide) for slide in slides))
    recover(site)
    chosen = None if fold_height is None else given
    return _run(site, keys, preset, chosen, tier, executor, scheduler, jobs, rules or {}, watcher or Watcher())


def _run(
    site: Site,
    keys: Sequence[str],
    preset: Preset,
    chosen: Encoding | None,
    tier: str | None,
    executor: Executor | None,
    scheduler: str | None,
    jobs: int | None,
    rules: Mapping[str, str],
    watcher: Watcher,
) -> Iterator[ReencodeResult]:
    opened = executor or open_executor(scheduler=scheduler, workers=jobs, tell=watcher.waiting, clock=site.clock)
    hopeless: Failure | None = None
    try:
        for key in keys:
            if hopeless is not None:
                yield ReencodeResult(slide=key, status=ReencodeStatus.FAILED, tier=tier, error=hopeless)
                continue
            rule = rules.get(key, "")
            result = reencode_slide(
                site, key, preset, chosen=chosen, tier=tier, executor=opened, rule=rule, watcher=watcher
            )
            if result.error is not None and result.error.kind in HOPELESS:
                hopeless = result.error
            yield result
    finally:
        if executor is None:
            opened.close()


def reencode_slide(
    site: Site,
    key: str,
    preset: Preset,
    *,
    chosen: Encoding | None = None,
    tier: str | None,
    executor: Executor,
    rule: str = "",
    watcher: Watcher,
) -> ReencodeResult:
    """Re-encode one slide of many: what goes wrong is a result. `chosen` goes before what the tuner chose."""
    started = site.clock.monotonic_seconds()
    try:
        place = copy_in(site, key, tier).tier
        encoding = chosen or encoding_for(site, key, place, preset)
        return reencode_one(site, key, encoding, tier=place, executor=executor, rule=rule, watcher=watcher)
    except WsistoreError as error:
        failure = error
    except Exception as error:  # one slide's surprise must not keep the others out
        _log.exception("slide %s failed in a way that wsistore does not know", key)
        failure = WsistoreError(f"Slide {key}: {error!r}.", remedy="Please report this with the log.")
    seconds = site.clock.monotonic_seconds() - started
    return ReencodeResult(
        slide=key, status=ReencodeStatus.FAILED, tier=tier, seconds=seconds, error=Failure.of(failure)
    )


def reencode_one(
    site: Site,
    slide: str,
    encoding: Encoding,
    *,
    executor: Executor,
    tier: str | None = None,
    rule: str = "",
    watcher: Watcher | None = None,
) -> ReencodeResult:
    """Write a slide's copy in a tier anew in another encoding.

    The new copy is read back and compared with the source before it takes the old one's place; until then, and
    whatever fails, the old one stays as it is. A run that was killed is continued by the same call.

    Parameters
    ----------
    site
        An open site.
    slide
        Key, unique beginning of one, or name.
    encoding
        What it is to be.
    executor
        Runs the work, a task per few shards.
    tier
        Name of the tier; may be left out where the slide has copies in one tier only.
    rule
        The placement rule that wants it; nothing: people do.
    watcher
        Is told how it goes; what it raises ends the run.

    Raises
    ------
    MissingError
        If there is no such slide, or no copy of it in the tier.
    ConflictError
        If another process re-encodes it, or its copy was replaced meanwhile.
    IntegrityError
        If no copy is sound, or the new one did not prove good.
    SiteError
        If the tier takes no new copies (`Kind.TIER_CLOSED`).
    StorageError, WorkersError
        If a tier fails, or the workers.

    """
    started = site.clock.monotonic_seconds()
    key = site.catalog.resolve(slide)
    before = copy_in(site, key, tier)
    site.tier(before.tier)
    check_holds(site, key)

    def again(source: CopyRow) -> ReencodeResult:
        check_current(site, before)
        job = Job(key, before.tier, encoding, before, source, started, expires_at=before.expires_at, rule=rule)
        made = run_attempt(site, job, executor, watcher or Watcher())
        if made is None:
            reason = f"It is kept whole, and its files do not get smaller in {encoding.preset}."
            return no_change(site, before, reason)
        return _result(site, job, made)

    unchanged = _unchanged(site, before, encoding)
    if unchanged is not None:
        _drop_older(site, before)
        return unchanged
    check_open(site, before.tier)
    return from_sound_copy(site, key, lambda copy: (copy.tier != before.tier, copy.n), again)


def _drop_older(site: Site, copy: CopyRow) -> None:
    """Drop what `copy` has replaced in its tier, where that had to stay then."""
    for other in current_copies(site, copy.slide):
        stays = other.expires_at is None and copy.expires_at is not None
        if other.tier == copy.tier and other.n < copy.n and not stays:
            begin_drop(site, other)
    drop_replaced(site, copy.slide)


def _result(site: Site, job: Job, made: Made) -> ReencodeResult:
    before, tally = job.before or job.source, made.tally
    return ReencodeResult(
        slide=job.slide,
        status=ReencodeStatus.REENCODED,
        tier=job.tier,
        preset_before=before.preset,
        preset=job.encoding.preset,
        fold_height=job.encoding.fold_height,
        bytes_before=before.bytes_stored,
        bytes_after=made.bytes_stored,
        bytes_source=made.bytes_source,
        shards=made.shards,
        shards_resumed=tally.resumed,
        fallbacks=tally.fallbacks,
        cpu_seconds=tally.cpu_seconds,
        seconds=site.clock.monotonic_seconds() - job.started,
        workers=tally.workers,
        memory_bound_bytes=made.memory_bytes,
        peak_worker_bytes=tally.peak_bytes,
    )


def no_change(site: Site, copy: CopyRow, reason: str) -> ReencodeResult:
    """Return the result where nothing is to be done to a copy."""
    return ReencodeResult(
        slide=copy.slide,
        status=ReencodeStatus.UNCHANGED,
        tier=copy.tier,
        preset_before=copy.preset,
        preset=copy.preset,
        fold_height=fold_height_of(copy),
        bytes_before=copy.bytes_stored,
        bytes_after=copy.bytes_stored,
        bytes_source=site.catalog.slide(copy.slide).bytes_source,
        fallbacks=copy.fallbacks,
        reason=reason,
    )


def copy_in(site: Site, slide: str, tier: str | None) -> CopyRow:
    """Return the copy of a slide that is to be re-encoded."""
    copies = current_copies(site, slide)
    tiers = sorted({copy.tier for copy in copies})
    if tier is not None:
        site.tier_settings(tier)
    elif len(tiers) > 1:
        msg = f"Slide {slide} has copies in several tiers: {', '.join(tiers)}."
        raise MissingError(msg, kind=Kind.SLIDE_AMBIGUOUS, remedy="Say with --tier which one is meant.")
    for copy in copies:
        if tier in (None, copy.tier):
            return copy
    where = f"in tier {tier}" if tier else "that was committed"
    msg = f"Slide {slide} has no copy {where}."
    raise MissingError(msg, kind=Kind.SLIDE_MISSING, remedy="'wsistore show' lists a slide's copies.")


def _unchanged(site: Site, copy: CopyRow, encoding: Encoding) -> ReencodeResult | None:
    """Return the result where a copy is already what is asked for."""
    if copy.state is CopyState.SUSPECT or not is_encoded(copy, encoding):
        return None
    return no_change(site, copy, f"It is in the preset {copy.preset} with these settings already.")
