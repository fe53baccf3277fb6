"""Workers, schedulers and parents that die, hang or are not what they should be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path

import dask
import pytest
from distributed import Client
from distributed.security import Security

from tests import execute_kit
from tests.execute_kit import ENOUGH, MB, REPOSITORY, Task, alive, children, cluster, wait_until
from wsistore.clock import SystemClock
from wsistore.errors import Kind, WorkersError
from wsistore.execute import Engine, Executor, ProcessExecutor, machine, open_executor
from wsistore.execute.dask_existing import ExistingDask
from wsistore.execute.dask_local import LocalDask

OWN = {"processes": ProcessExecutor, "dask": LocalDask}


@pytest.fixture(params=sorted(OWN))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with OWN[request.param](2) as made:
        yield made


def kill_when_begun(task: Task) -> threading.Thread:
    def kill() -> None:
        wait_until(lambda: task.pids, 240)
        time.sleep(0.2)
        os.kill(task.pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


# --- workers that die -------------------------------------------------------------------------------------------------


def test_a_killed_workers_tasks_run_elsewhere(executor: Executor, tmp_path: Path) -> None:
    tasks = [Task(tmp_path, 0, first_seconds=600.0), *(Task(tmp_path, number, seconds=1.0) for number in range(1, 6))]
    killer = kill_when_begun(tasks[0])

    done = list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))

    killer.join()
    assert sorted(one.result for one in done) == [0, 1, 4, 9, 16, 25]
    assert tasks[0].calls == 2


def test_a_task_that_always_ends_its_worker_is_named_and_others_are_not_blamed(
    executor: Executor, tmp_path: Path
) -> None:
    tasks = [Task(tmp_path, number, seconds=0.1, deaths=99 if number == 2 else 0) for number in range(6)]
    run = executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH, name=lambda task: f"shard {task.number}")

    with pytest.raises(WorkersError, match=r"^Shard 2 \(task 3 of 6\) ended 4 workers .* Run it again") as caught:
        list(run)

    assert caught.value.kind is Kind.WORKERS_LOST
    assert tasks[2].calls in (3, 4)  # one of the workers may have died before it began


def test_a_task_that_ends_two_workers_is_finished_by_the_third(executor: Executor, tmp_path: Path) -> None:
    tasks = [Task(tmp_path, number, deaths=2 if number == 1 else 0) for number in range(3)]

    done = list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))

    assert sorted(one.index for one in done) == [0, 1, 2]
    assert tasks[1].calls == 3


def test_workers_that_are_killed_while_they_have_nothing_to_do(executor: Executor, tmp_path: Path) -> None:
    first = [Task(tmp_path, number) for number in range(4)]
    list(executor.run(execute_kit.square, first, memory_bytes=ENOUGH))
    for pid in {pid for task in first for pid in task.pids}:
        os.kill(pid, signal.SIGKILL)

    done = list(executor.run(execute_kit.square, [Task(tmp_path, 10), Task(tmp_path, 11)], memory_bytes=ENOUGH))

    assert sorted(one.result for one in done) == [100, 121]


def test_workers_that_are_killed_while_they_start(tmp_path: Path) -> None:
    """Dask's nanny gives up then, and would leave the tasks waiting for ever."""
    with LocalDask(1) as executor:
        list(executor.run(execute_kit.square, [Task(tmp_path, 1)], memory_bytes=ENOUGH))
        nanny = next(iter(executor._cluster.workers.values()))
        old = nanny.pid
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: nanny.pid not in (old, None))
        os.kill(nanny.pid, signal.SIGKILL)

        assert len(list(executor.run(execute_kit.square, [Task(tmp_path, 2)], memory_bytes=ENOUGH))) == 1


def test_a_worker_that_needs_more_than_its_bound_is_ended_and_the_task_named(tmp_path: Path) -> None:
    tasks = [Task(tmp_path, number) for number in range(3)]

    with LocalDask(1) as executor, pytest.raises(WorkersError, match=r"^Task 2 of 3 ended 4 workers .*300\.0 MB"):
        list(executor.run(execute_kit.grow, tasks, memory_bytes=ENOUGH))

    assert tasks[1].calls in (3, 4)


# --- what is left behind ----------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from tests.execute_kit import ENOUGH, Task, square
from wsistore.execute import Engine, open_executor

if __name__ == "__main__":
    tasks = [Task(Path(sys.argv[2]), number, seconds=900) for number in range(4)]
    try:
        with open_executor(Engine(sys.argv[1]), workers=2) as executor:
            list(executor.run(square, tasks, memory_bytes=ENOUGH))
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


@pytest.fixture(params=["processes", "dask"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A program whose two workers are at work, and the processes that it has started."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    (tmp_path / "calls").mkdir()
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, script, request.param, tmp_path / "calls"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    started: set[int] = set()
    try:
        wait_until(lambda: len(list((tmp_path / "calls").iterdir())) == 2, 240)
        started = children(process.pid)
        assert len(started) >= 2
        yield process, sorted(started)
    finally:
        process.kill()
        process.communicate()
        for pid in filter(alive, started):
            os.kill(pid, signal.SIGKILL)


def test_ctrl_c_ends_everything_soon_and_quietly(
    program: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, started = program

    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all of them
    _, said = process.communicate(timeout=240)

    assert said.splitlines() == ["interrupted"]
    assert process.returncode == 1
    wait_until(lambda: not any(map(alive, started)))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_workers_end_with_a_parent_that_is_killed(program: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, started = program

    process.kill()

    wait_until(lambda: not any(map(alive, started)))


def test_nothing_is_left_and_nothing_listened_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "calls").mkdir()
    before = children()

    with LocalDask(1) as executor:
        list(executor.run(execute_kit.square, [Task(tmp_path / "calls", 1)], memory_bytes=ENOUGH))
        assert any(path.name.startswith("wsistore-dask-") for path in tmp_path.iterdir())
        mine = {os.getpid(), *(children() - before)}
        assert {address for pid in mine for address in listening(pid)} == {"127.0.0.1"}

    assert [path.name for path in tmp_path.iterdir()] == ["calls"]
    # Python's resource tracker stays as long as this process.
    wait_until(lambda: len(children() - before) <= 1)


def listening(pid: int) -> set[str]:
    """Return the addresses at which a process accepts connections."""
    psutil = pytest.importorskip("psutil")
    return {c.laddr.ip for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN}


# --- memory of this machine -------------------------------------------------------------------------------------------


def test_workers_are_as_many_as_memory_suffices_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "available_bytes", lambda: 1000 * MB)

    assert machine.fitting_workers(None, 100 * MB) == 8
    assert machine.fitting_workers(None, 300 * MB) == 3
    assert machine.fitting_workers(3, 300 * MB) == 3
    with pytest.raises(WorkersError, match=r"4 workers may need 300\.0 MB .* has 1\.0 GB .* Use 3 workers at most"):
        machine.fitting_workers(4, 300 * MB)
    with pytest.raises(WorkersError, match="larger machine"):
        machine.fitting_workers(None, 1001 * MB)
    monkeypatch.setattr(machine, "available_bytes", lambda: None)
    assert machine.fitting_workers(None, 10**15) == 8


def test_memory_of_this_machine_is_known() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    available = machine.available_bytes()

    assert available is not None
    assert 0 < available <= total


# --- clusters of others -----------------------------------------------------------------------------------------------


def test_a_cluster_of_others_loses_a_worker_and_goes_on(tmp_path: Path) -> None:
    tasks = [Task(tmp_path, 0, first_seconds=600.0), *(Task(tmp_path, number, seconds=1.0) for number in range(1, 6))]
    with cluster(tmp_path / "cluster", 2) as dask_cluster, open_executor(scheduler=dask_cluster.address) as executor:
        killer = kill_when_begun(tasks[0])
        done = list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))
        killer.join()

    assert sorted(one.index for one in done) == list(range(6))
    assert tasks[0].calls == 2


def test_a_task_that_ends_workers_of_others_is_told(tmp_path: Path) -> None:
    tasks = [Task(tmp_path, 0, deaths=99)]
    with (
        cluster(tmp_path / "cluster", 1, nanny=True) as dask_cluster,
        open_executor(scheduler=dask_cluster.address) as executor,
    ):
        with pytest.raises(WorkersError, match=r"^Task 1 of 1 ended 4 workers") as caught:
            list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))
        assert caught.value.kind is Kind.WORKERS_LOST
        assert len(list(executor.run(execute_kit.square, [Task(tmp_path, 1)], memory_bytes=ENOUGH))) == 1


def test_a_scheduler_that_dies_ends_the_run(tmp_path: Path) -> None:
    tasks = [Task(tmp_path, number, seconds=0.5) for number in range(20)]
    with cluster(tmp_path / "cluster", 1) as dask_cluster, open_executor(scheduler=dask_cluster.address) as executor:
        run = executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH)
        next(run)
        dask_cluster.scheduler.kill()

        with pytest.raises(WorkersError, match=r"was lost: .* See that the scheduler runs. Run it again: ") as caught:
            list(run)
        assert caught.value.kind is Kind.CLUSTER_UNREACHABLE
        with pytest.raises(WorkersError, match="was lost"):
            executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{}", "tls://127.0.0.1:{}", "nonsense://1", "127.0.0.1:port", "["])
def test_a_scheduler_that_is_not_there(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsistore.execute.dask_existing.CONNECT_SECONDS", 1.0)

    with pytest.raises(WorkersError, match="cannot be reached: ") as caught:
        open_executor(scheduler=address.format(free_port()))

    assert caught.value.kind is Kind.CLUSTER_UNREACHABLE


def test_a_server_that_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsistore.execute.dask_existing.CONNECT_SECONDS", 2.0)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def talk() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
                connection.close()

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(WorkersError, match="cannot be reached: "):
            open_executor(scheduler=f"tcp://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)


def test_what_could_not_connect_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to the garbage collector it would be closed at any moment, even within the making of another client."""
    monkeypatch.setattr("wsistore.execute.dask_existing.CONNECT_SECONDS", 1.0)
    made: list[Client] = []
    begin = Client.__init__

    def remembered(self: Client, *args: object, **kwargs: object) -> None:
        made.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(Client, "__init__", remembered)
    with pytest.raises(WorkersError, match="cannot be reached: "):
        open_executor(scheduler=f"tcp://127.0.0.1:{free_port()}")
    assert [client.status for client in made] == ["closed"]


def test_workers_are_waited_for_and_those_that_come_later_are_used(tmp_path: Path) -> None:
    told: list[str] = []
    with cluster(tmp_path / "cluster") as dask_cluster:

        def tell(said: str) -> None:
            told.append(said)
            dask_cluster.add_worker()

        with ExistingDask(dask_cluster.address, tell=tell, clock=SystemClock(), wait_seconds=240) as executor:
            assert told == [f"The Dask scheduler {dask_cluster.address} has no workers; waiting for some."]
            assert executor.workers == 1
            tasks = [Task(tmp_path, number, seconds=0.5) for number in range(12)]
            run = executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH)
            names = {next(run).worker}
            dask_cluster.add_worker()
            wait_until(lambda: executor._client.scheduler_info()["n_workers"] == 2, 120)
            names.update(one.worker for one in run)
            assert executor.workers == 2
    assert len(names) == 2


def test_workers_that_do_not_come_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    with cluster(tmp_path / "cluster") as dask_cluster:
        with pytest.raises(WorkersError, match=r"has had no workers for \d+ seconds. Start workers: ") as caught:
            ExistingDask(dask_cluster.address, clock=SystemClock(), wait_seconds=0.2)
        assert caught.value.kind is Kind.CLUSTER_UNREACHABLE

        worker = dask_cluster.add_worker()
        with ExistingDask(dask_cluster.address, clock=SystemClock(), wait_seconds=240) as executor:
            executor._wait_seconds = 1.0
            run = executor.run(execute_kit.square, [Task(tmp_path, 1, seconds=60)], memory_bytes=ENOUGH)
            threading.Timer(0.5, worker.kill).start()
            with pytest.raises(WorkersError, match="has had no workers for"):
                next(run)


def test_workers_with_too_little_memory_are_refused(tmp_path: Path) -> None:
    with (
        cluster(tmp_path / "cluster", 1, "--memory-limit", "250MB") as dask_cluster,
        open_executor(scheduler=dask_cluster.address) as executor,
    ):
        assert len(list(executor.run(abs, [1], memory_bytes=250 * MB))) == 1
        with pytest.raises(WorkersError, match=r"has 250\.0 MB of memory, and 300\.0 MB may be needed") as caught:
            executor.run(abs, [1], memory_bytes=300 * MB)
    assert caught.value.kind is Kind.WORKERS_MEMORY


def packages_without_wsistore(folder: Path) -> Path:
    """Return a folder with all packages of this environment but ours."""
    folder.mkdir()
    there = Path(str(distribution("distributed").locate_file("")))
    for entry in there.iterdir():
        if not entry.name.startswith(("wsistore", "_wsistore", "_editable_impl_wsistore")):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.parametrize("version", [None, "0.0.1"])
def test_workers_without_wsistore_or_with_another_are_refused(tmp_path: Path, version: str | None) -> None:
    path = packages_without_wsistore(tmp_path / "packages")
    if version:
        (path / "wsistore-0.0.1.dist-info").mkdir()
        (path / "wsistore-0.0.1.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: wsistore\nVersion: 0.0.1"
        )
    with cluster(tmp_path / "cluster") as dask_cluster:
        dask_cluster.add_worker(path=path)
        said = "has no wsistore; wsistore" if version is None else "has wsistore 0.0.1; wsistore"
        with pytest.raises(WorkersError, match=rf"^The Dask worker tcp://\S+ {said} \S+ is needed") as caught:
            open_executor(scheduler=dask_cluster.address)
    assert caught.value.kind is Kind.CLUSTER_UNFIT


def test_a_worker_without_wsistore_that_comes_later_leaves_and_others_do_its_work(tmp_path: Path) -> None:
    path = packages_without_wsistore(tmp_path / "packages")
    with (
        cluster(tmp_path / "cluster", 1) as dask_cluster,
        ExistingDask(dask_cluster.address, clock=SystemClock()) as executor,
    ):
        unfit = dask_cluster.add_worker(path=path)

        def is_there() -> bool:
            executor._prepare(MB)
            return executor.workers == 2

        wait_until(is_there, 120)
        tasks = [Task(tmp_path, number, seconds=0.2) for number in range(20)]

        done = list(executor.run(execute_kit.square, tasks, memory_bytes=ENOUGH))

        assert sorted(one.index for one in done) == list(range(20))
        assert len({one.worker for one in done}) == 1
        unfit.wait(240)


def test_another_version_of_dask_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import versions

    with cluster(tmp_path / "cluster", 1) as dask_cluster:
        monkeypatch.setattr(versions, "_version_cached", lambda package: "1999.1.0")
        with pytest.raises(WorkersError, match=r"^The Dask scheduler has dask \S+; dask 1999\.1\.0 is needed"):
            open_executor(scheduler=dask_cluster.address)


def test_address_and_certificates_come_from_dasks_own_configuration(tmp_path: Path) -> None:
    security = Security.temporary()
    pem, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    pem.write_text(security.tls_ca_file)
    key.write_text(security.tls_scheduler_key)
    tls = {
        "distributed.comm.tls.ca-file": str(pem),
        "distributed.comm.tls.client.cert": str(pem),
        "distributed.comm.tls.client.key": str(key),
    }
    options = ["--tls-ca-file", str(pem), "--tls-cert", str(pem), "--tls-key", str(key)]
    with cluster(tmp_path / "cluster", 1, *options, scheduler_options=("--protocol", "tls", *options)) as dask_cluster:
        assert dask_cluster.address.startswith("tls://")
        with pytest.raises(WorkersError, match=r"cannot be reached: .*certificates"):
            open_executor(scheduler=dask_cluster.address)
        with (
            dask.config.set({**tls, "scheduler-address": dask_cluster.address}),
            open_executor(Engine.DASK) as executor,
        ):
            assert isinstance(executor, ExistingDask)
            assert [one.result for one in executor.run(abs, [-7], memory_bytes=MB)] == [7]
