"""What wsistore writes into its log while a flow runs appears in the run, from whichever thread it comes.

Without the names of files and what was raised about them, which may tell of patients: these go to the process's own
log alone, in whole.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger

from wsistore.errors import WsistoreError
from wsistore_flows.states import Tellable, told

_LOGGERS = ("wsistore", "wsistore_flows")
_LEVEL = logging.INFO
_A_FILE = "(a file)"

RunLogger = logging.Logger | logging.LoggerAdapter[Any]


class _ToRun(logging.Handler):
    """Hands records to the run's logger: that of the task that is under way, or of the flow."""

    def __init__(self, flow: RunLogger) -> None:
        super().__init__(_LEVEL)
        self._flow = flow

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Threads of operations have no context of Prefect's: what they say belongs to the flow.
            logger = self._flow if TaskRunContext.get() is None else get_run_logger()
            text, is_whole = public(record)
            logger.log(record.levelno, "%s", text)
            if not is_whole:
                logging.getLogger().handle(record)
        except Exception:
            self.handleError(record)


def public(record: logging.LogRecord) -> tuple[str, bool]:
    """Return what of a record may be shown in a run, and whether that is all of it."""
    given = record.args if isinstance(record.args, tuple) else ()
    shown = tuple(_shown(one) for one in given)
    is_whole = all(one is other or one == other for one, other in zip(given, shown, strict=True))
    text = str(record.msg) % shown if shown else record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        frames = "".join(traceback.format_tb(record.exc_info[2]))
        return f"{text}\n{frames}{record.exc_info[0].__name__}", False
    return text, is_whole


def _shown(value: object) -> object:
    if isinstance(value, WsistoreError):
        text = told(value)
        return value if text == str(value) else text
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, Tellable):
        return value
    is_path = isinstance(value, PurePath) or (isinstance(value, str) and value.startswith("/"))
    return _A_FILE if is_path else value


@contextmanager
def logs_to_run() -> Iterator[None]:
    """Let the log reach the run for as long as the block lasts; outside Prefect it goes where it always goes."""
    if FlowRunContext.get() is None:
        yield
        return
    handler = _ToRun(get_run_logger())
    before = {}
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        before[name] = (logger.level, logger.propagate)
        logger.propagate = False  # the run's logger prints it, too
        if logger.getEffectiveLevel() > _LEVEL:
            logger.setLevel(_LEVEL)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            level, logger.propagate = before[name]
            logger.setLevel(level)
