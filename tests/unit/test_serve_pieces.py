"""Pieces of the gateway by themselves: ranges, paths, limits, the access log, sessions, the table of slides."""

from __future__ import annotations

import asyncio
import base64
import errno
import fcntl
import io
import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.gateway_kit import LIMITS, row
from wsistore.clock import iso
from wsistore.ops.research_access import SLIDE_COLUMNS
from wsistore.serve import access_log, bodies
from wsistore.serve.access_log import AccessLog, Visit
from wsistore.serve.answers import Refusal
from wsistore.serve.files import OpenFiles
from wsistore.serve.limits import Limiter, new_table
from wsistore.serve.openapi import PATHS, document
from wsistore.serve.paths import METHODS, NOTHING, Kind, Target, parse
from wsistore.serve.ranges import MOST_RANGES, Unsatisfiable
from wsistore.serve.ranges import parse as parse_range
from wsistore.serve.sessions import LIFE_SECONDS, Sessions, cookie_of, new_key, set_cookie
from wsistore.serve.tables import Query
from wsistore.serve.views import View
from wsistore.storage.base import Span
from wsistore.testing.clock import ManualClock

# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        (b"items=0-1", None),
        (b"bytes=a-b", None),
        (b"bytes=-", None),
        (b"bytes=5-4", None),
        (b"bytes=0-0", [Span(0, 1)]),
        (b"BYTES=2-", [Span(2, 8)]),
        (b"bytes=-3", [Span(7, 3)]),
        (b"bytes=-30", [Span(0, 10)]),
        (b"bytes=3-" + b"9" * 5000, [Span(3, 7)]),
        (b"bytes=0-1, 4-5", [Span(0, 2), Span(4, 2)]),
        (b"bytes=4-5,0-1,90-", [Span(4, 2), Span(0, 2)]),
        (b"bytes=0-5,5-6", None),
        (b"bytes=10-", Unsatisfiable()),
        (b"bytes=-0", Unsatisfiable()),
        (b"bytes=" + b",".join([b"0-0"] * (MOST_RANGES + 1)), Unsatisfiable()),
    ],
)
def test_ranges(header: bytes | None, wanted: Any) -> None:
    assert parse_range(header, 10) == wanted


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=MOST_RANGES), st.integers(0, 20)
)
@example([(0, 0)], 0)
def test_ranges_never_give_more_than_there_is(pairs: list[tuple[int, int]], size: int) -> None:
    found = parse_range(b"bytes=" + b",".join(b"%d-%d" % (min(p), max(p)) for p in pairs), size)
    data = bytes(range(size))
    expected = [data[min(p) : max(p) + 1] for p in pairs if min(p) < size]
    if isinstance(found, Unsatisfiable):
        assert expected == []
    elif found is None:
        assert sum(map(len, expected)) > len(set(b"".join(expected)))
    else:
        assert [data[one.start : one.start + one.length_bytes] for one in found] == expected
        assert sum(one.length_bytes for one in found) <= size


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/projects", Target(Kind.PROJECTS)),
        ("/projects/p", Target(Kind.PROJECT, "p")),
        ("/projects/p/slides", Target(Kind.SLIDES, "p")),
        ("/projects/p/slides/s", Target(Kind.SLIDE, "p", "s")),
        ("/projects/p/slides/s.zarr/0/image/c/0/1/2", Target(Kind.ZARR, "p", "s", View.RAW, "0/image/c/0/1/2")),
        ("/projects/p/slides/s.jpeg.zarr/zarr.json", Target(Kind.ZARR, "p", "s", View.JPEG, "zarr.json")),
        ("/projects/p/slides/s.zstd.zarr/zarr.json", Target(Kind.ZARR, "p", "s", View.ZSTD, "zarr.json")),
        ("/projects/p/slides/s/tiles/2/0/13.jpeg", Target(Kind.TILE, "p", "s", View.JPEG, tile=(2, 0, 13))),
        ("/projects/p/slides/s/tiles", Target(Kind.TILES, "p", "s")),
        ("/viewer/static/x.js", Target(Kind.STATIC, key="static/x.js")),
    ],
)
def test_paths(path: str, target: Target) -> None:
    assert parse(path.encode()) == target


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//", "/projects/", "/projects//slides", "/projects/p/", "/projects/p/slides/", "/projects/../slides",
        "/projects/p/slides/.zarr/zarr.json", "/projects/p/slides/s.zarr", "/projects/p/slides/s.zarr/", "/PROJECTS",
        "/projects/%70", "/projects/p/slides/s/tiles/00/0/0.jpeg", "/projects/p/slides/s/tiles/0/0/0.png", "/viewer/",
        "/projects/p/slides/s/tiles/0/0/0.jpeg/", "/viewer/../x", "/viewer/.x", "/viewer//x", "/projects/" + "p" * 2000,
        "/projects/p/slides/s/view/", "/health/", "/projects/é",
    ],
)  # fmt: skip
def test_paths_that_mean_nothing(path: str) -> None:
    assert parse(path.encode()) == NOTHING


def test_the_openapi_document_has_all_that_there_is() -> None:
    assert set(PATHS) == set(METHODS) == set(Kind) - {Kind.NOTHING}
    described = document()
    for kind, templates in PATHS.items():
        for template in templates:
            path = template.replace("{level}", "0").replace("{y}", "0").replace("{x}", "0")
            path = path.replace("{project}", "p").replace("{slide}", "s").replace("{key}", "zarr.json")
            assert parse(path.replace("{file}", "x.js").encode()).kind is kind
            verbs = {verb.upper() for verb in described["paths"][template]}
            assert verbs == set(METHODS[kind]) - {"HEAD"}
    json.dumps(described)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_requests_per_second(tmp_path: Path, manual_clock: ManualClock) -> None:
    limiter = Limiter(new_table(tmp_path / "t"), manual_clock)
    limits = replace(LIMITS, requests_per_second=5.0)
    taken = 0
    while not limiter.enter("a", limits):
        taken += 1
        limiter.leave("a", 0)
    assert taken == 10  # two seconds' worth
    assert limiter.enter("a", limits) == pytest.approx(0.2)
    assert limiter.enter("b", limits) == 0.0
    manual_clock.advance(1.0)
    assert [limiter.enter("a", limits) > 0 for _ in range(6)] == [False] * 5 + [True]
    limiter.close()


def test_bytes_per_second_are_paid_later(tmp_path: Path, manual_clock: ManualClock) -> None:
    limiter = Limiter(new_table(tmp_path / "t"), manual_clock)
    limits = replace(LIMITS, bytes_per_second=100.0)
    assert limiter.enter("a", limits) == 0.0
    limiter.leave("a", 1200)
    assert limiter.enter("a", limits) == pytest.approx(10.0)
    manual_clock.advance(9.0)
    assert limiter.enter("a", limits) > 0
    manual_clock.advance(1.5)
    assert limiter.enter("a", limits) == 0.0
    limiter.close()


def test_requests_at_the_same_time_are_counted_over_processes(tmp_path: Path, manual_clock: ManualClock) -> None:
    table = new_table(tmp_path / "t")
    first = Limiter(table, manual_clock)
    limits = replace(LIMITS, concurrent=2)
    inside, answered = os.pipe(), os.pipe()
    child = os.fork()
    if not child:  # another worker: it lets one in, and dies with it
        second = Limiter(table, manual_clock)
        os.write(inside[1], b"x" if second.enter("a", limits) == 0.0 else b"!")
        os.read(answered[0], 1)
        os._exit(0)
    assert os.read(inside[0], 1) == b"x"
    assert first.enter("a", limits) == 0.0
    assert first.enter("a", limits) > 0
    first.leave("a", 0)
    assert first.enter("a", limits) == 0.0
    os.write(answered[1], b"x")
    os.waitpid(child, 0)
    child = os.fork()
    if not child:  # the worker that takes its place forgets what it left
        third = Limiter(table, manual_clock)
        os._exit(0 if third.enter("a", limits) == 0.0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    first.close()


@given(
    st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(1, 400), st.floats(0.0, 0.05)), max_size=120),
    st.sampled_from([1.0, 20.0, 400.0]),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_shares_never_give_more_than_the_limits(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, bool, int, float]], rate: float
) -> None:
    clock = ManualClock()
    table = new_table(tmp_path_factory.mktemp("t") / "t")
    # Two openings of one table, as two processes have them.
    limiters = [Limiter(table, clock), Limiter(table, clock)]
    limits = replace(LIMITS, requests_per_second=rate, bytes_per_second=1000.0)
    begun, passed, size = clock.monotonic_seconds(), 0, 0
    for which, is_there, length, later in asked:
        clock.advance(later)
        seconds = clock.monotonic_seconds() - begun
        if is_there:
            may = limiters[which].pass_through("a", limits, length)
        else:
            may = not limiters[which].enter("a", limits)
            if may:
                limiters[which].leave("a", length)
        if may:
            # Bytes are paid afterwards: an answer may begin as long as there is anything.
            assert size < 1000.0 * (2.0 + seconds) + 1e-6
            passed, size = passed + 1, size + length
            assert passed <= max(1.0, 2.0 * rate) + rate * seconds + 1e-6
    for limiter in limiters:
        limiter.close()


def test_a_share_is_given_back(tmp_path: Path, manual_clock: ManualClock) -> None:
    limiter = Limiter(new_table(tmp_path / "t"), manual_clock)
    limits = replace(LIMITS, requests_per_second=100.0)
    passed = 0
    while limiter.pass_through("a", limits, 0):
        passed += 1
    assert passed == 200  # all of the two seconds' worth, though it was taken in shares
    manual_clock.advance(1.0)
    assert limiter.pass_through("a", limits, 0)
    entered = 0
    while not limiter.enter("a", limits):
        limiter.leave("a", 0)
        entered += 1
    assert entered == 99
    limiter.close()


def test_a_share_holds_only_as_long_as_fewer_are_under_way(tmp_path: Path, manual_clock: ManualClock) -> None:
    table = new_table(tmp_path / "t")
    one, other = Limiter(table, manual_clock), Limiter(table, manual_clock)
    limits = replace(LIMITS, concurrent=1)
    assert one.pass_through("a", limits, 0)
    assert other.enter("a", limits) == 0.0
    assert not one.pass_through("a", limits, 0)
    other.leave("a", 0)
    assert one.pass_through("a", limits, 0)
    other.close()
    one.close()


def test_limits_that_were_changed_are_in_force_at_once(tmp_path: Path, manual_clock: ManualClock) -> None:
    limiter = Limiter(new_table(tmp_path / "t"), manual_clock)
    assert limiter.pass_through("a", LIMITS, 10**9)
    less = replace(LIMITS, requests_per_second=1.0, bytes_per_second=100.0)
    manual_clock.advance(0.01)
    answers = [limiter.pass_through("a", less, 100) for _ in range(3)]
    assert answers == [True, False, False]  # what was sent while there was no limit of bytes is not paid for
    limiter.close()


# --- bodies -----------------------------------------------------------------------------------------------------------


@given(
    places=st.lists(st.one_of(st.tuples(st.integers(0, 400), st.integers(1, 300)), st.binary(max_size=4)), max_size=12)
)
def test_parts_come_in_order_however_they_are_read_together(places: list[tuple[int, int] | bytes]) -> None:
    data = bytes(number % 251 for number in range(700))
    pieces = [place if isinstance(place, bytes) else Span(*place) for place in places]
    asked: list[list[int]] = []

    async def read(spans: Sequence[Span]) -> list[bytes]:
        asked.append([span.length_bytes for span in spans])
        return [data[span.start : span.start + span.length_bytes] for span in spans]

    async def together() -> list[bytes]:
        return [block async for block in bodies._blocks(pieces, read)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "BLOCK_BYTES", 100)
        patch.setattr(bodies, "AT_ONCE_BYTES", 250)
        found = asyncio.run(together())
    whole = [one if isinstance(one, bytes) else data[one.start : one.start + one.length_bytes] for one in pieces]
    assert b"".join(found) == b"".join(whole)
    assert all(lengths and sum(lengths) <= 250 and max(lengths) <= 100 for lengths in asked)
    assert all(sum(one) + two[0] > 250 for one, two in pairwise(asked)), "what fits is read together"


# --- access log -------------------------------------------------------------------------------------------------------


def test_a_line_is_one_object_whatever_a_user_is_called(tmp_path: Path, manual_clock: ManualClock) -> None:
    log = AccessLog(tmp_path / "log", manual_clock)
    log.write(Visit(0.0, user='x"\n\u2028\x1b{"user":"y"}\udc80', status=200, size_bytes=3))
    log.close()
    (line,) = (tmp_path / "log").read_text("ascii").splitlines()
    assert json.loads(line)["bytes"] == 3


def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path, manual_clock: ManualClock) -> None:
    log = AccessLog(tmp_path / "log", manual_clock)
    log.write(Visit(0.0))
    (tmp_path / "log").rename(tmp_path / "old")
    manual_clock.advance(2.0)
    log.write(Visit(0.0))
    log.close()
    assert len((tmp_path / "log").read_text().splitlines()) == len((tmp_path / "old").read_text().splitlines()) == 1


def test_a_log_that_cannot_be_written_is_noticed_and_tried_again(tmp_path: Path, manual_clock: ManualClock) -> None:
    log = AccessLog(tmp_path / "no" / "log", manual_clock)
    assert not log.check()
    (tmp_path / "no").mkdir()
    assert log.check()
    log.close()
    assert [json.loads(line)["what"] for line in (tmp_path / "no" / "log").read_text().splitlines()] == [
        "log begins again"
    ]


def test_lines_that_were_noted_are_written_together(tmp_path: Path, manual_clock: ManualClock) -> None:
    log, path = AccessLog(tmp_path / "log", manual_clock), tmp_path / "log"
    named = log.named(Visit(0.0, user="researcher-1"))
    log.note(named, 0.0, 206, 1)
    log.note(named, 0.0, 206, 2)
    assert path.read_bytes() == b""
    log.flush()
    assert len(path.read_text().splitlines()) == 2
    log.note(named, 0.0, 206, 3)
    log.write(Visit(0.0, status=404, size_bytes=4))
    log.note(named, 0.0, 206, 5)
    log.close()  # an end that was asked for loses none
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["bytes"] for line in found] == [1, 2, 3, 4, 5]
    assert found[0] == {**found[1], "bytes": 1}
    assert {line["at"] for line in found} == {iso(manual_clock.now())}


def test_lines_that_could_not_be_written_are_written_once_they_can(
    tmp_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, path = AccessLog(tmp_path / "log", manual_clock), tmp_path / "log"
    write, room = os.write, 250

    def until_full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "no space")
        written = write(descriptor, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", until_full)
    named = log.named(Visit(0.0))
    for size in range(4):
        log.note(named, 0.0, 206, size)
    log.flush()
    assert not log.is_well
    assert not log.check()
    room = 2**20
    assert log.check()
    log.close()
    found = []
    for line in path.read_text().splitlines():
        with suppress(ValueError):  # of the one that was torn
            found.append(json.loads(line))
    assert [line["bytes"] for line in found if line["status"] == 206] == [0, 1, 2, 3]
    assert found[-1]["what"] == "log begins again"


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return theirs.detach(), ours.detach()


@pytest.mark.parametrize("both", [_pipe, _sockets])
def test_nobody_waits_for_who_reads_standard_output(
    both: Callable[[], tuple[int, int]], manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = both()
    monkeypatch.setattr(access_log, "Output", partial(_output_at, access_log.Output, writes))
    log = AccessLog(None, manual_clock)
    lines = 0
    while log.check():  # a write that waits would end this test by its time-out
        log.write(Visit(0.0, size_bytes=lines))
        lines += 1
    assert os.get_blocking(writes), "others who write there wait as before"
    os.set_blocking(reads, False)
    found = bytearray()
    with suppress(BlockingIOError):
        while True:
            found += os.read(reads, 2**20)
            assert log.check() or len(found) < 2**18
    log.write(Visit(0.0, size_bytes=lines))
    log.close()
    found += os.read(reads, 2**20)
    os.close(writes)
    os.close(reads)
    assert [json.loads(line)["bytes"] for line in found.splitlines()] == list(range(lines + 1))


def _output_at(make: Callable[[int], access_log.Output], descriptor: int, _: int) -> access_log.Output:
    return make(descriptor)


def test_lines_that_nobody_took_are_told_of(manual_clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    reads, writes = os.pipe()
    output = access_log.Output(writes)
    for _ in range(1000):
        output.write(b"x" * 99 + b"\n")
    output.close()
    held = fcntl.fcntl(writes, fcntl.F_GETPIPE_SZ)
    assert f"{100_000 - len(os.read(reads, 2**20))} bytes of access lines were lost" in caplog.text
    assert held < 100_000
    os.close(reads)
    os.close(writes)


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_cookie_is_good_for_a_day_and_for_one_gateway(manual_clock: ManualClock) -> None:
    sessions = Sessions(new_key(), manual_clock)
    value = sessions.seal("Bearer wst_a_b")
    assert value is not None
    assert b"wst_a_b" not in base64.urlsafe_b64decode(value)
    assert sessions.open(value) == "Bearer wst_a_b"
    assert Sessions(new_key(), manual_clock).open(value) is None
    other = "A" if value[20] != "A" else "B"
    for wrong in (value[:-4], value[:20] + other + value[21:], "", "é", "x" * 5000, value + value):
        assert sessions.open(wrong) is None
    manual_clock.advance(LIFE_SECONDS + 1)
    assert sessions.open(value) is None
    assert sessions.seal("Bearer " + "x" * 4000) is None


def test_cookies_that_scripts_do_not_see() -> None:
    text = set_cookie("v", secure=True).decode()
    assert {"HttpOnly", "SameSite=Strict", "Secure", "Path=/"} <= {part.strip() for part in text.split(";")}
    assert "Secure" not in set_cookie("v", secure=False).decode()
    assert cookie_of(b"a=1; wsistore_session=v; b=2") == "v"
    assert cookie_of(b"wsistore_session=v; wsistore_session=w") is None
    assert cookie_of(b"xwsistore_session=v") is None


# --- files ------------------------------------------------------------------------------------------------------------


def test_open_files_read_what_is_there_and_are_closed(tmp_path: Path, manual_clock: ManualClock) -> None:
    files = OpenFiles(manual_clock)
    (tmp_path / "a").write_bytes(b"0123456789")
    assert files.read(tmp_path / "a", 2, 3) in (b"234", None)
    assert files.read(tmp_path / "a", 8, 3) is None
    assert files.read(tmp_path / "b", 0, 1) is None
    manual_clock.advance(60.0)
    (tmp_path / "a").unlink()
    assert files.read(tmp_path / "a", 2, 3) is None  # not held any more
    files.close()


# --- the table of slides ----------------------------------------------------------------------------------------------


def table() -> pa.Table:
    rows = [
        row("a", organ="lung", age_at=30, diagnoses=["x", "y"], um_per_px=0.25),
        row("b", organ="colon", age_at=60, diagnoses=["y"], um_per_px=0.5),
        row("c", organ="lung", age_at=None, diagnoses=None),
        row("d", organ=None, age_at=90, diagnoses=[]),
    ]
    return pa.Table.from_pylist(rows, schema=SLIDE_COLUMNS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abcd"),
        ("organ=lung", "ac"),
        ("organ=lung&organ=colon", "abc"),
        ("min_age_at=60", "bd"),
        ("min_age_at=31&max_age_at=60", "b"),
        ("diagnoses=y", "ab"),
        ("diagnoses=y&organ=lung", "a"),
        ("um_per_px=0.25", "a"),
        ("max_um_per_px=1e400", "ab"),
        ("min_age_at=nan", ""),
        ("slide=c", "c"),
        ("after=b", "cd"),
        ("organ=", ""),
    ],
)
def test_filters(query: str, found: str) -> None:
    told = json.loads(Query(query.encode()).answer(table()).body)
    assert "".join(one["slide"] for one in told["slides"]) == found
    arrow = Query(f"{query}&format=arrow".lstrip("&").encode()).answer(table())
    with pa.ipc.open_stream(io.BytesIO(arrow.body)) as reader:
        assert "".join(reader.read_all()["slide"].to_pylist()) == found


def test_pages_are_all_of_it_once() -> None:
    seen, after = [], ""
    for _ in range(3):
        told = json.loads(Query(f"limit=2&after={after}".encode() if after else b"limit=2").answer(table()).body)
        assert told["total"] == 4
        seen += [one["slide"] for one in told["slides"]]
        after = told["next"]
        if after is None:
            break
    assert seen == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=x", "limit=1&limit=1", "limit=", "format=x", "name=x",
        "min_organs=x", "where=1=1", "min_diagnoses=x", "min_age_at=x", "a", "&&", "=", "organ=%ff", "x" * 5000,
        "min_slide[]=1", "links=x",
    ],
)  # fmt: skip
def test_filters_that_mean_nothing(query: str) -> None:
    with pytest.raises(Refusal) as refused:
        Query(query.encode())
    assert refused.value.answer.status == 400
    assert query not in refused.value.answer.body.decode() or len(query) < 8


def test_an_empty_project_is_an_empty_table() -> None:
    told = json.loads(Query(b"organ=lung").answer(SLIDE_COLUMNS.empty_table()).body)
    assert told == {"slides": [], "next": None, "total": 0}
