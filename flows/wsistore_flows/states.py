"""The states in which runs end, by names that say in Prefect's lists what happened, and what may be told there.

Names of files may tell of patients, and everybody who opens Prefect reads its states, logs and artifacts: a message
that may name one is told by its kind only. The whole of it is in the log of the process (the journal of the service).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from wsistore.errors import ConflictError, Kind, TransientError, WsistoreError
from wsistore.ops.results import Failure

SKIPPED = "Skipped"
"""Another run is at work, or has done what this one was to do."""
WAITING_FOR_APPROVAL = "WaitingForApproval"
WAITING_FOR_CONFIRMATION = "WaitingForConfirmation"
"""A recall may cost more than it may."""
NOT_IN_TIME = "NotInTime"
"""Slides that were recalled by a time are not there, or will not be."""
NEEDS_ACTION = "NeedsAction"
"""The work is done, and shows something that people have to see to."""
WAITING_FOR_WINDOW = "WaitingForWindow"
NOTHING_TO_DO = "NothingToDo"
REFUSALS = "DoneWithRefusals"
GOES_ON = "GoesOn"
"""Slides are left for another time: the window closed, the day's bytes are moved, or the time was up."""

SEVERAL_REASONS = 9
FAILURES = {
    3: "InputNotInOrder",
    4: "NotThere",
    5: "Conflict",
    6: "TierFailed",
    7: "DamageFound",
    8: "SiteNotInOrder",
    SEVERAL_REASONS: "SlidesFailed",
    10: "WorkersFailed",
}
"""Names of failed runs by the exit code that the same thing has on the command line; 9: for several reasons."""
FAULT = "Fault"
"""Of wsistore itself."""

_OF_PATHS = frozenset({Kind.PATH_MISSING, Kind.TARGET_EXISTS, Kind.SOURCE_UNREADABLE})
_PASSING = frozenset(
    {
        *(Kind.CATALOG_FAILED, Kind.STORAGE_TRANSIENT, Kind.CLUSTER_UNREACHABLE, Kind.WORKERS_LOST),
        Kind.TIER_MISSING,  # a share that is not mounted now may be in a minute
    }
)
_PRIVATE = frozenset(
    {
        *(kind for kind in Kind if kind.startswith(("source-", "unsupported-", "slide-"))),
        *(Kind.NOT_A_SLIDE, Kind.METADATA_INVALID, Kind.PATH_MISSING, Kind.CONDITION_INVALID, Kind.SHEET_INVALID),
        *(Kind.TARGET_EXISTS, Kind.INTERNAL),
    }
)
"""Kinds whose messages may name files, numbers of cases, or what nobody foresaw."""


class Tellable(str):
    """A text that was looked at: it names no patient's files, though it may begin with a path of the site's own."""

    __slots__ = ()


def failed(error: WsistoreError, site: Path | None = None) -> State[Any]:
    """Return the state of a run that an error ended: what is wrong, what to do, and the command line's exit code."""
    return failure(told(error, site), error.exit_code, str(error.kind))


def failure(message: str, exit_code: int, kind: str = "") -> State[Any]:
    """Return the state of a run that failed, by its message (with the remedy), exit code and kind."""
    code = f"exit code {exit_code}" + (f", {kind}" if kind else "")
    return Failed(name=FAILURES.get(exit_code, FAULT), message=f"{message} ({code})")


def ended(message: str, failures: Iterable[Failure] = (), *, refused: int = 0) -> State[Any]:
    """Return the state of a run over many slides.

    Parameters
    ----------
    message
        How many slides became what, as a sentence without a full stop.
    failures
        What failed; conflicts (on hold, the last copy, somebody else is at it) count as refused.
    refused
        Slides that were refused otherwise.

    """
    found = list(failures)
    bad = [one for one in found if one.exit_code != ConflictError.exit_code]
    refused += len(found) - len(bad)
    if not bad:
        return Completed(name=REFUSALS if refused else "Completed", message=f"{message}.")
    codes, kinds = {one.exit_code for one in bad}, {one.kind for one in bad}
    first = may_be_told(bad[0].message, bad[0].kind)
    why = first if len(bad) == 1 or len(kinds) == 1 else f"The first of {len(bad)} failures: {first}"
    code = codes.pop() if len(codes) == 1 else SEVERAL_REASONS
    return failure(f"{message}. {why}", code, kinds.pop() if len(kinds) == 1 else "")


def fault(error: Exception) -> State[Any]:
    """Return the state of a run that something ended which wsistore does not know."""
    message = f"Something went wrong that wsistore does not know ({type(error).__name__}). Please report it with"
    return failure(f"{message} what the log of the flows' service says of it.", 1, str(Kind.INTERNAL))


def skipped(reason: str) -> State[Any]:
    """Return the state of a run that had nothing to do, for a reason."""
    return Completed(name=SKIPPED, message=reason)


def told(error: WsistoreError, site: Path | None = None) -> str:
    """Return what may be told of an error: message and remedy, or its kind where they may name a patient's files.

    A message about a file of the folder `site` (its rules, its settings) is told.
    """
    if site is not None and error.kind in _OF_PATHS and f"{site}{os.sep}" in error.message:
        return Tellable(str(error))
    return may_be_told(str(error), str(error.kind))


def may_be_told(message: str, kind: str) -> str:
    """Return a message of an error of a kind if it may be told, else what is said instead."""
    if kind == Kind.HELD:  # people write why, in their own words
        return "It is on hold; 'wsistore hold ls' says why."
    if kind in {str(one) for one in _PRIVATE}:
        return f"({kind}: the message may name a file and is in the log of the flows' service only)"
    return message


def passes_by_itself(error: BaseException) -> bool:
    """Say whether an error may be gone in some minutes."""
    if isinstance(error, TransientError):
        return True
    return isinstance(error, WsistoreError) and error.kind in _PASSING


def kind_passes(kind: str) -> bool:
    """Say whether errors of a kind may be gone in some minutes."""
    return kind in {str(one) for one in _PASSING}
