"""The parts that benchmarks share. Nothing is timed, no peer is run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench import fold, gateway, ingest, move, read
from bench.support.disk import cached_share, read_through
from bench.support.environments import UnavailableError
from bench.support.folding import without_quantization
from bench.support.gateways import check_same, status_of
from bench.support.peers import WSIC, WSIDICOMIZER, Peer, started
from bench.support.places import REPOSITORY, real_slide, workspace
from bench.support.report import Report
from bench.support.s3 import NoServerError, s3_server
from bench.support.shards import Tile
from bench.support.timing import Contender, Timings, interleave
from bench.support.worker import Worker, WorkerError
from bench.workers import interrupting
from bench.workers.jpegs import scan_of
from tests.gateway_stub import TOKEN, Gateway, serving


def _log(calls: list[str], key: str, seconds: float = 1.0) -> Callable[[int], float]:
    def run(number: int) -> float:
        calls.append(f"{key}{number}")
        return seconds

    return run


# --- interleaving -----------------------------------------------------------------------------------------------------


def test_contenders_run_in_turn_and_settle_before_each_run() -> None:
    calls: list[str] = []
    contenders = [Contender(key, _log(calls, key)) for key in "ab"]
    timings = interleave(contenders, 2, before=lambda: calls.append("-"))
    assert calls == ["-", "a0", "-", "b0", "-", "a1", "-", "b1"]
    assert timings.seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_slow_contender_takes_part_in_its_first_rounds_only() -> None:
    calls: list[str] = []
    interleave([Contender("a", _log(calls, "a")), Contender("b", _log(calls, "b"), rounds=1)], 3)
    assert calls == ["a0", "b0", "a1", "a2"]


def test_peer_that_fails_is_left_out_with_the_reason() -> None:
    calls: list[str] = []

    def fail(number: int) -> float:
        calls.append(f"p{number}")
        if number == 1:
            msg = "no room"
            raise WorkerError(msg)
        return 1.0

    timings = interleave([Contender("p", fail, may_fail=True), Contender("a", _log(calls, "a"))], 3)
    assert calls == ["p0", "a0", "p1", "a1", "a2"]
    assert timings.failed == {"p": "no room"}
    assert "p" not in timings.seconds  # what it did before it failed is no result
    assert timings.ratio("a", "p") is None


def test_ours_that_fails_ends_the_benchmark() -> None:
    def fail(number: int) -> float:
        msg = "broken"
        raise WorkerError(msg)

    with pytest.raises(WorkerError, match="broken"):
        interleave([Contender("ours", fail)], 1)


def test_ratio_is_of_what_ran_in_the_same_round_and_bigger_is_better() -> None:
    # The machine was busy in the last two rounds; the peer took part in three.
    timings = Timings({"ours": [2.0, 1.0, 20.0, 30.0], "peer": [8.0, 3.0, 90.0]})
    assert timings.median("peer") == 8.0
    assert timings.ratios("ours", "peer") == [4.0, 3.0, 4.5]
    assert timings.ratio("ours", "peer") == 4.0


# --- the result -------------------------------------------------------------------------------------------------------


def test_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("made-up", {"met": 2.0, "missed": 10.0, "absent": 1.0})
    report.add("met", 2.0)
    report.add("missed", 9.99999)
    report.add("extra", 1 / 3)
    report.skip("absent", "no such peer [here]")
    assert report.missed() == ["missed"]
    report.close(Console(width=100))
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[-1]) == {
        "bench": "made-up",
        "figures": {"met": 2.0, "missed": 9.99999, "extra": 0.333333},
        "floors": {"met": 2.0, "missed": 10.0, "absent": 1.0},
    }
    assert "MISSED" in printed
    assert "no such peer [here]" in printed


def test_ingest_promises_the_floors_of_the_specification() -> None:
    floors = {key: least for part in ingest.FLOORS.values() for key, least in part.items()}
    assert floors["ingest_vs_copy"] == floors["ingest_1GB_vs_copy"] == 0.5
    assert floors["ingest_vs_wsidicomizer"] == 5
    assert floors["ingest_vs_wsic"] == 10
    assert floors["stored"] == floors["stored_1GB"] == 1
    assert floors["restore_vs_cp"] == floors["restore_1GB_vs_cp"] == 0.5
    assert floors["import"] == floors["help"] == 1


def test_fold_promises_the_floors_of_the_specification() -> None:
    floors = {key: least for part in fold.FLOORS.values() for key, least in part.items()}
    assert floors == {
        "saved_tiles_CMU_k16": 0.3,
        "saved_file_hpylori_k64": 0.25,
        "encode_vs_libjxl": 0.9,
        "dask_vs_processes": 0.9,
        "memory_bound": 1,
        "memory_1GB": 1,
    }


def test_quantization_tables_are_left_out_of_a_size_and_nothing_else() -> None:
    table, other = b"\xff\xdb\x00\x06abcd", b"\xff\xc4\x00\x04\xff\xdb"
    scan = b"\xff\xda\x00\x03\x01" + b"pixels" + b"\xff\xd9"
    assert without_quantization(b"\xff\xd8" + table + other + table + scan) == len(b"\xff\xd8" + other + scan)


def test_read_promises_the_floors_of_the_specification() -> None:
    floors = {key: least for part in read.FLOORS.values() for key, least in part.items()}
    assert floors["patches_vs_best"] == floors["patches_1GB_vs_best"] == 3
    assert floors["region_vs_libjpeg"] == floors["region_1GB_vs_libjpeg"] == 0.8


def test_move_promises_the_floors_of_the_specification() -> None:
    floors = {key: least for part in move.FLOORS.values() for key, least in part.items()}
    assert floors["move_vs_rclone"] == floors["move_1GB_vs_rclone"] == 1.5
    assert floors["upload_vs_s5cmd"] == floors["restore_vs_rclone"] == 1
    assert floors["recovery_per_second"] == 1
    assert (move.PER_SECOND, move.SLIDES) == (50, 1000)


def test_without_an_s3_server_it_is_said_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServerError, match="radosgw"), s3_server(tmp_path, kept_in="memstore", size_gb=1):
        pass
    assert move.main(["--parts", "recovery", "--folder", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "scripts/install-test-packages" in said
    assert "apt-get install radosgw" in said
    assert list(tmp_path.iterdir()) == []


def test_program_that_fails_is_an_error_with_its_last_words() -> None:
    programs = move.Programs(dict(os.environ))
    assert move.run(programs, ["sh", "-c", "exit 0"])[0] > 0
    with pytest.raises(WorkerError, match="ended with 3: no such bucket"):
        move.run(programs, ["sh", "-c", "echo trying >&2; echo no such bucket >&2; exit 3"])


@pytest.mark.parametrize("ends", [True, False])
def test_only_a_process_that_was_killed_counts_as_interrupted(ends: bool) -> None:
    pid = interrupting.forked(int if ends else interrupting.die)
    assert interrupting.was_killed(os.waitpid(pid, 0)[1]) is not ends


# --- workers ----------------------------------------------------------------------------------------------------------


def test_worker_runs_answers_and_tells_what_failed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    with Worker(Path(sys.executable), "bench.workers.plain", tmp_path / "log") as worker:
        for number, (do, options) in enumerate([("copy_verified", {}), ("copy", {"flush": True})]):
            folder = tmp_path / str(number)
            assert worker.call(do, source=source, folder=folder, **options)["seconds"] > 0
            assert (folder / "copy").read_bytes() == source.read_bytes()
        with pytest.raises(WorkerError, match="copy_verified: FileNotFoundError"):
            worker.call("copy_verified", source=tmp_path / "absent", folder=tmp_path / "2")
        worker.call("copy", source=source, folder=tmp_path / "3", flush=False)  # it goes on


def test_worker_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with (
        Worker(Path(sys.executable), "bench.workers.absent", tmp_path / "log") as worker,
        pytest.raises(WorkerError, match="No module named"),
    ):
        worker.call("convert")


@pytest.mark.parametrize("peer", [WSIDICOMIZER, WSIC], ids=lambda peer: peer.name)
def test_peer_has_a_worker_and_a_lock_file_with_hashes_that_names_no_host(peer: Peer) -> None:
    assert (REPOSITORY / "bench" / "workers" / f"{peer.name}.py").is_file()
    lock = (REPOSITORY / "bench" / "peers" / f"{peer.name}.txt").read_text()
    pins = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert any(line.startswith(f"{peer.name}==") for line in pins)
    assert all("==" in line and line.endswith("\\") for line in pins)  # exact, hashes follow
    assert "://" not in lock
    assert "index-url" not in lock


def test_missing_peer_is_told_not_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str) -> Path:
        msg = f"{name} cannot be installed: no network"
        raise UnavailableError(msg)

    monkeypatch.setattr("bench.support.peers.environment", refuse)
    with started([WSIC], tmp_path / "slide", tmp_path) as peers:
        assert peers.workers == {}
        assert peers.unavailable == {"wsic": "wsic cannot be installed: no network"}


# --- places and bytes -------------------------------------------------------------------------------------------------


def test_workspace_is_removed_whatever_happens(tmp_path: Path) -> None:
    def fail() -> None:
        with workspace("made-up", tmp_path) as folder:
            (folder / "file").write_bytes(b"1")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_real_slide_is_looked_for_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WSISTORE_TEST_SLIDES", str(tmp_path))
    assert real_slide("a/b.svs") is None
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.svs").touch()
    assert real_slide("a/b.svs") == tmp_path / "a" / "b.svs"


def test_reading_through_counts_all_bytes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one").write_bytes(bytes(5))
    (tmp_path / "two").write_bytes(bytes(7))
    assert read_through(tmp_path) == 12
    assert read_through(tmp_path / "two") == 7


def test_file_that_was_just_read_is_in_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_001))  # not whole pages
    for _ in range(10):  # the kernel may need a page for something else
        read_through(path)
        if (share := cached_share(path)) == 1.0:
            break
    assert share == 1.0


def test_scan_of_a_jpeg_skips_markers_within_its_tables() -> None:
    table = b"\xff\xdb\x00\x06\xff\xda\x00\x02"  # a table that holds what looks like the start of a scan
    jpeg = b"\xff\xd8" + table + b"\xff\xda\x00\x03\x01" + b"pixels" + b"\xff\xd9\x00"
    assert scan_of(jpeg) == b"pixels"


# --- the gateway ------------------------------------------------------------------------------------------------------


def test_a_part_that_fails_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("unforeseen")

    def measures(_shared: object, place: Path, *others: Any) -> None:
        report = others[-1]
        (place / "left over").write_bytes(b"")
        report.add("control_vs_none", 0.9)

    monkeypatch.setattr(gateway, "jpeg_slide", lambda folder: (folder / "a.svs", "made up"))
    monkeypatch.setattr(gateway, "share", lambda *_: SimpleNamespace(site=tmp_path))
    monkeypatch.setattr(gateway, "read_through", lambda _: None)
    monkeypatch.setattr(gateway, "_tiles", fails)
    monkeypatch.setattr(gateway, "_control", measures)
    assert gateway.main(["--parts", "tiles", "control", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["figures"] == {"control_vs_none": 0.9}
    assert "The part tiles failed: KeyError" in said.err
    assert "tiles_vs_nginx" in said.out
    assert not list(tmp_path.iterdir())


def test_servers_that_are_compared_must_give_the_same(tmp_path: Path) -> None:
    for name, data in (("one", b"0123456789"), ("other", b"0123456789"), ("third", b"012345678X")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(data)
    headers = {"Authorization": f"Bearer {TOKEN}", "Range": "bytes=5-9"}
    requests = [("/projects/study/slides/aaaa.zarr/part", headers)]
    with (
        serving(Gateway({"aaaa": tmp_path / "one"})) as one,
        serving(Gateway({"aaaa": tmp_path / "other"})) as other,
        serving(Gateway({"aaaa": tmp_path / "third"})) as third,
    ):
        assert check_same([(one.url, requests), (other.url, requests)], headers=True) == 1
        tile = Tile(0, 0, "part", 5, 5)
        assert check_same([(one.url, requests)], files=[(tmp_path / "one/part", tile)]) == 1
        with pytest.raises(WorkerError, match="not the bytes"):
            check_same([(one.url, requests), (third.url, requests)])
        with pytest.raises(WorkerError, match="not the bytes"):
            check_same([(third.url, requests)], files=[(tmp_path / "one/part", tile)])
        third.salt = other.salt = "another"
        with pytest.raises(WorkerError, match="etag"):
            check_same([(one.url, requests), (other.url, requests)], headers=True)
        assert status_of(one.url, requests[0][0], {"Authorization": "Bearer none"}) == 401
        with pytest.raises(WorkerError, match="401"):
            check_same([(one.url, [(requests[0][0], {})])])
