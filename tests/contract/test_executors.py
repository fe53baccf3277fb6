"""Every executor does the same: the calling process, processes and Dask of this machine, a cluster of others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import execute_kit
from tests.execute_kit import ENOUGH, MB, Task
from wsistore.errors import IntegrityError, Kind, TransientError, WorkersError, WsistoreError
from wsistore.execute import Engine, Executor, ProcessExecutor, SerialExecutor, open_executor

KINDS = ("serial", "processes", "dask", "cluster")


@pytest.fixture(scope="module", params=KINDS)
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    if request.param == "cluster":
        with (
            execute_kit.cluster(tmp_path_factory.mktemp("dask") / "cluster", 2) as cluster,
            open_executor(scheduler=cluster.address) as made,
        ):
            execute_kit.wait_until(lambda: made.workers == 2 or not list(made.run(abs, [1], memory_bytes=MB)))
            yield made
    else:
        with {
            "serial": SerialExecutor,
            "processes": lambda: ProcessExecutor(2),
            "dask": lambda: open_executor(Engine.DASK, workers=2),
        }[request.param]() as made:
            yield made


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    return [Task(tmp_path, number) for number in range(12)]


def begun(tasks: list[Task]) -> int:
    return sum(task.calls for task in tasks)


def test_each_task_comes_back_once_with_its_result(executor: Executor, tasks: list[Task]) -> None:
    done = list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))

    assert sorted(one.index for one in done) == list(range(12))
    assert all(one.task == tasks[one.index] and one.result == one.index**2 for one in done)
    assert [task.calls for task in tasks] == [1] * 12


def settled(executor: Executor, tasks: list[Task]) -> int:
    """Return how many tasks have begun; what was just running in a cluster of others ends by itself."""
    there = begun(tasks)
    if executor.where.startswith("the Dask cluster"):
        end = time.monotonic() + 150
        while time.monotonic() < end:
            time.sleep(3.0)
            before, there = there, begun(tasks)
            if there == before:
                break
    return there


def test_no_tasks_no_results(executor: Executor) -> None:
    assert list(executor.run(execute_kit.square, [], memory_bytes=ENOUGH)) == []


def test_hundreds_of_small_tasks(executor: Executor) -> None:
    done = list(executor.run(abs, [-number for number in range(400)], memory_bytes=ENOUGH))

    assert sorted(one.result for one in done) == list(range(400))


def test_results_come_in_order_of_completion(executor: Executor, tmp_path: Path) -> None:
    if executor.workers == 1:
        pytest.skip("one after the other")
    tasks = [Task(tmp_path, number) for number in range(12)]

    order = []
    for one in executor.run(execute_kit.square_when_told, tasks, memory_bytes=ENOUGH):
        order.append(one.index)
        if len(order) == 9:  # others may wait behind the first, at the same worker
            (tmp_path / "go").touch()

    assert order.index(0) >= 9
    assert sorted(order) == list(range(12))


def test_what_a_task_took_is_measured(executor: Executor, tasks: list[Task]) -> None:
    done = list(executor.run(execute_kit.burn, tasks[:2], memory_bytes=ENOUGH))

    for one in done:
        # Of 0.6 s and more, half was slept: a busy machine makes both longer, but the first not as long as the other.
        assert 0.3 <= one.cpu_seconds < one.wall_seconds
        assert one.wall_seconds >= 0.59
        assert one.peak_memory_bytes > 100 * MB
        assert one.worker
    assert len({one.worker for one in done}) <= executor.workers


def test_an_error_of_ours_comes_back_as_itself_and_ends_the_run(executor: Executor, tmp_path: Path) -> None:
    tasks = [Task(tmp_path, number, seconds=0.2) for number in range(30)]

    with pytest.raises(IntegrityError, match=r"^Chunk 0/1 of slide x is damaged\. Restore it\.\n") as caught:
        list(executor.run(execute_kit.refuse, tasks, memory_bytes=ENOUGH))

    assert type(caught.value) is IntegrityError
    assert str(caught.value) == "Chunk 0/1 of slide x is damaged. Restore it."
    assert (caught.value.kind, caught.value.remedy) == (Kind.FORMAT_UNKNOWN, "Restore it.")
    assert "in refuse" in caught.value.__notes__[0]
    there = settled(executor, tasks)
    assert there < 30
    time.sleep(0.6)
    assert begun(tasks) == there


def test_an_error_keeps_what_only_its_class_has(executor: Executor, tasks: list[Task]) -> None:
    with pytest.raises(TransientError) as caught:
        list(executor.run(execute_kit.refuse_with_more, tasks, memory_bytes=ENOUGH))

    assert caught.value.retry_after_seconds == 7.0


def test_an_error_comes_back_though_its_cause_cannot_travel(executor: Executor, tasks: list[Task]) -> None:
    with pytest.raises(IntegrityError, match="It is damaged") as caught:
        list(executor.run(execute_kit.refuse_with_a_cause, tasks, memory_bytes=ENOUGH))

    assert "UnpicklableError" in caught.value.__notes__[0]


@pytest.mark.parametrize(("function", "said"), [("stumble", "UnpicklableError: a fault"), ("leave", "SystemExit: en")])
def test_a_foreign_exception_is_a_fault_of_ours_that_names_the_task(
    executor: Executor, tasks: list[Task], function: str, said: str
) -> None:
    run = executor.run(
        getattr(execute_kit, function), tasks, memory_bytes=ENOUGH, name=lambda task: f"shard {task.number} of slide x"
    )

    with pytest.raises(WsistoreError, match=rf"^Shard \d+ of slide x \(task \d+ of 12\) failed: {said}") as caught:
        list(run)

    assert caught.value.kind is Kind.INTERNAL
    assert f"in {function}" in caught.value.__notes__[0]


def test_memory_that_a_task_is_refused(executor: Executor, tasks: list[Task]) -> None:
    with pytest.raises(WorkersError, match="ran out of memory") as caught:
        list(executor.run(execute_kit.no_memory, tasks, memory_bytes=ENOUGH))

    assert caught.value.kind is Kind.WORKERS_MEMORY


def test_what_cannot_be_handed_over(executor: Executor, tasks: list[Task]) -> None:
    if executor.where == "this process":
        pytest.skip("nothing is handed over")

    with pytest.raises(WsistoreError, match="cannot be handed over") as caught:
        list(executor.run(execute_kit.unpicklable_result, tasks, memory_bytes=ENOUGH))
    assert caught.value.kind is Kind.INTERNAL

    with pytest.raises(WsistoreError, match="cannot be handed over"):
        list(executor.run(repr, [execute_kit.UnpicklableError()], memory_bytes=ENOUGH))


def test_it_goes_on_after_an_error(executor: Executor, tasks: list[Task]) -> None:
    with pytest.raises(WsistoreError):
        list(executor.run(execute_kit.stumble, tasks, memory_bytes=ENOUGH))

    assert len(list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))) == 12


def test_no_more_is_begun_than_what_is_soon_asked_for(executor: Executor, tmp_path: Path) -> None:
    tasks = [Task(tmp_path, number) for number in range(40)]
    run = executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH)

    next(run)
    time.sleep(0.5)

    assert begun(tasks) <= 2 * executor.workers + 1
    run.close()  # type: ignore[attr-defined]


def test_nothing_is_begun_after_the_results_are_no_longer_wanted(executor: Executor, tmp_path: Path) -> None:
    tasks = [Task(tmp_path, number, seconds=0.3) for number in range(40)]
    run = executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH)
    next(run)

    run.close()  # type: ignore[attr-defined]

    there = settled(executor, tasks)
    time.sleep(0.8)
    assert begun(tasks) == there <= 2 * executor.workers + 1


def test_memory_that_nobody_has_is_refused_before_anything_begins(executor: Executor, tasks: list[Task]) -> None:
    with pytest.raises(WorkersError, match=r"1000\.0 TB") as caught:
        executor.run(execute_kit.square, tasks, memory_bytes=10**15)

    assert caught.value.kind is Kind.WORKERS_MEMORY
    assert begun(tasks) == 0


def test_a_bound_of_nothing_is_a_fault(executor: Executor, tasks: list[Task]) -> None:
    with pytest.raises(WsistoreError, match="0 bytes"):
        executor.run(execute_kit.square, tasks, memory_bytes=0)


def test_it_says_where_it_runs(executor: Executor) -> None:
    assert executor.where
    assert str(executor.workers) in executor.where or executor.workers == 1


# --- what workers log -------------------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(" [worker")[0] for record in caplog.records]


def test_what_workers_log_is_logged_here_once_at_the_level_wanted_here(
    executor: Executor, tasks: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "wsistore"):
        done = list(executor.run(execute_kit.talk, tasks[:4], memory_bytes=ENOUGH))

    said = [line for record, line in zip(caplog.records, lines(caplog), strict=True) if record.name.startswith("wsi")]
    assert sorted(said) == sorted([f"task {n} is done" for n in range(4)] + [f"helper of {n}" for n in range(4)])
    here = {record.thread for record in caplog.records if record.levelname == "INFO"}
    assert here == {threading.get_ident()}  # so that it has the caller's context
    if executor.where != "this process":
        workers = {one.worker for one in done}
        assert {record.processName for record in caplog.records if record.name == "wsistore.somewhere"} <= workers
        assert all(f"[worker {one.worker}]" in caplog.text for one in done)


def test_nobody_who_wants_no_details_is_sent_some(
    executor: Executor, tasks: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "wsistore"):
        list(executor.run(execute_kit.talk, tasks[:2], memory_bytes=ENOUGH))

    assert sorted(line for line in lines(caplog) if "of wsistore" not in line) == ["helper of 0", "helper of 1"]


def test_what_a_failing_task_logged_comes_before_its_error(
    executor: Executor, tasks: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "wsistore"), pytest.raises(IntegrityError):
        list(executor.run(execute_kit.talk_and_refuse, tasks[:1], memory_bytes=ENOUGH))

    assert lines(caplog) == ["before the end"]
    assert "JSONDecodeError" in caplog.text


def test_a_task_that_logs_without_end_is_heard_of_within_reason(
    executor: Executor, tasks: list[Task], caplog: pytest.LogCaptureFixture
) -> None:
    if executor.where == "this process":
        pytest.skip("nothing travels")
    with caplog.at_level("INFO", "wsistore"):
        list(executor.run(execute_kit.chatter, tasks[:1], memory_bytes=ENOUGH))

    assert len(caplog.records) == 201
    assert lines(caplog)[0] == "line 0"
    assert lines(caplog)[-1] == "800 more lines of this task are left out."
