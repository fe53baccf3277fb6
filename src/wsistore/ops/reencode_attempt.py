"""One attempt at making a copy: begun or continued, copied or encoded, proven, committed; or let go."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wsistore import __version__
from wsistore.catalog.claims import NumberTaken
from wsistore.catalog.records import Attempt, AttemptState, CopyRecord
from wsistore.catalog.reencodes import COPIES, is_same_job, may_be_continued
from wsistore.clock import iso
from wsistore.compress.archive import open_stored
from wsistore.compress.copying import MEMORY_BYTES, copy_stored
from wsistore.compress.finishing import finish_reencode, sweep
from wsistore.compress.keys import Place
from wsistore.compress.reader import StoredSlide
from wsistore.compress.reencoding import ReencodePlan, plan_reencode
from wsistore.compress.shard_task import ShardTask, run_task
from wsistore.compress.verify import verify_copy
from wsistore.compress.writer import Draft
from wsistore.errors import ConflictError, FullError, InputError, IntegrityError, Kind, MissingError, WsistoreError
from wsistore.execute import Executor
from wsistore.model import CopyState, Evidence, Mode, Preset
from wsistore.ops.adopting import copy_record, next_number
from wsistore.ops.attempts import LEASE, finish, give_up, give_up_own
from wsistore.ops.freezing import SEALED, Seals, check_seals, seals_of
from wsistore.ops.jobs import Job, Made, Tally
from wsistore.ops.looking import abort_uploads
from wsistore.ops.own_work import lives, working
from wsistore.ops.pulse import Pulse
from wsistore.ops.site import Site
from wsistore.ops.stored import commit_of, place_of
from wsistore.ops.watching import Planned, Watcher
from wsistore.ops.workers import tier_ref
from wsistore.storage.base import Storage
from wsistore.tiers.commits import Commit

_LEFT = (AttemptState.WRITING, AttemptState.WRITTEN, AttemptState.VERIFIED)
"""States in which an attempt waits to be continued, or given up."""
_NUMBERS_TRIED = 5
"""How often a number is chosen anew because another commit took it."""
_PROVEN_WRONG = (InputError, IntegrityError, FullError, ConflictError)
"""After which an attempt is not worth keeping, or keeps others from what they need."""

_log = logging.getLogger(__name__)


def run_attempt(site: Site, job: Job, executor: Executor | None, watcher: Watcher) -> Made | None:
    """Make one copy of another one, once.

    Parameters
    ----------
    site
        An open site.
    job
        What is to be made.
    executor
        Runs the encoding; may be None where the copy is made as it is.
    watcher
        Is told how it goes.

    Returns
    -------
    Made or None
        None if encoding it anew would bring nothing.

    Raises
    ------
    ConflictError
        If another process is at the slide, or the copy that is read was replaced meanwhile.
    IntegrityError
        If the copy that is read is damaged, or the new one did not prove good.
    StorageError, WorkersError
        If a tier fails, or the workers: what was written waits to be continued.

    """
    with working(job.slide):
        return _attempted(site, job, executor, watcher)


def _attempted(site: Site, job: Job, executor: Executor | None, watcher: Watcher) -> Made | None:
    attempt, resumed = _begin(site, job)
    try:
        return _run(site, job, attempt, resumed, executor, watcher)
    except BaseException as error:
        is_lost = isinstance(error, WsistoreError) and not _is_mine(site, attempt)
        _let_go(site, attempt, error)
        if is_lost and not isinstance(error, ConflictError):
            msg = f"Attempt {attempt.attempt} of slide {attempt.slide} was taken over: it gave no sign of life."
            raise ConflictError(msg, kind=Kind.BUSY, remedy="Run again.") from error
        raise


def _run(
    site: Site, job: Job, attempt: Attempt, resumed: bool, executor: Executor | None, watcher: Watcher
) -> Made | None:
    storage, source = site.tier(job.tier), job.pieces or site.tier(job.source.tier)
    if resumed:
        abort_uploads(site, job.tier, Place(attempt.slide, attempt.attempt))
    stored = open_stored(source, place_of(job.source), packed=job.source.preset is Preset.PACK)
    if job.as_it_is or executor is None:
        work = _copy(site, job, attempt, stored, storage, resumed, watcher)
    else:
        found = _encode(site, job, attempt, stored, storage, executor, watcher)
        if found is None:
            return None
        work = found
    site.catalog.mark_written(attempt.attempt, fence=attempt.fence)
    pulse = Pulse(site, attempt, lambda _, done: watcher.verified(done))
    files = site.catalog.source(job.slide, job.source.version).files
    place = Place(attempt.slide, attempt.attempt)
    seals = seals_of(site, job.tier, work.draft.objects)
    verify_copy(storage, place, work.draft.objects, files, progress=lambda done: pulse("verify", done))
    check_seals(seals, seals_of(site, job.tier, work.draft.objects))
    sweep(storage, work.draft)
    work = replace(work, seals=seals)
    return _commit(site, job, attempt, work)


@dataclass(frozen=True, slots=True)
class _Work:
    """What was written."""

    draft: Draft
    fallbacks: Mapping[str, int]
    encoding: Mapping[str, Any]
    tally: Tally = field(default_factory=Tally)
    shards: int = 0
    memory_bytes: int = 0
    seals: Seals = field(default_factory=dict)
    """What the tier said of the objects when they were read back, where it is to archive them."""


def _copy(
    site: Site,
    job: Job,
    attempt: Attempt,
    stored: StoredSlide,
    storage: Storage,
    resumed: bool,
    watcher: Watcher,
) -> _Work:
    """Copy all objects as they are."""
    _tell(site, job, watcher, 0, job.source.bytes_stored, MEMORY_BYTES, None)
    pulse = Pulse(site, attempt, lambda _, done: watcher.encoded(done, done))
    draft = copy_stored(
        stored,
        commit_of(job.source).objects,
        storage,
        Place(attempt.slide, attempt.attempt),
        resumed=resumed,
        progress=lambda done: pulse("copy", done),
    )
    return _Work(draft, job.source.fallbacks, job.source.encoding, memory_bytes=MEMORY_BYTES)


def _encode(
    site: Site,
    job: Job,
    attempt: Attempt,
    stored: StoredSlide,
    storage: Storage,
    executor: Executor,
    watcher: Watcher,
) -> _Work | None:
    """Write all objects anew; None if that brings nothing."""
    refs = tier_ref(site, job.source.tier), tier_ref(site, job.tier)
    place, objects = Place(attempt.slide, attempt.attempt), commit_of(job.source).objects
    plan = plan_reencode(stored, refs[0], place, refs[1], job.encoding, objects)
    if _brings_nothing(job, stored, plan):
        give_up_own(site, attempt, "it brings nothing")
        return None
    _tell(site, job, watcher, plan.shards, plan.bytes_stored, plan.memory_bytes, executor)
    tally = _write_shards(site, attempt, plan, executor, watcher)
    draft = finish_reencode(stored, storage, plan, tally.notes, _history(site, job, tally))
    return _Work(draft, tally.fallbacks, job.settings, tally, plan.shards, plan.memory_bytes)


def _tell(
    site: Site, job: Job, watcher: Watcher, shards: int, stored: int, memory: int, executor: Executor | None
) -> None:
    row = site.catalog.slide(job.slide)
    watcher.planned(
        Planned(
            slide=job.slide,
            name=row.name,
            tier=job.tier,
            preset=str(job.encoding.preset),
            shards=shards,
            bytes_stored=stored,
            bytes_source=row.bytes_source,
            memory_bound_bytes=memory,
            workers=executor.workers if executor else 0,
            where=executor.where if executor else "this process",
        )
    )


def _begin(site: Site, job: Job) -> tuple[Attempt, bool]:
    """Begin an attempt, or continue the one that a dead process left; others that are in the way are given up.

    So is one whose process is not gone for sure: it may only sleep, and nobody writes under the keys that it knows.
    """
    now = site.clock.now()
    for other in site.catalog.open_attempts():
        if other.kind not in COPIES or other.slide != job.slide or other.state not in _LEFT:
            continue
        is_other = (other.tier, other.kind) != (job.tier, job.kind) or not is_same_job(other.job, job.document)
        if lives(other, now, mine=1):
            continue
        if other.owner == site.owner:  # this very process let it go, and could not say so
            site.catalog.release(other.attempt, fence=other.fence)
        if is_other or not may_be_continued(other):
            give_up(site, other, "another copy was asked for" if is_other else "its process gave no sign of life")
    until = now + LEASE
    attempt, taken_over = site.catalog.begin_reencode(job.slide, job.tier, site.owner, until, job.document, job.kind)
    if taken_over:
        _log.info("attempt %s of slide %s is continued", attempt.attempt, job.slide)
    return attempt, taken_over


def _write_shards(site: Site, attempt: Attempt, plan: ReencodePlan, executor: Executor, watcher: Watcher) -> Tally:
    tally = Tally(workers=executor.workers)
    pulse = Pulse(site, attempt, lambda *_: None)

    def name(task: ShardTask) -> str:
        shards = ", ".join(map(str, task.shards[:3])) + (" …" if len(task.shards) > 3 else "")
        return f"shard {shards} of level {task.level} of slide {attempt.slide}"

    if not plan.tasks:
        return tally
    running = executor.run(run_task, plan.tasks, memory_bytes=plan.memory_bytes, name=name)
    for done in running:
        tally.notes += done.result
        tally.peak_bytes = max(tally.peak_bytes, done.peak_memory_bytes)
        written = sum(note.record.size_bytes for note in done.result if note.record is not None)
        watcher.encoded(done.task.bytes_stored, written)
        pulse("encode", written)
    return tally


def _history(site: Site, job: Job, tally: Tally) -> dict[str, Any]:
    return {
        "at": iso(site.clock.now()),
        "action": "reencoded",
        "preset": str(job.encoding.preset),
        "encoding": job.settings,
        "fallbacks": tally.fallbacks,
        "software": f"wsistore {__version__}",
    }


def _brings_nothing(job: Job, stored: StoredSlide, plan: ReencodePlan) -> bool:
    """Say whether a slide that is kept whole would take as many bytes as before: then its copy may stay."""
    if job.before is None or stored.companion.mode is not Mode.WHOLE or job.encoding.preset is Preset.KEEP:
        return False
    return job.before.state is CopyState.COMMITTED and not plan.framed


def _commit(site: Site, job: Job, attempt: Attempt, work: _Work) -> Made:
    compared, tally = job.before or job.source, work.tally
    figures: dict[str, Any] = {
        "from": job.source.tier,
        "preset_before": str(compared.preset),
        "encoding": dict(work.encoding),
        "bytes_before": compared.bytes_stored,
        "bytes_read": job.source.bytes_stored,
        "objects_read": job.source.objects,
        "fallbacks": dict(work.fallbacks),
        "cpu_seconds": round(tally.cpu_seconds, 3),
        "workers": tally.workers,
        "shards": work.shards,
        "shards_resumed": tally.resumed,
        "seconds": round(site.clock.monotonic_seconds() - job.started, 3),
    }
    if job.rule:
        figures["rule"] = job.rule
    if work.seals:
        figures[SEALED] = work.seals
    copy = _claim(site, job, attempt, work, figures)
    if not finish(site, attempt):
        give_up(site, site.catalog.attempt(attempt.attempt), "another attempt's commit stands in its place")
        msg = f"Another site's catalogue committed a copy of slide {job.slide} meanwhile."
        raise ConflictError(msg, remedy="Check that no other site uses this tier.")
    return Made(
        attempt=attempt.attempt,
        bytes_stored=copy.bytes_stored,
        bytes_source=sum(file.size_bytes for file in work.draft.files),
        objects=copy.objects,
        verified_at=copy.verified_at,
        shards=work.shards,
        memory_bytes=work.memory_bytes,
        tally=tally,
    )


def _claim(site: Site, job: Job, attempt: Attempt, work: _Work, figures: Mapping[str, Any]) -> CopyRecord:
    """Claim the tier's place for the new copy; return what the catalogue keeps of it."""
    before = commit_of(job.source)
    for turn in range(_NUMBERS_TRIED):
        commit = Commit(
            slide=job.slide,
            number=next_number(site, attempt),
            version=job.source.version,
            attempt=attempt.attempt,
            mode=before.mode,
            preset=job.encoding.preset,
            fingerprint=before.fingerprint,
            bytes_source=before.bytes_source,
            evidence=Evidence.READ_BACK,
            verified_at=iso(site.clock.now()),
            objects=work.draft.objects,
            fence=attempt.fence,
            expires_at=job.expires_at or "",
        )
        copy = copy_record(job.tier, commit, encoding=work.encoding, fallbacks=work.fallbacks)
        try:
            site.catalog.claim_reencode(
                attempt.attempt,
                fence=attempt.fence,
                fingerprint=commit.fingerprint,
                version=commit.version,
                copy=copy,
                figures={**figures, "bytes_after": copy.bytes_stored},
            )
        except NumberTaken:
            if turn + 1 == _NUMBERS_TRIED:
                raise
        else:
            return copy
    raise AssertionError


def _is_mine(site: Site, attempt: Attempt) -> bool:
    """Say whether an attempt is still that of this process; if not, others may have deleted what it was reading."""
    try:
        return site.catalog.attempt(attempt.attempt).fence == attempt.fence
    except MissingError:
        return False
    except WsistoreError:
        return True


def _let_go(site: Site, attempt: Attempt, error: BaseException) -> None:
    """Give an attempt up, or leave what it wrote to the same command; without hiding the error on its way."""
    reason = error.message if isinstance(error, WsistoreError) else repr(error)
    try:
        if isinstance(error, _PROVEN_WRONG):
            give_up_own(site, attempt, reason)
        else:
            site.catalog.release(attempt.attempt, fence=attempt.fence)
    except WsistoreError as problem:
        _log.warning("attempt %s is left for the next recovery: %s", attempt.attempt, problem)
