"""Parts of objects that are asked for again and again: answered by a shorter way, and not otherwise than before."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from tests import gateway_kit
from tests.attack_kit import until
from tests.gateway_kit import PROJECT, TOKEN, MadeAccess, Running
from tests.site_kit import ingest, new_site, tiny_svs
from wsistore import ops
from wsistore.ops.research_access import Caller, ProjectView
from wsistore.serve import quick as shorter
from wsistore.serve.quick import Quick

SLIDE = "aaaabbbbccccddddeeeeffff22"
KEY = "0/image/c/0/0/0"
KEPT_SECONDS = shorter._KEPT_SECONDS
URL = f"/projects/{PROJECT}/slides/{SLIDE}.zarr/{KEY}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ops.Site]:
    folder = tmp_path_factory.mktemp("site")
    with ops.open_site(new_site(folder)) as opened:
        ingest(opened, tiny_svs(folder / "slides" / "one.svs"))
        yield opened


@pytest.fixture
def gateway(site: ops.Site, tmp_path: Path) -> Iterator[Running]:
    (row,) = site.catalog.slides()
    with gateway_kit.running(site, gateway_kit.access_to({SLIDE: row.slide}), tmp_path) as started:
        yield started


@pytest.fixture
def client(gateway: Running) -> Iterator[httpx.Client]:
    with gateway.client() as opened:
        yield opened


@pytest.fixture
def object_bytes(site: ops.Site) -> bytes:
    (row,) = site.catalog.slides()
    (copy,) = site.catalog.copies(row.slide)
    return site.tier("hot").get(f"store/{row.slide}/{copy.attempt}/{KEY}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request went the short way."""
    found: list[bool] = []
    answer = Quick.answer

    def watched(self: Quick, scope: Any, headers: Any) -> bytes | None:
        said = answer(self, scope, headers)
        found.append(said is not None)
        return said

    repeat = Quick.repeat

    def watched_repeat(self: Quick, head: bytes, headers: Any) -> bytes | None:
        said = repeat(self, head, headers)
        if said is not None:
            found.append(True)
        return said

    monkeypatch.setattr(shorter, "_KEPT_SECONDS", 600.0)  # a second may go by between two requests
    monkeypatch.setattr(Quick, "answer", watched)
    monkeypatch.setattr(Quick, "repeat", watched_repeat)
    return found


def part(client: httpx.Client, first: int, last: int, **headers: str) -> httpx.Response:
    return client.get(URL, headers={"Range": f"bytes={first}-{last}", **headers})


def test_an_answer_by_the_short_way_is_the_same(
    client: httpx.Client, quick: list[bool], object_bytes: bytes, gateway: Running
) -> None:
    long, short = part(client, 10, 99), part(client, 10, 99)
    assert quick == [False, True]
    assert short.status_code == long.status_code == 206
    assert "date" in short.headers
    assert short.content == long.content == object_bytes[10:100]
    assert {**short.headers, "date": ""} == {**long.headers, "date": ""}
    one, other = gateway.lines(2)
    for line in (one, other):
        del line["at"], line["ms"]
    assert other == one
    assert other["bytes"] == 90
    assert gateway.access.bytes_spent in {90, 180}  # what is spent is told every now and then


def test_other_parts_of_the_object_go_the_short_way(
    client: httpx.Client, quick: list[bool], object_bytes: bytes
) -> None:
    part(client, 0, 0)
    size = len(object_bytes)
    for first, last in ((0, 0), (size - 1, size - 1), (5, 500)):
        answer = part(client, first, last)
        assert answer.content == object_bytes[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert quick == [False, True, True, True]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=0-99999999999"}, 206),
        ({"Range": "bytes=99999999999-"}, 416),
        ({"Range": "bytes=-5"}, 206),
        ({"Range": "bytes=0-1,5-6"}, 206),
        ({"Range": "bytes=7-3"}, 200),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-None-Match": "*"}, 304),
        ({"Range": "bytes=0-1", "Cookie": "wsistore_session=x"}, 206),
        ({}, 200),
    ],
)
def test_what_is_unusual_goes_the_long_way(
    client: httpx.Client, quick: list[bool], headers: dict[str, str], status: int
) -> None:
    part(client, 0, 1)
    assert client.get(URL, headers=headers).status_code == status
    assert quick == [False, False]


def test_a_token_that_is_revoked_is_refused_at_once(gateway: Running, client: httpx.Client, quick: list[bool]) -> None:
    part(client, 0, 9)
    assert part(client, 0, 9).status_code == 206
    del gateway.access.tokens[TOKEN]
    assert part(client, 0, 9).status_code == 401
    assert quick == [False, True, False]


def test_a_slide_that_was_taken_out_is_gone_at_once(gateway: Running, client: httpx.Client) -> None:
    part(client, 0, 9)
    gateway.access.views[PROJECT] = gateway_kit.project_view({})
    assert part(client, 0, 9).status_code == 404


def test_another_token_does_not_go_the_short_way_of_the_first(
    gateway: Running, client: httpx.Client, quick: list[bool]
) -> None:
    part(client, 0, 9)
    with gateway.client(token="wst_other_secret") as other:
        assert part(other, 0, 9).status_code == 401
    with gateway.client(token=None) as nobody:
        assert part(nobody, 0, 9).status_code == 401
    assert quick == [False, False, False]


def test_the_short_way_counts_for_the_limits(gateway: Running, client: httpx.Client, quick: list[bool]) -> None:
    gateway.access.limit(requests_per_second=2.0)
    begin = time.monotonic()
    answers = [part(client, 0, 9) for _ in range(40)]
    seconds = time.monotonic() - begin
    codes = [answer.status_code for answer in answers]
    assert codes[:4] == [206] * 4
    assert codes.count(206) <= 5 + 2.0 * seconds
    assert set(codes) == {206, 429} or seconds > 15
    assert True in quick
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)


def test_bytes_of_the_short_way_count_for_the_limits(gateway: Running, client: httpx.Client) -> None:
    gateway.access.limit(bytes_per_second=1)
    codes = [part(client, 0, 99).status_code for _ in range(6)]
    assert codes[0] == 206
    assert codes[-1] == 429


def test_a_quota_is_asked_for_each_time(gateway: Running, client: httpx.Client, quick: list[bool]) -> None:
    gateway.access.limit(bytes_quota=10**9)
    part(client, 0, 9)
    part(client, 0, 9)
    gateway.access.bytes_spent = 10**9
    assert part(client, 0, 9).status_code == 429
    assert quick == [False, False, False]


def test_what_was_found_out_is_looked_at_anew_after_a_second(
    client: httpx.Client, quick: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as as_it_is:
        as_it_is.setattr(shorter, "_KEPT_SECONDS", KEPT_SECONDS)
        part(client, 0, 9)
    time.sleep(1.1)
    part(client, 0, 9)
    assert part(client, 0, 9).status_code == 206
    assert quick == [False, False, True]


def test_nothing_goes_a_short_way_without_a_log(
    gateway: Running, client: httpx.Client, quick: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shorter, "_KEPT_SECONDS", KEPT_SECONDS)
    part(client, 0, 9)
    gateway.log.rename(gateway.log.with_suffix(".1"))
    gateway.log.mkdir()
    time.sleep(1.1)
    part(client, 0, 9)
    codes = [part(client, 0, 9).status_code for _ in range(2)]
    assert codes[-1] == 503
    assert quick[-1] is False


def test_an_answer_of_several_parts_is_no_model_for_one_of_a_single_part(
    client: httpx.Client, object_bytes: bytes
) -> None:
    several = client.get(URL, headers={"Range": "bytes=0-1,100-200"})
    assert several.headers["content-type"].startswith("multipart/byteranges")
    for _ in range(2):
        answer = part(client, 5, 9)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-range"] == f"bytes 5-9/{len(object_bytes)}"
        assert answer.content == object_bytes[5:10]


def all_of(wire: socket.socket) -> bytes:
    answer = b""
    while data := wire.recv(1 << 16):
        answer += data
    return answer


class Slow(MadeAccess):
    """Looks up who asks only once it may."""

    def __init__(self, of: MadeAccess) -> None:
        super().__init__(of.tokens, of.views)
        self.looked_up: list[str] = []
        self.may = threading.Event()

    @override
    def admit(self, authorization: str | None, project: str) -> tuple[Caller, ProjectView | None]:
        if not self.may.is_set():
            self.looked_up.append(project)
            assert self.may.wait(240)
        return super().admit(authorization, project)


def test_hundreds_who_come_at_once_are_all_answered(site: ops.Site, tmp_path: Path, object_bytes: bytes) -> None:
    (row,) = site.catalog.slides()
    access = Slow(gateway_kit.access_to({SLIDE: row.slide}))
    asked = f"GET {URL} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n".encode()
    with gateway_kit.running(site, access, tmp_path) as started, ExitStack() as stack:
        host, _, port = started.url.removeprefix("http://").partition(":")
        wires = [stack.enter_context(socket.create_connection((host, int(port)), timeout=240)) for _ in range(400)]
        for wire in wires:
            wire.sendall(asked)
        until(lambda: bool(access.looked_up), "the first is looked up")
        time.sleep(1)
        access.may.set()
        answers = [all_of(wire) for wire in wires]
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {object_bytes}
    assert access.looked_up == [PROJECT]
