"""What workers log reaches whoever gave them their tasks: it travels with each outcome, and is logged again there.

Not over a connection of its own: what is logged again in the caller's thread has the caller's context, so that it lies
where his own lines lie, and it works alike for processes and for every kind of Dask cluster.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import PurePath

from wsistore.errors import WsistoreError

LOGGER = "wsistore"
_MOST_LINES, _MOST_CHARACTERS = 200, 4000
"""Of one task: what travels is to be small beside the work."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a worker's log; pickles."""

    logger: str
    level: int
    message: str
    args: tuple[object, ...]
    """What is to be put into the message: whoever shows it may have to leave something of it out."""
    created: float
    path: str
    line: int
    function: str
    trace: str = ""
    """Where an exception came from that was logged with it, and its type: its words may name what not all may read."""

    def record(self, worker: str) -> logging.LogRecord:
        """Return it as a record that says in which worker it was logged."""
        name = PurePath(self.path).name
        # The trace is part of the text: not every handler looks for it elsewhere.
        trace = f"\n{self.trace}" if self.trace else ""
        return logging.makeLogRecord(
            {
                "name": self.logger,
                "levelno": self.level,
                "levelname": logging.getLevelName(self.level),
                "msg": f"{self.message} [worker {_plain(worker, self.args)}]{_plain(trace, self.args)}",
                "args": self.args,
                "created": self.created,
                "msecs": self.created % 1 * 1000,
                "pathname": self.path,
                "filename": name,
                "module": name.rpartition(".")[0] or name,
                "lineno": self.line,
                "funcName": self.function,
                "processName": worker,
            }
        )


class Collector:
    """The lines of one task.

    Parameters
    ----------
    level
        The least that is collected.

    """

    def __init__(self, level: int) -> None:
        self.level = level
        self._lines: list[LogLine] = []
        self._left_out = 0

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record, unless it is below the level; of very many, the first."""
        if record.levelno < self.level:
            return
        if len(self._lines) >= _MOST_LINES:
            self._left_out += 1
            return
        self._lines.append(_line(record))

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """What was kept, and how many lines were not."""
        if not self._left_out:
            return tuple(self._lines)
        last = self._lines[-1]
        rest = f"{self._left_out} more lines of this task are left out."
        left = LogLine(LOGGER, logging.WARNING, rest, (), last.created, last.path, last.line, last.function)
        return (*self._lines, left)


class _Taking(logging.Handler):
    """Gives each record to the collector of the task that logged it."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: dict[int, Collector] = {}
        """By thread. What a thread of none of them logs goes to the eldest: which one it works for is not known."""

    def emit(self, record: logging.LogRecord) -> None:
        collector = self.collectors.get(record.thread or 0) or next(iter(self.collectors.values()), None)
        if collector is None:
            return
        try:
            collector.add(record)
        except Exception:  # a log line that cannot be formatted must not end the task
            self.handleError(record)


_taking, _guard = _Taking(), threading.Lock()
_level_before = logging.NOTSET


@contextmanager
def collected(level: int | None) -> Iterator[Collector]:
    """Collect what the calling thread, and threads that it starts, log under ``wsistore`` at `level` and above.

    With None nothing is collected: then the caller's own handlers see it anyway.
    """
    collector = Collector(logging.CRITICAL if level is None else level)
    if level is None:
        yield collector
        return
    me = threading.get_ident()
    _begin(me, collector)
    try:
        yield collector
    finally:
        _end(me)


def _begin(thread: int, collector: Collector) -> None:
    global _level_before  # loggers are the process's, too
    log = logging.getLogger(LOGGER)
    with _guard:
        if not _taking.collectors:
            _level_before = log.level
            log.addHandler(_taking)
        _taking.collectors[thread] = collector
        log.setLevel(min(one.level for one in _taking.collectors.values()))


def _end(thread: int) -> None:
    log = logging.getLogger(LOGGER)
    with _guard:
        _taking.collectors.pop(thread, None)
        if not _taking.collectors:
            log.removeHandler(_taking)
            log.setLevel(_level_before)


def wanted_level() -> int:
    """Return the least level that this process wants to hear of wsistore."""
    return logging.getLogger(LOGGER).getEffectiveLevel()


def log_again(lines: Sequence[LogLine], worker: str) -> None:
    """Log here what a worker logged, as far as it is wanted here."""
    for line in lines:
        log = logging.getLogger(line.logger)
        if log.isEnabledFor(line.level):
            log.handle(line.record(worker))


def _line(record: logging.LogRecord) -> LogLine:
    trace = ""
    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_tb(record.exc_info[2])) + record.exc_info[0].__name__
    given = record.args if isinstance(record.args, tuple) else ()
    args = tuple(map(_carried, given))
    message = str(record.msg) if args else record.getMessage()
    if len(message) > _MOST_CHARACTERS:
        message, args = message[:_MOST_CHARACTERS].replace("%", ""), ()
    return LogLine(
        logger=record.name,
        level=record.levelno,
        message=message,
        args=args,
        created=record.created,
        path=record.pathname,
        line=record.lineno,
        function=record.funcName or "",
        trace=trace[-_MOST_CHARACTERS:],
    )


def _carried(value: object) -> object:
    """Return what of a value travels: it need not be one that can be pickled."""
    if value is None or isinstance(value, int | float | PurePath | WsistoreError):
        return value
    if isinstance(value, Integral):  # of NumPy
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return type(value).__name__ if isinstance(value, BaseException) else str(value)[:_MOST_CHARACTERS]


def _plain(text: str, args: tuple[object, ...]) -> str:
    """Return a text as it stands in a message that others are put into."""
    return text.replace("%", "%%") if args else text
