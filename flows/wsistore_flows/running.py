"""What every flow shares: the site opened, one run of a kind at a time, parts of a run as tasks, errors as states.

A flow is a call of `night` with a function that gets a `Run` and returns the state that the run ends in. It can be
called without Prefect (``lifecycle.fn(site)``): then parts of a run are plain calls. Nothing of safety is here: the
journals, locks and repeatable steps of the operations guard the slides, whoever calls them how often.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State as PrefectState
from prefect.context import FlowRunContext
from prefect.states import Completed

from wsistore import ops
from wsistore.clock import Clock, SystemClock
from wsistore.errors import WsistoreError
from wsistore.execute import Executor
from wsistore.ops.applying_workers import late_executor
from wsistore.ops.process_lock import process_lock
from wsistore.ops.watching import Planned, Watcher
from wsistore.settings import FlowSettings, FlowsSettings
from wsistore_flows.artifacts import Shown
from wsistore_flows.notes import ensure_folder, last_run, lock_path, note_run
from wsistore_flows.run_logs import logs_to_run
from wsistore_flows.states import SKIPPED, Tellable, failed, fault, passes_by_itself, skipped, told

State: TypeAlias = PrefectState[Any]
T = TypeVar("T")
R = TypeVar("R")

BATCH = 50
"""Slides of one Prefect task. Each costs Prefect's server some 45 ms of processor time and people a line to read."""
PATIENCE_SECONDS = 20.0
"""How long a run waits for another one of its kind to end: two schedules may meet at the full hour."""
_LOOK_AGAIN_SECONDS = 0.5

FLOW: Mapping[str, Any] = {"persist_result": False, "validate_parameters": True, "log_prints": False}
"""Options of every flow: ``@flow(name="expire", **FLOW, **HOOKS)`` (`wsistore_flows.hooks.HOOKS`)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a flow that has its site, and is the only one of its kind."""

    name: str
    site: ops.Site
    shown: Shown
    """Its artifacts."""
    began: datetime
    expected: datetime | None = None
    """When it was to begin by its schedule; None: somebody started it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What `note` keeps of it for ``wsistore flows history``: JSON, no identities."""

    @property
    def flows(self) -> FlowsSettings:
        """What the site decides of its nights."""
        return self.site.settings.flows

    @property
    def flow(self) -> FlowSettings:
        """What the site decides of this flow."""
        return self.flows.flow(self.name)

    def step(self, name: str, work: Callable[[], T], *, again: bool = True, tags: Sequence[str] = ()) -> T:
        """Do a part of the run: in Prefect a task of this name, else a plain call.

        Parameters
        ----------
        name
            For people, such as ``plan`` or ``slides 51-100 of 312``; no identities.
        work
            What is done. It is called again if it may be, so it must not matter how often.
        again
            Whether what fails in passing is tried again, after the pauses that the site's settings say.
        tags
            Of the task; limits of concurrency may name them.

        Raises
        ------
        WsistoreError
            What `work` raised, when it is not tried again any more.

        """
        if not in_prefect():
            return work()
        delays = list(self.flows.retry_seconds) if again else []
        options: dict[str, Any] = {
            "name": name,
            "task_run_name": name.replace("{", "(").replace("}", ")"),  # Prefect would fill in what stands in braces
            "tags": set(tags),
            "cache_policy": NO_CACHE,
            "persist_result": False,
            "cache_result_in_memory": False,
            "retries": len(delays),
            "retry_delay_seconds": delays or 0,
            "retry_condition_fn": _again,
        }

        @task(**options)
        def part() -> T:
            try:
                return work()
            except TimeoutError:
                raise  # the run's time is up: Prefect names it so
            except Exception as error:
                raise StepError(error) from None

        try:
            found: T = part()
        except StepError as failure:
            raise failure.error from None
        return found

    def batches(
        self, what: str, items: Sequence[T], work: Callable[[Sequence[T]], R], *, size: int = BATCH, again: bool = True
    ) -> Iterator[R]:
        """Yield what `work` returns of each batch of `items`, in their order: each batch is a step of its own."""
        for start in range(0, len(items), size):
            batch = items[start : start + size]
            name = f"{what} {start + 1}-{start + len(batch)} of {len(items)}"
            yield self.step(name, partial(work, batch), again=again)

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """Yield the workers that the site's settings tell, started when they are first needed; end them afterwards."""
        found = late_executor(self.site, self.flows.scheduler or None, self.flows.workers or None, Told())
        try:
            yield found
        finally:
            found.close()


class StepError(Exception):
    """A part of a run failed, as Prefect shows it: without what may name a patient's files.

    Parameters
    ----------
    error
        What happened.

    """

    def __init__(self, error: Exception) -> None:
        super().__init__(told(error) if isinstance(error, WsistoreError) else type(error).__name__)
        self.error = error


class Told(Watcher):
    """Writes what an operation tells while it works into the run's log."""

    def waiting(self, what: str) -> None:
        """Write a sentence when there is something to wait for."""
        _log.info("%s", what)

    def planned(self, plan: Planned) -> None:
        """Write what is about to be done to a slide."""
        by = f", {plan.shards} shards by {plan.where}" if plan.shards else ""
        _log.info("slide %s goes to %s as %s%s", plan.slide, plan.tier, plan.preset, by)


def night(
    name: str,
    site: str | None,
    work: Callable[[Run], State],
    *,
    lock: str | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> State:
    """Do the work of a flow in a site, as the only one of its kind; return the state that the run ends in.

    Parameters
    ----------
    name
        Of the flow, one of `wsistore.settings.FLOW_NAMES`.
    site
        The site's folder; by default the one that WSISTORE_HOME tells.
    work
        What is done.
    lock
        What only one may be at, if it is not this flow alone.
    patience_seconds
        How long to wait for another one to end.

    Returns
    -------
    State
        What `work` returned; ``Skipped`` if another run is at work or has caught up what this one was to do; a failed
        one with message, remedy and exit code of what went wrong.

    """
    folder: Path | None = None
    with logs_to_run():
        try:
            with (
                ops.open_site(Path(site).expanduser() if site else None) as opened,
                _alone(opened, lock or name, patience_seconds) as is_alone,
            ):
                folder = opened.folder
                if not is_alone:
                    return skipped(f"Another run of {lock or name} is at work in the site {opened.settings.name}.")
                shown = Shown(opened.settings.name, name)
                return _worked(Run(name, opened, shown, opened.clock.now(), _expected()), work)
        except WsistoreError as error:
            # It says what is wrong and what to do: a traceback says less.
            _log.error("%s", Tellable(error) if told(error, folder) == str(error) else error)
            return failed(error, folder)
        except TimeoutError:
            raise  # the run's time is up: Prefect names it so
        except Exception as error:
            _log.exception("unexpected")
            return fault(error)


def in_prefect() -> bool:
    """Say whether a run of Prefect is under way here."""
    return FlowRunContext.get() is not None


def done(message: str, *, name: str = "Completed") -> State:
    """Return the state of a run that did its work, with a name that says what kind of end it is."""
    return Completed(name=name, message=message)


def _worked(run: Run, work: Callable[[Run], State]) -> State:
    last = last_run(run.site.folder, run.name)
    if run.expected is not None and last is not None and run.expected <= last.began:
        when = f"{run.expected:%Y-%m-%d %H:%M} UTC"
        return skipped(f"Due at {when}: caught up by the run that began at {last.began:%Y-%m-%d %H:%M} UTC.")
    state = work(run)
    if state.is_completed() and state.name != SKIPPED:
        note_run(run.site.folder, run.name, run.began, run.site.clock.now(), state, run.facts)
    return state


def _expected() -> datetime | None:
    context = FlowRunContext.get()
    found = None if context is None else context.flow_run
    return found.expected_start_time if found is not None and found.auto_scheduled else None


@contextmanager
def _alone(site: ops.Site, name: str, patience_seconds: float, clock: Clock | None = None) -> Iterator[bool]:
    """Hold the lock of a kind of run if it is free within `patience_seconds`; say whether it is held.

    The machine's clock is asked, not the site's: what is waited for is another process.
    """
    clock = clock or SystemClock()
    ensure_folder(site.folder)
    ends = clock.monotonic_seconds() + patience_seconds
    while True:
        with process_lock(lock_path(site.folder, name)) as is_held:
            if is_held or clock.monotonic_seconds() >= ends:
                yield is_held
                return
        clock.sleep(_LOOK_AGAIN_SECONDS)


def _again(_task: object, _run: object, state: State) -> bool:
    return isinstance(state.data, StepError) and passes_by_itself(state.data.error)
