"""Moves to a real S3 server and back over a network that fails, by processes that die: nothing is lost or left over.

The requests of a move are enumerated by their kind: each kind fails in each way, and each is struck by deaths.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.move_kit import drop, move, moved, places
from tests.s3_kit import S3Bucket, S3Server
from tests.s3_move_kit import (
    PREFIX,
    assert_not_lost,
    assert_settled,
    bucket_of,
    patient_clock,
    raw_tiff,
    with_bucket,
)
from tests.s3_proxy import Action, Answer, Call, CutBody, CutSent, FlipReceived, LoseReply, Proxy, Refuse, Rule, proxy
from tests.site_kit import command, files_of, ingest, tiny_svs
from wsistore import ops
from wsistore.errors import Kind, WsistoreError
from wsistore.ops.attempts import LEASE
from wsistore.ops.orphans import recover_all
from wsistore.testing.clock import ManualClock

PASSING: dict[str, Action] = {
    "500": Answer(500, "InternalError"),
    "503": Answer(503, "SlowDown", retry_after="7"),
    "429": Answer(429, "TooManyRequests", retry_after="3"),
    "refused": Refuse(),
    "reply lost": LoseReply(),
    "request cut": CutSent(),
    "answer cut": CutBody(),
}
NOTHING = Answer(200, body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
"""A listing that does not know anything yet."""
LISTING = r"GET /[^/]*/?\?(.*&)?(list-type|versions)"


@dataclass
class Far:
    """A site with a tier behind a proxy, and a slide in it."""

    site: ops.Site
    bucket: S3Bucket
    proxy: Proxy
    slide: str
    files: dict[str, bytes]
    clock: ManualClock

    def settled(self, *tiers: str) -> None:
        self.proxy.rules.clear()
        assert_settled(self.site, self.bucket, self.slide, self.files, *tiers)

    def not_lost(self) -> None:
        self.proxy.rules.clear()
        assert_not_lost(self.site, self.slide, self.files)

    def seen(self, act: str, *, to: str) -> list[str]:
        """Move the slide; return what was asked of the service, as kinds."""
        self.proxy.seen.clear()
        assert moved(self.site, self.slide, to).status == act
        return [kind_of(line) for line in self.proxy.seen]


def kind_of(line: str) -> str:
    """Return a pattern for requests that are like this one: the method, the kind of object, what is asked of it."""
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    names = sorted({part.partition("=")[0] for part in query.split("&") if part})
    names = [
        name for name in names if name in {"list-type", "versions", "uploads", "uploadId", "partNumber", "versionId"}
    ]
    parts = path.split("/", 3)
    rest = parts[3] if len(parts) > 3 else ""
    tree = rest.partition("/")[0] or "(\\?|$)"
    queried = rf".*\?.*{names[-1]}" if names else r"[^?]*(\?x-id=[A-Za-z]*)?$"
    return rf"^{method} /[^/]*/{PREFIX}{tree}{queried}" if rest else rf"^{method} /[^/]*/?{queried}"


@pytest.fixture(params=["plain", "versions"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def far(kind: str, s3_server: S3Server, tmp_path: Path) -> Iterator[Far]:
    path = tiny_svs(tmp_path / "a.svs")
    clock = patient_clock()
    with bucket_of(kind, s3_server) as bucket, proxy(bucket.server.endpoint) as running:
        folder = with_bucket(tmp_path / "site", bucket, running.endpoint)
        with ops.open_site(folder, clock=clock) as site:
            slide = str(ingest(site, path)[0].slide)
            yield Far(site, bucket, running, slide, files_of(path), clock)


# --- what passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_every_kind_of_request_fails_twice_in_passing(far: Far, fault: Action) -> None:
    kinds = {"far": set(far.seen("moved", to="far")), "hot": set(far.seen("moved", to="hot"))}
    assert len(kinds["far"] | kinds["hot"]) >= 8
    struck = 0
    for to in ("far", "hot"):
        # All kinds in one move: with each in a move of its own this would take ten times as long.
        rules = [Rule(one, fault, times=2) for one in sorted(kinds[to])]
        far.proxy.rules += rules
        far.clock.advance(60)  # the tier's marker is believed for a moment
        result = moved(far.site, far.slide, to)
        assert result.status == "moved"
        struck += sum(2 - rule.times for rule in rules)
        # What was done although it was not said is not asked for in the same way again.
        assert sum(rule.times == 2 for rule in rules) <= (1 if fault in (LoseReply(), CutBody()) else 0)
        far.settled(to)
    assert struck >= len(kinds["far"]) + len(kinds["hot"])
    if fault in (PASSING["503"], PASSING["429"]):
        assert max(far.clock.slept_seconds) >= 3


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_reply_is_lost_after_each_request_that_changes_something(far: Far) -> None:
    """One by one, not only by kind; what was done all the same is found done."""
    writes = {"far": 0, "hot": 0}
    for to in ("far", "hot"):
        writes[to] = sum(line.startswith(("^PUT", "^POST", "^DELETE")) for line in far.seen("moved", to=to))
    for to in ("far", "hot"):
        assert writes[to] >= 2  # many objects are deleted by one request
    for nth in range(0, max(writes.values()), 3):
        for to in ("far", "hot"):
            far.proxy.rules += [Rule("^(PUT|POST|DELETE)", LoseReply(), skip=nth)]
            assert moved(far.site, far.slide, to).status == "moved"
            far.proxy.rules.clear()
    far.settled("hot")


def test_uploads_in_parts_fail_in_passing_at_every_step(s3_server: S3Server, tmp_path: Path) -> None:
    path = raw_tiff(tmp_path / "a.tiff")
    steps = ("PUT .*partNumber=1", "PUT .*partNumber=2", "POST .*uploadId", "GET .*/image/")
    with bucket_of("plain", s3_server) as bucket, proxy(bucket.server.endpoint) as running:
        folder = with_bucket(tmp_path / "site", bucket, running.endpoint)
        with ops.open_site(folder, clock=patient_clock()) as site:
            slide = str(ingest(site, path)[0].slide)
            for fault in PASSING.values():
                running.rules[:] = [Rule(step, fault, times=2) for step in steps]
                assert moved(site, slide, "far", keep_source=True).status == "copied"
                assert all(rule.times < 2 for rule in running.rules)
                assert drop(site, slide, "far").status == "dropped"
            assert_settled(site, bucket, slide, files_of(path), "hot")


# --- what does not pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("plain", Refuse()), ("versions", LoseReply()), ("versions", Answer(403, "AccessDenied"))],
    indirect=["kind"],
    ids=["gone", "mute", "denied"],
)
def test_service_fails_for_good_at_every_kind_of_request_and_returns(far: Far, fault: Action) -> None:
    kinds = {to: sorted(set(far.seen("moved", to=to))) for to in ("far", "hot")}
    failed = 0
    for pair in zip_longest(kinds["far"], kinds["hot"]):
        for to, one in zip(("far", "hot"), pair, strict=True):
            far.proxy.rules += [] if one is None else [Rule(one, fault, times=10**6)]
            try:
                failed += move(far.site, far.slide, to).status != "moved"
            except WsistoreError:
                failed += 1
            far.not_lost()
            moved(far.site, far.slide, to)
            assert recover_all(far.site).failed == 0
            assert places(far.site, far.slide) == {to: "committed"}
    assert failed > len(kinds["far"])
    far.settled("hot")


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_service_goes_away_at_any_moment_and_returns(far: Far) -> None:
    requests = len(far.seen("moved", to="far")), len(far.seen("moved", to="hot"))
    for nth in range(0, max(requests), 17):
        for to in ("far", "hot"):
            far.proxy.rules += [Rule("", Refuse(), times=10**6, skip=nth)]
            try:
                move(far.site, far.slide, to)
            except WsistoreError as error:
                assert error.kind in {Kind.STORAGE_TRANSIENT, Kind.TIER_MISSING}  # noqa: PT017 - many may pass
            far.not_lost()
            assert moved(far.site, far.slide, to).status in {"moved", "exists"}
    recover_all(far.site)
    far.settled("hot")


def test_other_bytes_than_were_sent_are_never_committed(far: Far) -> None:
    far.proxy.rules += [Rule("GET .*/(store|private)/", FlipReceived(), times=10**6)]
    result = move(far.site, far.slide, "far")
    assert result.error is not None
    assert result.error.kind == Kind.CORRUPT
    far.settled("hot")
    for nth in range(0, 6, 2):  # once only: the object is fine, but its proof is not, so the move begins again
        far.proxy.rules += [Rule("GET .*/(store|private)/", FlipReceived(), skip=nth)]
        result = move(far.site, far.slide, "far")
        far.proxy.rules.clear()
        moved(far.site, far.slide, "far", keep_source=True)
        moved(far.site, far.slide, "hot")
        far.settled("hot")


def test_damage_on_its_way_from_the_source_is_taken_again_and_lasting_damage_is_told(far: Far) -> None:
    moved(far.site, far.slide, "far")
    far.proxy.rules += [Rule("GET .*/store/", FlipReceived(), times=2, skip=1)]
    assert moved(far.site, far.slide, "hot", keep_source=True).status == "copied"
    far.settled("far", "hot")
    drop(far.site, far.slide, "hot")
    far.proxy.rules += [Rule("GET .*/store/", FlipReceived(), times=10**6)]
    result = move(far.site, far.slide, "hot")
    assert result.error is not None
    assert result.error.kind == Kind.CORRUPT
    far.not_lost()
    assert all(one.ok for one in ops.verify(far.site, [far.slide]))  # it is fine: the network was not
    moved(far.site, far.slide, "hot")
    far.settled("hot")


def test_listings_that_lag_behind_do_no_harm(far: Far) -> None:
    for to in ("far", "hot", "far", "hot"):
        far.proxy.rules += [Rule(LISTING, NOTHING, times=10**6)]
        assert moved(far.site, far.slide, to).status == "moved"
        assert far.proxy.count(LISTING) > 0
        recover_all(far.site)
        far.settled(to)


# --- processes --------------------------------------------------------------------------------------------------------


def dies_at(running: Proxy, folder: Path, slide: str, pattern: str, *, after: bool, skip: int = 0) -> None:
    """Copy a slide by a process of its own that is killed at a request, before or after it is carried out."""
    processes: list[subprocess.Popen[bytes]] = []
    rule = Rule(pattern, Call(lambda: processes[0].kill(), after=after, cut=True), skip=skip)
    running.rules.append(rule)
    quiet = subprocess.DEVNULL
    processes.append(subprocess.Popen(command(folder, "copy", slide, "--to", "far"), stdout=quiet, stderr=quiet))
    assert processes[0].wait(120) == -signal.SIGKILL
    running.rules.clear()


MOMENTS: dict[str, tuple[str, bool, int]] = {
    "the upload was started": ("POST .*uploads", True, 0),
    "a part arrived": ("PUT .*partNumber=1", True, 0),
    "all parts are to be joined": ("POST .*uploadId", False, 0),
    "all parts were joined": ("POST .*uploadId", True, 0),
    "the commit arrived": ("PUT .*/commits/", True, 0),
}


def test_processes_killed_at_an_upload_are_continued(s3_server: S3Server, tmp_path: Path) -> None:
    """`kill -9` at known moments; the same command goes on where it was, and nothing is left of what was unfinished."""
    path = raw_tiff(tmp_path / "a.tiff")
    with bucket_of("plain", s3_server) as bucket, proxy(bucket.server.endpoint) as running:
        folder = with_bucket(tmp_path / "site", bucket, running.endpoint)
        with ops.open_site(folder) as site:
            slide, files = str(ingest(site, path)[0].slide), files_of(path)
            for name, (pattern, after, skip) in MOMENTS.items():
                dies_at(running, folder, slide, pattern, after=after, skip=skip)
                assert_not_lost(site, slide, files)
                (left,) = site.catalog.open_attempts()
                moved(site, slide, "far", keep_source=True)
                (copy,) = [one for one in site.catalog.copies(slide) if one.tier == "far"]
                assert copy.attempt == left.attempt, f"{name}: not continued"
                assert_settled(site, bucket, slide, files, "far", "hot")
                assert drop(site, slide, "far").status == "dropped"
            assert_settled(site, bucket, slide, files, "hot")


def test_what_is_not_continued_is_given_up_with_its_uploads(s3_server: S3Server, tmp_path: Path) -> None:
    clock = patient_clock()
    path = raw_tiff(tmp_path / "a.tiff")
    with bucket_of("plain", s3_server) as bucket, proxy(bucket.server.endpoint) as running:
        folder = with_bucket(tmp_path / "site", bucket, running.endpoint)
        with ops.open_site(folder, clock=clock) as site:
            slide = str(ingest(site, path)[0].slide)
            dies_at(running, folder, slide, "PUT .*partNumber=1", after=True)
            assert len(bucket.uploads()) == 1
            moved(site, slide, "warm", keep_source=True)  # another copy is asked for
            assert bucket.uploads() == []
            clock.advance(LEASE.total_seconds() * 2)  # until then its workers, if it had any, could write on
            assert ops.recover(site).failed == 0
            assert_settled(site, bucket, slide, files_of(path), "hot", "warm")


def test_two_processes_that_move_a_slide_at_once(s3_server: S3Server, tmp_path: Path) -> None:
    path = raw_tiff(tmp_path / "a.tiff")
    with bucket_of("versions", s3_server) as bucket:
        folder = with_bucket(tmp_path / "site", bucket)
        with ops.open_site(folder) as site:
            slide, files = str(ingest(site, path)[0].slide), files_of(path)
            arguments = command(folder, "move", slide, "--to", "far", "--json")
            both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            lines = [json.loads(one.communicate(timeout=240)[0].splitlines()[-1]) for one in both]
            assert "moved" in {line.get("status") for line in lines}, lines
            for line in lines:  # the other one comes too late, or is told to wait
                error = line.get("error")
                assert error is None or error["kind"] == "busy", lines
            recover_all(site)
            assert_settled(site, bucket, slide, files, "far")


def test_recovery_leaves_the_uploads_of_a_mover_that_lives(s3_server: S3Server, tmp_path: Path) -> None:
    path = raw_tiff(tmp_path / "a.tiff")
    with bucket_of("plain", s3_server) as bucket, proxy(bucket.server.endpoint) as running:
        folder = with_bucket(tmp_path / "site", bucket, running.endpoint)
        seen: list[int] = []

        def recovered() -> None:
            with ops.open_site(folder, clock=ahead) as other:
                recover_all(other)
            seen.append(len(bucket.uploads()))

        with ops.open_site(folder) as site:
            slide = str(ingest(site, path)[0].slide)
            ahead = patient_clock()
            ahead.advance(timedelta(days=3).total_seconds())
            running.rules += [Rule("PUT .*partNumber=2", Call(recovered))]
            assert moved(site, slide, "far").status == "moved"
            assert seen == [1]
            assert_settled(site, bucket, slide, files_of(path), "far")
