"""Which task is to blame for a worker's death: only one that was alone there, and more than once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsistore.execute.flow import BACKLOG_PER_WORKER, MOST_DEATHS, Flow


def play(tasks: int, workers: int, culprits: frozenset[int]) -> tuple[list[int], int | None]:
    """Run tasks on a pool that dies as a whole where a culprit is; return what was finished, and who was blamed."""
    flow: Flow[int] = Flow(tasks)
    finished: list[int] = []
    while flow.fill(workers, lambda index: index):
        assert len(flow.running) <= workers * BACKLOG_PER_WORKER
        there = sorted(flow.running)
        if culprits.intersection(there):
            flow.running.clear()
            blamed = flow.died(there)
            if blamed is not None:
                return finished, blamed
        else:
            finished.append(flow.running.pop(there[0]))
    return finished, None


@given(st.integers(0, 30), st.integers(1, 8))
def test_without_deaths_every_task_runs_once(tasks: int, workers: int) -> None:
    assert play(tasks, workers, frozenset()) == (list(range(tasks)), None)


@given(st.integers(1, 30), st.integers(1, 8), st.data())
def test_only_a_culprit_is_blamed_and_nothing_runs_twice_to_the_end(
    tasks: int, workers: int, data: st.DataObject
) -> None:
    culprits = data.draw(st.frozensets(st.integers(0, tasks - 1), min_size=1, max_size=3))

    finished, blamed = play(tasks, workers, culprits)

    assert blamed in culprits
    assert len(set(finished)) == len(finished)
    assert not culprits.intersection(finished)


def test_a_task_that_dies_once_less_is_not_given_up() -> None:
    flow: Flow[int] = Flow(1)
    for _ in range(MOST_DEATHS - 1):
        assert flow.fill(1, lambda index: index)
        flow.running.clear()
        assert flow.died([0]) is None

    assert flow.fill(1, lambda index: index)
    flow.running.clear()
    assert flow.died([0]) == 0


def test_a_submission_that_fails_leaves_the_task_where_it_was() -> None:
    flow: Flow[int] = Flow(2)

    def fail(index: int) -> int:
        raise OSError

    try:
        flow.fill(1, fail)
    except OSError:
        assert flow.running == {}
    assert flow.fill(1, lambda index: index)
    assert sorted(flow.running) == [0, 1]
