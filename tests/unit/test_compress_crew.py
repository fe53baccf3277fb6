"""Crews: executors whose threads stay."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from threading import Event, current_thread

import pytest

from wsistore.compress import crew as crews
from wsistore.compress.crew import Crew


def test_threads_serve_the_next_crew_of_the_same_size() -> None:
    crews._idle.forget()
    with Crew(1) as first:
        first.submit(current_thread).result()
    there = threading.enumerate()
    with Crew(1) as second:
        served = second.submit(current_thread).result()
        assert served in there
        # Crews that last at the same time share nothing.
        with Crew(1) as third:
            assert third.submit(current_thread).result() is not served


def test_as_many_tasks_as_workers_run_at_a_time() -> None:
    together = threading.Barrier(3)
    with Crew(3) as crew:
        waits = [crew.submit(together.wait, 240) for _ in range(3)]
        assert sorted(wait.result() for wait in waits) == [0, 1, 2]


def test_leaving_waits_for_what_was_submitted() -> None:
    go, done = Event(), []

    def work() -> None:
        go.wait(240)
        done.append(True)

    with Crew(1) as crew:
        crew.submit(work)
        crew.submit(work)
        go.set()
    assert done == [True, True]


def test_cancelling_drops_what_has_not_begun() -> None:
    begun, go = Event(), Event()

    def work() -> None:
        begun.set()
        go.wait(240)

    crew = Crew(1)
    first, second = crew.submit(work), crew.submit(work)
    assert begun.wait(240)
    second.add_done_callback(lambda _: go.set())  # the first ends when the second is cancelled, not before
    crew.shutdown(cancel_futures=True)
    assert first.done()
    assert not first.cancelled()
    assert second.cancelled()


def test_dismissed_crew_takes_nothing_more() -> None:
    crew = Crew(1)
    crew.shutdown()
    crew.shutdown()
    with pytest.raises(RuntimeError, match="dismissed"):
        crew.submit(current_thread)


def test_failure_of_a_task_is_its_own() -> None:
    with Crew(1) as crew:
        failed: Future[int] = crew.submit(int, "x")
    with Crew(1) as crew:
        assert crew.submit(int, "7").result() == 7
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_starts_threads_of_its_own() -> None:
    with Crew(1) as crew:
        crew.submit(current_thread).result()
    child = os.fork()
    if not child:
        try:
            with Crew(1) as crew:
                answer = crew.submit(int, "5").result(240)
            os._exit(answer)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
