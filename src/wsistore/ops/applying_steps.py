"""The steps of a plan's rows, done by the movers: what is alike is done together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsistore.catalog.plans import RowState
from wsistore.catalog.records import SourceState
from wsistore.errors import Kind, WsistoreError
from wsistore.execute import Executor
from wsistore.model import Preset
from wsistore.ops.applying_checks import Step, Verdict
from wsistore.ops.detaching import detach
from wsistore.ops.drops import drop
from wsistore.ops.eliminating import Authority, Doomed, Eliminated, EliminationStatus, eliminate
from wsistore.ops.eliminating_copies import lying_copies
from wsistore.ops.move_results import MoveResult, MoveStatus
from wsistore.ops.moving import copy, move
from wsistore.ops.reencoding import reencode
from wsistore.ops.results import HOPELESS, Failure, ReencodeResult
from wsistore.ops.site import Site
from wsistore.ops.watching import Watcher
from wsistore.tiers.rules.decisions import Action

Json = dict[str, Any]

_ORDER = list(Action)
_SAYS_NO = frozenset({str(Kind.HELD), str(Kind.LAST_COPY), str(Kind.KEY_MISSING), str(Kind.SLIDE_MISSING)})
"""Errors that lie in the slide: nothing was changed, and nothing broke."""

_LEAST = 4
"""Slides that are done together at least: every run of a mover looks for what dead ones left."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What has become of a row so far."""

    slide: str
    todo: list[Step]
    why: Json
    state: RowState = RowState.RUNNING
    reason: str = ""
    kind: str = ""
    """Of the error, if it is one."""
    exit_code: int = 0
    is_tried: bool = False
    """Whether a step was begun: then the slide may have changed."""
    is_hopeless: bool = False
    """Whether the next row would fail for the same reason."""
    bytes_moved: int = 0
    bytes_deleted: int = 0
    seconds: float = 0.0
    steps: list[Json] = field(default_factory=list)
    """What was done, for the receipt."""
    rule: str = ""
    """The placement rule that wants it, for events and reports."""

    def fail(self, failure: Failure) -> None:
        """End with an error; one that lies in the slide and came before anything was changed is a refusal."""
        says_no = failure.kind in _SAYS_NO and not self.steps
        self.state = RowState.REFUSED if says_no else RowState.FAILED
        self.reason, self.kind, self.exit_code = failure.message, failure.kind, failure.exit_code
        self.is_hopeless = failure.kind in {str(kind) for kind in HOPELESS}

    def done(self, step: Step, said: Json, reason: str = "") -> None:
        """Note that a step is done."""
        self.steps.append({"step": str(step), **said})
        self.todo.pop(0)
        self.reason = f"{self.reason} {reason}".strip()
        if not self.todo:
            self.state = RowState.DONE


def _begun(verdict: Verdict) -> Outcome:
    rule = verdict.planned.get("place_rule") or ""
    return Outcome(verdict.slide, list(verdict.steps), verdict.why, rule=rule)


class Doer:
    """Does what verdicts say.

    Parameters
    ----------
    site
        An open site.
    authority
        Who allowed what cannot be undone.
    check
        Raises if a slide is not to be deleted or parted from its patient after all: asked right before it is.
    executor
        Encodes.
    jobs
        Slides at a time.
    watcher
        Is told how it goes.
    why_stop
        Says why nothing more is begun.

    """

    def __init__(
        self,
        site: Site,
        authority: Authority,
        check: Callable[[str, str], None],
        executor: Executor,
        jobs: int,
        watcher: Watcher,
        why_stop: Callable[[], str],
    ) -> None:
        self._site, self.authority, self._check = site, authority, check
        self._executor, self._jobs, self._watcher = executor, jobs, watcher
        self._why_stop = why_stop

    def do(self, verdicts: Sequence[Verdict]) -> Iterator[Outcome]:
        """Yield what became of rows, as they end; those that were not finished wait for another time."""
        rows = {one.slide: _begun(one) for one in verdicts}
        for row in list(rows.values()):
            if not row.todo:
                row.state = RowState.DONE
                yield rows.pop(row.slide)
        while rows:
            step = min((row.todo[0] for row in rows.values()), key=_step_key)
            # Few at a time: between them it may be stopped.
            mine = [row for row in rows.values() if row.todo[0] == step][: max(_LEAST, 2 * self._jobs)]
            if self._why_stop():
                break
            for row in self._tried(step, mine):
                if row.state is not RowState.RUNNING:
                    yield rows.pop(row.slide)
        for row in rows.values():
            row.state = RowState.WAITING
            yield row

    def _tried(self, step: Step, rows: Sequence[Outcome]) -> Iterator[Outcome]:
        """Do one step to all `rows`; what keeps all of them out is tried with each by itself, and is its result."""
        left = {row.slide: row for row in rows}
        for row in rows:
            row.is_tried = True
        try:
            for row in self._together(step, rows):
                yield left.pop(row.slide)
        except WsistoreError as error:
            if len(rows) == 1:
                for row in left.values():
                    row.fail(Failure.of(error))
                    yield row
                return
            _log.warning("%d slides cannot be dealt with together: %s", len(left), error)
            for row in left.values():
                yield from self._tried(step, [row])

    def _together(self, step: Step, rows: Sequence[Outcome]) -> Iterator[Outcome]:
        """Do one step to all `rows`; yield each that was dealt with."""
        by_slide = {row.slide: row for row in rows}
        match step.action:
            case Action.DETACH_IDENTITY:
                for row in rows:
                    yield self._detach(row, step)
            case Action.DELETE:
                yield from self._delete(by_slide, step)
            case Action.REENCODE:
                for encoded in self._reencode(step, by_slide):
                    yield _encoded(by_slide[encoded.slide], step, encoded)
            case _:
                for moved in self._move(step, by_slide):
                    yield _moved(by_slide[moved.slide], step, moved)

    # --- what can be undone

    def _move(self, step: Step, rows: Mapping[str, Outcome]) -> Iterator[MoveResult]:
        slides, tier, preset = list(rows), step.tier or "", None if step.preset is None else Preset(step.preset)
        if step.action is Action.DROP_COPY:
            return drop(self._site, slides, tier, at_least=step.at_least)
        options: Json = self._options(rows)
        if step.action is Action.COPY:
            return copy(self._site, slides, tier, preset=preset, **options)
        return move(self._site, slides, tier, source=step.source, preset=preset, **options)

    def _options(self, rows: Mapping[str, Outcome]) -> Json:
        rules = {slide: row.rule for slide, row in rows.items() if row.rule}
        return {"jobs": self._jobs, "executor": self._executor, "watcher": self._watcher, "rules": rules}

    def _reencode(self, step: Step, rows: Mapping[str, Outcome]) -> Iterator[ReencodeResult]:
        preset = Preset(step.preset) if step.preset else self._site.tier_settings(step.tier or "").preset
        return reencode(self._site, list(rows), preset, tier=step.tier, **self._options(rows))

    # --- what cannot

    def _detach(self, row: Outcome, step: Step) -> Outcome:
        started = self._site.clock.monotonic_seconds()
        try:
            if row.slide not in self._site.catalog.detachments():
                self._check(row.slide, str(step.action))
            found = detach(self._site, row.slide, row.why, self.authority)
        except WsistoreError as error:
            row.fail(Failure.of(error))
        else:
            row.done(step, {"keys_destroyed": found.destroyed})
        row.seconds += self._site.clock.monotonic_seconds() - started
        return row

    def _delete(self, rows: dict[str, Outcome], step: Step) -> Iterator[Outcome]:
        started = self._site.clock.monotonic_seconds()
        begun = [slide for slide in rows if self._site.catalog.deletion_of(slide) is SourceState.DELETING]
        for slide in begun:
            reason = "Not all of it is deleted yet, 'wsistore recover' goes on."
            rows[slide].done(step, {"status": str(EliminationStatus.DELETING)}, reason)
            yield rows[slide]
        doomed = [
            Doomed(slide=slide, copies=lying_copies(self._site, slide), why=row.why)
            for slide, row in rows.items()
            if slide not in begun
        ]
        check = self._check
        for gone in eliminate(self._site, doomed, self.authority, lambda slide: check(slide, str(step.action))):
            row = _eliminated(rows[gone.slide], step, gone)
            row.seconds += (self._site.clock.monotonic_seconds() - started) / max(1, len(doomed))
            yield row


def _step_key(step: Step) -> tuple[int, str, str, str, int]:
    return _ORDER.index(step.action), step.tier or "", step.source or "", step.preset or "", step.at_least


def _moved(row: Outcome, step: Step, result: MoveResult) -> Outcome:
    row.seconds += result.seconds
    if result.error is not None:
        row.fail(result.error)
        return row
    moved = result.bytes_stored or 0 if result.status in (MoveStatus.MOVED, MoveStatus.COPIED) else 0
    row.bytes_moved += moved
    said: Json = {"status": str(result.status), "bytes_moved": moved}
    if result.dropped:
        row.bytes_deleted += result.bytes_before or 0
        said["dropped"] = list(result.dropped)
    if step.action is Action.MOVE and result.status is MoveStatus.COPIED:
        row.steps.append({"step": str(step), **said})
        row.state, row.reason = RowState.FAILED, result.reason or "The copy that it came from had to stay."
        return row
    row.done(step, said, result.reason if result.status is MoveStatus.DROPPING else "")
    return row


def _encoded(row: Outcome, step: Step, result: ReencodeResult) -> Outcome:
    row.seconds += result.seconds
    if result.error is not None:
        row.fail(result.error)
        return row
    moved = result.bytes_after or 0 if str(result.status) == "reencoded" else 0
    row.bytes_moved += moved
    row.done(step, {"status": str(result.status), "bytes_moved": moved})
    return row


def _eliminated(row: Outcome, step: Step, result: Eliminated) -> Outcome:
    if result.status is EliminationStatus.FAILED:
        row.fail(result.error or Failure(str(Kind.INTERNAL), result.reason, 1))
        if result.error is not None and result.error.kind == Kind.BUSY:
            row.state = RowState.REFUSED  # somebody is at it, or it changed
        return row
    row.bytes_deleted += result.bytes_deleted
    said: Json = {"status": str(result.status), "bytes_deleted": result.bytes_deleted, "tiers": list(result.tiers)}
    row.done(step, said, result.reason)
    return row
