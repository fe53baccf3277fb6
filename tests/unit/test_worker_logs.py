"""What workers log: what travels of it, to whom, and what is left of it afterwards."""

from __future__ import annotations

import logging
import pickle
import threading
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import InputError
from wsistore.execute.worker_logs import Collector, LogLine, collected, log_again

LOG = logging.getLogger("wsistore.made_up")


def logged(message: str, *args: Any, **more: Any) -> LogLine:
    with collected(logging.INFO) as found:
        LOG.info(message, *args, **more)
    (line,) = pickle.loads(pickle.dumps(found.lines))
    return line


def again(line: LogLine, caplog: pytest.LogCaptureFixture, worker: str = "w/1") -> logging.LogRecord:
    caplog.clear()
    with caplog.at_level(logging.INFO, "wsistore"):
        log_again([line], worker)
    (record,) = caplog.records
    return record


@given(st.text(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20))
def test_a_line_reads_the_same_here_as_there(text: str, number: int, part: float, worker: str) -> None:
    line = logged("%s has %d of %.3g %%", text, number, part)
    record = line.record(worker)

    assert record.getMessage() == f"{text} has {number} of {part:.3g} % [worker {worker}]"
    assert logged(text.replace("%", "")).record(worker).getMessage() == f"{text.replace('%', '')} [worker {worker}]"


def test_what_may_have_to_be_left_out_can_be_told_from_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    error = InputError("PATIENT-0001.svs is broken.", remedy="Scan it again.")
    record = again(logged("slide %s: %s of %s", "4szq", error, PurePosixPath("/mnt/PATIENT-0001.svs")), caplog)

    assert isinstance(record.args, tuple)
    slide, found, path = record.args
    assert (slide, type(found), str(found)) == ("4szq", InputError, str(error))
    assert path == PurePosixPath("/mnt/PATIENT-0001.svs")


def test_words_of_foreign_errors_do_not_travel(caplog: pytest.LogCaptureFixture) -> None:
    secret = "-".join(("PATIENT", "0001"))
    with collected(logging.INFO) as found:
        try:
            raise KeyError(secret)
        except KeyError as error:
            LOG.exception("it failed: %s", error)
    text = again(found.lines[0], caplog).getMessage()

    assert "it failed: KeyError [worker w/1]\n" in text
    assert "test_worker_logs.py" in text
    assert secret not in text


def test_values_that_cannot_be_pickled_and_numbers_of_numpy() -> None:
    line = logged("%d %.1f %s", np.int64(3), np.float32(0.5), threading.Lock())

    assert line.record("w").getMessage().startswith("3 0.5 <unlocked _thread.lock")


def test_a_line_that_cannot_be_formatted_ends_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    with collected(logging.INFO) as found:
        LOG.info("%s", Mute())
        LOG.info("next")
    assert [line.message for line in found.lines] == ["next"]


def test_two_tasks_of_a_process_get_their_own_lines() -> None:
    met, found = threading.Barrier(2), {}

    def task(number: int) -> None:
        with collected(logging.INFO) as mine:
            met.wait()
            LOG.info("task %d", number)
            met.wait()
        found[number] = [line.record("w").getMessage() for line in mine.lines]

    threads = [threading.Thread(target=task, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: ["task 1 [worker w]"], 2: ["task 2 [worker w]"]}


def test_the_process_is_left_as_it_was() -> None:
    root = logging.getLogger("wsistore")
    before = (root.level, list(root.handlers))
    with collected(logging.DEBUG), collected(None) as nothing:
        LOG.debug("seen by the first alone")
    assert (root.level, list(root.handlers)) == before
    assert nothing.lines == ()


def test_long_lines_and_many_lines_are_cut() -> None:
    assert len(logged("%" * 10_000).message) <= 4000
    collector = Collector(logging.INFO)
    for number in range(203):
        collector.add(logging.makeLogRecord({"msg": f"{number}", "levelno": logging.INFO}))
    assert len(collector.lines) == 201
    assert collector.lines[-1].message == "3 more lines of this task are left out."
